"""Model to ONNX to Relax, and the Relax passes up to the quantized module."""
