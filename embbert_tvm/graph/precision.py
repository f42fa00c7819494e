"""The precisions that operators run in, and the plan that gives each operator of a model one.

A precision is data: the type of an operator's rows and the formats of its weights. A plan gives each operator of the
simplified float module a precision, by the name of the value that the operator makes. It is read from and written to
JSON.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path

from embbert_tvm.data.files import write_atomically
from embbert_tvm.errors import InputError, nearest
from embbert_tvm.kernels.low_bits import FORMATS

FORMAT = "embbert-tvm plan 1"
# How the range of an int8 tensor is taken from its histogram; the first is the default.
METHODS = ("percentile", "minmax", "mse", "kl")
# How weights and tables of fewer than 8 bits are rounded, where the calibration statistics say what they multiply.
ROUNDINGS = ("gptq", "nearest")
# What the weights and tables of integer operators can be stored in; a float operator's precision says it of its own.
WEIGHTS = tuple(FORMATS)


@dataclass(frozen=True)
class Precision:
    """How an operator computes. activations: the type of the rows that it makes, or what a linear layer turns float32
    rows into (rows: int8, a step a row; outliers: the same but for large elements; int16). weights, tables: the formats
    of its matrices and of the embedding tables that it reads (kernels/low_bits.py). times: instructions of a
    multiplication over those of int8 in blocked kernels, by instruction set, "half" being any that computes in fp16;
    measured at 64 tokens, to weigh choices by. experimental: it only answers a question of the paper."""

    name: str
    activations: str
    weights: str
    tables: str
    times: Mapping[str, float] = field(default_factory=dict)
    experimental: bool = False

    @property
    def is_float(self) -> bool:
        return self.activations.startswith("float")

    @property
    def by_layers(self) -> bool:
        """Whether linear layers take and give float32, with integers inside, and all else is float32."""
        return self.activations in ("rows", "outliers", "int16")

    def time(self, sets: Iterable[str]) -> float:
        """Time by the first of the CPU's instruction sets for which it is known."""
        return next((self.times[name] for name in sets if name in self.times), 1.0)


_FLOAT = {"dsp": 6.8, "mve": 48.0}
_STORED_HALF = {"half": 2.0, "dsp": 29.0, "mve": 200.0}
_LOW_BITS = {"dsp": 1.3, "mve": 1.7}
PRECISIONS = {
    precision.name: precision
    for precision in (
        Precision("int8", "int8", "int8", "int8"),
        Precision("fp16", "float16", "float16", "float16", _STORED_HALF),
        Precision("fp32", "float32", "float32", "float32", _FLOAT),
        Precision("int6", "int8", "int6b64", "int6b16", _LOW_BITS),
        Precision("int4", "int8", "int4b64", "int4b16", _LOW_BITS),
        Precision("int4-embeddings", "int8", "int8", "int4b16"),
        Precision("int3", "int8", "int3b32", "int3b16", _LOW_BITS),
        Precision("int2", "int8", "int2b32", "int2b16", _LOW_BITS),
        Precision("ternary", "int8", "ternaryb32", "ternaryb16", _LOW_BITS),
        Precision("binary", "int8", "binaryb32", "int2b16", _LOW_BITS, experimental=True),
        Precision("int8-rows", "rows", "int8", "float32", _FLOAT, experimental=True),
        Precision("int8-outliers", "outliers", "int8", "float32", _FLOAT, experimental=True),
        Precision("int16", "int16", "int8", "float32", _FLOAT, experimental=True),
    )
}
OFFERED = tuple(name for name, precision in PRECISIONS.items() if not precision.experimental)
# What a search chooses from.
CHOICES = ("int8", "int6", "int4", "int4-embeddings", "int3", "int2", "fp16")


def _known(what: str, name: object, known: Iterable[str]) -> str:
    if not isinstance(name, str) or name not in known:
        meant = nearest(str(name), known)
        raise InputError(f"{what} {name} is not known: choose one of {', '.join(known)}{meant}")
    return name


@dataclass(frozen=True)
class PrecisionPlan:
    """default: the precision of every operator that `operators` does not name. operators: precision by operator.
    formats: of single operators' weights or single tables, by the name of what reads them, over their precision's.
    method: how ranges are calibrated; ranges: the same by tensor. rounding: of weights of fewer than 8 bits.
    A name may hold `*` and `?`; a whole name goes before a pattern, a later pattern before an earlier one. measured:
    what the choice was made by, for the reader. Raises InputError for an unknown precision, format, method or
    rounding."""

    default: str = "int8"
    operators: Mapping[str, str] = field(default_factory=dict)
    formats: Mapping[str, str] = field(default_factory=dict)
    method: str = METHODS[0]
    ranges: Mapping[str, str] = field(default_factory=dict)
    rounding: str = ROUNDINGS[0]
    measured: object = field(default=None, compare=False)

    def __post_init__(self) -> None:
        for name in (self.default, *self.operators.values()):
            _known("precision", name, PRECISIONS)
        for name in self.formats.values():
            _known("weight format", name, WEIGHTS)
        for name in (self.method, *self.ranges.values()):
            _known("calibration method", name, METHODS)
        _known("rounding", self.rounding, ROUNDINGS)

    def precision(self, name: str) -> Precision:
        """The precision of the operator that makes the value `name`."""
        return PRECISIONS[_find(self.operators, name) or self.default]

    def weights(self, name: str) -> str:
        """The format of the matrices of the operator that makes `name`."""
        return _find(self.formats, name) or self.precision(name).weights

    def tables(self, name: str, table: str) -> str:
        """The format of the table whose rows are the value `table`, read by the operator that makes `name`."""
        return _find(self.formats, table) or self.precision(name).tables

    def calibration(self, tensor: str) -> str:
        """How the range of the value `tensor` is calibrated."""
        return _find(self.ranges, tensor) or self.method

    @property
    def precisions(self) -> tuple[Precision, ...]:
        """Every precision that the plan may use."""
        return tuple(PRECISIONS[name] for name in dict.fromkeys((self.default, *self.operators.values())))

    @property
    def half(self) -> bool:
        """Whether what is in floating point is stored in half precision. Raises InputError where a part is not."""
        used = {PRECISIONS[name].activations for name in self.operators.values() or (self.default,)}
        if used >= {"float16", "float32"}:
            raise InputError("fp16 and fp32 in one plan: what is in floating point is stored in one of them")
        return "float16" in used

    @property
    def has_integers(self) -> bool:
        """Whether some operator may compute in integers, so that calibration statistics are needed."""
        return not all(precision.is_float for precision in self.precisions)

    @property
    def has_low_bits(self) -> bool:
        """Whether some weights or tables may have fewer than 8 bits."""
        used = {*self.formats.values(), *(p.weights for p in self.precisions), *(p.tables for p in self.precisions)}
        return any(FORMATS[name].stored for name in used & set(FORMATS))

    def in_bytes(self) -> PrecisionPlan:
        """This plan with 8 bits in the place of fewer, to the nearest: what it decides beside rounding, sooner."""

        def whole(name: str) -> str:
            return "int8" if PRECISIONS[name].activations == "int8" else name

        operators = {name: whole(precision) for name, precision in self.operators.items()}
        return replace(self, default=whole(self.default), operators=operators, formats={}, rounding="nearest")

    def of(self, operators: Mapping[str, str]) -> PrecisionPlan:
        """This plan with every operator of a model named: the form that is written."""
        return replace(self, operators=dict(operators))


def _find(entries: Mapping[str, str], name: str) -> str | None:
    if name in entries:
        return entries[name]
    return next((value for key, value in reversed(list(entries.items())) if fnmatchcase(name, key)), None)


def check_names(plan: PrecisionPlan, operators: Iterable[str], tensors: Iterable[str]) -> None:
    """Raises InputError where the plan names what a model of these operators and tensors does not have."""
    operators, tensors = list(operators), list(tensors)
    for section, entries, known in (
        ("operators", plan.operators, operators),
        ("weights", plan.formats, operators + tensors),
        ("ranges", plan.ranges, tensors),
    ):
        for key in entries:
            if not any(fnmatchcase(name, key) for name in known):
                near = difflib.get_close_matches(key, known, 3, 0.4) or known[:3]
                raise InputError(f"plan: {section}: the model has no {key}; it has {', '.join(near)}")


_KEYS = {"default": "default", "operators": "operators", "weights": "formats", "calibration": "method"}
_KEYS |= {"ranges": "ranges", "rounding": "rounding"}
_NAMES = ("default", "calibration", "rounding")  # keys of one name; the others are objects


def plan_text(plan: PrecisionPlan) -> str:
    """The plan as JSON, as `read_plan` reads it."""
    content = {"format": FORMAT} | {key: getattr(plan, name) for key, name in _KEYS.items()}
    return json.dumps(content | ({} if plan.measured is None else {"measured": plan.measured}), indent=2) + "\n"


def write_plan(plan: PrecisionPlan, path: Path) -> None:
    write_atomically(path, plan_text(plan).encode())


def plan_of_text(text: str) -> PrecisionPlan:
    """What `plan_text` wrote, with what it was measured by."""
    content = json.loads(text)
    return PrecisionPlan(**{name: content[key] for key, name in _KEYS.items()}, measured=content.get("measured"))


def read_plan(path: Path) -> PrecisionPlan:
    """The plan of a file. Keys that are missing have their defaults. Raises InputError for what is not a plan file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise InputError(f"{path}: is not JSON: {error}") from None
    if not isinstance(content, dict) or content.pop("format", None) != FORMAT:
        raise InputError(f'{path}: is not a plan file, an object whose "format" is "{FORMAT}"')
    # What a package adds for its reader is no part of the choice.
    content.pop("measured", None)
    for key, value in content.items():
        _known(f"{path}: the key", key, _KEYS)
        if key in _NAMES:
            right = isinstance(value, str)
        else:
            right = isinstance(value, dict) and all(isinstance(v, str) for v in value.values())
        if not right:
            expected = "a name" if key in _NAMES else "an object from names to names"
            raise InputError(f"{path}: {key}: must be {expected}")
    try:
        return PrecisionPlan(**{_KEYS[key]: value for key, value in content.items()})
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


# What `--precision` names: the same precision for every operator.
PLANS = {name: PrecisionPlan(name) for name in PRECISIONS}


def named_plan(name: str, experimental: bool = False) -> PrecisionPlan:
    """The uniform plan of a name. Raises InputError, which lists the names, for another, and for the name of an
    experimental precision where those are not requested."""
    if name in PLANS and name not in OFFERED and not experimental:
        raise InputError(f"precision {name} only answers a question of the paper: give --experimental to compile it")
    return PLANS[_known("precision", name, PLANS if experimental else OFFERED)]
