"""The paper's Embedder and Embedder+Conv in PyTorch."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from embbert_tvm.models.classifier import TextClassifier, root_mean_square
from embbert_tvm.models.config import EmbedderConfig


class EmbedderClassifier(TextClassifier):
    """The embedder's rows, filtered where the configuration asks for it, and a linear head on their RMS."""

    pool = staticmethod(root_mean_square)

    def __init__(self, config: EmbedderConfig, classes: int, dropout: float = 0.1) -> None:
        """`dropout` is of attention weights, of which there are none."""
        super().__init__(config, classes)
        d, taps = config.hidden_size, config.kernel_size
        self.conv = nn.Conv1d(d, d, taps, groups=d) if taps else None
        self.head = nn.Linear(d, classes)

    def states(self, ids: Tensor, mask: Tensor | None = None) -> Tensor:
        x = self.embedder(ids, mask)
        if self.conv is None:
            return x
        return self.conv(F.pad(x.transpose(1, 2), (self.config.kernel_size - 1, 0))).transpose(1, 2)
