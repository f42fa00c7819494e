"""Fine-tuning and evaluation. `evaluate` needs no torch: it runs the ONNX export."""
