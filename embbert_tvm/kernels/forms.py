"""Forms of a package's kernels: choices for all of them at once that change cycles, memory and code, and never a bit.

What is chosen of one kernel alone is in choices.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace

from embbert_tvm.errors import InputError
from embbert_tvm.kernels.layouts import ROWS

_DUAL_ISSUE = "dual_issue"


@dataclass(frozen=True)
class KernelForms:
    """The defaults are what was chosen by hand; None and 0 leave a choice to the CPU's features and to the headers.

    Args:
        row_block: rows of a text that read each weight together: 4, or 8 where the CPU's blocks may be so high.
        dual_issue: whether tiles and orders are those for a core that issues two instructions a cycle; fewer bytes
            of code where it is False.
        raw_words: whether weights are raw words where they can be (raw_words.py); else bytes become pairs.
        raw_rows: 4 for tiles of raw words of four rows, which read each weight once for a block; 0: as for the CPU.
        values_fours: fours of rows of the values that a context reads for all its columns before the next.
        filter_pairs: pairs of rows that a filter along the text writes for two channels before the next two; 0: all.
    """

    row_block: int = ROWS
    dual_issue: bool | None = None
    raw_words: bool = True
    raw_rows: int = 0
    values_fours: int = 0
    filter_pairs: int = 0

    def features(self, features: Sequence[str]) -> tuple[str, ...]:
        """A CPU's features as its kernels take them."""
        if self.dual_issue is None or self.dual_issue == (_DUAL_ISSUE in features):
            return tuple(features)
        others = tuple(name for name in features if name != _DUAL_ISSUE)
        return (*others, _DUAL_ISSUE) if self.dual_issue else others

    @property
    def macros(self) -> dict[str, int]:
        """What the headers of kernels/micro are to be told."""
        given = {"EMBBERT_VALUES_FOURS": self.values_fours, "EMBBERT_FILTER_PAIRS": self.filter_pairs}
        return {name: value for name, value in given.items() if value}

    @property
    def changes(self) -> dict[str, int | bool]:
        """What differs from the choices made by hand."""
        default = asdict(DEFAULT_FORMS)
        return {name: value for name, value in asdict(self).items() if value != default[name]}

    @property
    def named(self) -> str:
        """What differs from the choices made by hand, in words."""
        return ", ".join(f"{name} {value}" for name, value in self.changes.items()) or "by hand"


DEFAULT_FORMS = KernelForms()

# What a search tries of each choice beside the one made by hand.
_TRIED: Mapping[str, tuple[int | bool, ...]] = {
    "dual_issue": (True, False),
    "raw_words": (False,),
    "raw_rows": (ROWS,),
    "row_block": (2 * ROWS,),
    "values_fours": (8, 16, 24, 64),
    "filter_pairs": (24,),
}


def neighbours(forms: KernelForms, name: str, features: Sequence[str], length: int) -> Iterator[KernelForms]:
    """Forms that differ from `forms` in one choice, of those that change something for a CPU of these features and a
    text of `length` tokens."""
    if "dsp" not in features and name != "row_block":
        return
    if "mve" in features:  # whose blocks have one height, and whose loops have no tiles of DSP
        return
    dual = _DUAL_ISSUE in forms.features(features)
    default = getattr(DEFAULT_FORMS, name)
    for value in (default, *_TRIED[name]):
        if value == getattr(forms, name) or (name == _DUAL_ISSUE and value == dual):
            continue
        if name == "values_fours" and ROWS * int(value) >= length:
            continue
        if name == "filter_pairs" and 2 * int(value) >= length:
            continue
        yield replace(forms, **{name: value})


CHOICES = tuple(_TRIED)


def forms_of(document: Mapping[str, object]) -> KernelForms:
    """The forms that a log names. InputError for an unknown one."""
    known = {field.name for field in fields(KernelForms)}
    if unknown := sorted(set(document) - known):
        raise InputError(f"forms: unknown {unknown[0]!r}, known are {', '.join(sorted(known))}")
    return KernelForms(**document)  # type: ignore[arg-type]
