"""The recurrences of an LSTM and of a GRU, a token at a time, from what the tokens themselves bring to each gate.

LSTM, gates i, o, f, c as ONNX orders them, given[t] = W x[t] + both biases:
    c = sigmoid(f) * c + sigmoid(i) * tanh(c'),  h = sigmoid(o) * tanh(c),  gates = given[t] + R h
GRU, gates z, r, n:
    h = (1 - z) * n + z * h, with n = tanh(given + r * (R h + b)) or tanh(given + R (r * h) + b)
"""

from __future__ import annotations

from dataclasses import dataclass

from tvm import tirx
from tvm.tirx.script.builder import ir as T

from embbert_tvm.kernels.builder import argument, length, loop, prim_func, store, workspace

GATES = {"lstm": 4, "gru": 3}


@dataclass(frozen=True)
class Recurrent:
    """kind: "lstm" or "gru". width: of the state. backward: whether the last token comes first. reset_after: of a GRU,
    whether the reset gate scales R h + b, as PyTorch has it, or h itself."""

    kind: str
    width: int
    backward: bool = False
    reset_after: bool = True

    @property
    def name(self) -> str:
        parts = [self.kind, str(self.width)]
        parts += ["backward"] if self.backward else []
        parts += [] if self.kind == "lstm" or self.reset_after else ["reset_before"]
        return "_".join(parts)


def _zero() -> tirx.FloatImm:
    return tirx.const(0.0, "float32")


def _sigmoid(x: tirx.Expr) -> tirx.Expr:
    one = tirx.const(1.0, "float32")
    return one / (one + tirx.exp(_zero() - x))


def _tanh(x: tirx.Expr) -> tirx.Expr:
    return tirx.tanh(x)


def recurrent(spec: Recurrent) -> tirx.PrimFunc:
    """Arguments, float32: given (1, L, gates * width); R (gates * width, width); b (gates * width), added to R h;
    out (1, L, width), the state after each token."""
    width, gates = spec.width, GATES[spec.kind]

    def body() -> None:
        rows = length()
        given = argument("given", (1, rows, gates * width), "float32")
        weight = argument("recurrence", (gates * width, width), "float32")
        bias = argument("bias", (gates * width,), "float32")
        out = argument("out", (1, rows, width), "float32")
        with T.sblock("scan"):
            h = workspace("h", (width,), "float32")
            with loop("c", width) as c:
                store(h, _zero(), c)
            if spec.kind == "lstm":
                _lstm(spec, rows, given, weight, bias, out, h)
            else:
                _gru(spec, rows, given, weight, bias, out, h)

    return prim_func(spec.name, body)


def _gates(first: int, last: int, width: int, weight, bias, h, gate) -> None:
    """gate[first * width ...] = R h + b."""
    with loop("g", (last - first) * width) as g:
        store(gate, bias[g + first * width], g + first * width)
        with loop("k", width) as k:
            store(gate, gate[g + first * width] + weight[g + first * width, k] * h[k], g + first * width)


def _lstm(spec: Recurrent, rows, given, weight, bias, out, h) -> None:
    width = spec.width
    gate, cell = workspace("gate", (4 * width,), "float32"), workspace("cell", (width,), "float32")
    with loop("c", width) as c:
        store(cell, _zero(), c)
    with loop("step", rows) as step:
        t = rows - 1 - step if spec.backward else step
        _gates(0, 4, width, weight, bias, h, gate)
        with loop("c", width) as c:
            entering = _sigmoid(given[0, t, c] + gate[c]) * _tanh(given[0, t, c + 3 * width] + gate[c + 3 * width])
            kept = _sigmoid(given[0, t, c + 2 * width] + gate[c + 2 * width]) * cell[c]
            store(cell, kept + entering, c)
            store(h, _sigmoid(given[0, t, c + width] + gate[c + width]) * _tanh(cell[c]), c)
            store(out, h[c], 0, t, c)


def _gru(spec: Recurrent, rows, given, weight, bias, out, h) -> None:
    width = spec.width
    gate, scaled = workspace("gate", (3 * width,), "float32"), workspace("scaled", (width,), "float32")
    one = tirx.const(1.0, "float32")
    with loop("step", rows) as step:
        t = rows - 1 - step if spec.backward else step
        _gates(0, 3 if spec.reset_after else 2, width, weight, bias, h, gate)
        with loop("c", width) as c:
            reset = _sigmoid(given[0, t, c + width] + gate[c + width])
            store(scaled, reset * (gate[c + 2 * width] if spec.reset_after else h[c]), c)
        if not spec.reset_after:
            _gates(2, 3, width, weight, bias, scaled, gate)
        with loop("c", width) as c:
            update = _sigmoid(given[0, t, c] + gate[c])
            fresh = scaled[c] if spec.reset_after else gate[c + 2 * width]
            new = _tanh(given[0, t, c + 2 * width] + fresh)
            store(h, (one - update) * new + update * h[c], c)
            store(out, h[c], 0, t, c)
