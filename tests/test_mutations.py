"""The bugs of benchmarks/mutations.py can still be put in, and one that is put in is noticed."""

from __future__ import annotations

import sys

import pytest

from embbert_tvm.resources import resource

sys.path.insert(0, str(resource("benchmarks")))

import mutations


@pytest.mark.parametrize("bug", mutations.BUGS, ids=lambda bug: bug.name)
def test_a_bugs_text_is_where_it_says(bug):
    assert (mutations.ROOT / bug.file).read_text(encoding="utf-8").count(bug.text) == 1
    assert bug.wrong != bug.text
    for test in bug.tests.split():
        assert (mutations.ROOT / test).exists()


def test_thirty_bugs_of_all_rooms():
    assert len({bug.name for bug in mutations.BUGS}) == 30
    rooms = {bug.file.split("/")[1] for bug in mutations.BUGS if bug.file.startswith("embbert_tvm/")}
    assert rooms >= {"data", "models", "training", "graph", "kernels", "codegen", "firmware", "device", "tuning"}


def test_a_bug_is_noticed_and_taken_out_again(tmp_path):
    code, tests = tmp_path / "bugged.py", tmp_path / "test_bugged.py"
    code.write_text("ONE = 1\n")
    tests.write_text("from bugged import ONE\n\ndef test_one():\n    assert ONE < 3\n")
    noticed, missed = (
        mutations.Bug("x", "bugged.py", "ONE = 1", wrong, "test_bugged.py") for wrong in ("ONE = 3", "ONE = 2")
    )
    assert mutations.try_bug(tmp_path, noticed) == "test_bugged.py::test_one"
    assert mutations.try_bug(tmp_path, missed) is None
    assert code.read_text() == "ONE = 1\n"
    with pytest.raises(ValueError, match="not once"):
        mutations.try_bug(tmp_path, mutations.Bug("x", "bugged.py", "TWO", "1", "test_bugged.py"))
