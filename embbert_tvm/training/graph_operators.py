"""The operators of a simplified graph in PyTorch, one text at a time as the graph has it, differentiable."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from tvm import relax, sym, tirx
from tvm.ir import Call, GenericConst, Tuple, TupleGetItem

from embbert_tvm.errors import InputError
from embbert_tvm.graph.dataflow import Expr, callee, number, op_name, shape

_DTYPES = {"float32": torch.float32, "int32": torch.int64, "int64": torch.int64, "bool": torch.bool}
Made = Callable[["Setting", Call, list[Any]], Any]


class Setting:
    """The number of tokens of a text, and what dimensions of the graph are then. typed: the value that is made."""

    def __init__(self, symbol: Any, length: int) -> None:
        self.length = length
        self.typed: Expr | None = None
        self._analyzer = sym.Analyzer()
        self._analyzer.bind(symbol, tirx.IntImm("int64", length))

    def integer(self, value: Any) -> int:
        """A dimension or bound."""
        if (known := number(value)) is not None:
            return known
        return int(self._analyzer.simplify(value))

    def dims(self, expr: Expr) -> list[int]:
        return [self.integer(d) for d in expr.ty.shape.values]


def scan(kept: Tensor, added: Tensor, out_of: Tensor) -> Tensor:
    """The rows (L, C) that a state h = kept * h + added, both (L, C, N), gives through out_of (L, N)."""
    h, rows = torch.zeros_like(added[0]), []
    for t in range(added.shape[0]):
        h = kept[t] * h + added[t]
        rows.append(h)
    return (torch.stack(rows) @ out_of[..., None])[..., 0]


def _scanned(u: Tensor, step: Tensor, rate: Tensor, into: Tensor, out_of: Tensor) -> Tensor:
    kept = torch.exp(step[0, ..., None] * rate)
    added = (step[0] * u[0])[..., None] * into[0, :, None]
    return scan(kept, added, out_of[0])[None]


def _take(setting: Setting, call: Call, args: list[Any]) -> Tensor:
    table, at = args
    axis = 0 if call.attrs.axis is None else int(call.attrs.axis)
    if axis == 0:
        return table[at]
    if at.ndim == 0:
        return table.select(axis, int(at))
    return table.index_select(axis, at.reshape(-1)).reshape(setting.dims(setting.typed))


def _sliced(setting: Setting, call: Call, args: list[Any]) -> Tensor:
    x = args[0]
    axes, begins, ends = ([setting.integer(v) for v in part.fields] for part in call.args[1:4])
    steps = [int(v) for v in call.args[4].fields] if len(call.args) > 4 else [1] * len(axes)
    for axis, begin, end, step in zip(axes, begins, ends, steps, strict=True):
        x = x[(slice(None),) * (axis % x.ndim) + (slice(begin, min(end, x.shape[axis]), step),)]
    return x


def _conv(setting: Setting, call: Call, args: list[Any]) -> Tensor:
    a = call.attrs
    padded = F.pad(args[0], [int(p) for p in a.padding])
    return F.conv1d(padded, args[1], None, int(a.strides[0]), 0, int(a.dilation[0]), int(a.groups))


def _mean_of_neighbours(setting: Setting, call: Call, args: list[Tensor]) -> Tensor:
    a = call.attrs
    size, stride = int(a.pool_size[0]), int(a.strides[0])
    return F.avg_pool1d(args[0], size, stride, int(a.padding[0]), bool(a.ceil_mode), bool(a.count_include_pad))


def _reduced(function: Callable[..., Tensor]) -> Made:
    def made(setting: Setting, call: Call, args: list[Any]) -> Tensor:
        axes = [int(a) for a in call.attrs.axis] if call.attrs.axis is not None else list(range(args[0].ndim))
        return function(args[0], axes, bool(call.attrs.keepdims))

    return made


def _split(setting: Setting, call: Call, args: list[Any]) -> list[Tensor]:
    axis = int(call.attrs.axis)
    sizes = [shape_of[axis] for shape_of in ([setting.integer(d) for d in t.shape.values] for t in _types(setting))]
    return list(args[0].split(sizes, axis))


def _types(setting: Setting) -> list[Any]:
    assert setting.typed is not None
    return list(setting.typed.ty.fields)


def _reshaped(setting: Setting, call: Call, args: list[Any]) -> Tensor:
    assert setting.typed is not None
    return args[0].reshape(setting.dims(setting.typed))


def _permuted(setting: Setting, call: Call, args: list[Any]) -> Tensor:
    axes = call.attrs.axes
    return args[0].permute(list(range(args[0].ndim))[::-1] if axes is None else [int(a) for a in axes])


def _plain(function: Callable[..., Tensor]) -> Made:
    return lambda setting, call, args: function(*args)


def _layer_norm(setting: Setting, call: Call, args: list[Any]) -> Tensor:
    return F.layer_norm(args[0], args[1].shape, args[1], args[2], float(call.attrs.epsilon))


_PLAIN: dict[str, Callable[..., Tensor]] = {
    "add": torch.add, "subtract": torch.sub, "multiply": torch.mul, "divide": torch.div, "power": torch.pow,
    "negative": torch.neg, "maximum": torch.maximum, "minimum": torch.minimum, "abs": torch.abs, "exp": torch.exp,
    "log": torch.log, "sqrt": torch.sqrt, "rsqrt": torch.rsqrt, "tanh": torch.tanh, "sigmoid": torch.sigmoid,
    "erf": torch.erf, "equal": torch.eq, "not_equal": torch.ne, "greater": torch.gt, "greater_equal": torch.ge,
    "less": torch.lt, "less_equal": torch.le, "logical_and": torch.logical_and, "logical_or": torch.logical_or,
    "logical_not": torch.logical_not, "where": torch.where, "matmul": torch.matmul, "nn.silu": F.silu,
    "nn.relu": F.relu, "nn.gelu": F.gelu, "nn.gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "nn.softplus": F.softplus, "square": torch.square,
}  # fmt: skip
OPERATORS: dict[str, Made] = {
    **{name: _plain(function) for name, function in _PLAIN.items()},
    "take": _take,
    "strided_slice": _sliced,
    "split": _split,
    "reshape": _reshaped,
    "squeeze": _reshaped,
    "expand_dims": _reshaped,
    "flatten": _reshaped,
    "permute_dims": _permuted,
    "astype": lambda setting, call, args: args[0].to(_DTYPES[str(call.attrs.dtype)]),
    "cumsum": lambda setting, call, args: args[0].cumsum(int(call.attrs.axis)),
    "concat": lambda setting, call, args: torch.cat(args[0], int(call.attrs.axis)),
    "mean": _reduced(lambda x, axes, keep: x.mean(axes, keepdim=keep)),
    "sum": _reduced(lambda x, axes, keep: x.sum(axes, keepdim=keep)),
    "max": _reduced(lambda x, axes, keep: x.amax(axes, keepdim=keep)),
    "min": _reduced(lambda x, axes, keep: x.amin(axes, keepdim=keep)),
    "nn.softmax": lambda setting, call, args: args[0].softmax(int(call.attrs.axis)),
    "nn.conv1d": _conv,
    "nn.avg_pool1d": _mean_of_neighbours,
    "nn.rms_norm": lambda setting, call, args: F.rms_norm(args[0], args[1].shape, args[1], float(call.attrs.epsilon)),
    "nn.layer_norm": _layer_norm,
}


def compute(setting: Setting, made: Expr, typed: Expr, read: Callable[[Expr, int], Any]) -> Any:
    """The value of a binding. read: the value of its argument, by its place. Raises InputError for an operator that
    there is no PyTorch for."""
    if isinstance(made, TupleGetItem):
        return read(made.tuple_value, 0)[int(made.index)]
    if isinstance(made, Tuple):
        return [read(field, n) for n, field in enumerate(made.fields)]
    if isinstance(made, GenericConst) or not isinstance(made, Call):
        return read(made, 0)
    name = str(callee(made))
    if op_name(made) == "call_tir":
        args = [read(field, n) for n, field in enumerate(made.args[1].fields)]
        if name.startswith("selective_scan_"):
            return _scanned(*args)
    elif name in OPERATORS:
        args = [_argument(arg, n, read) for n, arg in enumerate(made.args)]
        setting.typed = typed
        return OPERATORS[name](setting, made, args)
    raise InputError(f"{typed.name}: {name} is not trained through its rounding")


def _argument(arg: Expr, place: int, read: Callable[[Expr, int], Any]) -> Any:
    """The value of an argument; None for a shape and for bounds, which operators read from the call."""
    if isinstance(arg, Tuple):
        tensors = all(isinstance(field.ty, relax.TensorType) for field in arg.fields)
        return [read(field, place + n) for n, field in enumerate(arg.fields)] if tensors else None
    return read(arg, place) if isinstance(arg.ty, relax.TensorType) else None


def as_shape(setting: Setting, rows: Tensor, expr: Expr, channels_first: bool) -> Tensor:
    """Rows (L, K) in the shape that the graph gives their value."""
    return rows.t()[None] if channels_first else rows.reshape(setting.dims(expr))


__all__ = ["OPERATORS", "Setting", "as_shape", "compute", "scan", "shape"]
