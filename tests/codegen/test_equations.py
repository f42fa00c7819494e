"""The equations in the comments of the C: a reader who knows no more redoes every step in NumPy."""

from __future__ import annotations

import functools
import itertools
import math
import re
from pathlib import Path

import numpy as np
import pytest
import small
from running import Kernel, extreme_int8
from tvm import te

from embbert_tvm.codegen.c_function import c_function
from embbert_tvm.codegen.equations import LAYOUTS, LEGEND_LINES, equations, legend
from embbert_tvm.codegen.lower import to_loops
from embbert_tvm.device.locate import open_traced
from embbert_tvm.device.package import load_package
from embbert_tvm.kernels.attention import Attention, Places, attention, exp_table
from embbert_tvm.kernels.convert import Rescale
from embbert_tvm.kernels.depthwise_conv import DepthwiseConv, depthwise_conv
from embbert_tvm.kernels.epilogues import Requantize
from embbert_tvm.kernels.integer_recurrence import IntegerRecurrence, integer_recurrence, tables
from embbert_tvm.kernels.layouts import RAW_WORDS
from embbert_tvm.kernels.row_block.spec import Linear
from embbert_tvm.kernels.specs import spec_of_text, spec_text


def package_of(config: dict[str, object], target: str = "host") -> Path:
    """A package of a small model of random weights. config: of a model's class, with the name of its architecture."""
    from embbert_tvm.compiler import compile_model, find_source
    from embbert_tvm.target import load_cpu

    name = f"equations-{config['architecture']}"
    source, cpu = small.shared(name, lambda path: export_model(path, config)), load_cpu(target)
    return small.shared(f"{name}-{target}", lambda path: compile_model(find_source(source), cpu, path))


def export_model(path: Path, config: dict[str, object]) -> None:
    import torch

    from embbert_tvm.data.tokenizer import train_tokenizer
    from embbert_tvm.graph.float_tensors import calibrate_folder
    from embbert_tvm.graph.onnx_export import export_folder
    from embbert_tvm.models.config import ARCHITECTURES
    from embbert_tvm.models.registry import build

    torch.set_num_threads(1)
    torch.manual_seed(0)
    tokenizer = train_tokenizer([*small.TEXTS] * 3, 120)
    sizes = {key: value for key, value in config.items() if key != "architecture"}
    made = ARCHITECTURES[config["architecture"]](tokenizer.get_vocab_size(), 24, 32, **sizes)
    model = build(made, len(small.LABELS))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    export_folder(model.save_pretrained(path, name="made", labels=small.LABELS, tokenizer=tokenizer))
    calibrate_folder(path, [small.some_ids(n, made.vocabulary_size, n) for n in range(1, 25)])


def matrix(flat: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """An array as the legend says that it is meant."""
    if shape[2:] == (2, 4):
        n, k = 4 * shape[0], 2 * shape[1]
        return flat.reshape(shape).transpose(0, 3, 1, 2).reshape(n, k)
    if len(shape) == 3 and shape[2] == 8:
        return flat.reshape(shape).transpose(0, 2, 1).reshape(8 * shape[0], shape[1])
    if len(shape) == 3 and shape[2] == 2:
        return flat.reshape(shape).transpose(0, 2, 1).reshape(2 * shape[0], shape[1])
    return flat.reshape(-1) if shape[0] == 1 and flat.dtype == np.int32 else flat.reshape(shape)


def constants(source: str) -> dict[str, np.ndarray]:
    """The weights of a package as matrices, by their names without the prefix."""
    found = {}
    declared = r"WEIGHT\(\w+\) const (\w+) embbert_(\w+)\[\d+\] /\* ([\dx ]+) \*/ = \{\n(.*?)\n\};"
    for kind, name, dims, body in re.findall(declared, source, re.DOTALL):
        words = re.findall(r"[-+\w.]+", body)
        if kind == "uint16_t":
            values = np.array([int(word.rstrip("u"), 0) for word in words], np.uint16).view(np.float16)
        else:
            dtype = {"int8_t": np.int8, "int16_t": np.int16, "int32_t": np.int32, "float": np.float32}[kind]
            values = np.array([float(word.rstrip("f")) for word in words]).astype(dtype)
        found[name] = matrix(values, tuple(map(int, dims.split(" x "))))
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


def filtered(a, w, after, dilation=1):
    taps = w.shape[1]
    padded = np.pad(wide(a), ((dilation * (taps - 1) - after, after), (0, 0)))
    return sum(padded[dilation * k : dilation * k + len(a)] * wide(w)[:, k] for k in range(taps))


def look(a, x):
    y = x + 2**15
    return a[y >> 8] + (((a[(y >> 8) + 1] - a[y >> 8]) * (y & 255) + 128) >> 8)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def erf(x):
    return np.vectorize(math.erf)(x)


def evaluated(formulas, values, length):
    """The values that equations make, by name, besides those given; those of [token] token by token."""
    values, rest = dict(values), list(formulas)
    while rest:
        together = list(itertools.takewhile(lambda formula: "[token] = " in formula, rest)) or rest[:1]
        del rest[: len(together)]
        names = [formula.partition(" = ")[0] for formula in together]
        if not names[0].endswith("[token]"):
            values[names[0]] = value_of(together[0], values)
            continue
        names = [name.removesuffix("[token]") for name in names]
        # The row behind the last is what stands before the first, too: zeros.
        values |= {name: np.zeros((length + 1, 1), np.int64) for name in names}
        tokens = range(length)[::-1] if any("[token + 1]" in formula for formula in together) else range(length)
        for token in tokens:
            for name, formula in zip(names, together, strict=True):
                made = value_of(formula, {**values, "token": token})
                if values[name].shape[1] != len(made):
                    values[name] = np.zeros((length + 1, len(made)), np.int64)
                values[name][token] = made
        values |= {name: values[name][:length] for name in names}
    return values


def value_of(formula, values):
    small = (np.int8, np.int16)
    names = set(re.findall(r"\w+", formula))
    read = {name: v for name, v in values.items() if name in names}
    wider = {name: wide(v) if getattr(v, "dtype", None) in small else v for name, v in read.items()}
    return eval(formula.partition(" = ")[2], {"__builtins__": {}}, {**MEANING, **wider})


def scan(m, x):
    found = [np.zeros_like(x[0])]
    for kept, entering in zip(m, x, strict=True):
        found.append(MEANING["multiply_high"](2 * found[-1], kept) + entering)
    return np.array(found[1:])


def wide(a):
    """As integers of 64 bits, or as doubles."""
    return np.asarray(a, np.int64 if np.asarray(a).dtype.kind in "iub" else np.float64)


def by_place(q, k, a, b, p):
    d = p[:, np.arange(k.shape[1])[None] - np.arange(q.shape[1])[:, None] + p.shape[1] // 2]
    of_keys, of_queries = (np.array([t[i] for t, i in zip(table, d, strict=True)]) for table in (a, b))
    return (wide(q)[:, :, None] * of_keys).sum(-1) + (wide(k)[:, None] * of_queries).sum(-1)


MEANING = {
    "dot": lambda a, b: wide(a) @ wide(b)[..., : a.shape[-1]].swapaxes(-1, -2),
    "T": lambda a: a.swapaxes(-1, -2),
    "multiply_high": lambda a, m: (np.asarray(a, np.int64) * np.asarray(m, np.int64) + 2**31) >> 32,
    "saturate": lambda a: np.clip(a, -128, 127).astype(np.int64),
    "saturate_wide": lambda a: np.clip(a, -32768, 32767).astype(np.int64),
    "sum": lambda a: wide(a).sum(-1, keepdims=True),
    "max": lambda a: a.max(-1, keepdims=True),
    "mean": lambda a: np.trunc(a.sum(-1, keepdims=True) / a.shape[-1]).astype(np.int64),
    "concat": lambda *parts: np.concatenate(parts, -1),
    "heads": heads,
    "joined": lambda a: a.transpose(1, 0, 2).reshape(a.shape[1], -1),
    "by_distance": lambda v, n: v[:, np.arange(n)[None] - np.arange(n)[:, None] + v.shape[1] // 2],
    "by_place": by_place,
    "per_head": lambda v: v[:, None, None],
    "filter": filtered,
    "windows": lambda a, n, s: np.array([wide(a)[i : i + n].sum(0) for i in range(0, len(a), s)]),
    "rows_in": lambda a, n, s: np.array([[len(a[i : i + n])] for i in range(0, len(a), s)]),
    "spread": lambda a, n: np.repeat(a, n, -1),
    "taps": lambda w: w[:, :-1, 0].reshape(len(w), -1),
    "scan": scan,
    "running_sum": np.cumsum,
    "unborrowed": lambda w: wide(w) + (np.arange(len(w)) % 2 * (np.roll(w, 1, 0) < 0).T).T,
    "look": look, "half": lambda a: a, "exp": np.exp, "erf": erf, "sigmoid": sigmoid, "tanh": np.tanh,
    "silu": lambda x: x * sigmoid(x), "gelu": lambda x: x / 2 * (1 + erf(x / 2**0.5)),
    "relu": lambda x: np.maximum(x, 0),
    "minimum": np.minimum, "round": np.rint, "floor": np.floor, "sqrt": np.sqrt,
}  # fmt: skip


@functools.cache
def packages() -> dict[str, Path]:
    found = {"embbert": small.package(), "embbert-m7": small.package(target="cortex-m7")}
    found["bert"] = package_of(BERT)
    found["halves-m55"] = small.package("fp16", "cortex-m55")
    return found | {f"{name}{on}": package_of(config, target) for name, config in OTHERS.items() for on, target in ON}


BERT = {"architecture": "bert", "reduced_size": 0, "feed_forward_size": 48, "heads": 2, "layers": 2}
OTHERS = {
    "mamba": {"architecture": "mamba", "reduced_size": 0, "layers": 2},
    "pooled": {"architecture": "embbert", "kernel_size": 4, "layers": 2, "pool_tokens": 2, "pool_keys": 4},
    "embedder": {"architecture": "embedder", "reduced_size": 8, "kernel_size": 4},
}
ON = (("", "host"), ("-m7", "cortex-m7"))
REDONE = [("embbert", "embbert"), ("embbert-m7", "embbert"), ("bert", "bert")]
REDONE += [("halves-m55", "halves-m55")]
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
            values = evaluated(formulas, known, len(ids))
            for number, target in outputs:
                traced = device.output(int(number), ids)
                shape = sizes.get(target, (1, package.classes))
                rows = min(len(ids), len(values[target])) if formulas else len(ids)
                known[target] = matrix(traced, shape)[:rows] if shape[0] != 1 else matrix(traced, shape)
                if not formulas:
                    continue
                redone.append(title)
                away = np.abs(values[target][: len(known[target])] - known[target])
                if any("half(" in formula for formula in formulas):
                    assert away.max() <= 0.02 * np.abs(known[target]).max(), (title, away.max())
                elif any("sqrt" in formula for formula in formulas):
                    assert (away.max() <= 2, away.mean() < 0.1) == (True, True), (title, away.max(), away.mean())
                else:
                    np.testing.assert_allclose(away, 0, atol=1e-6, err_msg=title)
    titles = [title for title, _, _ in steps(source)]
    if name.startswith("halves"):  # the head computes in float32, by kernels that TVM makes, of one row
        titles = titles[:-3]
    assert list(dict.fromkeys(redone)) == titles


@pytest.mark.parametrize("name", ["embbert", "bert", *OTHERS, "mamba-m7"])
def test_every_function_of_an_equation_is_in_the_legend(name):
    source = (packages()[name] / "codegen/host/src/embbert_model.c").read_text()
    used = {
        word for _, formulas, _ in steps(source) for formula in formulas for word in re.findall(r"(\w+)\(", formula)
    }
    assert used <= set(MEANING)
    said = "\n".join(line for _, line in (*LEGEND_LINES, *LAYOUTS))
    for word in used - {"minimum", "round", "floor", "sqrt", "exp", "tanh"}:
        assert f"{word}(" in said


def test_sizes_are_cs_own_without_a_second_pair_of_parentheses():
    for path in packages().values():
        for file in ("model", "kernels"):
            code = (path / f"codegen/host/src/embbert_{file}.c").read_text()
            assert not re.search(r"\bT\.|// \(", code)
            assert not re.search(r"\(\([^()]*\)\)", code)


def test_a_kernel_that_is_not_as_they_know_it_has_no_equations():
    spec = Rescale(8)
    assert equations(spec, ["x", "multiplier", "out"]) == ("out = saturate(multiply_high(x * 2**15, multiplier))",)
    assert equations(spec, ["x", "out"]) == equations(spec, ["x", "multiplier", "shift", "out"]) == ()
    assert equations(object(), ["x", "out"]) == ()


def test_a_specification_holds_members_of_enumerations():
    spec = Linear((0,), (8,), Requantize(), value=1, packing=RAW_WORDS)
    assert spec_of_text(spec_text(spec)) == spec


@pytest.mark.parametrize(
    ("kind", "backward", "reset_after"),
    [("lstm", False, True), ("lstm", True, True), ("gru", False, True), ("gru", True, False)],
)
def test_a_recurrence_is_redone_token_by_token(kind, backward, reset_after):
    rng, width, length = np.random.default_rng(0), 7, 12
    spec = IntegerRecurrence(kind, width, 9, backward, reset_after)
    rows = spec.gates * width
    weight = extreme_int8(rng, rows, width)
    given = {"given": rng.integers(-(2**15), 2**15, (length, rows)).astype(np.int16)}
    given |= {
        f"recurrence{m}": np.ascontiguousarray(weight[a * width : b * width]) for m, (a, b) in enumerate(spec.matrices)
    }
    given |= {
        "bias": rng.integers(-9000, 9000, rows).astype(np.int32),
        "multiplier": rng.integers(2**26, 2**30, rows).astype(np.int32),
        "given_multiplier": np.array([2**18], np.int32),
        **dict(zip(("sigmoid_of", "tanh_of"), tables(), strict=True)),
        "state_multiplier": np.array([508], np.int32),
    }
    expected = Kernel(integer_recurrence(spec))(*given.values(), out=((length, width), "int8"), length=length)
    formulas = equations(spec, [*given, "out"])
    assert formulas
    np.testing.assert_array_equal(evaluated(formulas, given, length)["out"], expected)
    said = "\n".join(legend(formulas))
    assert "[token]" in said
    assert "look(a, x)" in said
    assert "filter(" not in said


@pytest.mark.parametrize(("after", "dilation"), [(0, 3), (4, 2), (1, 1)])
def test_a_filter_that_skips_rows_or_reads_ahead_is_redone(after, dilation):
    rng = np.random.default_rng(after)
    spec = DepthwiseConv(3, 6, Requantize(), expansion=2, after=after, dilation=dilation)
    given = {"x": extreme_int8(rng, 13, 3), "weight": extreme_int8(rng, 3, 6)}
    given |= {"bias": rng.integers(-900, 900, 6).astype(np.int32), "multiplier": np.full(6, 2**24, np.int32)}
    expected = Kernel(depthwise_conv(spec))(*given.values(), out=((13, 6), "int8"), length=13)
    formulas = equations(spec, [*given, "out"])
    np.testing.assert_array_equal(evaluated(formulas, given, 13)["out"], expected)


@pytest.mark.parametrize("one_row", [False, True])
def test_scores_by_distance_are_redone(one_row):
    rng, length, most = np.random.default_rng(3), 11, 15
    spec = Attention(8, one_row, distances=most)
    query = extreme_int8(rng, 1 if one_row else length, 8)
    given = {"query": query, "key": extreme_int8(rng, length, 8), "value": extreme_int8(rng, length, 8)}
    given |= {"exp": exp_table(), "multiplier": np.array([2**18], np.int32), "ratio": np.array([2**27], np.int32)}
    given |= {"distances": rng.integers(-9000, 9000, (1, 2 * most - 1)).astype(np.int32)}
    expected = Kernel(attention(spec))(*given.values(), out=(query.shape, "int8"), length=length)
    formulas = equations(spec, [*given, "out"])
    np.testing.assert_array_equal(evaluated(formulas, given | {"L": length}, length)["out"], expected)
    assert "by_distance(v, L)" in "\n".join(legend(formulas))


@pytest.mark.parametrize(
    ("compute", "equation"),
    [
        (lambda a, b: lambda i: a[i] + b[i] * 3, ("y = second * 3 + first",)),
        (lambda a, b: lambda i: (a[i] + b[i]) * a[i], ("y = (first + second) * first",)),
        (lambda a, b: lambda i: (a[i] > b[i]).astype("int32"), ("y = second < first",)),
        (lambda a, b: lambda i: ((a[i] > b[i]) == (b[i] > 0)).astype("int32"), ()),
        (lambda a, b: lambda i: a[i] + b[8 - i], ()),
        (lambda a, b: lambda i: a[i] + 1, ()),
        (lambda a, b: lambda i: a[i] + b[i] // 2, ()),
        (lambda a, b: lambda i: (a[i] + b[i]).astype("int8").astype("int32"), ()),
    ],
)
def test_a_loop_over_elements_has_an_equation(compute, equation):
    """As TVM orders it; none where it reads another place, not all of its arguments, or C converts types."""
    a, b = (te.placeholder((9,), "int32", name) for name in "ab")
    made = te.compute((9,), compute(a, b), "out")
    function = c_function(to_loops(te.create_prim_func([a, b, made]), "main"), "kernel")
    assert function.formulas(None, ("first", "second", "y")) == equation


@pytest.mark.parametrize("one_row", [False, True])
def test_scores_by_place_are_redone(one_row):
    rng, length, places = np.random.default_rng(3), 11, Places(15, 6)
    spec = Attention(8, one_row, relative=places)
    query = extreme_int8(rng, 1 if one_row else length, 8)
    given = {"query": query, "key": extreme_int8(rng, length, 8), "value": extreme_int8(rng, length, 8)}
    given |= {"exp": exp_table(), "multiplier": np.array([2**18], np.int32), "ratio": np.array([2**27], np.int32)}
    given |= {name: rng.integers(-900, 900, (1, 6, 8)).astype(np.int16) for name in ("of_keys", "of_queries")}
    given |= {"places": rng.integers(0, 6, (1, 29)).astype(np.int16)}
    expected = Kernel(attention(spec))(*given.values(), out=(query.shape, "int8"), length=length)
    formulas = equations(spec, [*given, "out"])
    np.testing.assert_array_equal(evaluated(formulas, given | {"L": length}, length)["out"], expected)
    assert "by_place(q, k, a, b, p)" in "\n".join(legend(formulas))
