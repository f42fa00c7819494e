"""Writing TIR from Python: named loops, blocks and buffers over TVM's IRBuilder."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script.builder import ir as T

# FuseOps' word for a function that it must leave alone.
OPAQUE = 8


def prim_func(name: str, body: Callable[[], None], compact: bool = True) -> tirx.PrimFunc:
    """The PrimFunc `name` whose statements `body` writes. compact: whether workspaces may shrink to what loads and
    stores touch; not so where a micro-kernel touches them."""
    with IRBuilder() as builder, T.prim_func(is_private=True, s_tir=True):
        T.func_name(name)
        T.func_attr({"tirx.noalias": True, "op_pattern": OPAQUE, "embbert.kernel": name, "embbert.compact": compact})
        body()
    return builder.get()


def length(name: str = "L"):
    """A symbolic dimension: the number of tokens."""
    dim = T.int64()
    IRBuilder.name(name, dim)
    return dim


def tokens():
    """The number of tokens as an argument of its own, where no shape tells it."""
    return T.arg("L", tirx.Var("L", "int64"))


def argument(name: str, shape: Sequence, dtype: str):
    return T.arg(name, T.buffer(shape, dtype))


def workspace(name: str, shape: Sequence, dtype: str):
    """A buffer that lives inside the enclosing block. codegen places it in the arena."""
    buffer = T.sblock_alloc_buffer(shape, dtype)
    IRBuilder.name(name, buffer)
    return buffer


@contextmanager
def loop(name: str, extent) -> Iterator:
    with T.serial(0, extent) as var:
        IRBuilder.name(name, var)
        yield var


@contextmanager
def block(name: str, **axes: tuple) -> Iterator:
    """A block with axes `v=(kind, extent, binding)`, kind "S" (spatial) or "R" (reduction)."""
    with T.sblock(name):
        found = []
        for axis, (kind, extent, binding) in axes.items():
            make = T.axis.spatial if kind == "S" else T.axis.reduce
            var = make(extent, binding)
            IRBuilder.name(axis, var)
            found.append(var)
        yield found[0] if len(found) == 1 else found


def init() -> T.init:
    return T.init()


@dataclass(frozen=True)
class From:
    """A buffer from index `first` of its first dimension on, to be indexed as if it began there."""

    buffer: object
    first: int

    def located(self, indices: Sequence) -> tuple:
        return (self.first + indices[0], *indices[1:])

    def __getitem__(self, indices: Sequence):
        return self.buffer[self.located(indices)]


@dataclass(frozen=True)
class At:
    """One item of a buffer's first dimension, to be indexed by what is left."""

    buffer: object
    item: object

    def located(self, indices: Sequence) -> tuple:
        return (self.item, *indices)

    def __getitem__(self, indices: Sequence):
        return self.buffer[self.located(indices)]


@dataclass(frozen=True)
class Part:
    """One of the parts of a buffer, of `size` of its first dimension each: that of which `number` says when it is
    indexed."""

    buffer: object
    size: int
    number: Callable[[], object]

    def located(self, indices: Sequence) -> tuple:
        return (self.number() * self.size + indices[0], *indices[1:])

    def __getitem__(self, indices: Sequence):
        return self.buffer[self.located(indices)]


def store(buffer, value, *indices) -> None:
    while isinstance(buffer, (From, At, Part)):
        buffer, indices = buffer.buffer, buffer.located(indices)
    T.buffer_store(buffer, value, list(indices))


def call(function: str, *args) -> None:
    """Call a micro-kernel, which writes where its first argument points, or to workspaces."""
    T.evaluate(tirx.call_extern("int32", function, *args))


def address(buffer, *indices):
    """A pointer to an element."""
    return tirx.address_of(buffer[tuple(indices)])


def i32(value):
    return tirx.const(value, "int32") if isinstance(value, int) else tirx.Cast("int32", value)


def i64(value):
    return tirx.const(value, "int64") if isinstance(value, int) else tirx.Cast("int64", value)
