"""Heads from a hub's folder to the answers of a package: labels of tokens, many labels, a vector."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import kinds
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from small import classifier, normal
from test_folder import MEAN, sentence_folder, tokenizer

import embbert_tvm
from embbert_tvm import CompileOptions
from embbert_tvm.device.package import load_package
from embbert_tvm.device.places import open_place
from embbert_tvm.device.project import load_template, write_project
from embbert_tvm.errors import InputError
from embbert_tvm.heads import HEADS, head_for, head_named
from embbert_tvm.hub_export import export_hub_folder

TEXT, LENGTH = "turn öff the lights", 24


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    """A function from a kind to (its exported folder, its package), compiled in float32 or, of tokens, in int8 too."""
    root, made = tmp_path_factory.mktemp("heads"), {}
    texts = root / "texts.txt"
    texts.write_text("turn off the lights\nplay music\n")

    def package(kind: str, precision: str = "fp32") -> tuple[Path, Path]:
        if (kind, precision) not in made:
            given, out = root / kind / "given", root / kind / "model"
            if not out.exists():
                if kind == "embedding":
                    given.mkdir(parents=True)
                    sentence_folder(given, [("Pooling", MEAN), ("Normalize", {})])
                else:
                    kinds.model(kind).save_pretrained(given)
                    tokenizer().save(str(given / "tokenizer.json"))
                export_hub_folder(given, out, texts)
            place = root / kind / precision
            embbert_tvm.compile(out, "host", place, CompileOptions(precision, max_length=LENGTH))
            made[kind, precision] = out, place
        return made[kind, precision]

    return package


def expected(folder: Path, text: str) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"))
    return session.run(None, {"ids": np.array([tokenizer().encode(text).ids])})[0][0]


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-5), ("int8", 0.1)])
def test_each_token_has_its_label(precision, tolerance, packages):
    folder, path = packages("tokens", precision)
    logits, package = expected(folder, TEXT), load_package(path)
    encoded = tokenizer().encode(TEXT)
    assert (package.head, package.classes, package.labels) == ("tokens", len(kinds.LABELS), kinds.LABELS)
    with open_place("host", package) as device:
        run, text = device.run(encoded.ids).logits, device.classify(TEXT).run.logits
    assert np.array_equal(run, text)
    assert np.abs(run - logits).max() <= tolerance * np.abs(logits).max()


def test_run_says_where_tokens_stand(cli, packages):
    _, path = packages("tokens")
    (entry,) = cli("run", path, "--json", TEXT).json["results"]
    assert entry["label"] is entry["scores"] is None
    found = [(x["token"], x["begin"], x["end"]) for x in entry["token_labels"]]
    # "ö" is of two bytes, and becomes one letter.
    assert found == [
        ("[CLS]", None, None), ("turn", 0, 4), ("off", 5, 9), ("the", 10, 13), ("lights", 14, 20), ("[SEP]", None, None)
    ]  # fmt: skip
    logits = expected(packages("tokens")[0], TEXT)
    assert [x["label"] for x in entry["token_labels"]] == [kinds.LABELS[n] for n in logits.argmax(1)]
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    assert [x["score"] for x in entry["token_labels"]] == pytest.approx(shares.max(1), abs=1e-5)
    assert "turn=" in cli("run", path, TEXT).out


_PLACES = """
#include <stdio.h>
#include <string.h>
#include "embbert.h"

static union { long double align; unsigned char bytes[EMBBERT_ARENA_BYTES + EMBBERT_ARENA_ALIGN]; } room;

int main(int argc, char **argv)
{
    static char large[70000];
    embbert_t model;
    int32_t ids[EMBBERT_MAX_LENGTH];
    uint16_t begin[EMBBERT_MAX_LENGTH], end[EMBBERT_MAX_LENGTH];
    size_t n;
    bool cut;
    unsigned char *arena = room.bytes + (EMBBERT_ARENA_ALIGN - (uintptr_t)room.bytes % EMBBERT_ARENA_ALIGN);
    embbert_init(&model, arena, EMBBERT_ARENA_BYTES);
    const char *text = argv[argc - 1];
    if (embbert_tokenize_offsets(&model, text, strlen(text), NULL, 0, ids, begin, NULL, &n, &cut) !=
        EMBBERT_E_ARGUMENT || embbert_tokenize_offsets(&model, large, sizeof large, NULL, 0, ids, begin, end, &n, &cut)
        != EMBBERT_E_LENGTH) {
        return 1;
    }
    int status = embbert_tokenize_offsets(&model, text, strlen(text), NULL, 0, ids, begin, end, &n, &cut);
    for (size_t i = 0; i < n; i++) {
        printf("%d %d %d\\n", (int)ids[i], begin[i], end[i]);
    }
    return status;
}
"""


def test_places_of_tokens_from_c(packages, tmp_path):
    _, path = packages("tokens")
    main, program = tmp_path / "main.c", tmp_path / "main"
    main.write_text(_PLACES)
    host = path / "codegen" / "host"
    sources = [str(source) for source in (host / "src").glob("*.c")]
    flags = ["-std=c99", "-Wall", "-Wextra", "-Werror", f"-I{host / 'include'}", f"-I{host / 'src'}"]
    subprocess.run(["gcc", *flags, str(main), *sources, "-lm", "-o", str(program)], check=True)
    said = subprocess.run([program, TEXT], check=True, capture_output=True, text=True).stdout.split("\n")[:-1]
    ids = tokenizer().encode(TEXT).ids
    places = [(0, 0), (0, 4), (5, 9), (10, 13), (14, 20), (0, 0)]
    assert said == [f"{token} {begin} {end}" for token, (begin, end) in zip(ids, places, strict=True)]


@pytest.mark.parametrize("kind", ["tokens", "embedding"])
def test_validate_compares_what_has_no_labels(kind, cli, packages, tmp_path):
    texts = tmp_path / "texts.txt"
    texts.write_text("turn off the lights\n\nplay\n")
    result = cli("validate", packages(kind)[1], "--data", texts, "--json")
    assert (result.status, result.err) == (0, "")
    assert result.json["metric"] is result.json["accuracy_float"] is result.json["accuracy_compiled"] is None
    assert result.json["examples"] == 2
    assert result.json["agreement"] == pytest.approx(1, abs=1e-6)
    assert result.json["tokenizer"] == {"checked": 2, "equal": 2}


def test_a_vector_is_its_numbers(cli, packages):
    folder, path = packages("embedding")
    (entry,) = cli("run", path, "--json", TEXT).json["results"]
    assert entry["label"] is entry["scores"] is None
    np.testing.assert_allclose(entry["vector"], expected(folder, TEXT), atol=1e-5)
    assert "(16 numbers)" in cli("run", path, TEXT).out


def test_many_labels(cli, packages, tmp_path):
    folder, path = packages("many_labels")
    (entry,) = cli("run", path, "--json", TEXT).json["results"]
    logits = expected(folder, TEXT)
    assert entry["labels"] == [name for name, logit in zip(kinds.LABELS, logits, strict=True) if logit > 0]
    data = tmp_path / "data.tsv"
    data.write_text(f"label\ttext\n{','.join(entry['labels'])}\t{TEXT}\n")
    figures = cli("validate", path, "--data", data, "--json").json
    assert (figures["metric"], figures["accuracy_compiled"], figures["agreement"]) == ("f1_micro", 1, 1)
    data.write_text("label\ttext\nlights,fire\ta\n")
    result = cli("validate", path, "--data", data)
    assert (result.status, "'lights,fire' are not the model's" in result.err) == (2, True)


def test_the_protocol_server_of_tokens_runs_in_qemu(packages, tmp_path):
    folder, _ = packages("tokens")
    made = embbert_tvm.compile(folder, "cortex-m4", tmp_path / "p", CompileOptions("int8", max_length=LENGTH))
    with made.open("host") as host, made.open("qemu") as board:
        assert board.classify(TEXT).token_labels == host.classify(TEXT).token_labels


def test_ids_above_two_bytes(tmp_path):
    """A vocabulary of which two bytes cannot tell all tokens apart."""
    model = classifier(
        "x = Gather(table, ids) r = ReduceMean<keepdims = 0>(x, axis) logits = MatMul(r, fc__weight)",
        table=normal(70_000, 2), fc__weight=normal(2, 3), axis=np.array([1]),
    )  # fmt: skip
    path = tmp_path / "wide.onnx"
    onnx.save(model, path)
    made = embbert_tvm.compile(path, "host", tmp_path / "p", CompileOptions("fp32", max_length=8))
    ids = [69_999, 1, 65_536]
    with made.open() as device:
        found = device.run(ids).logits
    answer = onnxruntime.InferenceSession(str(path)).run(None, {"ids": np.array([ids])})[0][0]
    np.testing.assert_allclose(found, answer, atol=1e-6)


def test_labels_that_are_no_tokens_are_refused(packages, tmp_path):
    folder, _ = packages("tokens")
    config = json.loads((folder / "config.json").read_text())
    other = tmp_path / "other"
    other.mkdir()
    for name in ("model.onnx", "tokenizer.json"):
        (other / name).write_bytes((folder / name).read_bytes())
    (other / "config.json").write_text(json.dumps(config | {"head": "one label"}))
    with pytest.raises(InputError, match="gives logits of each token, but its head is said to be 'one label'"):
        embbert_tvm.compile(other, "host", tmp_path / "p", CompileOptions("fp32", max_length=8))


_STUBS = {
    "zephyr/kernel.h": "#include <stdio.h>\n#define printk printf\n",
    "Arduino.h": """#pragma once
#include <cstdio>
#include <cstdlib>
struct {
    operator bool() { return true; }
    void begin(long) {}
    void println(const char *text) { printf("label: %s\\n", text); }
    int available() { return 1; }
    int read() { int byte = getchar(); return byte < 0 ? (exit(0), 0) : byte; }
} Serial;
inline void delay(unsigned) { exit(0); }
""",
    "main.cpp": "void setup(); void loop(); int main() { setup(); for (;;) loop(); }\n",
}


@pytest.mark.parametrize("template", ["zephyr", "arduino", "platformio"])
def test_the_example_of_a_project_labels_each_token(template, packages, tmp_path):
    _, path = packages("tokens")
    package = load_package(path)
    folder, stubs = tmp_path / "project", tmp_path / "stubs"
    write_project(package, load_template(template), folder)
    for name, content in _STUBS.items():
        (stubs / name).parent.mkdir(parents=True, exist_ok=True)
        (stubs / name).write_text(content)
    include = [f"-I{stubs}", f"-I{folder / 'include'}", f"-I{folder / 'src'}"]
    (example,) = (p for p in folder.glob("*/*lassify/**/*") if p.name in ("main.c", "main.cpp", "Classify.ino"))
    objects = [tmp_path / f"{source.stem}.o" for source in sorted((folder / "src").rglob("*.c"))]
    for source, built in zip(sorted((folder / "src").rglob("*.c")), objects, strict=True):
        subprocess.run(["gcc", "-std=c99", *include, "-c", source, "-o", built], check=True)
    program = tmp_path / "program"
    if template == "zephyr":
        subprocess.run(["gcc", *include, example, *objects, "-lm", "-o", program], check=True)
    else:
        given = ["-x", "c++", "-include", stubs / "Arduino.h", example, stubs / "main.cpp", "-x", "none"]
        subprocess.run(["g++", "-std=gnu++11", *include, *given, *objects, "-lm", "-o", program], check=True)
    done = subprocess.run([program], input="play some music\n", capture_output=True, text=True, check=True)
    with open_place("host", package) as device:
        rows = device.classify("play some music").run.logits
    assert done.stdout.split("\n")[:-1] == [f"label: {package.labels[n]}" for n in rows.argmax(1)]


def test_heads_by_name():
    assert [head_named(head) for head in HEADS] == list(HEADS)
    assert (head_named("labels"), head_named("embedding"), head_named("frob"), head_named(None)) == (
        "one label", "vector", None, None
    )  # fmt: skip
    assert head_for(1, False, False) == "regression"
    assert head_for(1, False, True) == head_for(2, False, False) == "one label"
    assert head_for(9, True, False) == "tokens"


def test_torch_and_the_folder_agree_on_tokens(packages):
    folder, _ = packages("tokens")
    with torch.no_grad():
        logits = kinds.model("tokens")(torch.tensor([tokenizer().encode(TEXT).ids])).logits[0].numpy()
    np.testing.assert_allclose(expected(folder, TEXT), logits, atol=1e-4)
