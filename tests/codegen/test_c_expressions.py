"""TIR expressions as C: a table of texts, and random trees against Python's integers."""

from __future__ import annotations

import ctypes
import random
from collections.abc import Callable

import numpy as np
import pytest
import running
from tvm import tirx
from tvm.tirx import op

from embbert_tvm.codegen import c_files
from embbert_tvm.codegen.c_expressions import C_TYPES, Expressions, real
from embbert_tvm.codegen.plan import solve
from embbert_tvm.codegen.steps import Program
from embbert_tvm.errors import WorkError
from embbert_tvm.kernels import builder as b
from embbert_tvm.kernels.fixed_point import multiply_high, saturate

ROW, COLUMN, LENGTH = (tirx.Var(name, "int64") for name in ("i", "j", "L"))  # loop variables and shapes
A, B, C = (tirx.Var(name, "int32") for name in "abc")  # data
W, F = tirx.Var("w", "int64"), tirx.Var("f", "float32")


def const(value, dtype: str = "int32"):
    return tirx.const(value, dtype)


def cast(dtype: str, value):
    return tirx.Cast(dtype, value)


def printer() -> Expressions:
    expressions = Expressions(lambda v: v.name, lambda v: False)
    expressions.data |= {A, B, C, W, F}
    return expressions


TABLE = [
    (tirx.Add(A, tirx.Mul(B, C)), "a + b * c"),
    (tirx.Mul(tirx.Add(A, B), C), "(a + b) * c"),
    (tirx.Mul(A, tirx.Div(B, C)), "a * (b / c)"),
    (tirx.Mul(A, tirx.Mod(B, C)), "a * (b % c)"),
    (tirx.Mul(tirx.Div(A, B), C), "a / b * c"),
    (tirx.Mul(A, tirx.Mul(B, C)), "a * b * c"),
    (tirx.Div(A, tirx.Mul(B, C)), "a / (b * c)"),
    (tirx.Sub(A, tirx.Add(B, C)), "a - (b + c)"),
    (tirx.Sub(A, tirx.Sub(B, C)), "a - (b - c)"),
    (tirx.Add(A, tirx.Sub(B, C)), "a + b - c"),
    (tirx.Sub(A, const(-5)), "a - -5"),
    (tirx.Add(F, tirx.Add(F, F)), "f + (f + f)"),
    (tirx.Mul(F, tirx.Mul(F, F)), "f * (f * f)"),
    (tirx.LT(tirx.Add(A, B), C), "a + b < c"),
    (tirx.Not(tirx.And(tirx.LT(A, B), tirx.LT(B, C))), "!((a < b) && (b < c))"),
    (tirx.Or(tirx.And(tirx.LT(A, B), tirx.LT(B, C)), tirx.EQ(A, C)), "((a < b) && (b < c)) || (a == c)"),
    (tirx.Select(tirx.LT(A, B), A, tirx.Select(tirx.LT(B, C), B, C)), "a < b ? a : (b < c ? b : c)"),
    (tirx.Sub(A, tirx.Select(tirx.LT(A, B), A, B)), "a - (a < b ? a : b)"),
    (tirx.RShift(tirx.Add(A, B), const(3)), "(a + b) >> 3"),
    (tirx.LShift(const(1), A), "1 << a"),
    (tirx.LShift(const(1, "int64"), cast("int64", A)), "(int64_t)1 << (int64_t)a"),
    (tirx.Min(A, tirx.Max(B, C)), "min_i32(a, max_i32(b, c))"),
    (tirx.Min(W, const(2**40, "int64")), "min_i64(w, INT64_C(1099511627776))"),
    # Indices are 32 bits whatever Relax says; data is not.
    (tirx.Add(tirx.Mul(ROW, const(128, "int64")), COLUMN), "i * 128 + j"),
    (tirx.Min(tirx.Add(ROW, COLUMN), LENGTH), "min_i32(i + j, L)"),
    (tirx.Min(tirx.Add(ROW, cast("int64", A)), LENGTH), "min_i64(i + (int64_t)a, L)"),
    (tirx.Mul(cast("int64", A), cast("int64", B)), "(int64_t)a * (int64_t)b"),
    (cast("int32", tirx.Add(ROW, COLUMN)), "i + j"),
    (cast("int32", F), "(int32_t)f"),
    (tirx.Mul(cast("int32", F), const(2)), "(int32_t)f * 2"),
    (cast("float32", ROW), "(float)i"),
    (cast("int8", tirx.Add(A, B)), "(int8_t)(a + b)"),
    (tirx.Add(cast("int8", A), cast("int8", B)), "(int8_t)((int8_t)a + (int8_t)b)"),
    (cast("int32", tirx.LT(A, B)), "a < b"),
    (const(-(2**31)), "INT32_MIN"),
    (const(-(2**63), "int64"), "INT64_MIN"),
    (const(2**31, "int64"), "INT64_C(2147483648)"),
    (const(0.5, "float32"), "0.5f"),
    (const(3.0, "float32"), "3.0f"),
    (const(-0.0, "float32"), "-0.0f"),
    (const(1e-9, "float32"), "1e-09f"),
    (const(0.1, "float32"), "0.1f"),
    (const(-3.0, "float32"), "-3.0f"),
    (const(float("inf"), "float32"), "INFINITY"),
    (const(float("-inf"), "float32"), "-INFINITY"),
    (const(float("nan"), "float32"), "NAN"),
    (tirx.Max(F, const(0.0, "float32")), "fmaxf(f, 0.0f)"),
    (op.exp(F), "expf(f)"),
    (op.rsqrt(tirx.Add(F, F)), "1.0f / sqrtf(f + f)"),
    (tirx.Mul(F, op.rsqrt(F)), "f * (1.0f / sqrtf(f))"),
    (tirx.Div(F, op.sigmoid(F)), "f / (1.0f / (1.0f + expf(-(f))))"),
    (op.if_then_else(tirx.GE(A, B), A, const(0)), "a >= b ? a : 0"),
    (multiply_high(A, tirx.Add(B, C)), "multiply_high(a, b + c)"),
    (saturate(multiply_high(A, B)), "(int8_t)saturate_i8(multiply_high(a, b))"),
    # Not multiply_high, which gives 32 bits: what is cut to 8 keeps its cut.
    (
        cast("int8", multiply_high(A, B).value),
        "(int8_t)(((int64_t)a * (int64_t)b + INT64_C(2147483648)) >> 32)",
    ),
]


@pytest.mark.parametrize(("expr", "text"), TABLE, ids=[text for _, text in TABLE])
def test_text(expr, text):
    assert printer()(expr) == text


@pytest.mark.parametrize(
    ("expr", "math"), [(const(float("nan"), "float32"), True), (op.exp(F), True), (tirx.Add(F, F), False)]
)
def test_what_needs_math_h_says_so(expr, math):
    expressions = printer()
    expressions(expr)
    assert expressions.math is math


def test_what_has_no_c_is_refused():
    with pytest.raises(WorkError, match="knows no"):
        printer()(tirx.Broadcast(A, 4))
    with pytest.raises(WorkError, match=r"intrinsic .*acosh"):
        printer()(op.acosh(F))


@pytest.mark.parametrize("value", [0.1, 1 / 3, 3.4028234663852886e38, 1e-45, 1.1754944e-38, 16777216.0, -2.5])
def test_a_float_keeps_its_bits(value):
    single = np.float32(value)
    assert np.float32(real(float(single)).removesuffix("f")) == single


class Overflow(Exception):
    pass


Evaluate = Callable[[dict], int]
BITS = {"int8": 8, "int32": 32, "int64": 64}
VALUES = [(7, -3, 2), (-20, 5, -9), (0, 1, -1), (13, 13, 4)]


class Trees:
    """Random expressions, each with what Python makes of it."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def fits(self, value: int, dtype: str) -> int:
        if dtype == "int8":  # wraps, in TIR as in C after the cast
            return (value + 128) % 256 - 128
        if not -(2 ** (BITS[dtype] - 1)) < value < 2 ** (BITS[dtype] - 1):
            raise Overflow
        return value

    def integer(self, depth: int, dtype: str) -> tuple[object, Evaluate]:
        choice = self.random.random()
        if depth == 0 or choice < 0.1:
            return self.leaf(dtype)
        if choice < 0.25:
            other = self.random.choice([t for t in BITS if t != dtype])
            expr, value = self.integer(depth - 1, other)
            bits = BITS[dtype]
            return cast(dtype, expr), lambda v: (value(v) + 2 ** (bits - 1)) % 2**bits - 2 ** (bits - 1)
        if choice < 0.35:
            (condition, truth), (yes, one), (no, other) = (
                self.boolean(depth - 1), self.integer(depth - 1, dtype), self.integer(depth - 1, dtype)
            )  # fmt: skip
            return tirx.Select(condition, yes, no), lambda v: one(v) if truth(v) else other(v)
        if choice < 0.45:
            return self.shift(depth, dtype)
        if choice < 0.6:
            return self.division(depth, dtype)
        node, do = self.random.choice(
            [
                (tirx.Add, lambda x, y: x + y), (tirx.Sub, lambda x, y: x - y), (tirx.Mul, lambda x, y: x * y),
                (tirx.Min, min), (tirx.Max, max), (tirx.BitwiseAnd, lambda x, y: x & y),
                (tirx.BitwiseOr, lambda x, y: x | y), (tirx.BitwiseXor, lambda x, y: x ^ y),
            ]
        )  # fmt: skip
        (left, first), (right, second) = self.integer(depth - 1, dtype), self.integer(depth - 1, dtype)
        return node(left, right), lambda v: self.fits(do(first(v), second(v)), dtype)

    def leaf(self, dtype: str) -> tuple[object, Evaluate]:
        if self.random.random() < 0.4:
            value = self.random.choice([0, 1, -1, 3, -7, 100, 2**40 if dtype == "int64" else 5])
            return const(value, dtype), lambda v: value
        var = self.random.choice([A, B, C])
        expr = var if dtype == "int32" else cast(dtype, var)
        return expr, lambda v: v[var.name]

    def shift(self, depth: int, dtype: str) -> tuple[object, Evaluate]:
        expr, value = self.integer(depth - 1, dtype)
        by = self.random.randrange(4)
        if self.random.random() < 0.5:
            return tirx.RShift(expr, const(by, dtype)), lambda v: value(v) >> by
        by = 35 if dtype == "int64" else by  # what is shifted left must not be negative
        masked = tirx.BitwiseAnd(expr, const(7, dtype))
        return tirx.LShift(masked, const(by, dtype)), lambda v: self.fits((value(v) & 7) << by, dtype)

    def division(self, depth: int, dtype: str) -> tuple[object, Evaluate]:
        (left, first), (right, second) = self.integer(depth - 1, dtype), self.integer(depth - 1, dtype)
        divisor = tirx.Add(tirx.BitwiseAnd(right, const(7, dtype)), const(1, dtype))

        def quotient(v: dict) -> int:
            x, y = first(v), (second(v) & 7) + 1
            return abs(x) // y * (1 if x >= 0 else -1)

        if self.random.random() < 0.5:
            return tirx.Div(left, divisor), quotient
        return tirx.Mod(left, divisor), lambda v: first(v) - quotient(v) * ((second(v) & 7) + 1)

    def boolean(self, depth: int) -> tuple[object, Callable[[dict], bool]]:
        choice = self.random.random()
        if depth > 0 and choice < 0.5:
            (left, first), (right, second) = self.boolean(depth - 1), self.boolean(depth - 1)
            if choice < 0.15:
                return tirx.Not(left), lambda v: not first(v)
            if choice < 0.3:
                return tirx.And(left, right), lambda v: first(v) and second(v)
            return tirx.Or(left, right), lambda v: first(v) or second(v)
        node, do = self.random.choice(
            [
                (tirx.LT, lambda x, y: x < y), (tirx.LE, lambda x, y: x <= y), (tirx.EQ, lambda x, y: x == y),
                (tirx.NE, lambda x, y: x != y), (tirx.GT, lambda x, y: x > y), (tirx.GE, lambda x, y: x >= y),
            ]
        )  # fmt: skip
        depth = max(0, depth - 1)
        (left, first), (right, second) = self.integer(depth, "int32"), self.integer(depth, "int32")
        return node(left, right), lambda v: do(first(v), second(v))


@pytest.mark.parametrize("seed", range(3))
def test_random_trees_are_what_python_makes_of_them(seed):
    """200 functions of three integers in one C file, under the sanitizer, at four points each."""
    trees, cases = Trees(seed), []
    while len(cases) < 200:
        dtype = trees.random.choice(list(BITS))
        expr, value = trees.integer(4, dtype)
        try:
            results = [value(dict(zip("abc", point, strict=True))) for point in VALUES]
        except Overflow:
            continue
        cases.append((dtype, printer()(expr), results))
    empty = Program((), {}, (), (), solve(()), 1, 1, 1)
    functions = [
        f"{C_TYPES[dtype]} f{n}(int32_t a, int32_t b, int32_t c);\n"
        f"{C_TYPES[dtype]} f{n}(int32_t a, int32_t b, int32_t c)\n"
        f"{{\n    (void)a, (void)b, (void)c;\n    return ({C_TYPES[dtype]})({text});\n}}\n"
        for n, (dtype, text, _) in enumerate(cases)
    ]
    # Constants that meet constants are compared and shifted away: no warning of ours.
    flags = ("-O0", "-Wno-type-limits", "-Wno-overflow", "-Wno-tautological-compare", *running.CHECKED)
    headers = {"t_kernels.h": c_files.kernels_header(empty, "t", (), "t")}
    library = ctypes.CDLL(
        str(
            running.compile_c(
                ['#include "t_kernels.h"\n#include "embbert_arithmetic.h"\n' + "".join(functions)], flags, headers
            )
        )
    )
    kinds = {"int8": ctypes.c_int8, "int32": ctypes.c_int32, "int64": ctypes.c_int64}
    for n, (dtype, text, results) in enumerate(cases):
        function = getattr(library, f"f{n}")
        function.restype = kinds[dtype]
        assert [function(*point) for point in VALUES] == results, text


def test_floor_division_rounds_down_in_c():
    """FloorDiv and FloorMod of what may be negative are lowered before they are printed."""

    def body() -> None:
        rows = b.length()
        x, out = b.argument("x", (rows,), "int32"), b.argument("out", (rows, 4), "int32")
        with b.loop("i", rows) as i, b.block("each", vi=("S", rows, i)) as vi:
            for n, value in enumerate((x[vi] // 4, x[vi] % 4, x[vi] // 7, x[vi] % 7)):
                b.store(out, value, vi, n)

    x = np.arange(-30, 31, dtype=np.int32)
    found = running.Kernel(b.prim_func("floor", body))(x, out=((61, 4), "int32"), length=61)
    np.testing.assert_array_equal(found, np.stack([x // 4, x % 4, x // 7, x % 7], axis=1))
