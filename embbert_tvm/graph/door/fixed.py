"""Models that were exported for one length: of any length where their graphs allow it, else of that one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx

from embbert_tvm.graph.door.inputs import Meaning, with_one_input
from embbert_tvm.graph.door.probe import Probe, ProbeError, random_ids

_TRIED = (5, 7, 11, 13, 17, 19, 23, 29)
_TOLERANCE = 1e-4


@dataclass(frozen=True)
class Opened:
    """A model of one input `ids`.

    static: the length that its shapes are made for, None where they follow the input. only: the one length that it is
    sound for, None where it is for any.
    """

    model: onnx.ModelProto
    static: int | None = None
    only: int | None = None


def open_length(
    model: onnx.ModelProto, meaning: Meaning, separator: int | None, fixed: int | None, padding: int | None
) -> Opened:
    """The model with one input. A model of one length with a mask may take shorter texts as they are, if it answers to
    them as to texts that are filled up; without one it takes texts that are filled up, as it was trained on.

    Args:
        model: stays as it is.
        meaning, separator: as of `with_one_input`.
        fixed: the one length that its ids have, None where that is dynamic.
        padding: the id that fills a text up.
    """
    free = onnx.ModelProto.FromString(model.SerializeToString())
    with_one_input(free, meaning, separator)
    if fixed is None:
        return Opened(free)
    del free.graph.value_info[:]
    shorter = [n for n in _TRIED if n < fixed]
    if not shorter or not Probe(free).runs([np.zeros((1, n), np.int64) for n in shorter]):
        static = onnx.ModelProto.FromString(model.SerializeToString())
        with_one_input(static, meaning, separator, fixed, padding)
        return Opened(static, fixed, fixed)
    masked = "mask" in meaning.of.values() and _ignores_padding(model, free, meaning, separator, fixed, shorter)
    return Opened(free, None, None if masked else fixed)


def _ignores_padding(
    model: onnx.ModelProto, free: onnx.ModelProto, meaning: Meaning, separator: int | None, fixed: int, lengths: list
) -> bool:
    """Whether the model of one length answers to a text that is filled up as `free` does to the text unfilled."""
    filled = onnx.ModelProto.FromString(model.SerializeToString())
    with_one_input(filled, meaning, separator, fixed, padding=0)
    whole, unfilled = Probe(filled), Probe(free)
    for length in lengths:
        ids = random_ids(length, 3) + 1  # no padding among them
        try:
            expected = next(iter(whole(np.pad(ids, ((0, 0), (0, fixed - length)))).values()))
            found = next(iter(unfilled(ids).values()))
        except ProbeError:
            return False
        if expected.ndim > 2 and expected.shape[1] == fixed:
            expected = expected[:, :length]  # of tokens
        scale = max(float(np.abs(expected).max(initial=0)), 1e-6)
        if expected.shape != found.shape or np.abs(expected - found).max(initial=0) > _TOLERANCE * scale:
            return False
    return True
