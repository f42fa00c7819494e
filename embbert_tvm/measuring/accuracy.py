"""How a package answers a labelled set, beside its float model: what a page says of accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from embbert_tvm.data.dataset import Example, read_examples
from embbert_tvm.data.predictions import predictions_of
from embbert_tvm.data.tokenizer import load_tokenizer, tokenize
from embbert_tvm.device.locate import OutputError, output_errors
from embbert_tvm.device.package import Package
from embbert_tvm.device.places import open_place
from embbert_tvm.errors import InputError
from embbert_tvm.heads import ONE_LABEL
from embbert_tvm.models.reference import TextReference
from embbert_tvm.progress import over

MOST_FLIPS = 50
ERROR_TEXTS = 8


@dataclass(frozen=True)
class Flip:
    """A text to which the package gives another label than the float model."""

    text: str
    expected: str
    float_label: str
    compiled_label: str


@dataclass(frozen=True)
class Accuracy:
    """Figures on a labelled set.

    Args:
        float_share, compiled_share: of right answers.
        confusion: examples by their label and by the package's.
        probabilities, right: of the package's answers, one an example.
        flips: texts that the two answer differently, the first of them; flipped: how many there are.
        errors: of what each step makes, against the float model, on the first ERROR_TEXTS texts.
    """

    data: str
    examples: int
    float_share: float
    compiled_share: float
    labels: tuple[str, ...]
    confusion: tuple[tuple[int, ...], ...]
    probabilities: tuple[float, ...]
    right: tuple[bool, ...]
    flips: tuple[Flip, ...]
    flipped: int
    errors: tuple[OutputError, ...] = ()


def measure(package: Package, data: Path) -> Accuracy:
    """Run the package on the host, and its float model, on every example. InputError for a head without one label."""
    if package.head != ONE_LABEL or package.answers is None:
        raise InputError(f"{package.path}: --data measures models of one label a text; this one gives {package.head}")
    examples = read_examples(data)
    compiled, plain = _logits(package, examples)
    names, places = package.answers, {name: n for n, name in enumerate(package.answers)}
    expected = np.array([places.get(x.label, -1) for x in examples])
    ours, theirs = compiled.argmax(1), plain.argmax(1)
    confusion = np.zeros((len(names), len(names)), int)
    known = expected >= 0
    np.add.at(confusion, (expected[known], ours[known]), 1)
    changed = np.flatnonzero(ours != theirs)
    flips = [Flip(examples[n].text, examples[n].label, names[theirs[n]], names[ours[n]]) for n in changed[:MOST_FLIPS]]
    return Accuracy(
        data.name,
        len(examples),
        float((theirs == expected).mean()),
        float((ours == expected).mean()),
        names,
        tuple(tuple(map(int, row)) for row in confusion),
        tuple(p.probability or 0.0 for p in predictions_of(examples, compiled, names)),
        tuple(map(bool, ours == expected)),
        tuple(flips),
        len(changed),
        _errors(package, examples[:ERROR_TEXTS]),
    )


def _errors(package: Package, examples: Sequence[Example]) -> tuple[OutputError, ...]:
    names = {output.origin for output in package.outputs if output.origin is not None}
    if not names:
        return ()
    from embbert_tvm.graph.float_tensors import float_tensors

    tokenizer = load_tokenizer(package.tokenizer, package.vocabulary)
    ids = [tokenize(tokenizer, x.text, x.text_pair, package.max_length).ids for x in examples]
    reference = float_tensors(package.reference_model, names)
    return output_errors(package, [package.filled(one) for one in ids], "host", reference)


def _logits(package: Package, examples: Sequence[Example]) -> tuple[np.ndarray, np.ndarray]:
    """Logits of the package's C on the host, and of its float model."""
    tokenizer = load_tokenizer(package.tokenizer, package.vocabulary)
    reference = TextReference(package.reference_model, package.linear)
    compiled, plain = [], []
    with open_place("host", package) as device:
        for x in over(examples, f"measuring {package.path.name}", "texts"):
            ids = tokenize(tokenizer, x.text, x.text_pair, package.max_length).ids
            run = device.classify(x.text, x.text_pair).run if package.reads_text else device.run(ids)
            compiled.append(run.logits)
            plain.append(reference(package.filled(ids), x.text, x.text_pair))
    return np.array(compiled), np.array(plain)
