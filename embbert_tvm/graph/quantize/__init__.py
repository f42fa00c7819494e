"""Relax in float to Relax with int8 kernels: the driver, and one file for each operator it knows."""

from embbert_tvm.graph.quantize.quantizer import Quantized, quantize

__all__ = ["Quantized", "quantize"]
