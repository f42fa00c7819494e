"""The equations in the comments of the C: a reader who knows no more redoes every step in NumPy."""

from __future__ import annotations

import functools
import re
import tempfile
from pathlib import Path

import numpy as np
import pytest
import small

from embbert_tvm.codegen.equations import LEGEND, equations
from embbert_tvm.device.locate import open_traced
from embbert_tvm.device.package import load_package
from embbert_tvm.kernels.convert import Rescale
from embbert_tvm.kernels.epilogues import Requantize
from embbert_tvm.kernels.layouts import RAW_WORDS
from embbert_tvm.kernels.row_block.spec import Linear
from embbert_tvm.kernels.specs import spec_of_text, spec_text


def package_of(config: dict[str, object], target: str = "host") -> Path:
    """A package of a small model of random weights. config: of a model's class, with the name of its architecture."""
    import torch

    from embbert_tvm.compiler import compile_model, find_source
    from embbert_tvm.data.tokenizer import train_tokenizer
    from embbert_tvm.graph.float_tensors import calibrate_folder
    from embbert_tvm.graph.onnx_export import export_folder
    from embbert_tvm.models.config import ARCHITECTURES
    from embbert_tvm.models.registry import build
    from embbert_tvm.target import load_cpu

    torch.set_num_threads(1)
    torch.manual_seed(0)
    tokenizer = train_tokenizer([*small.TEXTS] * 3, 120)
    sizes = {key: value for key, value in config.items() if key != "architecture"}
    made = ARCHITECTURES[config["architecture"]](tokenizer.get_vocab_size(), 24, 32, **sizes)
    model = build(made, len(small.LABELS))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    folder = Path(tempfile.mkdtemp(prefix="embbert-tests-"))
    export_folder(model.save_pretrained(folder / "m", name="made", labels=small.LABELS, tokenizer=tokenizer))
    calibrate_folder(folder / "m", [small.some_ids(n, made.vocabulary_size, n) for n in range(1, 25)])
    compile_model(find_source(folder / "m"), load_cpu(target), folder / "p")
    return folder / "p"


def matrix(flat: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """An array as the legend says that it is meant."""
    if len(shape) == 3 and shape[2] == 2:
        return flat.reshape(shape).transpose(0, 2, 1).reshape(2 * shape[0], shape[1])
    return flat.reshape(-1) if shape[0] == 1 and flat.dtype == np.int32 else flat.reshape(shape)


def constants(source: str) -> dict[str, np.ndarray]:
    """The weights of a package as matrices, by their names without the prefix."""
    found = {}
    declared = r"WEIGHT\(\w+\) const (\w+) embbert_(\w+)\[\d+\] /\* ([\dx ]+) \*/ = \{\n(.*?)\n\};"
    for kind, name, dims, body in re.findall(declared, source, re.DOTALL):
        dtype = {"int8_t": np.int8, "int16_t": np.int16, "int32_t": np.int32, "float": np.float32}[kind]
        values = np.array([float(word.rstrip("f")) for word in re.findall(r"[-+\w.]+", body)])
        found[name] = matrix(values.astype(dtype), tuple(map(int, dims.split(" x "))))
    return found


def steps(source: str):
    """(title, equations, the numbers and names of outputs) of each step of the C of infer()."""
    body = source[source.index("static bool infer(") :]
    step = r"/\* (\d+\. [^\n]*?)(?: \*/)?\n((?: +\*[^\n]*\n)*)(.*?)\n    }\n"
    for title, comment, code in re.findall(step, body, re.DOTALL):
        lines = re.sub(r"\n +\*       ", " ", comment)
        formulas = [line.partition("*   ")[2] for line in lines.splitlines() if "*   " in line]
        yield title, formulas, re.findall(r"EMBBERT_OUTPUT\((\d+), (\w+),", code)


def shapes(source: str, length: int) -> dict[str, tuple[int, ...]]:
    rows = re.findall(r"\*const (\w+) = .*arena \+ \d+\); /\* (\(.*\)) \*/", source)
    return {name: eval(text.replace("/", "//"), {"L": length}) for name, text in rows}


def heads(a, n):
    return a.reshape(len(a), n, -1).transpose(1, 0, 2)


def filtered(a, w, after):
    taps = w.shape[1]
    padded = np.pad(wide(a), ((taps - 1 - after, after), (0, 0)))
    return sum(padded[k : k + len(a)] * wide(w)[:, k] for k in range(taps))


def scan(m, x):
    found = [np.zeros_like(x[0])]
    for kept, entering in zip(m, x, strict=True):
        found.append(MEANING["multiply_high"](2 * found[-1], kept) + entering)
    return np.array(found[1:])


def wide(a):
    return np.asarray(a, np.int64)


MEANING = {
    "dot": lambda a, b: wide(a) @ wide(b)[..., : a.shape[-1]].swapaxes(-1, -2),
    "T": lambda a: a.swapaxes(-1, -2),
    "multiply_high": lambda a, m: (wide(a) * wide(m) + 2**31) >> 32,
    "saturate": lambda a: np.clip(a, -128, 127).astype(np.int64),
    "saturate_wide": lambda a: np.clip(a, -32768, 32767).astype(np.int64),
    "sum": lambda a: wide(a).sum(-1, keepdims=True),
    "max": lambda a: a.max(-1, keepdims=True),
    "mean": lambda a: np.trunc(a.sum(-1, keepdims=True) / a.shape[-1]).astype(np.int64),
    "concat": lambda *parts: np.concatenate(parts, -1),
    "heads": heads,
    "joined": lambda a: a.transpose(1, 0, 2).reshape(a.shape[1], -1),
    "per_head": lambda v: v[:, None, None],
    "filter": filtered,
    "spread": lambda a, n: np.repeat(a, n, -1),
    "taps": lambda w: w[:, :-1, 0].reshape(len(w), -1),
    "scan": scan,
    "unborrowed": lambda w: wide(w) + (np.arange(len(w)) % 2 * (np.roll(w, 1, 0) < 0).T).T,
    "minimum": np.minimum, "round": np.rint, "floor": np.floor, "sqrt": np.sqrt,
}  # fmt: skip


@functools.cache
def packages() -> dict[str, Path]:
    found = {"embbert": small.package(), "embbert-m7": small.package(target="cortex-m7")}
    found["bert"] = package_of(BERT)
    return found | {f"{name}{on}": package_of(config, target) for name, config in OTHERS.items() for on, target in ON}


BERT = {"architecture": "bert", "reduced_size": 0, "feed_forward_size": 48, "heads": 2, "layers": 2}
OTHERS = {
    "mamba": {"architecture": "mamba", "reduced_size": 0, "layers": 2},
    "embedder": {"architecture": "embedder", "reduced_size": 8, "kernel_size": 4},
}
ON = (("", "host"), ("-m7", "cortex-m7"))
REDONE = [("embbert", "embbert"), ("embbert-m7", "embbert"), ("bert", "bert")]
REDONE += [(f"{name}{on}", name) for name in OTHERS for on, _ in ON]


@pytest.mark.parametrize(("name", "traced_by"), REDONE)
def test_every_step_is_redone_from_its_equations(name, traced_by):
    """traced_by: the package, of the same bits, that says on this machine what each step makes."""
    package = load_package(packages()[name])
    source, stored = (
        (package.path / f"codegen/host/src/embbert_{file}.c").read_text() for file in ("model", "weights")
    )
    ids = small.some_ids(11, package.vocabulary, 3)
    known = constants(stored) | {"ids": np.array(ids), "L": len(ids)}
    sizes, redone = shapes(source, len(ids)), []
    with open_traced("host", load_package(packages()[traced_by])) as device:
        for title, formulas, outputs in steps(source):
            values = dict(known)
            for formula in formulas:
                target, _, value = formula.partition(" = ")
                wider = {n: wide(v) if getattr(v, "dtype", None) == np.int8 else v for n, v in values.items()}
                values[target] = eval(value, {"__builtins__": {}}, {**MEANING, **wider})
            for number, target in outputs:
                traced = device.output(int(number), ids)
                shape = sizes.get(target, (1, package.classes))
                known[target] = matrix(traced, shape)[: len(ids)] if shape[0] != 1 else matrix(traced, shape)
                if not formulas:
                    continue
                redone.append(title)
                away = np.abs(values[target][: len(known[target])] - known[target])
                if any("sqrt" in formula for formula in formulas):
                    assert (away.max() <= 2, away.mean() < 0.1) == (True, True), (title, away.max(), away.mean())
                else:
                    np.testing.assert_allclose(away, 0, atol=1e-6, err_msg=title)
    assert "logits" in " ".join(redone)
    assert len(redone) >= len(list(steps(source))) - 3  # all but what is done with ids


@pytest.mark.parametrize("name", ["embbert", "bert", *OTHERS, "mamba-m7"])
def test_every_function_of_an_equation_is_in_the_legend(name):
    source = (packages()[name] / "codegen/host/src/embbert_model.c").read_text()
    used = {
        word for _, formulas, _ in steps(source) for formula in formulas for word in re.findall(r"(\w+)\(", formula)
    }
    assert used <= set(MEANING)
    for word in used - {"minimum", "round", "floor", "sqrt"}:
        assert f"{word}(" in LEGEND


def test_sizes_are_cs_own():
    for path in packages().values():
        for file in ("model", "kernels"):
            assert not re.search(r"\bT\.|// \(", (path / f"codegen/host/src/embbert_{file}.c").read_text())


def test_a_kernel_that_is_not_as_they_know_it_has_no_equations():
    spec = Rescale(8)
    assert equations(spec, ["x", "multiplier", "out"]) == ("out = saturate(multiply_high(x * 2**15, multiplier))",)
    assert equations(spec, ["x", "out"]) == equations(spec, ["x", "multiplier", "shift", "out"]) == ()
    assert equations(object(), ["x", "out"]) == ()


def test_a_specification_holds_members_of_enumerations():
    spec = Linear((0,), (8,), Requantize(), value=1, packing=RAW_WORDS)
    assert spec_of_text(spec_text(spec)) == spec
