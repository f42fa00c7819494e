"""The recurrences of an LSTM and of a GRU in integers, a token at a time: recurrent.py says what they compute in float.

    before[g] = clamp16(multiply_high((bias[g] + R[g] . h) * 2^bits, multiplier[g])
                        + multiply_high(given[t, g] * 2^14, given_multiplier))             12 fraction bits
    LSTM: c   = clamp16((sigmoid(f) * c + sigmoid(i) * tanh(n) / 8 + 2^14) / 2^15)         12 fraction bits
          m   = sigmoid(o) * tanh(c)                                                       30 fraction bits
    GRU:  m   = z * s + (2^15 - z) * n, s = (m + 2^14) / 2^15, the state                   15 fraction bits
    h         = saturate(multiply_high(m or s * 2^15, state_multiplier))                   int8

Quotients by powers of two are towards minus infinity. sigmoid and tanh are tables of 257 entries of 15 fraction bits
from -8 to 8, between which they are straight lines: |error| < 2^-11. What is multiplied by R is int8, what is kept is
not, so that a state which hardly changes is not stuck.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from tvm import tirx
from tvm.tirx.script.builder import ir as T

from embbert_tvm.kernels.builder import argument, i32, length, loop, prim_func, store, workspace
from embbert_tvm.kernels.fixed_point import multiply_high, saturate
from embbert_tvm.kernels.isa import REFERENCE, Isa
from embbert_tvm.kernels.recurrent import GATES

ENTRIES = 257
GIVEN_BITS = 14
# Fraction bits of what a gate is a function of.
BEFORE_BITS = 12


def tables() -> tuple[np.ndarray, np.ndarray]:
    """sigmoid and tanh, int16 (ENTRIES,)."""
    x = np.linspace(-8, 8, ENTRIES)
    found = (1 / (1 + np.exp(-x)), np.tanh(x))
    sigmoid, tanh = (np.clip(np.rint(f * 2**15), -(2**15) + 1, 2**15 - 1).astype(np.int16) for f in found)
    return sigmoid, tanh


@dataclass(frozen=True)
class IntegerRecurrence:
    """kind: "lstm" or "gru". width: of the state. bits: to which accumulators are shifted. backward, reset_after: as of
    recurrent.Recurrent.

    given is read as ROW, int16; h, and c or s, are STATE; the rest is TABLE.
    """

    kind: str
    width: int
    bits: int
    backward: bool = False
    reset_after: bool = True

    @property
    def gates(self) -> int:
        return GATES[self.kind]

    @property
    def matrices(self) -> tuple[tuple[int, int], ...]:
        """The gates (first, last) that read the state, and those that read it after the reset."""
        return ((0, self.gates),) if self.kind == "lstm" or self.reset_after else ((0, 2), (2, 3))

    @property
    def name(self) -> str:
        before = "" if self.kind == "lstm" or self.reset_after else "_reset_before"
        return f"integer_{self.kind}_{self.width}{before}{'_backward' if self.backward else ''}_{self.bits}bits"

    def arguments(self) -> Arguments:
        width, rows = self.width, self.gates * self.width
        return Arguments(
            tuple(
                argument(f"recurrence{m}", ((b - a) * width, width), "int8") for m, (a, b) in enumerate(self.matrices)
            ),
            argument("bias", (rows,), "int32"),
            argument("multiplier", (rows,), "int32"),
            argument("given_multiplier", (1,), "int32"),
            argument("sigmoid", (ENTRIES,), "int16"),
            argument("tanh", (ENTRIES,), "int16"),
            argument("state_multiplier", (1,), "int32"),
        )

    def state(self) -> State:
        """What is kept from token to token, of zeros, and what a token is worked on in."""
        width = self.width
        h, kept = workspace("h", (width,), "int8"), workspace("kept", (width,), "int32")
        with loop("c", width) as c:
            store(h, tirx.const(0, "int8"), c)
            store(kept, i32(0), c)
        sums = tuple(workspace(f"gates{m}", ((b - a) * width,), "int32") for m, (a, b) in enumerate(self.matrices))
        reset = workspace("reset", (width,), "int8") if len(sums) > 1 else None
        return State(h, kept, sums, reset)


@dataclass(frozen=True)
class Arguments:
    """Parameters of a kernel, in their order."""

    weights: tuple
    bias: object
    multiplier: object
    given_multiplier: object
    sigmoid: object
    tanh: object
    state_multiplier: object


@dataclass(frozen=True)
class State:
    h: object
    kept: object
    sums: tuple
    reset: object | None


def integer_recurrence(spec: IntegerRecurrence, isa: Isa = REFERENCE) -> tirx.PrimFunc:
    """Arguments: given int16 (L, gates * width); R int8 (gates * width, width), that of the new state of a GRU apart
    where the reset comes before it; bias, multiplier int32 (gates * width,); given_multiplier int32 (1,); sigmoid, tanh
    int16 (257,); state_multiplier int32 (1,); out int8 (L, width)."""

    def body() -> None:
        rows = length()
        given = argument("given", (rows, spec.gates * spec.width), "int16")
        arguments = spec.arguments()
        out = argument("out", (rows, spec.width), "int8")
        with T.sblock("recurrence"):
            state = spec.state()
            with loop("step", rows) as step:
                t = rows - 1 - step if spec.backward else step
                advance(spec, isa, arguments, state, lambda g: i32(given[t, g]))
                with loop("c", spec.width) as c:
                    store(out, state.h[c], t, c)

    by_intrinsics = isa.rows_intrinsic
    return prim_func(f"{spec.name}_{isa.name}" if by_intrinsics else spec.name, body, compact=not by_intrinsics)


def advance(spec: IntegerRecurrence, isa: Isa, given_to: Arguments, state: State, given: Callable) -> None:
    """Take one token, given(g) for each row of the gates: state.h is the state after it."""
    _sums(spec, isa, given_to, state, 0, state.h)
    step = _Step(spec, given_to, state, given)
    if spec.kind == "lstm":
        with loop("c", spec.width) as c:
            step.lstm(c)
        return
    if state.reset is None:
        with loop("c", spec.width) as c:
            step.gru(c)
        return
    with loop("c", spec.width) as c:
        reset = step.look("reset_gate", step.given_to.sigmoid, step.before(1, c))
        scaled = (reset * state.kept[c] + i32(2**14)) >> i32(15)
        store(state.reset, step.stored(scaled * i32(2**15)), c)
    _sums(spec, isa, given_to, state, 1, state.reset)
    with loop("c", spec.width) as c:
        step.gru(c)


def _sums(spec: IntegerRecurrence, isa: Isa, given_to: Arguments, state: State, index: int, row) -> None:
    first, last = spec.matrices[index]
    sums = state.sums[index]
    with loop("g", (last - first) * spec.width) as g:
        store(sums, given_to.bias[first * spec.width + g], g)
    isa.row_product(sums, row, given_to.weights[index])


def _clamp16(value):
    return tirx.max(tirx.min(value, i32(2**15 - 1)), i32(-(2**15)))


@dataclass
class _Step:
    """One channel of one token."""

    spec: IntegerRecurrence
    given_to: Arguments
    state: State
    given: Callable

    def recalled(self, gate: int, c):
        """What the state brings to a gate."""
        index = next(m for m, (first, last) in enumerate(self.spec.matrices) if first <= gate < last)
        acc = self.state.sums[index][(gate - self.spec.matrices[index][0]) * self.spec.width + c]
        return multiply_high(acc * i32(2**self.spec.bits), self.given_to.multiplier[gate * self.spec.width + c])

    def brought(self, gate: int, c):
        """What the token brings to a gate."""
        value = self.given(gate * self.spec.width + c) * i32(2**GIVEN_BITS)
        return multiply_high(value, self.given_to.given_multiplier[0])

    def before(self, gate: int, c):
        return _clamp16(self.recalled(gate, c) + self.brought(gate, c))

    def look(self, name: str, table, value):
        """A table at a value of BEFORE_BITS, in a workspace of that name."""
        x, at = workspace(f"{name}_x", (1,), "int32"), workspace(f"{name}_at", (1,), "int32")
        out = workspace(name, (1,), "int32")
        store(x, value + i32(2**15), 0)
        store(at, x[0] >> i32(8), 0)
        rise = i32(table[at[0] + 1]) - i32(table[at[0]])
        store(out, i32(table[at[0]]) + ((rise * (x[0] - at[0] * i32(256)) + i32(128)) >> i32(8)), 0)
        return out[0]

    def stored(self, value):
        return saturate(multiply_high(value, self.given_to.state_multiplier[0]))

    def lstm(self, c) -> None:
        sigmoid, tanh, kept = self.given_to.sigmoid, self.given_to.tanh, self.state.kept
        entering = self.look("input_gate", sigmoid, self.before(0, c))
        leaving = self.look("output_gate", sigmoid, self.before(1, c))
        forgotten = self.look("forget_gate", sigmoid, self.before(2, c))
        new = self.look("new", tanh, self.before(3, c))
        total = forgotten * kept[c] + ((entering * new) >> i32(3)) + i32(2**14)
        store(kept, _clamp16(total >> i32(15)), c)
        store(self.state.h, self.stored(leaving * self.look("cell", tanh, kept[c])), c)

    def gru(self, c) -> None:
        sigmoid, tanh, kept = self.given_to.sigmoid, self.given_to.tanh, self.state.kept
        update = self.look("update_gate", sigmoid, self.before(0, c))
        if self.state.reset is None:
            reset = self.look("reset_gate", sigmoid, self.before(1, c))
            recalled = (reset * _clamp16(self.recalled(2, c)) + i32(2**14)) >> i32(15)
            new = self.look("new", tanh, _clamp16(recalled + self.brought(2, c)))
        else:
            new = self.look("new", tanh, self.before(2, c))
        total = update * kept[c] + (i32(2**15) - update) * new + i32(2**14)
        store(kept, total >> i32(15), c)
        store(self.state.h, self.stored(kept[c] * i32(2**15)), c)
