"""Small models that the compiler's tests share: ONNX from a few lines of text, and one small EmbBERT a run of tests."""

from __future__ import annotations

import atexit
import fcntl
import functools
import os
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper, parser

VOCABULARY = 40  # of the models that `classifier` makes
LABELS = ('say "on"', "off??/", "grüß\\dich")
TEXTS = ("turn the lights off and on", "play the song again", "will it rain in the valley tomorrow", "wake me at six")

FOLDER_VARIABLE = "EMBBERT_TVM_TESTS"  # a folder of this run of tests, which conftest.py makes

_FRAME = '<ir_version: 10, opset_import: ["": 18]> g (int64[1,L] ids) => (float[1,C] logits) {{\n{body}\n}}'


def classifier(body: str, **weights: np.ndarray) -> onnx.ModelProto:
    """The ONNX model of `body` (ONNX text, from `ids` to `logits`). `a__b` in names stands for `a.b`, as in
    `fc__weight`."""
    model = parser.parse_model(_FRAME.format(body=body))
    for node in model.graph.node:
        node.input[:] = [name.replace("__", ".") for name in node.input]
    tensors = [numpy_helper.from_array(value, name.replace("__", ".")) for name, value in weights.items()]
    model.graph.initializer.extend(tensors)
    onnx.checker.check_model(model)
    return model


def normal(*shape: int, seed: int = 0, scale: float = 1.0) -> np.ndarray:
    return (np.random.default_rng([seed, *shape]).standard_normal(shape) * scale).astype(np.float32)


def some_ids(length: int, vocabulary: int = VOCABULARY, seed: int = 0) -> list[int]:
    return np.random.default_rng([seed, length]).integers(0, vocabulary, length).tolist()


def operators(mod) -> Counter:
    """How often `main` calls each Relax operator."""
    from embbert_tvm.graph.dataflow import Dataflow, op_name

    return Counter(name for _, value in Dataflow(mod).bindings if (name := op_name(value)))


def words(text: str) -> Counter:
    """`add matmul*2` as the multiset it says."""
    found: Counter = Counter()
    for word in text.split():
        name, _, count = word.partition("*")
        found[name] += int(count or 1)
    return found


TAGS = ("O", "B-time", "I-time", "B-place", "I-place")
MOODS = ("good", "bad")


@functools.cache
def _folder_of_run() -> Path:
    """The folder that conftest.py made; outside of pytest, where fuzzers read these models, one of this process."""
    if named := os.environ.get(FOLDER_VARIABLE):
        return Path(named)
    made = tempfile.mkdtemp(prefix="embbert-tests-")
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return Path(made)


def shared(name: str, make: Callable[[Path], object]) -> Path:
    """A folder that the first process of a run of tests that asks for it makes, and all read.

    make: called with the path of the folder, which is not there.
    """
    place = _folder_of_run() / "shared" / name
    place.parent.mkdir(exist_ok=True)
    with open(place.with_name(f"{name}.lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not place.exists():
            unfinished = place.with_name(f"{name}.new")
            shutil.rmtree(unfinished, ignore_errors=True)
            make(unfinished)
            unfinished.rename(place)
    return place


@functools.cache
def folder() -> Path:
    """A model folder: EmbBERT of two layers with random weights, exported and calibrated. Do not write into it."""
    return shared("small", lambda path: _export(path, "small"))


@functools.cache
def folder_of_heads() -> Path:
    """The same with two heads more: "slots" of the words, behind the first layer, and "mood" of the text."""
    from embbert_tvm.heads import ONE_LABEL, TOKENS, VITERBI, FurtherHead

    heads = FurtherHead("slots", TOKENS, TAGS, 1, VITERBI), FurtherHead("mood", ONE_LABEL, MOODS)
    return shared("heads", lambda path: _export(path, "heads", heads))


def _export(path: Path, name: str, more: tuple = ()) -> None:
    import torch

    from embbert_tvm.data.tokenizer import train_tokenizer
    from embbert_tvm.graph.float_tensors import calibrate_folder
    from embbert_tvm.graph.onnx_export import export_folder
    from embbert_tvm.models.config import EmbBertConfig
    from embbert_tvm.models.registry import build

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    tokenizer = train_tokenizer([*TEXTS] * 3, 300)
    config = EmbBertConfig(tokenizer.get_vocab_size(), 48, 32, 16, kernel_size=8, expansion=1, layers=2)
    torch.manual_seed(0)
    model = build(config, len(LABELS), more=more)
    with torch.no_grad():
        # What is one and the same at the start of training differs in a trained model.
        for key, parameter in model.named_parameters():
            if re.search("norm", key):
                parameter.uniform_(0.5, 1.5)
            elif re.search("token|position|segment", key):
                parameter.normal_(0, 0.5)
        model.embedder.segment.weight[0] = 0
    saved = model.save_pretrained(path, name=name, labels=LABELS, tokenizer=tokenizer)
    export_folder(saved)
    calibrate_folder(path, [some_ids(n, config.vocabulary_size, n) for n in range(1, 49)])
    torch.set_num_threads(threads)


def copy_of_folder(to: Path) -> Path:
    """A copy of `folder()` to spoil."""
    return Path(shutil.copytree(folder(), to))


@functools.cache
def quantized():
    """The small EmbBERT's quantized module, with the account of its operators."""
    from embbert_tvm.graph.calibrate import load_calibration, sha256
    from embbert_tvm.graph.quantize import quantize

    onnx_path = folder() / "model.onnx"
    return quantize(simplified(), load_calibration(folder() / "calibration.json", sha256(onnx_path)))


@functools.cache
def simplified():
    from embbert_tvm.graph.import_onnx import import_onnx, load_onnx
    from embbert_tvm.graph.pipeline import simplify

    return simplify(import_onnx(load_onnx(folder() / "model.onnx")))


@functools.cache
def package(precision: str = "int8", target: str = "host", prefix: str = "embbert") -> Path:
    """The small EmbBERT compiled for a CPU. Do not write into it."""
    from embbert_tvm.compiler import CompileOptions, compile_model, find_source
    from embbert_tvm.target import load_cpu

    source, cpu = folder(), load_cpu(target)
    options = CompileOptions(precision=precision, prefix=prefix, experimental=True)
    name = f"package-{precision}-{target}-{prefix}"
    return shared(name, lambda path: compile_model(find_source(source), cpu, path, options))


def onnx_of_folder() -> onnx.ModelProto:
    return onnx.load(folder() / "model.onnx")


def copy_of_package(package: Path, to: Path) -> Path:
    """A copy of a package to spoil, without what was built of it."""
    return Path(shutil.copytree(package, to, ignore=shutil.ignore_patterns("build")))
