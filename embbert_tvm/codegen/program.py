"""The calls of a module's `main` as a straight line of C calls over planned memory."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from tvm import IRModule, relax, sym, tirx
from tvm.ir import Call, GenericConst, PrimType, Tuple, TupleGetItem, Var

from embbert_tvm.c_names import API_NAMES, c_name, name_of_call
from embbert_tvm.codegen.c_expressions import Expressions, product_text, shape_text
from embbert_tvm.codegen.c_function import CFunction, bindings, c_function
from embbert_tvm.codegen.lower import schedule, to_loops
from embbert_tvm.codegen.macs import COST_OF_ELEMENT, cost_text, macs, polynomial
from embbert_tvm.codegen.plan import Allocation, solve
from embbert_tvm.codegen.steps import INPUT, OUTPUT, CallStep, Program, ProgramOutput, StepOutput, Tagging, Tensor, Text
from embbert_tvm.errors import InputError, WorkError
from embbert_tvm.graph.dataflow import Dataflow, constant, op_name, shape
from embbert_tvm.graph.door.normalize import HEAD, OUTPUTS
from embbert_tvm.graph.door.outputs import TOKENS, heads_in
from embbert_tvm.graph.names import fingerprint
from embbert_tvm.kernels import micro
from embbert_tvm.kernels.choices import chosen
from embbert_tvm.kernels.isa import MVE_FP16
from embbert_tvm.kernels.layouts import INTERLEAVE
from embbert_tvm.kernels.specs import spec_of
from embbert_tvm.progress import stage

_BYTES = {
    "int8": 1,
    "uint8": 1,
    "bool": 1,
    "int16": 2,
    "uint16": 2,
    "int32": 4,
    "uint32": 4,
    "int64": 8,
    "float16": 2,
    "float32": 4,
}
WINDOW = "tokenizer.window"
TAG_IDS, TAG_WINDOW, TAG_WORDS = "tags.ids", "tags.window", "tags.words"  # behind the last step
_BYTES_OF_A_WORD = 12  # word_t of templates/tag.c.in
# From a kernel's name and PrimFunc to it scheduled, None for the default schedule.
Schedules = Callable[[str, tirx.PrimFunc], tirx.PrimFunc | None]
_MOST_COST = 2**30  # of a step, which int32_t counts; one that may cost more is taken to cost this at any length
# What no tensor may be called in the entry function.
_LOCALS = {INPUT, OUTPUT, "arena", "blob", "L", "model", "budget", "count", "end", "infer"}
_LOCALS |= {"spend", "slice_end", "next_step"}


@functools.cache
def shared_names() -> frozenset[str]:
    """The names that the micro-kernels, which all packages share, define or use."""
    headers = Path(micro.__file__).parent.glob("*.h")
    return frozenset(word for path in headers for word in re.findall(r"\bembbert_\w+", path.read_text("utf-8")))


@dataclass(frozen=True)
class _Call:
    """A call of a kernel: the name of what it makes, its arguments' C names, what the shape variables of the kernel's
    parameters are, and the kernel's specification, if it has one."""

    name: str
    function: CFunction
    arguments: list[str]
    where: dict
    spec: object


class _Builder:
    def __init__(
        self, mod: IRModule, names: dict[str, str], prefix: str, vocabulary: int, tuned: Schedules | None, half: bool
    ) -> None:
        self.mod, self.names, self.prefix, self.tuned = mod, names, prefix, tuned
        self.max_length, self.vocabulary = 0, vocabulary
        self.graph = Dataflow(mod)
        (self.ids,) = self.graph.function.params
        self.length = shape(self.ids)[1]
        self.half = half
        self.functions: dict[tuple, CFunction] = {}
        self.constants: dict[str, np.ndarray] = {}
        self.named: dict[tuple[str, bool], str] = {}
        self.values: dict[Var, str] = {self.ids: INPUT}
        self.parts: dict[Var, list[str]] = {}  # of a call that makes several
        self.part_names = {
            (value.tuple_value, value.index): var.name
            for var, value in self.graph.bindings
            if isinstance(value, TupleGetItem)
        }
        self.called: dict[Var, str] = {}
        self.made: dict[str, tuple[str, list, int]] = {}
        self.last_use: dict[str, int] = {}
        self.calls: list[_Call] = []
        self.macs: list[tuple[int, int, int] | None] = []
        self.outputs: list[tuple[StepOutput, ...]] = []
        self.results = [self.made_of(output) for output in self.graph.outputs]
        for var, value in self.graph.bindings:
            self.bind(var, value)

    def made_of(self, expr: relax.Expr) -> relax.Expr:
        """The variable that a chain of renamings ends in."""
        while isinstance(made := self.graph.binding(expr), Var):
            expr = made
        return expr

    def bytes_of(self, dims: list, dtype_: str, where: dict | None = None) -> int:
        count = 1
        for dim in dims:
            count *= self.at_most(dim, where)
        return count * _BYTES[dtype_]

    def at_most(self, dim, where: dict | None = None) -> int:
        return self.at_length(dim, self.max_length, where)

    def at_length(self, dim, length: int, where: dict | None = None) -> int:
        if isinstance(dim, int):
            return dim
        analyzer = sym.Analyzer()
        if not isinstance(self.length, int):  # of a model of one length
            analyzer.bind(self.length, tirx.const(length, "int64"))
        for var, actual in (where or {}).items():
            analyzer.bind(var, analyzer.simplify(actual))
        value = analyzer.simplify(dim)
        if not isinstance(value, tirx.IntImm):
            raise WorkError(f"the size {dim} does not follow from the number of tokens")
        return int(value)

    def in_length(self, dim, where: dict):
        """A dimension of a function's as an expression in the module's length, where its variables are what `where`
        says."""
        analyzer = sym.Analyzer()
        for var, actual in where.items():
            analyzer.bind(var, actual)
        return analyzer.simplify(dim)

    def constant(self, expr: GenericConst, half: bool = False) -> str:
        value = constant(expr)
        name = self.names.get(fingerprint(value)) or "constant"
        if half:
            largest = np.finfo(np.float16).max
            name = f"{name}_half"
        key = (fingerprint(value), half)
        if key not in self.named:
            self.named[key] = self.global_name(name)
            stored = np.clip(value, -largest, largest).astype(np.float16) if half else value
            self.constants[self.named[key].removeprefix(f"{self.prefix}_")] = stored
        return self.named[key]

    def global_name(self, name: str) -> str:
        """A name of the package's own for a function or constant."""
        taken = {f.name for f in self.functions.values()} | set(self.named.values()) | shared_names()
        return c_name(f"{self.prefix}_{name}", taken | {f"{self.prefix}_{own}" for own in API_NAMES})

    def function(self, call: Call, half: tuple[int, ...]) -> CFunction:
        name = call.args[0].name_hint
        if (name, half) not in self.functions:
            func = self.mod[call.args[0]]
            # A tuned schedule sums where it writes, which half precision cannot.
            scheduled = (not half and self.tuned and self.tuned(name, func)) or schedule(func, half)
            c = self.global_name(name)
            try:
                made = c_function(to_loops(scheduled, name), c, chosen(scheduled), half, sliced=True)
            except WorkError as error:
                raise WorkError(f"operator {name}: {error}") from None
            self.functions[name, half] = replace(made, equations=made.formulas(spec_of(func)))
        return self.functions[name, half]

    def in_half(self, var: Var, value: Call) -> tuple[int, ...]:
        """Which parameters of a call's function are stored as float16: all float32 but the logits, and the constants of
        kernels, whose scales may be out of its range."""
        if not self.half:
            return ()
        kernel = "embbert.kernel" in self.mod[value.args[0]].attrs
        found, args = [], list(value.args[1].fields)
        for index, arg in enumerate(args):
            constant_of_kernel = kernel and isinstance(arg, GenericConst)
            if not isinstance(arg.ty, PrimType) and str(arg.ty.dtype) == "float32" and not constant_of_kernel:
                found.append(index)
        outs = [var.ty] if isinstance(var.ty, relax.TensorType) else list(var.ty.fields)
        for index, out in enumerate(outs, len(args)):
            if str(out.dtype) == "float32" and not any(var.same_as(result) for result in self.results):
                found.append(index)
        return tuple(found)

    def bind(self, var: Var, value) -> None:
        if isinstance(value, Var):
            self.values[var] = self.values[value]
        elif isinstance(value, Tuple):
            return  # of the outputs
        elif isinstance(value, TupleGetItem):
            self.values[var] = self.parts[value.tuple_value][value.index]
        elif op_name(value) in ("call_tir", "call_tir_inplace"):
            self.call(var, value)
        else:
            raise WorkError(f"{var.name}: no C for {op_name(value) or type(value).__name__}")

    def call(self, var: Var, value: Call) -> None:
        half = self.in_half(var, value)
        function, step = self.function(value, half), len(self.calls)
        arguments, shapes, lengths = [], [], []
        for index, arg in enumerate(value.args[1].fields):
            if isinstance(arg.ty, PrimType):
                lengths.append(arg)
                continue
            if isinstance(arg, GenericConst):
                arguments.append(self.constant(arg, index in half))
            else:
                arguments.append(self.values[arg])
                self.last_use[self.values[arg]] = step
            shapes.append(shape(arg))
        places: list[str | None] = [None] * (1 if isinstance(var.ty, relax.TensorType) else len(var.ty.fields))
        if op_name(value) == "call_tir_inplace":
            taken = [int(index) for index in value.attrs.inplace_indices]
            places = [arguments[index - len(lengths)] if index >= 0 else None for index in taken]
        taken = {call.name for call in self.calls}
        name = self.called[var] = name_of_call(var.name, value.args[0].name_hint, taken)
        made = self.make(var, step, arguments, shapes, len(arguments) + len(lengths) in half, places)
        self.outputs.append(tuple(self.output(var, name) for name in made))
        where = bindings(function, shapes)
        where |= dict(zip(function.lengths, lengths, strict=True))
        missing = [s.name for s in function.scalars if s not in where]
        if missing:
            raise WorkError(f"{var.name}: {function.name} needs {missing[0]}, which no shape gives")
        kernel = self.mod[value.args[0]]
        self.calls.append(_Call(name, function, arguments, where, spec_of(kernel)))
        self.macs.append(polynomial(lambda n: macs(kernel, {v.name: self.at_length(d, n) for v, d in where.items()})))

    def output(self, var: Var, name: str) -> StepOutput:
        kind, dims, _ = self.made[name]
        count = product_text(d for d in dims if d != 1)
        symbolic = [not isinstance(d, int) for d in dims]
        beside = symbolic == [True, False, False] and dims[2] in (INTERLEAVE, MVE_FP16.interleave)
        interleave = dims[2] if beside else 1
        return StepOutput(name, var.name, kind, shape_text(dims), count, interleave)

    def make(
        self, var: Var, step: int, arguments: list[str], shapes: list[list], half: bool, places: list[str | None]
    ) -> list[str]:
        """Declare what a call makes, and append it to the call's arguments and their shapes, but for what lies in the
        place of an argument; the names of all of it."""
        outs = [var.ty] if isinstance(var.ty, relax.TensorType) else list(var.ty.fields)
        names = []
        for index, (out, place) in enumerate(zip(outs, places, strict=True)):
            if place is not None:
                names.append(place)
                continue
            wanted = self.part_names.get((var, index), self.called[var] + f"_{index}" * (len(outs) > 1))
            # Functions and constants begin with the prefix, so that no local may.
            name = c_name(re.sub(f"^({self.prefix}_)+", "", wanted), {*self.made, *self.values.values(), *_LOCALS})
            dims = [int(d) if isinstance(d, tirx.IntImm) else d for d in out.shape.values]
            kind = "float16" if half and str(out.dtype) == "float32" else str(out.dtype)
            self.made[name] = (kind, dims, step)
            self.last_use[name] = step
            arguments.append(name)
            shapes.append(dims)
            names.append(name)
        self.values[var] = names[0]
        self.parts[var] = names
        return names

    def finish(self, max_length: int, window_bytes: int | None = None) -> Program:
        self.max_length = max_length
        results = self.output_names()
        blocks = [
            Allocation(name, self.bytes_of(dims, kind), step, self.last_use[name])
            for name, (kind, dims, step) in self.made.items()
            if name not in results
        ]
        for step, call in enumerate(self.calls):
            for w in call.function.workspaces:
                size = self.bytes_of(list(w.shape), w.dtype, call.where)
                blocks.append(Allocation(f"{call.name}.{w.name}", size, step, step))
        if window_bytes is not None:
            blocks.append(Allocation(INPUT, 4 * self.max_length, 0, self.last_use[INPUT]))
            blocks.append(Allocation(WINDOW, window_bytes, 0, 0))
        tags = window_bytes is not None and self.has_tags()
        if window_bytes is not None and tags:
            sizes = {TAG_IDS: 4 * max_length, TAG_WINDOW: window_bytes, TAG_WORDS: _BYTES_OF_A_WORD * max_length}
            blocks += [Allocation(name, size, len(self.calls), len(self.calls)) for name, size in sizes.items()]
        arena = solve(blocks)
        at = {b.name: b for b in arena.blocks}
        made = zip(self.calls, self.macs, self.outputs, strict=True)
        steps = tuple(self._step(*one, at, results) for one in made)
        tensors = tuple(
            Tensor(name, kind, shape_text(dims), at.get(name)) for name, (kind, dims, _) in self.made.items()
        )
        first, *more = self.program_outputs(results)
        return Program(
            tuple(self.functions.values()),
            self.constants,
            tensors,
            steps,
            arena,
            first.classes,
            self.vocabulary,
            self.max_length,
            None if window_bytes is None else Text(at[INPUT], at[WINDOW], first.of_tokens),
            longest_slice=self.longest_slice(),
            of_tokens=first.of_tokens,
            more=tuple(more),
            tagging=Tagging(at[TAG_IDS], at[TAG_WINDOW], at[TAG_WORDS]) if tags else None,
        )

    def has_tags(self) -> bool:
        """Whether a further output is of tokens."""
        attributes = self.graph.function.attrs
        return HEAD in attributes and TOKENS in heads_in(str(attributes[HEAD]))[1:]

    def output_names(self) -> dict[str, str]:
        """Names of the outputs, by the values that the model gives."""
        found = [self.values.get(result, "") for result in self.results]
        if any(name not in self.made or self.made[name][0] != "float32" for name in found):
            raise InputError("the model must end in float32 logits that it computes")
        if len(set(found)) != len(found):
            raise InputError("two of the model's outputs are the same tensor: leave one out")
        attributes = self.graph.function.attrs
        more = str(attributes[OUTPUTS]).split()[1:] if OUTPUTS in attributes else []
        return dict(zip(found, [OUTPUT, *(f"{OUTPUT}_{name}" for name in more)], strict=True))

    def program_outputs(self, results: dict[str, str]) -> list[ProgramOutput]:
        attributes = self.graph.function.attrs
        heads = heads_in(str(attributes[HEAD])) if HEAD in attributes else [""] * len(results)
        found = []
        for (value, name), head in zip(results.items(), heads, strict=True):
            dims = self.made[value][1]
            found.append(ProgramOutput(name, int(np.prod(dims[-1:] if head == TOKENS else dims)), head == TOKENS))
        return found

    def longest_slice(self) -> float:
        """The largest share of an inference of the longest text between two places where it can stop."""
        costs, slices = [], []
        for call, known, outputs in zip(self.calls, self.macs, self.outputs, strict=True):
            cost = self.most_cost(known, outputs)
            count = 1 if call.function.count is None else self.at_most(call.function.count, call.where)
            costs.append(cost)
            slices.append(cost / max(count, 1))
        return max(slices, default=1.0) / max(sum(costs), 1.0)

    def most_cost(self, macs: tuple[int, int, int] | None, outputs: Sequence[StepOutput]) -> float:
        """What `cost_text` comes to at the longest text."""
        elements = sum(float(np.prod([self.at_most(d) for d in self.made[o.name][1]])) for o in outputs)
        return sum(c * self.max_length**n for n, c in enumerate(macs or ())) + COST_OF_ELEMENT * elements

    def _step(
        self, call: _Call, macs: tuple | None, outputs: tuple, at: dict[str, Allocation], results: dict[str, str]
    ) -> CallStep:
        name, function, arguments, where = call.name, call.function, call.arguments, call.where
        affordable = self.most_cost(macs, outputs) <= _MOST_COST
        expressions = Expressions(lambda v: "L", lambda b: False)
        workspaces = tuple(
            Tensor(w.name, w.dtype, shape_text(w.shape), at[f"{name}.{w.name}"]) for w in function.workspaces
        )
        count = None if function.count is None else expressions(self.in_length(function.count, where))
        said = [results.get(a, a.removeprefix(f"{self.prefix}_")) for a in arguments]
        return CallStep(
            name,
            function,
            tuple(expressions(where[s]) if not isinstance(where[s], int) else str(where[s]) for s in function.scalars),
            tuple(results.get(a, a) for a in arguments),
            workspaces,
            macs,
            tuple(replace(o, name=results.get(o.name, o.name)) for o in outputs),
            count,
            cost_text(macs, [o.count for o in outputs]) if affordable else str(_MOST_COST),
            function.formulas(call.spec, said),
        )


@dataclass(frozen=True)
class Lowering:
    """How calls become C.

    prefix: what every name begins with. vocabulary: ids that the model takes. window_bytes: of the tokenizer's window,
    None without one. tuned: schedules to use in the place of the default. half: whether what is float32 between the
    calls is stored as float16.
    """

    prefix: str
    vocabulary: int
    window_bytes: int | None = None
    tuned: Schedules | None = None
    half: bool = False


def build_programs(mod: IRModule, names: dict[str, str], how: Lowering) -> Callable[[int], Program]:
    """Lower every call of a module of calls (`lower.to_calls`); what is returned places, for texts of at most so many
    tokens, what the calls need.

    names: C names of constants by fingerprint. Raises WorkError for what has no C.
    """
    stage("C")
    builder = _Builder(mod, names, how.prefix, how.vocabulary, how.tuned, how.half)
    return lambda max_length: builder.finish(max_length, how.window_bytes)
