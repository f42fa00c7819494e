"""TIR expressions as C99.

Shapes and loop variables are int64 in Relax; here they are int32_t, as nothing that fits a microcontroller is larger.
An int64 expression made only of those is printed in 32 bits, any other keeps its 64.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

from tvm import tirx
from tvm.ir import Call, StringImm, TensorLoad, Var

from embbert_tvm.errors import WorkError

C_TYPES = {
    "int8": "int8_t",
    "uint8": "uint8_t",
    "int16": "int16_t",
    "uint16": "uint16_t",
    "int32": "int32_t",
    "uint32": "uint32_t",
    "int64": "int64_t",
    "uint64": "uint64_t",
    "bool": "uint8_t",
    "float16": "uint16_t",
    "float32": "float",
}

# Operator, precedence as in C (larger binds tighter).
_BINARY = {
    tirx.Mul: ("*", 10),
    tirx.Div: ("/", 10),
    tirx.FloorDiv: ("/", 10),
    tirx.Mod: ("%", 10),
    tirx.FloorMod: ("%", 10),
    tirx.Add: ("+", 9),
    tirx.Sub: ("-", 9),
    tirx.LShift: ("<<", 8),
    tirx.RShift: (">>", 8),
    tirx.LT: ("<", 7),
    tirx.LE: ("<=", 7),
    tirx.GT: (">", 7),
    tirx.GE: (">=", 7),
    tirx.EQ: ("==", 6),
    tirx.NE: ("!=", 6),
    tirx.BitwiseAnd: ("&", 5),
    tirx.BitwiseXor: ("^", 4),
    tirx.BitwiseOr: ("|", 3),
    tirx.And: ("&&", 2),
    tirx.Or: ("||", 1),
}
# Beside these GCC asks for parentheses that the grammar does not need.
_SHOUTED = {"<<", ">>", "&", "^", "|", "&&", "||"}
# a + (b - c) is a + b - c.
_REGROUPED = {"+": (tirx.Add, tirx.Sub), "*": (tirx.Mul,)}
# C computes these in int, TIR in their own bits.
PROMOTED = {"int8", "int16", "uint8", "uint16"}
_PRODUCT, _ATOM = 10, 12

_FLOAT_FUNCTIONS = {
    "exp", "exp2", "log", "log2", "sqrt", "tanh", "sin", "cos", "tan", "atan", "erf", "floor", "ceil",
    "trunc", "fabs", "pow", "fmod", "nearbyint",
}  # fmt: skip


class Expressions:
    """Prints expressions. name: the C name of a variable or buffer; scalar: whether a buffer is one plain variable.

    used: the variables that were printed; math: whether anything of <math.h> was; data: the variables that hold what
    was read or computed, so that they are no indices. half: whether a buffer of float32 is stored as float16.
    """

    def __init__(
        self, name: Callable[[Var], str], scalar: Callable[[Var], bool], half: Callable[[Var], bool] = lambda b: False
    ) -> None:
        self._name = name
        self._scalar = scalar
        self._half = half
        self.used: list[Var] = []
        self.math = False
        self.data: set[Var] = set()

    def is_index(self, expr: Any) -> bool:
        """Whether an integer expression is made of loop variables, shapes and small constants only."""
        if isinstance(expr, Var):
            return str(expr.ty.dtype) in ("int32", "int64") and expr not in self.data
        if isinstance(expr, tirx.IntImm):
            return abs(int(expr.value)) < 2**31
        if isinstance(expr, tirx.Cast):
            return str(expr.ty.dtype) in ("int32", "int64") and self.is_index(expr.value)
        arithmetic = (tirx.Add, tirx.Sub, tirx.Mul, tirx.FloorDiv, tirx.FloorMod, tirx.Min, tirx.Max)
        return isinstance(expr, arithmetic) and self.is_index(expr.a) and self.is_index(expr.b)

    def __call__(self, expr: Any) -> str:
        return self._print(expr)[0]

    def element(self, buffer: Var, indices: list[Any]) -> str:
        if self._scalar(buffer):
            return self._name(buffer)
        (index,) = indices
        return f"{self._name(buffer)}[{self(index)}]"

    def _print(self, expr: Any) -> tuple[str, int]:
        if (operands := _multiply_high(expr)) is not None:
            return f"multiply_high({self(operands[0])}, {self(operands[1])})", _ATOM
        for function, low, high in (("saturate_i8", -128, 127), ("saturate_u8", 0, 255)):
            if (value := _clamped(expr, low, high)) is not None:
                return f"{function}({self(value)})", _ATOM
        if type(expr) in _BINARY:
            return self._binary(expr)
        printer = {
            Var: self._variable,
            tirx.IntImm: self._integer,
            tirx.FloatImm: self._float,
            tirx.Cast: self._cast,
            tirx.Min: self._extreme,
            tirx.Max: self._extreme,
            tirx.Not: lambda e: (f"!{self._operand(e.a, 11)}", 11),
            tirx.BitwiseNot: lambda e: (f"~{self._operand(e.a, 11)}", 11),
            tirx.Select: lambda e: self._choice(e.condition, e.true_value, e.false_value),
            TensorLoad: self._load,
            Call: self._call,
        }.get(type(expr))
        if printer is None:
            raise WorkError(f"the C printer knows no {type(expr).__name__} expression")
        return printer(expr)

    def factor(self, expr: Any, is_first: bool) -> str:
        """A factor of a product, in parentheses where C needs them."""
        return self._operand(expr, _PRODUCT if is_first else _PRODUCT + 1)

    def _operand(self, expr: Any, precedence: int, operator: str = "") -> str:
        text, own = self._print(expr)
        mixed = operator in _SHOUTED and own < 11 and own != _ATOM
        return f"({text})" if own < precedence or mixed else text

    def _binary(self, expr: Any) -> tuple[str, int]:
        operator, precedence = _BINARY[type(expr)]
        dtype = str(expr.ty.dtype)
        left = self._operand(expr.a, precedence, operator)
        # Regrouping changes what floating point rounds to, and a product of a quotient.
        regroups = type(expr.b) in _REGROUPED.get(operator, ()) and not dtype.startswith("float")
        right = self._operand(expr.b, precedence + (not regroups), operator)
        if operator == "<<" and dtype == "int64" and not isinstance(expr.a, TensorLoad):
            left = f"(int64_t){self._operand(expr.a, 11)}"
        if dtype in PROMOTED and operator in ("+", "-", "*", "<<"):
            return f"({C_TYPES[dtype]})({left} {operator} {right})", 11
        return f"{left} {operator} {right}", precedence

    def _load(self, expr: Any) -> tuple[str, int]:
        text = self.element(expr.source, expr.indices)
        return f"half_to_float({text})" if self._half(expr.source) else text, _ATOM

    def _variable(self, expr: Var) -> tuple[str, int]:
        self.used.append(expr)
        return self._name(expr), _ATOM

    def _integer(self, expr: Any) -> tuple[str, int]:
        value, dtype = int(expr.value), str(expr.ty.dtype)
        if value == -(2**63):
            return "INT64_MIN", _ATOM
        if dtype == "int64" and not -(2**31) < value < 2**31:
            return f"INT64_C({value})", _ATOM
        if value == -(2**31):
            return "INT32_MIN", _ATOM
        return str(value), _ATOM if value >= 0 else 11

    def _float(self, expr: Any) -> tuple[str, int]:
        text = real(float(expr.value))
        self.math |= text.isupper() or text.startswith("-I")
        return text, 11 if text.startswith("-") else _ATOM

    def _cast(self, expr: Any) -> tuple[str, int]:
        if self.is_index(expr) or str(expr.ty.dtype) == str(expr.value.ty.dtype):
            return self._print(expr.value)
        if str(expr.value.ty.dtype) == "bool":
            return self._print(expr.value)
        if str(expr.ty.dtype) == "float16":
            return f"half_from_float({self(expr.value)})", _ATOM
        if str(expr.value.ty.dtype) == "float16":
            return f"half_to_float({self(expr.value)})", _ATOM
        return f"({C_TYPES[str(expr.ty.dtype)]}){self._operand(expr.value, 11)}", 11

    def _extreme(self, expr: Any) -> tuple[str, int]:
        which = "min" if isinstance(expr, tirx.Min) else "max"
        dtype = str(expr.ty.dtype)
        if dtype == "float32":
            self.math = True
            return f"f{which}f({self(expr.a)}, {self(expr.b)})", _ATOM
        kind = "i64" if dtype == "int64" and not self.is_index(expr) else "i32"
        return f"{which}_{kind}({self(expr.a)}, {self(expr.b)})", _ATOM

    def _choice(self, condition: Any, yes: Any, no: Any) -> tuple[str, int]:
        return f"{self._operand(condition, 1)} ? {self._operand(yes, 1)} : {self._operand(no, 1)}", 0

    def _call(self, expr: Call) -> tuple[str, int]:
        name = expr.op.name.rsplit(".", 1)[-1]
        args = list(expr.args)
        if name == "if_then_else":
            return self._choice(*args)
        if name == "likely":
            return self._print(args[0])
        if name == "address_of":
            (load,) = args
            return f"&{self.element(load.source, load.indices)}", 11
        if name in ("call_pure_extern", "call_extern"):
            function, args = str(args[0].value if isinstance(args[0], StringImm) else args[0]), args[1:]
            self.math |= not function.startswith("embbert_")
            return f"{function}({self._list(args)})", _ATOM
        if name in ("rsqrt", "sigmoid"):
            self.math = True
            inside = self(args[0])
            form = f"1.0f / sqrtf({inside})" if name == "rsqrt" else f"1.0f / (1.0f + expf(-({inside})))"
            return form, 10
        # Ties go to the even number in ONNX and in TVM's LLVM build, away from zero in C's roundf.
        name = "nearbyint" if name == "round" else name
        if name in _FLOAT_FUNCTIONS and str(expr.ty.dtype) == "float32":
            self.math = True
            return f"{name}f({self._list(args)})", _ATOM
        raise WorkError(f"the C printer knows no intrinsic {expr.op.name} of type {expr.ty.dtype}")

    def _list(self, args: list[Any]) -> str:
        return ", ".join(self(a) for a in args)


def real(value: float) -> str:
    """A float32 literal; INFINITY and NAN of <math.h> for what has none."""
    if math.isnan(value):
        return "NAN"
    if math.isinf(value):
        return "INFINITY" if value > 0 else "-INFINITY"
    text = f"{value:.9g}"
    return (text if "." in text or "e" in text else f"{text}.0") + "f"


def _multiply_high(expr: Any) -> tuple[Any, Any] | None:
    """(a, m) where `expr` is kernels.fixed_point.multiply_high(a, m)."""
    if not isinstance(expr, tirx.Cast) or not isinstance(expr.value, tirx.RShift) or str(expr.ty.dtype) != "int32":
        return None
    total, bits = expr.value.a, expr.value.b
    if not isinstance(total, tirx.Add) or not isinstance(total.a, tirx.Mul) or not _is(bits, 32):
        return None
    factors = (total.a.a, total.a.b)
    if not _is(total.b, 2**31) or not all(isinstance(f, tirx.Cast) for f in factors):
        return None
    if any(str(f.value.ty.dtype) != "int32" for f in factors):
        return None
    return factors[0].value, factors[1].value


def _clamped(expr: Any, low: int, high: int) -> Any:
    """x where `expr` is the int32 x clamped to [low, high]."""
    if not isinstance(expr, tirx.Max) or not isinstance(expr.a, tirx.Min) or str(expr.ty.dtype) != "int32":
        return None
    return expr.a.a if _is(expr.b, low) and _is(expr.a.b, high) else None


def _is(expr: Any, value: int) -> bool:
    return isinstance(expr, tirx.IntImm) and int(expr.value) == value


def shape_text(dims: Iterable[Any]) -> str:
    """A shape for a comment, its sizes as C has them."""
    text = Expressions(lambda variable: str(variable.name), lambda buffer: False)
    return "(" + ", ".join(str(int(d)) if isinstance(d, (int, tirx.IntImm)) else text(d) for d in dims) + ")"


def product_text(factors: Iterable[Any]) -> str:
    """The product of sizes, expressions in L alone, in C; "1" of none."""
    text = Expressions(lambda variable: "L", lambda buffer: False)
    found: list[str] = []
    for factor in factors:
        found.append(str(factor) if isinstance(factor, int) else text.factor(factor, is_first=not found))
    return " * ".join(found) or "1"
