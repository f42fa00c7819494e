"""The HTML page of a package: its figures are the package's, and in a browser its trial has the package's bits."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace

import pytest
import small
from random_ngrams import model_of

from embbert_tvm import reasons
from embbert_tvm.data.dataset import read_examples
from embbert_tvm.device import webassembly
from embbert_tvm.device.locate import QUANTIZED_TOLERANCE
from embbert_tvm.device.package import load_package
from embbert_tvm.device.validate import validate
from embbert_tvm.errors import InputError
from embbert_tvm.measuring import accuracy
from embbert_tvm.measuring.figures import Operator, by_layer, layer_of, read_figures, record
from embbert_tvm.measuring.sensitivity import measure_sensitivity
from embbert_tvm.report.html import charts, page
from embbert_tvm.resources import resource
from embbert_tvm.target import load_board

sys.path.insert(0, str(resource("benchmarks")))

import pages

TARGET = "cortex-m7"


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    return small.copy_of_package(small.package("int8", TARGET), tmp_path_factory.mktemp("page") / "small")


@pytest.fixture(scope="module")
def figures(package):
    """Measured once, and recorded for who reads the package later."""
    found = read_figures(package)
    record(package, {"flash_bytes": found.flash, "ram_bytes": found.ram})
    return found


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    lines = [f"{small.LABELS[n % 2]}\t{text}" for n, text in enumerate(small.TEXTS)]
    path = tmp_path_factory.mktemp("data") / "test.tsv"
    path.write_text("\n".join(["label\ttext", *lines]) + "\n", encoding="utf-8")
    return path


def test_sizes_are_measured_or_as_recorded(package, figures, tmp_path):
    assert figures.flash["weights"] == load_package(package).weights_bytes
    assert figures.flash["code"] > 1000 < figures.ram["arena"]
    copy = small.copy_of_package(package, tmp_path / "copy")
    record(copy, {"flash_bytes": {"code": 1, "weights": 2, "tokenizer": 3, "total": 6}, "ram_bytes": {"arena": 4}})
    assert (read_figures(copy).flash_total, read_figures(copy).ram_total) == (6, 4)
    kept = json.loads((copy / "report.json").read_text())
    (copy / "report.json").write_text(json.dumps(kept | {"hash": "00000000"}))
    assert read_figures(copy).flash == figures.flash
    (copy / "report.json").write_text(json.dumps(kept | {"flash_bytes": {"code": []}}))
    assert read_figures(copy).flash == figures.flash


def test_layers_account_for_every_byte_of_constants(figures):
    assert sum(sum(kinds.values()) for kinds in figures.constants.values()) == figures.package.weights_bytes
    assert {"blocks_0", "blocks_1", "head"} <= figures.constants.keys()
    assert layer_of("bert_encoder_layer_11_output_dense") == "bert_encoder_layer_11"
    names = {"a_0_weight": 8, "a_0_table_codes": 4, "b_gain": 2, "b_weight_interleaved": 16, "b_bias_int8": 1}
    assert by_layer(names) == {
        "a_0": {"weights": 8, "scales": 0, "tables": 4},
        "b": {"weights": 16, "scales": 3, "tables": 0},
    }


def test_the_arena_is_drawn_to_its_measures(figures):
    chart = charts.arena(figures)
    area = {box.title.split(":")[0]: box.width * box.height for box in chart.boxes}
    assert len(chart.boxes) == len(figures.tensors)
    inner = charts.WIDTH - charts.LEFT - charts.RIGHT, charts.HEIGHT - charts.TOP - charts.BOTTOM
    for box in chart.boxes:
        assert charts.LEFT - 0.01 <= box.x <= box.x + box.width <= charts.LEFT + inner[0] + 0.01
        assert charts.TOP - 0.01 <= box.y <= box.y + box.height <= charts.TOP + inner[1] + 0.01
    steps = len(figures.package.steps)
    for tensor in {t.name: t for t in figures.tensors}.values():
        if sum(t.name == tensor.name for t in figures.tensors) == 1:
            share = tensor.bytes / figures.package.arena_bytes * (tensor.last + 1 - tensor.first) / steps
            assert area[tensor.name] == pytest.approx(share * inner[0] * inner[1])


def test_memory_is_shown_against_the_boards(package, figures):
    board = load_board("nucleo_h743zi2")
    on_board = replace(figures, package=replace(figures.package, board=board))
    flash = charts.memory_bar("Flash", on_board.flash, on_board.memory("flash"))
    assert flash.room == sum(region.bytes for region in board.memory if region.kind == "flash")
    assert sum(part.width for part in flash.parts) == pytest.approx(100 * flash.total / flash.room)
    assert "bytes of the board" in page.page_of([on_board])
    assert "bytes of the board" not in page.page_of([figures])


@pytest.mark.parametrize(
    ("points", "front"),
    [
        ([("a", 1, 5), ("b", 2, 3), ("c", 3, 4), ("d", 4, 1)], ["a", "b", "d"]),
        ([("a", 2, 2), ("b", 1, 1)], ["b"]),
        ([("a", 1, 1), ("b", 1, 1)], ["a"]),
    ],
)
def test_the_front_has_what_nothing_beats(points, front):
    assert [name for name, _, _ in charts.unbeaten(points)] == front


def test_calibration_is_the_share_of_right_answers():
    boxes = charts.calibration([0.95, 0.91, 1.0, 0.15], [True, False, True, True]).boxes
    assert [box.label for box in boxes] == ["1", "3"]
    assert boxes[1].height / boxes[0].height == pytest.approx(2 / 3)


def test_accuracy_is_what_validate_finds(figures, data):
    found, expected = accuracy.measure(figures.package, data), validate(figures.package, read_examples(data), "host")
    assert (found.float_share, found.compiled_share) == (expected.accuracy_float, expected.accuracy_compiled)
    assert 1 - found.flipped / found.examples == expected.agreement
    right = sum(row[n] for n, row in enumerate(found.confusion))
    assert right == sum(found.right) == round(found.compiled_share * found.examples)
    assert sum(map(sum, found.confusion)) == found.examples == len(small.TEXTS)
    of_float = {output.name for output in figures.package.outputs if output.origin is not None}
    assert {error.output for error in found.errors} == of_float
    assert all(0 < error.rms < QUANTIZED_TOLERANCE for error in found.errors)


def test_the_page_needs_nothing_else(package, figures, data):
    text = page.page_of([figures], [accuracy.measure(figures.package, data)])
    assert not re.findall(r"""(?:src|href)=["'](?!#|data:)|@import|url\(""", text)
    for tensor in figures.tensors:
        assert f"{tensor.name}: {tensor.bytes:,} bytes at {tensor.offset:,}" in text
    assert "Confusion matrix" in text
    assert "say &#34;on&#34;" in text  # a label with quotes


@pytest.mark.parametrize(
    ("precision", "reason", "remedy"),
    [
        ("int8", f"{reasons.ROW_BY_ROW}: no stage for Product with these operands", "a stage of the loops"),
        ("float32", "no int8 kernel takes sin with these operands", "another operator"),
        ("float32", reasons.REQUESTED, None),
        ("float16", "scores, softmax and context in half precision", None),
        ("int8", "3 operators in one loop over blocks of 4 rows", None),
    ],
)
def test_what_fell_back_says_what_would_help(precision, reason, remedy):
    """The page looked for other words than the compiler writes, so that no slow row was ever shown."""
    found = Operator("x", "kernel", precision, reason)
    assert found.fell_back == (remedy is not None)
    assert (remedy or "") in (found.remedy or "")


def test_sensitivity_is_shown_where_a_search_has_measured_it(package, figures, tmp_path):
    assert "Sensitivity" not in page.page_of([figures])
    copy = small.copy_of_package(package, tmp_path / "copy")
    plan = json.loads((copy / "plan.json").read_text())
    rows = [
        {"operator": "head", "precision": "int8", "error": 1e-5, "changed": 0.0, "flash": 0},
        {"operator": "head", "precision": "int4", "error": 2e-3, "changed": 0.125, "flash": -64},
    ]
    plan |= {"operators": {"head": "int4"}, "measured": {"operators": rows, "texts": 96, "drop": 0.25}}
    (copy / "plan.json").write_text(json.dumps(plan))
    text = page.page_of([read_figures(copy)])
    assert "loses 0.25 points of accuracy on 96 texts" in text
    assert re.search(
        r'<td>int4</td><td class="n".*>0\.00 %</td><td class="n right" title="error 0\.002 .*>12\.50 %</td>', text
    )
    (copy / "plan.json").write_text('{"measured": 1}')
    with pytest.raises(InputError, match="is not the plan of a package"):
        page.page_of([read_figures(copy)])


def test_sensitivity_is_measured_of_a_plan_that_was_given(figures, data):
    """Only a search for a plan measured it, so that pages of int8 packages had none."""
    found = measure_sensitivity(figures.package, data)
    assert found.precisions == ("int8",)
    assert found.texts == len(small.TEXTS)
    plan = json.loads((figures.package.path / "plan.json").read_text())
    assert [one.name for one in found.operators] == list(plan["operators"])
    assert all(0 < one.losses["int8"].error < 0.05 and one.kept == "int8" for one in found.operators)
    text = page.page_of([figures], sensitivities=[found])
    assert f"on {len(small.TEXTS)} texts" in text
    assert text.count("of the logits&#39; mean square") + text.count("of the logits' mean square") == len(
        found.operators
    )


def test_sensitivity_needs_labelled_text(cli, package):
    result = cli("report", package, "--sensitivity")
    assert (result.status, "give --data TSV" in result.err) == (2, True)


def test_a_profile_is_of_this_package(package, figures, tmp_path):
    names = [step.name for step in figures.package.steps]
    layers = [{"name": n, "instructions": 7, "cycles": None, "macs": 1, "share": 0.5} for n in names]
    one = {"length": 9, "total_instructions": 123456, "total_cycles": None, "layers": layers, "milliseconds": None}
    path = tmp_path / "profile.json"
    path.write_text(json.dumps({"target": TARGET, "on": "qemu", "lengths": [one]}))
    assert "123,456" in page.page_of([read_figures(package, path)])
    costly = one | {"milliseconds": 1.25, "millijoules": 0.125}
    how = {"board": "a board", "assumptions": "5 mA, of a data sheet"}
    path.write_text(json.dumps({"on": "qemu", "lengths": [costly], "estimate": how, "longest_slice": 1234}))
    text = page.page_of([read_figures(package, path)])
    for said in (
        "1.25",
        "millijoules",
        "0.125",
        "Estimate for a board: 5 mA, of a data sheet.",
        "1,234 instructions, 1.00 %",
    ):
        assert said in text
    for wrong in (
        {"on": "qemu", "lengths": [costly], "estimate": {"board": 7}},
        {"lengths": [one | {"layers": layers[1:]}]},
        {"lengths": [one | {"length": "x"}]},
        {"lengths": []},
        [],
    ):
        path.write_text(json.dumps(wrong))
        with pytest.raises(InputError, match=r"profile\.json: is"):
            read_figures(package, path)


def test_report_compares_packages(cli, package, data, tmp_path):
    other = small.copy_of_package(package, tmp_path / "other")
    out = tmp_path / "both.html"
    result = cli("report", package, other, "--data", data, "--no-trial", "-o", out, "--json")
    said = json.loads(result.out)
    assert (result.status, result.err, said["bytes"], len(said["accuracies"])) == (0, "", len(out.read_bytes()), 2)
    text = out.read_text(encoding="utf-8")
    assert text.count('<th scope="row"><a href="#package') == 2
    assert "bytes of flash and wrong answers" in text
    refused = cli("report", package, other, "--profile", data)
    assert (refused.status, refused.err.count("\n")) == (2, 1)


def test_the_trial_in_a_browser_has_the_bits_of_the_host(package, figures):
    texts = [*small.TEXTS, "", "grüße 日本 \U0001f600", "song " * 12, "the </script> & <b>light</b>"]
    module = webassembly.build(figures.package)
    assert module is not None
    text = page.page_of([figures], (), [module])
    found, said = pages.visit(text, pages.TRIAL % json.dumps(texts).replace("</", "<\\/"), width=360, dark=True)
    assert said == []
    assert found == pages.on_host(figures.package, texts)


def test_a_package_of_ngrams_has_a_page_and_a_trial(cli, tmp_path):
    model_of("abc", buckets=720).save(tmp_path / "model")
    assert cli("compile", tmp_path / "model", "--target", TARGET, "-o", tmp_path / "p").status == 0
    assert "one label: a, b, c" in (tmp_path / "p" / "report.html").read_text(encoding="utf-8")
    figures, texts = read_figures(tmp_path / "p"), [*small.TEXTS, "a " * 40]
    text = page.page_of([figures], (), [webassembly.build(figures.package)])
    found, said = pages.visit(text, pages.TRIAL % json.dumps(texts))
    assert said == []
    ours = pages.on_host(figures.package, texts)
    assert [one["logits"] for one in found] == [one["logits"] for one in ours]
    assert [one["status"] for one in found] == [one["status"] for one in ours]


def test_compile_writes_the_page(cli, tmp_path):
    result = cli("compile", small.folder(), "--target", TARGET, "-o", tmp_path / "p", "--json")
    sizes = json.loads(result.out)
    text = (tmp_path / "p" / "report.html").read_text(encoding="utf-8")
    assert f"{sizes['flash_bytes']['total']:,} bytes" in text
    assert f"{sizes['ram_bytes']['total']:,} bytes" in text
