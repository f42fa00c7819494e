"""Tiny language models as plain C on microcontrollers."""

__version__ = "0.1.0"
