"""Relax to Relax, one pass a file. Each is a function from module to module."""
