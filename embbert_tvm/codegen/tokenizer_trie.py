"""A vocabulary as a trie for the device: symbols of one or two bytes, nodes by level, token ids by rank."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from embbert_tvm.codegen.tokenizer_tables import smallest
from embbert_tvm.errors import WorkError

_CODES = 255  # values of a symbol's byte: a node has at most so many children
BLOCK = 16  # nodes that share a base in `first`
_WORD = 32  # nodes that share a word of `ends` and a rank


@dataclass(frozen=True)
class Trie:
    """Nodes are numbered by level, so that the children of one follow those of the node before it.

    label, children: of node n, its byte and how many children it has. base[n / BLOCK]: the first child of node n where
    n % BLOCK is 0. ends: a bit a node, whether a token ends there; rank[n / 32]: how many do before. tokens: token ids
    by that rank.
    """

    label: np.ndarray
    children: np.ndarray
    base: np.ndarray
    ends: np.ndarray
    rank: np.ndarray
    tokens: np.ndarray

    @property
    def nbytes(self) -> int:
        return sum(getattr(self, name).nbytes for name in self.__dataclass_fields__)

    def first_child(self, node: int) -> int:
        start = node - node % BLOCK
        return int(self.base[node // BLOCK]) + int(self.children[start:node].sum())

    def find(self, codes: Sequence[int], node: int = 0) -> int | None:
        """The node that bytes lead to."""
        for code in codes:
            first = self.first_child(node)
            labels = self.label[first : first + int(self.children[node])].tolist()
            if code not in labels:
                return None
            node = first + labels.index(code)
        return node


def symbols_of(vocabulary: Mapping[str, int]) -> dict[str, int]:
    """A symbol for each character, those that are frequent in the vocabulary in one byte, others in two."""
    counts = Counter(character for token in vocabulary for character in token)
    ranked = sorted(counts, key=lambda c: (-counts[c], c))
    if len(ranked) <= _CODES:
        return {c: n for n, c in enumerate(ranked)}
    leads = -(-(len(ranked) - _CODES) // (_CODES - 1))
    if leads >= _CODES:
        raise WorkError(f"a vocabulary of {len(ranked)} different characters is too large for the tokenizer's trie")
    short = _CODES - leads
    long = ((short + n // _CODES) << 8 | n % _CODES for n in range(len(ranked) - short))
    return dict(zip(ranked, [*range(short), *long], strict=True))


def codes_of(token: str, symbols: Mapping[str, int]) -> bytes:
    """The bytes of a token's symbols."""
    return b"".join(bytes([s]) if s < 256 else bytes([s >> 8, s & 255]) for s in map(symbols.__getitem__, token))


def build(vocabulary: Mapping[str, int], symbols: Mapping[str, int]) -> Trie:
    """The trie of a vocabulary's tokens, none of which is empty."""
    coded = sorted((codes_of(token, symbols), number) for token, number in vocabulary.items())
    lengths = np.array([len(codes) for codes, _ in coded])
    depth = int(lengths.max())
    rows = np.full((len(coded), depth), -1, np.int16)
    for row, (codes, _) in zip(rows, coded, strict=True):
        row[: len(codes)] = np.frombuffer(codes, np.uint8)
    # From which column on a row differs from the one before it.
    differs = np.ones(len(coded), int)
    if len(coded) > 1:
        unequal = rows[1:] != rows[:-1]
        differs[1:] = np.argmax(unequal, axis=1) + 1
    differs[0] = 1
    label, children, ends, tokens = [np.zeros(1, np.uint8)], [], [np.zeros(1, bool)], []
    parents = np.zeros(len(coded), int)  # of each row, the node of the level above
    above = 1
    ids = np.array([number for _, number in coded])
    for level in range(depth):
        holds = lengths > level
        new = holds & (differs <= level + 1)
        node = np.cumsum(new) - 1
        first = np.flatnonzero(new)
        label.append(rows[first, level].astype(np.uint8))
        children.append(np.bincount(parents[first], minlength=above))
        end = lengths[first] == level + 1
        ends.append(end)
        tokens.append(ids[first[end]])
        parents, above = node, len(first)
    children.append(np.zeros(above, int))
    every = np.concatenate(children)
    starts = 1 + np.concatenate([[0], np.cumsum(every)[:-1]])
    bits = np.concatenate(ends)
    words = np.packbits(np.pad(bits, (0, -len(bits) % _WORD)), bitorder="little").view("<u4")
    ranks = np.concatenate([[0], np.cumsum(bits)])[::_WORD][: len(words)]
    return Trie(
        np.concatenate(label),
        every.astype(np.uint8),
        smallest(starts[::BLOCK]),
        words,
        smallest(ranks),
        smallest(np.concatenate(tokens)),
    )
