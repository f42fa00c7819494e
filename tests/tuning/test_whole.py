"""Forms of a package's kernels: chosen by whole inferences, kept in a log, and taken from it by `compile`."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from embbert_tvm import api
from embbert_tvm.cycles.caches import Caches, Fills, caches_of, waiting
from embbert_tvm.errors import InputError
from embbert_tvm.kernels.forms import DEFAULT_FORMS, KernelForms, forms_of
from embbert_tvm.kernels.isa import isa_of
from embbert_tvm.target import BoardCaches, load_board
from embbert_tvm.tuning.logs import FORMAT, Manifest, TunedSchedules, WholeRecord
from embbert_tvm.tuning.whole import WholeCost, search_forms
from tests import small

DSP, M7, PLAIN, MVE = ("dsp",), ("dsp", "dual_issue"), (), ("dsp", "mve")


def costs(figures):
    """A cost by what differs from the forms made by hand, 100 for all others."""
    return lambda forms: WholeCost(figures.get(frozenset(forms.changes.items()), 100))


def test_choices_are_made_one_after_another_until_none_gains():
    tile, block = ("raw_rows", 4), ("row_block", 8)
    cost = costs({frozenset(): 90, frozenset({tile}): 80, frozenset({tile, block}): 70, frozenset({block}): 95})
    forms, record = search_forms(cost, DSP, 12)
    assert forms == KernelForms(raw_rows=4, row_block=8)
    assert (record.before, record.chosen) == (90, 70)
    assert record.tried["raw_rows 4"] == 80


@pytest.mark.parametrize("features", [DSP, M7, PLAIN, MVE])
def test_what_is_found_is_never_worse_than_what_was_made_by_hand(features):
    forms, record = search_forms(costs({frozenset(): 90}), features, 256)
    assert forms == DEFAULT_FORMS
    assert record.chosen == record.before == 90


@pytest.mark.parametrize(("features", "length", "tried"), [(MVE, 256, 1), (PLAIN, 256, 2), (DSP, 12, 5), (DSP, 256, 9)])
def test_only_choices_that_change_something_are_tried(features, length, tried):
    assert len(search_forms(costs({frozenset(): 90}), features, length)[1].tried) == tried


def test_forms_as_instruction_sets_and_headers_take_them():
    forms = KernelForms(8, dual_issue=False, raw_rows=4, values_fours=24)
    isa = isa_of(M7, forms)
    assert (isa.together, isa.raw_tile) == (2, (4, 2))
    assert replace(isa, together=1, raw_tile=(2, 4)) == isa_of(DSP)
    assert forms.macros == {"EMBBERT_VALUES_FOURS": 24}
    assert not isa_of(DSP, KernelForms(raw_words=False)).takes_raw(128)
    assert forms_of(forms.changes) == forms
    with pytest.raises(InputError, match="unknown 'block'"):
        forms_of({"block": 8})


def test_schedules_that_make_an_inference_slower_are_left_out():
    assert WholeRecord(90, 80).after == 80
    assert WholeRecord(90, 80, 79).keeps_schedules
    slower = WholeRecord(90, 80, 81)
    assert not slower.keeps_schedules
    assert slower.after == 80


def test_what_a_board_waits_for_its_caches():
    caches = BoardCaches(1024, 8, 0, 0, flash_cycles=5, line_bytes=16, prefetch=True)
    board = replace(load_board("nucleo_f446re"), caches=caches)
    found = caches_of(board)
    assert isinstance(found, Caches)
    assert (found.data, found.only_flash, found.prefetch, found.code.sets(16)) == (None, True, True, 8)
    assert waiting(board, Fills(3, 4, 100)) == 35
    assert waiting(replace(board, caches=None), Fills(3, 4, 100)) == 0
    with pytest.raises(InputError, match="code_bytes: must be a power of two"):
        replace(caches, code_bytes=1000)


def test_compile_takes_the_forms_of_a_log_and_computes_the_same(tmp_path, monkeypatch):
    """For the board that the log is of, not for its CPU; what the command line asks for goes before."""
    folder = tmp_path / "schedules" / "nucleo_h743zi2" / "small-int8"
    folder.mkdir(parents=True)
    forms = {"row_block": 8, "dual_issue": False, "values_fours": 3}
    manifest = Manifest("small", "nucleo_h743zi2", "int8", "mca", "qemu+mca", 12, "gcc", "2026-11-30", format=FORMAT)
    document = {**manifest.__dict__, "forms": forms, "whole": WholeRecord(90, 80, 80).__dict__}
    (folder / "manifest.json").write_text(json.dumps(document))
    assert TunedSchedules("small", ["nucleo_h743zi2"], "int8", [tmp_path / "schedules"]).forms == KernelForms(**forms)
    monkeypatch.chdir(tmp_path)
    texts = {}
    for name, target, options in (
        ("tuned", "nucleo_h743zi2", api.CompileOptions()),
        ("asked", "nucleo_h743zi2", api.CompileOptions(row_block=4)),
        ("cpu", "cortex-m7", api.CompileOptions()),
    ):
        made = api.compile(small.folder(), target, tmp_path / name, options).path
        texts[name] = next(made.rglob("embbert_kernels.h")).read_text(), (made / "reference.json").read_bytes()
    assert "#define EMBBERT_DUAL_ISSUE 0\n#define EMBBERT_VALUES_FOURS 3\n" in texts["tuned"][0]
    assert "#define EMBBERT_DUAL_ISSUE 1\n" in texts["cpu"][0]
    assert "EMBBERT_VALUES_FOURS" not in texts["cpu"][0].split("#include")[0]
    assert len({reference for _, reference in texts.values()}) == 1
