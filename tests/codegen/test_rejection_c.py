"""The C that says "none of these" gives the label of rejection.py, on random logits, by every score."""

from __future__ import annotations

import json
import subprocess
from types import SimpleNamespace

import numpy as np
import pytest
import small

from embbert_tvm.codegen import c_api, c_files, c_rejection
from embbert_tvm.codegen.templates import substitute
from embbert_tvm.data.metrics import softmax
from embbert_tvm.device.classify import classify
from embbert_tvm.device.package import load_package
from embbert_tvm.rejection import DISTANCE, ENERGY, MAX_SOFTMAX, Rejection

CLASSES = 5
FLAGS = (
    "-std=c99",
    "-pedantic",
    "-Wall",
    "-Wextra",
    "-Wconversion",
    "-Wshadow",
    "-Wdouble-promotion",
    "-Werror",
    "-O2",
)
REJECTIONS = (
    Rejection(MAX_SOFTMAX, 1.7, 0.6),
    Rejection(ENERGY, 0.8, -0.25),
    Rejection(ENERGY, 2.5, 2.0),
    Rejection(DISTANCE, 1.0, -90.0, tuple(map(tuple, (4 * np.eye(CLASSES)).tolist()))),
)
MAIN = """
#include <stdio.h>
const char *embbert_label(size_t index) { return index <= EMBBERT_CLASSES ? "name" : NULL; }
int main(void)
{
    static uint8_t arena[16];
    embbert_t model = {0};
    embbert_result_t result;
    model.arena = arena;
    while (fread(result.logits, sizeof result.logits, 1, stdin) == 1) {
        if (embbert_complete(&model, &result) != EMBBERT_OK || result.label_text == NULL)
            return 1;
        printf("%zu", result.label);
        for (size_t i = 0; i <= EMBBERT_NONE; i++)
            printf(" %.9g", (double)result.scores[i]);
        printf("\\n");
    }
    return 0;
}
"""


def complete(rejection: Rejection) -> tuple[str, str]:
    """The header, and a program around embbert_complete()."""
    figures = dict.fromkeys(("min_length", "max_length", "vocabulary", "arena_bytes", "longest_slice"), 16)
    program = SimpleNamespace(**figures, classes=CLASSES, text=None, padding=None, more=(), of_tokens=False)
    body = c_files._EXPONENTIAL + c_files._COMPLETE
    source = substitute(body, "embbert", scores=c_rejection.scores(rejection), **c_api.LINKED)
    model = c_api.Interface("embbert", "a test", rejection=rejection)
    header = c_api.header(program, model, "int8", 16)
    return header, f'#include "embbert.h"\n{source}{MAIN}'


@pytest.mark.parametrize("rejection", REJECTIONS, ids=lambda r: f"{r.score}-{r.temperature}")
def test_the_c_is_the_reference(rejection, tmp_path):
    header, source = complete(rejection)
    (tmp_path / "embbert.h").write_text(header)
    (tmp_path / "main.c").write_text(source)
    subprocess.run(["gcc", *FLAGS, "main.c", "-o", "main"], cwd=tmp_path, check=True)
    rng = np.random.default_rng(3)
    logits = np.concatenate([rng.normal(-3, 2, (500, CLASSES)), rng.normal(0, 60, (20, CLASSES))]).astype(np.float32)
    out = subprocess.run([tmp_path / "main"], input=logits.tobytes(), capture_output=True, check=True).stdout
    found = np.array([line.split() for line in out.decode().splitlines()], np.float64)
    known = rejection.known(logits)
    clear = np.abs(known - rejection.threshold) > 1e-4
    np.testing.assert_array_equal(found[clear, 0], rejection.labels(logits)[clear])
    assert 0.05 < np.mean(found[:, 0] == CLASSES) < 0.95
    shares = softmax(logits, rejection.temperature)
    np.testing.assert_allclose(found[:, 1:-1], shares, atol=1e-6)
    np.testing.assert_allclose(found[:, -1], 1 - shares.max(1), atol=1e-6)


def test_logits_that_are_no_numbers_are_none(tmp_path):
    header, source = complete(REJECTIONS[1])
    (tmp_path / "embbert.h").write_text(header)
    (tmp_path / "main.c").write_text(source)
    subprocess.run(["gcc", *FLAGS, "main.c", "-o", "main"], cwd=tmp_path, check=True)
    logits = np.full((1, CLASSES), np.nan, np.float32)
    out = subprocess.run([tmp_path / "main"], input=logits.tobytes(), capture_output=True, check=True).stdout
    assert out.split()[0] == str(CLASSES).encode()


def test_a_compiled_model_says_none_of_these(tmp_path, cli):
    folder = small.copy_of_folder(tmp_path / "small")
    config = json.loads((folder / "config.json").read_text())
    plain = load_package(small.package())
    answers = classify(plain, small.TEXTS, "host")
    logits = np.log([list(answer.scores.values()) for answer in answers])
    best = sorted(softmax(logits, 2.0).max(1).tolist())
    threshold = (best[1] + best[2]) / 2  # two of the four texts are known
    config["none_of_these"] = Rejection(MAX_SOFTMAX, 2.0, threshold).to_dict()
    (folder / "config.json").write_text(json.dumps(config))

    assert cli("compile", folder, "--target", "host", "-o", tmp_path / "package").status == 0
    package = load_package(tmp_path / "package")
    found = classify(package, small.TEXTS, "host")
    for answer, before, row in zip(found, answers, softmax(logits, 2.0), strict=True):
        assert answer.none == (row.max() < threshold)
        assert answer.label == (None if answer.none else before.label)
        np.testing.assert_allclose(list(answer.scores.values()), row, atol=1e-6)
    assert [answer.none for answer in found].count(True) == 2

    result = cli("run", tmp_path / "package", *small.TEXTS, "--json")
    shown = json.loads(result.out)["results"]
    assert [(x["label"], x["none"]) for x in shown] == [(x.label, x.none) for x in found]
    assert cli("run", tmp_path / "package", *small.TEXTS).out.count("none of these") == 2
