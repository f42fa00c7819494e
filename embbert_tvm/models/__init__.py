"""EmbBERT: its configuration, its PyTorch module, its folder on disk. Only `embbert` imports torch."""
