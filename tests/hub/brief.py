"""Brief training of a kind on a labelled set, so that its labels mean something."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import kinds
import numpy as np
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import nn
from torch.nn import functional

from embbert_tvm.data.dataset import read_examples

BATCH, LONGEST = 32, 40
_SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def tokenizer_of(texts: list[str], vocabulary: int) -> Tokenizer:
    """WordPiece of BERT's kind with the special ids of kinds.py: the characters, and the words that are most frequent.

    The library's trainer parts equal frequencies otherwise in each process.
    """
    made = Tokenizer(models.WordPiece())
    made.normalizer, made.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    split = (made.pre_tokenizer.pre_tokenize_str(made.normalizer.normalize_str(text)) for text in texts)
    counts = Counter(word for words in split for word, _ in words)
    characters = sorted(set("".join(counts)))
    words = sorted(counts, key=lambda word: (-counts[word], word))
    tokens = [*_SPECIAL, *characters, *(f"##{character}" for character in characters), *words]
    numbers = {token: number for number, token in enumerate(list(dict.fromkeys(tokens))[:vocabulary])}
    made.model = models.WordPiece(numbers, unk_token="[UNK]")
    made.post_processor = processors.BertProcessing(("[SEP]", kinds.SEP), ("[CLS]", kinds.CLS))
    made.enable_truncation(LONGEST)
    return made


def _loss(kind: kinds.Kind, found: torch.Tensor, ids: torch.Tensor, labels: torch.Tensor, head: nn.Module):
    """What a kind of head learns: the set's labels, or what follows from the ids."""
    if kind.head == "tokens":
        return functional.cross_entropy(found.flatten(0, 1), (ids % found.shape[-1]).flatten())
    if kind.head == "many labels":
        return functional.binary_cross_entropy_with_logits(found, functional.one_hot(labels, found.shape[1]).float())
    if kind.head == "regression":
        return functional.mse_loss(found[:, 0], labels.float())
    if kind.head == "vector":
        return functional.cross_entropy(head(found * 10), labels)
    return functional.cross_entropy(found, labels)


def train_briefly(model: nn.Module, kind: kinds.Kind, size: kinds.Size, data: Path, steps: int) -> list[list[int]]:
    """Train a model in place; the ids of texts that were left out, of batches of one length without padding."""
    examples = read_examples(data)
    tokenizer = tokenizer_of([example.text for example in examples], size.vocabulary)
    names = sorted({example.label for example in examples})[: len(size.labels)]
    kept = [example for example in examples if example.label in names]
    ids = [tokenizer.encode(example.text).ids for example in kept]
    labels = [names.index(example.label) for example in kept]
    order = np.random.default_rng(0).permutation(len(ids))
    held, learnt = order[:400], order[400:]
    by_length = sorted((i for i in learnt if len(ids[i]) >= kind.least), key=lambda i: len(ids[i]))
    torch.manual_seed(0)
    model.load_state_dict(kind.make(size).state_dict())  # the weights of kinds.py are too large to learn from
    head = nn.Linear(size.width, len(names))
    optimizer = torch.optim.AdamW([*model.parameters(), *head.parameters()], 2e-3)
    rng = np.random.default_rng(1)
    model.train()
    for _ in range(steps):
        start = int(rng.integers(0, max(1, len(by_length) - BATCH)))
        batch = [i for i in by_length[start : start + BATCH] if len(ids[i]) == len(ids[by_length[start]])]
        given = torch.tensor([ids[i] for i in batch])
        inputs = (given, torch.ones_like(given), torch.zeros_like(given))[: len(kind.inputs)]
        found = model(**dict(zip(kind.inputs, inputs, strict=True)))
        found = found if torch.is_tensor(found) else found.logits
        loss = _loss(kind, found, given, torch.tensor([labels[i] for i in batch]), head)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    model.eval()
    return [ids[i] for i in held]
