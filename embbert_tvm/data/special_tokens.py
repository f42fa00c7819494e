"""EmbBERT's own special tokens: its models and their training rely on these ids. Others have theirs."""

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[MASK]", "[SEP]")
PAD, UNK, CLS, MASK, SEP = range(5)
