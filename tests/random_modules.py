"""Random quantized modules, of every stage that row-block kernels know, and a way to run a module kernel by kernel."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tvm import IRModule, relax, tirx
from tvm.ir import Var

from embbert_tvm.graph.names import fingerprint
from embbert_tvm.graph.quantize.quantizer import KERNEL, Choice, Quantized
from embbert_tvm.kernels.attention import Attention, attention, exp_table
from embbert_tvm.kernels.depthwise_conv import DepthwiseConv, depthwise_conv
from embbert_tvm.kernels.epilogues import Activate, Dequantize, LayerNorm, Requantize, RmsNorm
from embbert_tvm.kernels.product import Product, Source, product
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
    choices: list[Choice] = field(default_factory=list)

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
        self.choices.append(Choice(out.name, str(func.attrs[KERNEL]), "int8", "random"))
        return out

    def vectors(self, epilogue, n: int, spread: float) -> list[np.ndarray]:
        """The epilogue's constants, for accumulators of about that size."""
        rng = self.rng
        factor = np.clip(rng.uniform(0.5, 1.5, n) * 45 / spread, 0, 0.49) * 2.0**32
        multiplier = (factor * rng.choice([-1, 1], n)).astype(np.int32)
        if isinstance(epilogue, Requantize):
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

    def linear(self, xs: list, n: int, epilogue, residual: Var | None = None, single: bool = False) -> Var:
        """A product of tensors [(var, width)], perhaps with a residual of width n."""
        rng = self.rng
        row = 0 if single else None
        spec = Product(
            tuple(Source(w, row=row) for _, w in xs), n, epilogue, (), single,
            (Source(n),) if residual is not None else (),
        )  # fmt: skip
        weight = int8(rng, n, spec.k)
        spread = 45.0 * 45 * np.sqrt(spec.k)
        args: list = [*(x for x, _ in xs), weight, rng.integers(-3000, 3000, n).astype(np.int32)]
        if residual is not None:
            args += [residual, rng.integers(-(2**12), 2**14, n).astype(np.int32)]
        args += self.vectors(epilogue, n, spread)
        return self.call(product(spec), spec, args, 1 if single else self.length, n, epilogue.dtype)

    def embedding(self, n: int, epilogue, mapped: bool, lookups: bool) -> Var:
        rng, width = self.rng, int(self.rng.integers(2, 20))
        tables = [(VOCABULARY, True), (POSITIONS, False)]
        sources = tuple(Source(width if mapped else n, rows, indexed) for rows, indexed in tables)
        spec = Product(
            sources if mapped else (), n, epilogue, (3,) if lookups else (), addends=() if mapped else sources
        )
        segment = self.builder.emit(relax.op.minimum(self.ids, relax.const(2, "int32"))) if lookups else None
        args: list = []
        tail = [rng.integers(-3000, 3000, n).astype(np.int32)]
        if lookups:
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

    def attend(self, query: Var, key: Var, value: Var, width: int) -> Var:
        spec = Attention(width)
        step = 1 / (45.0 * 45 * np.sqrt(width)) * 60
        args = [query, key, value, exp_table(), np.array([int(step * 2**32)], np.int32),
                np.array([2**27 + int(self.rng.integers(2**26))], np.int32)]  # fmt: skip
        return self.call(attention(spec), spec, args, self.length, width, "int8")

    def filter(self, x: Var, width: int, taps: int) -> Var:
        rng = self.rng
        spec = DepthwiseConv(taps, width, Activate())
        args = [x, int8(rng, taps, width), rng.integers(-3000, 3000, width).astype(np.int32)]
        args += self.vectors(Activate(), width, 45.0 * 45 * np.sqrt(taps))
        return self.call(depthwise_conv(spec), spec, args, self.length, width, "int8")

    def finish(self, build) -> Quantized:
        """The module of what `build` emits, which gives the variable that is read out."""
        with self.builder.function("main", [self.ids], {}):
            with self.builder.dataflow():
                out = self.builder.emit_output(build(), name_hint="logits")
            self.builder.emit_func_output(out)
        mod = self.builder.finalize()
        assert isinstance(mod, IRModule)
        return Quantized(mod, self.names, tuple(self.choices), self.specs)


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
            kind = rng.integers(5)
            n = int(rng.integers(1, 90))
            if kind == 0:
                x, width = make.linear([(x, width)], n, rows_epilogue()), n
            elif kind == 1:
                inner = make.linear([(x, width)], n, Activate())
                x = make.linear([(inner, n)], width, any_norm(), residual=x)
            elif kind == 2:
                heads, each = int(rng.integers(1, 4)), int(rng.integers(1, 24)) * 2
                contexts = []
                for _ in range(heads):
                    q, k, v = (make.linear([(x, width)], each, Requantize()) for _ in range(3))
                    contexts.append((make.attend(q, k, v, each), each))
                x = make.linear(contexts, width, any_norm(), residual=x)
            elif kind == 3:
                q = make.linear([(x, width)], width, Requantize())
                context = make.attend(q, x, x, width)
                conv = make.filter(x, width, 2 * int(rng.integers(1, 9)))
                x = make.linear([(context, width), (conv, width)], width, RmsNorm())
            else:
                x = make.filter(x, width, 2 * int(rng.integers(1, 9)))
        if rng.random() < 0.5:
            n = int(rng.integers(2, 40)) * 2
            q = make.linear([(x, width)], n, Requantize(), single=True)
            k, v = (make.linear([(x, width)], n, Requantize()) for _ in range(2))
            spec = Attention(n, single=True)
            args = [q, k, v, exp_table(), np.array([2**17], np.int32), np.array([2**27], np.int32)]
            x, width = make.call(attention(spec), spec, args, 1, n, "int8"), n
        return make.linear([(x, width)], CLASSES, Dequantize(), single=True)

    return make.finish(build)


def write_package(quantized: Quantized, target: str, folder: Path) -> Path:
    """The package of a module's row-block kernels for a CPU; the folder."""
    from embbert_tvm.codegen import package
    from embbert_tvm.codegen.program import build_programs
    from embbert_tvm.graph import pipeline
    from embbert_tvm.graph.attributes import account_of, with_account
    from embbert_tvm.kernels.isa import isa_of
    from embbert_tvm.target import load_cpu

    cpu = load_cpu(target)
    fused = pipeline.run(pipeline.back(isa_of(cpu.features), in_half=False)[:1], with_account(quantized))
    known, mod = account_of(fused), pipeline.run((pipeline.calls(),), fused)
    assert any(choice.kernel.startswith("row_block") for choice in known.choices)
    program = build_programs(mod, known.constants, "embbert", VOCABULARY, None, None, False)(POSITIONS)
    empty, answer = (None, None), ([0], np.zeros(CLASSES, np.float32))
    contents = package.Contents(program, "random", cpu, "int8", None, known.choices, "{}\n", "", b"", *empty, answer)
    folder.mkdir(parents=True)
    package.write(contents, folder)
    return folder
