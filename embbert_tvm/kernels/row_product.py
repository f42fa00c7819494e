"""A linear layer of float32 rows in integers: each row is brought to steps, multiplied, and brought back.

    step[i] = max_k |x[i, k]| / levels, or one for all rows
    q[i, k] = floor(x[i, k] / step[i] + 1/2), saturated to levels each way
    out[i, j] = (sum_k q[i, k] weight[j, k]) * (step[i] * scale[j]) + bias[j]

Where there is a threshold, an element beyond it is 0 in q and in the maximum, and adds
x[i, k] * weight[j, k] * scale[j] in float32: LLM.int8's decomposition (arXiv 2208.07339), an element at a time where it
takes whole columns.
"""

from __future__ import annotations

from dataclasses import dataclass

from tvm import tirx

from embbert_tvm.kernels.builder import argument, block, i32, init, length, loop, prim_func, store, workspace

_LEAST = 1e-20  # of a row's largest magnitude: a row of zeros has steps too


@dataclass(frozen=True)
class RowProduct:
    """k to n; one_row: one row instead of L. dtype: of q, int8 or int16. static: one step for all rows, an argument.
    threshold: beyond which an element stays in float."""

    k: int
    n: int
    one_row: bool = False
    dtype: str = "int8"
    static: bool = False
    threshold: float | None = None

    @property
    def levels(self) -> int:
        return {"int8": 127, "int16": 32767}[self.dtype]

    @property
    def name(self) -> str:
        kind = f"{'static_' if self.static else ''}{self.dtype}{'_outliers' if self.threshold else ''}"
        return f"row_product_{kind}_{'row_' if self.one_row else ''}{self.k}x{self.n}"


def most_columns(dtype: str) -> int:
    """The largest k whose sums fit int32."""
    return (2**31 - 1) // (127 * RowProduct(1, 1, dtype=dtype).levels)


def row_product(spec: RowProduct) -> tirx.PrimFunc:
    """Arguments: x float32 (1, L or 1, k), the step float32 (1,) where it is static, weight int8 (n, k), scale and bias
    float32 (n,); out float32 (1, L or 1, n)."""

    def body() -> None:
        rows = 1 if spec.one_row else length()
        x = argument("x", (1, rows, spec.k), "float32")
        fixed = argument("step", (1,), "float32") if spec.static else None
        weight = argument("weight", (spec.n, spec.k), "int8")
        scale, bias = (argument(name, (spec.n,), "float32") for name in ("scale", "bias"))
        out = argument("out", (1, rows, spec.n), "float32")
        zero, half, most = (tirx.const(value, "float32") for value in (0.0, 0.5, float(spec.levels)))

        def size(value):
            return tirx.max(value, -value)

        def inside(value):
            if spec.threshold is None:
                return value
            return tirx.Select(size(value) <= tirx.const(spec.threshold, "float32"), value, zero)

        with loop("i", rows) as i, block("row", vi=("S", rows, i)) as vi:
            step, row = workspace("row_step", (1,), "float32"), workspace("row", (spec.k,), spec.dtype)
            acc = workspace("acc", (spec.n,), "int32")
            if spec.static:
                with block("row_step", v=("S", 1, 0)) as v:
                    store(step, fixed[v], v)
            else:
                peak = workspace("peak", (1,), "float32")
                with loop("k", spec.k) as k, block("peak", vk=("R", spec.k, k)) as vk:
                    with init():
                        store(peak, tirx.const(_LEAST, "float32"), 0)
                    store(peak, tirx.max(peak[0], size(inside(x[0, vi, vk]))), 0)
                with block("row_step", v=("S", 1, 0)) as v:
                    store(step, peak[v] / most, v)
            with loop("k", spec.k) as k, block("quantize", vk=("S", spec.k, k)) as vk:
                level = tirx.floor(inside(x[0, vi, vk]) / step[0] + half)
                store(row, tirx.Cast(spec.dtype, tirx.max(tirx.min(level, most), -most)), vk)
            with loop("j", spec.n) as j, loop("k", spec.k) as k:
                with block("product", vj=("S", spec.n, j), vk=("R", spec.k, k)) as (vj, vk):
                    with init():
                        store(acc, i32(0), vj)
                    store(acc, acc[vj] + i32(row[vk]) * i32(weight[vj, vk]), vj)
            apart = None
            if spec.threshold is not None:
                apart = workspace("outliers", (spec.n,), "float32")
                with loop("j", spec.n) as j, loop("k", spec.k) as k:
                    with block("outliers", vj=("S", spec.n, j), vk=("R", spec.k, k)) as (vj, vk):
                        with init():
                            store(apart, zero, vj)
                        beyond = x[0, vi, vk] - inside(x[0, vi, vk])
                        store(apart, apart[vj] + beyond * tirx.Cast("float32", weight[vj, vk]), vj)
            with loop("j", spec.n) as j, block("real", vj=("S", spec.n, j)) as vj:
                real = tirx.Cast("float32", acc[vj]) * (step[0] * scale[vj])
                if apart is not None:
                    real = real + apart[vj] * scale[vj]
                store(out, real + bias[vj], 0, vi, vj)

    return prim_func(spec.name, body)
