"""A lowered PrimFunc as a C function.

Buffers of one element become local variables and those of a few local arrays; every larger one becomes a workspace, a
parameter that the memory plan places. What a function does not write it takes as const.
"""

from __future__ import annotations

import math
import re
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from tvm import tirx
from tvm.ir import Call, Var
from tvm.tirx.buffer import BufferType

from embbert_tvm.c_names import c_name
from embbert_tvm.codegen.c_expressions import C_TYPES, Expressions, shape_text
from embbert_tvm.codegen.elements import Elements, elements_of
from embbert_tvm.codegen.equations import comment, equations
from embbert_tvm.codegen.slices import main_loop, top_statements
from embbert_tvm.errors import WorkError
from embbert_tvm.escape import c_formula
from embbert_tvm.kernels import choices as kernel_choices

# A local array of at most this many elements is a tile of accumulators, not a workspace; so is one of the scope
# "local", which a schedule requests, up to as many as there are registers.
LOCAL_ELEMENTS = 8
LOCAL_SCOPE_ELEMENTS = 32
_SLICE = ("first", "end")  # the iterations that a call does, and where the main loop is left and gone on with


@dataclass(frozen=True)
class Buffer:
    """A pointer parameter: its C name, element type, TIR shape, and whether the function writes it."""

    name: str
    dtype: str
    shape: tuple
    written: bool


@dataclass(frozen=True)
class CFunction:
    """scalars: the shape variables it takes, in order; lengths: the PrimFunc's parameters that are no buffers; buffers:
    one for each that is; workspaces after. choices: what could have been printed otherwise. count: of a function that
    can stop and go on, how many iterations its main loop has; it takes the first to do and the one after the last.
    equations: what it computes, by the names of its parameters (equations.py)."""

    name: str
    scalars: tuple[Var, ...]
    lengths: tuple[Var, ...]
    buffers: tuple[Buffer, ...]
    workspaces: tuple[Buffer, ...]
    body: str
    math: bool
    choices: tuple[kernel_choices.TuningKnob, ...] = ()
    count: tirx.PrimExpr | None = None
    equations: tuple[str, ...] = ()
    # Of a function that is one loop over elements.
    elements: Elements | None = field(default=None, compare=False, repr=False)

    def signature(self) -> str:
        parts = [f"int32_t {name}" for name in (*(_SLICE if self.count is not None else ()), *map(_name, self.scalars))]
        for b in (*self.buffers, *self.workspaces):
            parts.append(f"{'' if b.written else 'const '}{C_TYPES[b.dtype]} *restrict {b.name}")
        return f"void {self.name}({', '.join(parts)})"

    def formulas(self, spec: object, names: Sequence[str] = ()) -> tuple[str, ...]:
        """What it computes, by its own names or others for them. spec: of its kernel."""
        own = [b.name for b in self.buffers]
        if (said := equations(spec, names or own)) or self.elements is None:
            return said
        return (self.elements.equation(names or own),)

    def comment(self) -> str:
        rows = [(b, "written" if b.written else "read") for b in self.buffers]
        rows += [(b, "workspace") for b in self.workspaces]
        width = max((len(b.name) for b, _ in rows), default=0)
        lines = [f" *   {b.name:<{width}}  {b.dtype} {shape_text(b.shape)}, {use}" for b, use in rows]
        formulas = [" *", *comment(self.equations, " *   ")] if self.equations else []
        return "\n".join([f"/* {self.name}", *map(c_formula, lines), *formulas, " */"])


def _name(var: Var) -> str:
    return str(var.name)


class _Printer:
    def __init__(self, func: tirx.PrimFunc, chosen: Mapping[str, int], half: Container[int] = ()) -> None:
        self.func = func
        self.chosen = chosen
        self.choices: list[kernel_choices.TuningKnob] = []
        self.calls = self.loops = 0  # that had a choice, so far
        self.names: dict[Var, str] = {}
        self.alias: dict[Var, Var] = {}
        self.taken: set[str] = {*_SLICE}
        self.scalars: set[Var] = set()
        self.workspaces: list[Var] = []
        self.written: set[Var] = set()
        self.bound: set[Var] = set()
        self.lines: list[str] = []
        self.half = {param for index, param in enumerate(func.params) if index in half}
        self.expressions = Expressions(self.name, lambda b: self.root(b) in self.scalars, self.is_half)
        self.main: tirx.For | None = None
        for param in func.params:
            self.name(param)

    def function(self) -> None:
        self.statement(self.func.body, 1)

    def sliced_function(self) -> None:
        """The body with `first` and `end` for the bounds of its main loop, where it has one."""
        self.main = main_loop(self.func, self._is_local)
        if self.main is None:
            self.function()
            return
        parts = [s for s in top_statements(self.func) if not isinstance(s, (tirx.AllocBuffer, tirx.DeclBuffer))]
        for stmt in top_statements(self.func):
            if isinstance(stmt, (tirx.AllocBuffer, tirx.DeclBuffer)):
                self.statement(stmt, 1)
        at = next(index for index, stmt in enumerate(parts) if stmt.same_as(self.main))
        self._guarded(_SLICE[0], tirx.const(0, "int32"), parts[:at])
        self.statement(self.main, 1)
        self._guarded(_SLICE[1], self.main.extent, parts[at + 1 :])

    def _guarded(self, name: str, value: tirx.PrimExpr, parts: Sequence[tirx.Stmt]) -> None:
        if parts:
            self.line(1, f"if ({name} == {self.expressions(value)}) {{")
            for stmt in parts:
                self.statement(stmt, 2)
            self.line(1, "}")

    def is_half(self, buffer: Var) -> bool:
        return self.root(buffer) in self.half

    def root(self, buffer: Var) -> Var:
        while buffer in self.alias:
            buffer = self.alias[buffer]
        return buffer

    def name(self, var: Var) -> str:
        var = self.root(var)
        if var not in self.names:
            self.names[var] = c_name(var.name, self.taken)
            self.taken.add(self.names[var])
        return self.names[var]

    def line(self, depth: int, text: str) -> None:
        self.lines.append("    " * depth + text)

    def statement(self, stmt, depth: int) -> None:
        printer = {
            tirx.SeqStmt: self._sequence,
            tirx.For: self._for,
            tirx.BufferStore: self._store,
            tirx.IfThenElse: self._if,
            tirx.AllocBuffer: self._allocate,
            tirx.DeclBuffer: self._declare,
            tirx.Bind: self._bind,
            tirx.AttrStmt: lambda s, d: self.statement(s.body, d),
            tirx.Evaluate: self._evaluate,
        }.get(type(stmt))
        if printer is None:
            raise WorkError(f"the C printer knows no {type(stmt).__name__} statement")
        printer(stmt, depth)

    def _sequence(self, stmt, depth: int) -> None:
        for part in stmt.seq:
            self.statement(part, depth)

    def _for(self, stmt, depth: int) -> None:
        self.bound.add(stmt.loop_var)
        var, start = self.name(stmt.loop_var), int(stmt.min) if isinstance(stmt.min, tirx.IntImm) else None
        if self.main is not None and stmt.same_as(self.main):
            first, end = _SLICE
        else:
            first = self.expressions(stmt.min)
            end = self.expressions(stmt.extent if start == 0 else stmt.min + stmt.extent)
        if unroll := self._unroll(stmt):
            self.line(depth, f"#pragma GCC unroll {unroll}")
        self.line(depth, f"for (int32_t {var} = {first}; {var} < {end}; {var}++) {{")
        self.statement(stmt.body, depth + 1)
        self.line(depth, "}")
        # Sibling loops may use the name again.
        self.taken.discard(var)

    def _unroll(self, stmt) -> int:
        """How often a loop is to be unrolled, 0 where that is left to the compiler."""
        short = isinstance(stmt.extent, tirx.IntImm) and int(stmt.extent) < kernel_choices.LEAST_EXTENT
        if short or any(isinstance(s, (tirx.For, tirx.Evaluate)) for s in _inside(stmt.body)):
            return 0
        choice = kernel_choices.of_loop(self.loops)
        self.loops += 1
        self.choices.append(choice)
        return self.chosen.get(choice.key, self.chosen.get(kernel_choices.ALL_LOOPS, 0))

    def _store(self, stmt, depth: int) -> None:
        target = self.root(stmt.buffer)
        self.written.add(target)
        place = self.expressions.element(stmt.buffer, stmt.indices)
        value = self.expressions(stmt.value)
        self.line(depth, f"{place} = {f'half_from_float({value})' if target in self.half else value};")

    def _if(self, stmt, depth: int) -> None:
        self.line(depth, f"if ({self.expressions(stmt.condition)}) {{")
        self.statement(stmt.then_case, depth + 1)
        if stmt.else_case is not None:
            self.line(depth, "} else {")
            self.statement(stmt.else_case, depth + 1)
        self.line(depth, "}")

    def _allocate(self, stmt, depth: int) -> None:
        buffer = stmt.buffer
        if self._is_local(buffer):
            count = math.prod(int(d) for d in buffer.ty.shape)
            if count == 1:
                self.scalars.add(buffer)
            extent = f"[{count}]" if count > 1 else ""
            self.line(depth, f"{C_TYPES[str(buffer.ty.dtype)]} {self.name(buffer)}{extent};")
        else:
            self.workspaces.append(buffer)
            self.name(buffer)

    def _is_local(self, buffer: Var) -> bool:
        shape = list(buffer.ty.shape)
        known = all(isinstance(d, tirx.IntImm) for d in shape)
        count = math.prod(int(d) for d in shape) if known else 0
        return 1 <= count <= (LOCAL_SCOPE_ELEMENTS if str(buffer.ty.storage_scope) == "local" else LOCAL_ELEMENTS)

    def _declare(self, stmt, depth: int) -> None:
        data = stmt.data
        if not isinstance(data, Call) or data.op.name != "tirx.buffer_data":
            raise WorkError("the C printer knows no buffer that is a view of another's middle")
        self.alias[stmt.buffer] = data.args[0]

    def _bind(self, stmt, depth: int) -> None:
        self.bound.add(stmt.var)
        if not self.expressions.is_index(stmt.value):
            self.expressions.data.add(stmt.var)
        value = self.expressions(stmt.value)
        self.line(depth, f"const {C_TYPES[str(stmt.var.ty.dtype)]} {self.name(stmt.var)} = {value};")

    def _evaluate(self, stmt, depth: int) -> None:
        if isinstance(stmt.value, tirx.IntImm):
            return
        # A micro-kernel writes where its first argument points and only reads the others.
        for arg in list(stmt.value.args)[1:2]:
            if isinstance(arg, Call) and arg.op.name.endswith("address_of"):
                self.written.add(self.root(arg.args[0].source))
        self.line(depth, f"{self.expressions(self._variant(stmt.value))};")

    def _variant(self, call: Call) -> Call:
        """The call of the variant that is chosen of a micro-kernel."""
        name = str(getattr(call.args[0], "value", "")) if call.args else ""
        variants = kernel_choices.variants(name)
        if not variants:
            return call
        scalars = [a for a in call.args[1:] if not (isinstance(a, Call) and a.op.name.endswith("address_of"))]
        constants = tuple(int(a) if isinstance(a, tirx.IntImm) else None for a in scalars)
        choice = kernel_choices.of_call(self.calls, name, constants)
        if choice is None:
            return call
        self.calls += 1
        self.choices.append(choice)
        variant = variants[self.chosen.get(choice.key, 0)]
        extra = [tirx.const(value, "int32") for value in variant.extra]
        return tirx.call_extern("int32", variant.name, *call.args[1:], *extra)


def _inside(stmt) -> Iterator:
    """A statement and those in it."""
    yield stmt
    parts = {
        tirx.SeqStmt: lambda s: s.seq,
        tirx.For: lambda s: (s.body,),
        tirx.AttrStmt: lambda s: (s.body,),
        tirx.IfThenElse: lambda s: (s.then_case, *(() if s.else_case is None else (s.else_case,))),
    }.get(type(stmt), lambda s: ())
    for part in parts(stmt):
        yield from _inside(part)


def c_function(
    func: tirx.PrimFunc,
    name: str,
    chosen: Mapping[str, int] | None = None,
    half: Container[int] = (),
    sliced: bool = False,
) -> CFunction:
    """Print a lowered PrimFunc. chosen: of its choices (kernels/choices.py), by key. half: which of its float32
    parameters are stored as float16. sliced: so that a caller may stop in its main loop, where it has one. Raises
    WorkError for TIR that has no C here."""
    printer = _Printer(func, chosen or {}, half)
    printer.sliced_function() if sliced else printer.function()
    scalars = []
    for var in printer.expressions.used:
        if var not in printer.bound and not isinstance(var.ty, BufferType) and var not in scalars:
            scalars.append(var)

    def buffer(var: Var, written: bool) -> Buffer:
        kind = "float16" if var in printer.half else str(var.ty.dtype)
        return Buffer(printer.name(var), kind, tuple(var.ty.shape), written)

    body = "\n".join(printer.lines)
    # A value that simplification has made superfluous is still passed.
    unread = [printer.name(p) for p in func.params if isinstance(p.ty, BufferType)]
    unread = [parameter for parameter in unread if not re.search(rf"\b{parameter}\b", body)]
    return CFunction(
        name,
        tuple(scalars),
        tuple(p for p in func.params if not isinstance(p.ty, BufferType)),
        tuple(buffer(p, p in printer.written) for p in func.params if isinstance(p.ty, BufferType)),
        tuple(buffer(w, True) for w in printer.workspaces),
        "\n".join([*(f"    (void){parameter};" for parameter in unread), body]),
        printer.expressions.math,
        tuple(printer.choices),
        None if printer.main is None else printer.main.extent,
        elements=None if printer.half else elements_of(func, printer.root),
    )


def bindings(function: CFunction, shapes: list[list]) -> dict:
    """What each shape variable of a function's parameters is in a call with arguments of these shapes."""
    where = {}
    for buffer, dims in zip(function.buffers, shapes, strict=True):
        for formal, actual in zip(buffer.shape, dims, strict=True):
            if isinstance(formal, Var):
                where.setdefault(formal, tirx.const(actual, "int64") if isinstance(actual, int) else actual)
    return where
