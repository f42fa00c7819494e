"""Random quantized modules, of every stage that row-block kernels know, and a way to run a module kernel by kernel."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tvm import IRModule, relax, tirx
from tvm.ir import Var

from embbert_tvm.graph.names import fingerprint
from embbert_tvm.graph.quantize.quantizer import KERNEL, KernelSelection, Quantized
from embbert_tvm.graph.quantize.selective_scan import tabulate
from embbert_tvm.kernels import half
from embbert_tvm.kernels.attention import Attention, attention, exp_table
from embbert_tvm.kernels.convert import Rescale, rescale
from embbert_tvm.kernels.depthwise_conv import DepthwiseConv, depthwise_conv
from embbert_tvm.kernels.epilogues import Activate, Dequantize, LayerNorm, Requantize, RequantizeWide, RmsNorm
from embbert_tvm.kernels.gate import Gate, gate
from embbert_tvm.kernels.integer_recurrence import IntegerRecurrence, integer_recurrence
from embbert_tvm.kernels.integer_recurrence import tables as recurrence_tables
from embbert_tvm.kernels.integer_scan import IntegerScan, decay_table, integer_scan
from embbert_tvm.kernels.isa import Isa, isa_of
from embbert_tvm.kernels.pool import KINDS, Pool, pool
from embbert_tvm.kernels.product import Product, ProductInput, product
from embbert_tvm.kernels.specs import with_spec

VOCABULARY, POSITIONS, CLASSES = 19, 80, 3


def int8(rng: np.random.Generator, *shape: int) -> np.ndarray:
    ends = rng.choice([-127, 127, 0], shape)
    return np.where(rng.random(shape) < 0.1, ends, rng.normal(0, 45, shape).clip(-127, 127)).astype(np.int8)


@dataclass
class Maker:
    """Adds kernels to a module as the quantizer does."""

    rng: np.random.Generator
    specs: dict[str, object] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    choices: list[KernelSelection] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.builder = relax.BlockBuilder()
        self.length = tirx.Var("L", "int64")
        self.ids = relax.Var("ids", relax.TensorType([1, self.length], "int32"))

    def call(self, func, spec, args: list, rows, columns: int, dtype: str) -> Var:
        target = self.builder.add_func(with_spec(func, spec), func.attrs[KERNEL])
        tensors = [relax.const(a) if isinstance(a, np.ndarray) else a for a in args]
        out = self.builder.emit(relax.call_tir(target, tensors, relax.TensorType([rows, columns], dtype)))
        for index, value in enumerate(args):
            if isinstance(value, np.ndarray):
                self.names.setdefault(fingerprint(value), f"{out.name}_{index}")
        self.specs[out.name] = spec
        self.choices.append(KernelSelection(out.name, str(func.attrs[KERNEL]), "int8", "random"))
        return out

    def vectors(self, epilogue, n: int, spread: float) -> list[np.ndarray]:
        """The epilogue's constants, for accumulators of about that size."""
        rng = self.rng
        size = 45 * 200 if isinstance(epilogue, RequantizeWide) else 45
        factor = np.clip(rng.uniform(0.5, 1.5, n) * size / spread, 0, 0.49) * 2.0**32
        multiplier = (factor * rng.choice([-1, 1], n)).astype(np.int32)
        if isinstance(epilogue, (Requantize, RequantizeWide)):
            return [multiplier]
        if isinstance(epilogue, Activate):
            return [multiplier, int8(rng, 256)]
        if isinstance(epilogue, Dequantize):
            return [rng.uniform(0.5, 1.5, n).astype(np.float32)]
        gain = (rng.uniform(0.5, 1.5, n) * 40 * np.sqrt(n) * 2.0**9).clip(0, 2**31 - 1)
        rescale = (rng.uniform(0.1, 0.49, n) * 2.0**32).clip(0, 2**31 - 1).astype(np.int32)
        if isinstance(epilogue, RmsNorm):
            return [rescale, np.array([9], np.int32), gain.astype(np.int32)]
        shifted = (gain * 2.0**8).clip(0, 2**31 - 1).astype(np.int32)
        return [rescale, np.array([9], np.int32), shifted, rng.integers(-9000, 9000, n).astype(np.int32)]

    def linear(self, xs: list, n: int, epilogue, residual: Var | None = None, one_row: bool = False) -> Var:
        """A product of tensors [(var, width)], perhaps with a residual of width n."""
        rng = self.rng
        row = 0 if one_row else None
        spec = Product(
            tuple(ProductInput(w, row=row) for _, w in xs), n, epilogue, (), one_row,
            (ProductInput(n, dtype=str(residual.ty.dtype)),) if residual is not None else (),
        )  # fmt: skip
        spread = 45.0 * 45 * np.sqrt(spec.k or 1)
        args: list = [*(x for x, _ in xs), *([int8(rng, n, spec.k)] if xs else [])]
        args.append(rng.integers(-3000, 3000, n).astype(np.int32))
        if residual is not None:
            most = 2**14 if spec.residuals[0].dtype == "int8" else 2**9
            args += [residual, rng.integers(-(most // 4), most, n).astype(np.int32)]
        args += self.vectors(epilogue, n, spread)
        return self.call(product(spec), spec, args, 1 if one_row else self.length, n, epilogue.dtype)

    def embedding(self, n: int, epilogue, mapped: bool, small_tables: bool) -> Var:
        rng, width = self.rng, int(self.rng.integers(2, 20))
        tables = [(VOCABULARY, True), (POSITIONS, False)]
        sources = tuple(ProductInput(width if mapped else n, rows, indexed) for rows, indexed in tables)
        spec = Product(
            sources if mapped else (), n, epilogue, (3,) if small_tables else (), residuals=() if mapped else sources
        )
        segment = self.builder.emit(relax.op.minimum(self.ids, relax.const(2, "int32"))) if small_tables else None
        args: list = []
        tail = [rng.integers(-3000, 3000, n).astype(np.int32)]
        if small_tables:
            tail += [rng.integers(-30000, 30000, (3, n)).astype(np.int32), segment]
        if mapped:
            for s in sources:
                args += [int8(rng, s.rows, s.width), *([self.ids] if s.indexed else [])]
            args += [int8(rng, n, spec.k), *tail]
        else:
            args += tail
            for s in sources:
                factor = rng.integers(2**8, 2**14, n).astype(np.int32)
                args += [int8(rng, s.rows, n), *([self.ids] if s.indexed else []), factor]
        args += self.vectors(epilogue, n, 45.0 * 45 * np.sqrt(spec.k) if mapped else 45.0 * 60)
        return self.call(product(spec), spec, args, self.length, n, epilogue.dtype)

    def attend(self, query: Var, key: Var, value: Var, spec: Attention) -> Var:
        width, distances, relative = spec.width, spec.distances, spec.relative
        step = 1 / (45.0 * 45 * np.sqrt(width)) * 60
        args = [query, key, value, exp_table(), np.array([int(step * 2**32)], np.int32),
                np.array([2**27 + int(self.rng.integers(2**26))], np.int32)]  # fmt: skip
        if distances is not None:
            far = self.rng.normal(0, 1 / step * 60, (1, 2 * distances - 1))
            args.append(far.astype(np.int32))
        if relative is not None:
            args += [self.rng.normal(0, 45, (1, relative.count, width)).astype(np.int16) for _ in range(2)]
            args.append(self.rng.integers(0, relative.count, (1, 2 * relative.most - 1)).astype(np.int16))
        return self.call(attention(spec), spec, args, 1 if spec.one_row else self.length, width, "int8")

    def convolve(self, xs: list, n: int, window: tuple[int, int, int], skips: bool = False) -> Var:
        """A convolution over time of tensors [(var, width)] and a table of the tokens; window: taps, rows ahead,
        dilation. skips: whether it leaves out the rows that would read before the first."""
        rng, (taps, after, dilation) = self.rng, window
        read = [ProductInput(w, taps=taps, after=after, dilation=dilation) for _, w in xs]
        read.append(ProductInput(n, VOCABULARY, True, taps=taps, after=after, dilation=dilation))
        spec = Product(tuple(read), n, Activate(), skipped=dilation * (taps - 1) if skips else 0)
        args: list = [*(x for x, _ in xs), int8(rng, VOCABULARY, n), self.ids]
        args += [int8(rng, n, spec.k), rng.integers(-3000, 3000, n).astype(np.int32)]
        args += self.vectors(Activate(), n, 45.0 * 45 * np.sqrt(spec.k))
        return self.call(product(spec), spec, args, spec.rows_made(self.length), n, "int8")

    def filter(self, x: Var, width: int, taps: int, expansion: int = 1, after: int = 0, dilation: int = 1) -> Var:
        rng, n = self.rng, width * expansion
        spec = DepthwiseConv(taps, n, Activate(), expansion=expansion, after=after, dilation=dilation)
        args = [x, int8(rng, taps, n), rng.integers(-3000, 3000, n).astype(np.int32)]
        args += self.vectors(Activate(), n, 45.0 * 45 * np.sqrt(taps))
        return self.call(depthwise_conv(spec), spec, args, self.length, n, "int8")

    def gate(self, a: Var, b: Var, width: int) -> Var:
        args = [a, b, np.array([2**14], np.int32)]
        return self.call(gate(Gate(width)), Gate(width), args, self.length, width, "int8")

    def scan(self, x: Var, width: int, channels: int, state: int) -> Var:
        """A selective scan whose four inputs are products of x."""
        rng, spec = self.rng, IntegerScan(channels, state, 20)
        inputs = [self.linear([(x, width)], n, Requantize()) for n in (channels, channels, state, state)]
        steps = tabulate(np.log1p(np.exp(np.linspace(-6, 4, 256))), -rng.uniform(0.5, 6, (channels, state)))
        args = [*inputs, steps.size, steps.log_step, steps.log_decay, decay_table()]
        args += [rng.integers(-(2**20), 2**20, channels).astype(np.int32), np.array([2**12], np.int32)]
        return self.call(integer_scan(spec), spec, args, self.length, channels, "int8")

    def recurrence(self, x: Var, width: int, n: int, kind: str, backward: bool, reset_after: bool) -> Var:
        rng, spec = self.rng, IntegerRecurrence(kind, n, 9, backward, reset_after or kind == "lstm")
        rows = spec.gates * n
        given = self.linear([(x, width)], rows, RequantizeWide())
        matrices = [int8(rng, (b - a) * n, n) for a, b in spec.matrices]
        vectors = [rng.integers(-9000, 9000, rows), rng.integers(2**24, 2**28, rows), np.array([2**18])]
        last = [*recurrence_tables(), np.array([508], np.int32)]
        args = [given, *matrices, *(v.astype(np.int32) for v in vectors), *last]
        return self.call(integer_recurrence(spec), spec, args, self.length, n, "int8")

    def rescale(self, x: Var, width: int) -> Var:
        args = [x, np.array([2**8], np.int32)]
        return self.call(rescale(Rescale(width)), Rescale(width), args, self.length, width, "int8")

    def pool(self, x: Var, width: int, kind: str) -> Var:
        spec = Pool(kind, width, str(x.ty.dtype))
        args = [x, *([np.array([3], np.int32)] if kind == "rms" else []), np.array([2**17], np.int32)]
        return self.call(pool(spec), spec, args, 1, width, "int8")

    def finish(self, build) -> Quantized:
        """The module of what `build` emits, which gives the variable that is read out."""
        with self.builder.function("main", [self.ids], {}):
            with self.builder.dataflow():
                out = self.builder.emit_output(build(), name_hint="logits")
            self.builder.emit_func_output(out)
        mod = self.builder.finalize()
        assert isinstance(mod, IRModule)
        return Quantized(mod, self.names, tuple(self.choices), self.specs)


def one_row(make: Maker, x: Var, width: int) -> tuple[Var, int]:
    """What the head reads of all rows: a pooling, a query's context, or rows of which the first is read."""
    rng = make.rng
    if rng.random() < 0.3:
        if rng.random() < 0.5:
            window = (int(rng.integers(2, 6)), 0, int(rng.integers(1, 3)))
            x, width = make.convolve([(x, width)], 20, window, skips=True), 20
        x = make.pool(x, width, KINDS[rng.integers(len(KINDS))])
    elif rng.random() < 0.5:
        n = int(rng.integers(2, 40)) * 2
        q = make.linear([(x, width)], n, Requantize(), one_row=True)
        k, v = (make.linear([(x, width)], n, Requantize()) for _ in range(2))
        spec = Attention(n, one_row=True)
        args = [q, k, v, exp_table(), np.array([2**17], np.int32), np.array([2**27], np.int32)]
        x, width = make.call(attention(spec), spec, args, 1, n, "int8"), n
    return x, width


def several_heads(make: Maker, x: Var, width: int) -> list[tuple[Var, int]]:
    """The contexts of one to three heads of attention, each with its width."""
    heads, each = int(make.rng.integers(1, 4)), int(make.rng.integers(1, 24)) * 2
    contexts = []
    for _ in range(heads):
        q, k, v = (make.linear([(x, width)], each, Requantize()) for _ in range(3))
        contexts.append((make.attend(q, k, v, Attention(each)), each))
    return contexts


def through_a_window(make: Maker, x: Var, width: int, n: int, kind: int) -> tuple[Var, int]:
    """A filter (8: causal, 9: of any reach) or a convolution of x, and its width."""
    rng = make.rng
    if kind == 8:
        times = int(rng.integers(1, 4))
        return make.filter(x, width, int(rng.integers(1, 9)), times), width * times
    taps, dilation, times = (int(rng.integers(1, most)) for most in (8, 4, 3))
    ahead = int(rng.integers(0, dilation * (taps - 1) + 1))
    if kind == 9:
        return make.filter(x, width, taps, times, ahead, dilation), width * times
    beside = make.linear([(x, width)], 7, Requantize())
    return make.convolve([(x, width), (beside, 7)], n, (taps, ahead, dilation)), n


def random_module(seed: int, steps: int = 4) -> Quantized:
    """An embedding, random layers, and a head on the first row."""
    rng = np.random.default_rng(seed)
    make = Maker(rng)
    any_norm = lambda: RmsNorm() if rng.random() < 0.5 else LayerNorm()  # noqa: E731

    def rows_epilogue():
        return (Requantize(), Activate(), any_norm())[rng.integers(3)]

    def build() -> Var:
        width = int(rng.integers(1, 45)) * (2 if rng.random() < 0.7 else 1)
        x = make.embedding(width, rows_epilogue(), bool(rng.random() < 0.5), bool(rng.random() < 0.5))
        for _ in range(steps):
            kind = rng.integers(12)
            n = int(rng.integers(1, 90))
            if kind == 0:
                x, width = make.linear([(x, width)], n, rows_epilogue()), n
            elif kind == 1:
                inner = make.linear([(x, width)], n, Activate())
                x = make.linear([(inner, n)], width, any_norm(), residual=x)
            elif kind == 2:
                x = make.linear(several_heads(make, x, width), width, any_norm(), residual=x)
            elif kind == 3:
                q = make.linear([(x, width)], width, Requantize())
                context = make.attend(q, x, x, Attention(width))
                conv = make.filter(x, width, 2 * int(rng.integers(1, 9)))
                x = make.linear([(context, width), (conv, width)], width, RmsNorm())
            elif kind == 4:
                x = make.filter(x, width, int(rng.integers(1, 17)))
            elif kind == 5:
                x, width = make.scan(x, width, n, int(rng.integers(1, 9))), n
            elif kind == 6:
                gates = make.linear([(x, width)], width, Activate())
                x = make.gate(gates, make.filter(x, width, int(rng.integers(1, 9))), width)
            elif kind == 7:
                path = make.linear([(x, width)], width, RequantizeWide(), residual=x)
                inner = make.linear([], width, any_norm(), residual=path)
                path = make.linear([(inner, width)], width, RequantizeWide(), residual=path)
                x = make.rescale(path, width)
            elif kind == 10:
                kind = ("lstm", "gru")[rng.integers(2)]
                x, width = make.recurrence(x, width, n, kind, *(bool(rng.random() < 0.5) for _ in range(2))), n
            else:
                x, width = through_a_window(make, x, width, n, kind)
        x, width = one_row(make, x, width)
        return make.linear([(x, width)], CLASSES, Dequantize(), one_row=True)

    return make.finish(build)


@dataclass
class HalfMaker(Maker):
    """Adds kernels in half precision to a module, as graph/half_operators.py does."""

    def halves(self, *shape: int, size: float = 1.0) -> np.ndarray:
        return half.halves(self.rng.normal(0, size, shape))

    def half_linear(self, xs: list, n: int, last: str | None = None, residual: Var | None = None, one_row=False) -> Var:
        """A product of tensors [(var, width)] that ends in a norm, an activation or neither."""
        norm = last if last in ("rms_norm", "layer_norm") else None
        spec = half.HalfProduct(
            tuple(half.HalfInput(w) for _, w in xs), n, (),
            (half.HalfInput(n),) if residual is not None else (), norm,
            None if norm else last, one_row, 1e-5,
        )  # fmt: skip
        args: list = []
        for x, width in xs:
            args += [x, self.halves(width, n, size=width**-0.5)]
        args += [self.halves(n), *([] if residual is None else [residual])]
        args += [self.halves(n) for _ in range({"rms_norm": 1, "layer_norm": 2}.get(norm, 0))]
        return self.call(half.product(spec), spec, args, 1 if one_row else self.length, n, "float16")

    def half_embedding(self, n: int, last: str | None) -> Var:
        width = int(self.rng.integers(1, 20))
        mapped, positions = half.HalfInput(width, VOCABULARY, True), half.HalfInput(n, POSITIONS)
        spec = half.HalfProduct((mapped,), n, (3,), (positions,), last, None, False, 1e-5)
        segment = self.builder.emit(relax.op.minimum(self.ids, relax.const(2, "int32")))
        args: list = [self.halves(VOCABULARY, width), self.ids, self.halves(width, n, size=width**-0.5)]
        args += [self.halves(n), self.halves(3, n), segment, self.halves(POSITIONS, n)]
        args += [self.halves(n) for _ in range({"rms_norm": 1, "layer_norm": 2}.get(last, 0))]
        return self.call(half.product(spec), spec, args, self.length, n, "float16")

    def half_attend(self, query: Var, key: Var, value: Var, k: int, width: int, one_row: bool = False) -> Var:
        spec = half.HalfAttention(k, width, one_row)
        return self.call(
            half.attention(spec), spec, [query, key, value], 1 if one_row else self.length, width, "float16"
        )

    def half_filter(self, x: Var, width: int, taps: int, times: int = 1, one_row: bool = False) -> Var:
        n = width * times
        spec = half.HalfConv(taps, n, times, (None, *half.ACTIVATIONS)[self.rng.integers(6)], one_row)
        args = [x, self.halves(n, taps, size=taps**-0.5), self.halves(n)]
        return self.call(half.conv(spec), spec, args, 1 if one_row else self.length, n, "float16")

    def half_logits(self, x: Var, width: int) -> Var:
        """The logits of the first row."""
        last = self.half_linear([(x, width)], CLASSES, one_row=True)
        func = half.to_float(CLASSES, True)
        target = self.builder.add_func(func, func.attrs[KERNEL])
        real = self.builder.emit(relax.call_tir(target, [last], relax.TensorType([1, 1, CLASSES], "float32")))
        return self.builder.emit(relax.op.reshape(real, relax.ShapeExpr([1, CLASSES])))


def random_half_module(seed: int, steps: int = 3) -> Quantized:
    """An embedding, random layers, and a head on the first row, in half precision."""
    rng = np.random.default_rng(seed)
    make = HalfMaker(rng)
    lasts = (None, "rms_norm", "layer_norm", *half.ACTIVATIONS)

    def build() -> Var:
        width = int(rng.integers(2, 70))
        x = make.half_embedding(width, lasts[rng.integers(3)])
        for _ in range(steps):
            kind, n, norm = rng.integers(4), int(rng.integers(1, 70)), lasts[rng.integers(1, 3)]
            if kind == 0:
                x, width = make.half_linear([(x, width)], n, lasts[rng.integers(len(lasts))]), n
            elif kind == 1:
                inner = make.half_linear([(x, width)], n, "gelu")
                x = make.half_linear([(inner, n)], width, norm, residual=x)
            elif kind == 2:
                contexts = []
                for _ in range(int(rng.integers(1, 3))):
                    q, k = (make.half_linear([(x, width)], n) for _ in range(2))
                    v = make.half_linear([(x, width)], n + 3)
                    contexts.append((make.half_attend(q, k, v, n, n + 3), n + 3))
                x = make.half_linear(contexts, width, norm, residual=x)
            else:
                q = make.half_linear([(x, width)], width)
                context = make.half_attend(q, x, x, width, width)
                times = int(rng.integers(1, 3))
                conv = make.half_filter(x, width, int(rng.integers(1, 20)), times)
                x = make.half_linear([(context, width), (conv, width * times)], width, norm)
        if rng.random() < 0.5:
            q = make.half_linear([(x, width)], width, one_row=True)
            context = make.half_attend(q, x, x, width, width, one_row=True)
            row = make.half_linear([(x, width)], width, one_row=True)
            conv = make.half_filter(row, width, 3, one_row=True)
            x = make.half_linear([(context, width), (conv, width)], width, "rms_norm", residual=row, one_row=True)
        return make.half_logits(x, width)

    return make.finish(build)


def write_package(quantized: Quantized, target: str, folder: Path, isa: Isa | None = None) -> Path:
    """The package of a module's row-block kernels for a CPU; the folder. isa: in place of what the CPU runs best."""
    from embbert_tvm.codegen import package
    from embbert_tvm.codegen.program import Lowering, build_programs
    from embbert_tvm.graph import pipeline
    from embbert_tvm.graph.fuse_row_blocks import fuse_row_blocks
    from embbert_tvm.target import load_cpu

    cpu = load_cpu(target)
    known = fuse_row_blocks(quantized, isa or isa_of(cpu.features))
    mod = pipeline.run((pipeline.calls(),), known.mod)
    assert any(choice.kernel.startswith("row_block") for choice in known.choices)
    program = build_programs(mod, known.constants, Lowering("embbert", VOCABULARY))(POSITIONS)
    empty, answer = (None, None), ([0], np.zeros(CLASSES, np.float32))
    contents = package.Contents(program, "random", cpu, "int8", None, known.choices, "{}\n", "", b"", *empty, answer)
    folder.mkdir(parents=True)
    package.write(contents, folder)
    return folder
