"""The door: an ONNX model as its owner has it becomes one of `ids` (1, L) to `logits`, with nothing of shapes left."""

from embbert_tvm.graph.door.normalize import Door, content, normalize

__all__ = ["Door", "content", "normalize"]
