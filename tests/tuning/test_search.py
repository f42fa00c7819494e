"""A search over places that answer by themselves: no compiler and no QEMU."""

from __future__ import annotations

import json
import random
import time
import zlib
from types import SimpleNamespace

import embbert_kernels
import numpy as np
import pytest

from embbert_tvm.kernels.choices import chosen
from embbert_tvm.kernels.isa import DSP
from embbert_tvm.kernels.row_block.filter import filter_along_text
from embbert_tvm.target import load_board, load_cpu
from embbert_tvm.tuning import evolution, search
from embbert_tvm.tuning.cost_model import CostModel
from embbert_tvm.tuning.logs import Log, Manifest
from embbert_tvm.tuning.measure import Reading
from embbert_tvm.tuning.search import Search
from embbert_tvm.tuning.space import FEATURES
from embbert_tvm.tuning.task import Task

pytest.importorskip("xgboost")
KERNELS = (embbert_kernels.layer(32, DSP), filter_along_text(8, 32, DSP))


class Bench:
    """Images are the texts of their candidates."""

    def __init__(self, task, *_):
        self.task = task

    def compile(self, made):
        return made.source

    def link(self, _, objects):
        return objects


class Place:
    """Counts what follows from a candidate's text alone, in a time that does not."""

    name = "place"

    def __init__(self, seed):
        self.random = random.Random(seed)

    def open(self, image):
        self.image = image
        return self

    def run(self, number):
        time.sleep(self.random.uniform(0, 0.004))
        return Reading(instructions=1000 + zlib.crc32(self.image[number].encode()) % 1000)

    def close(self):
        pass


@pytest.fixture
def searched(tmp_path, monkeypatch):
    """(what was measured of each kernel, its best) by `places` places in `trials` trials."""
    monkeypatch.setattr(search, "Bench", Bench)

    def candidate(task, scheduled, *_):
        return SimpleNamespace(symbol="candidate", source=f"{task.name} {sorted(chosen(scheduled).items())}")

    monkeypatch.setattr(search, "candidate", candidate)

    def run(places, trials, name):
        tasks = [Task(str(n), func, 2 - n, 32, ()) for n, func in enumerate(KERNELS)]
        manifest = Manifest("m", "t", "int8", "instructions", "fake", 32, "gcc", "today")
        log = Log(tmp_path / name, manifest)
        target = (load_cpu("cortex-m7"), load_board("mps2_an500"))
        made = Search(tasks, target, [Place(n) for n in range(places)], log, tmp_path)
        told = []
        try:
            made.run(trials, told.append)
        finally:
            made.close()
        assert [now.trials for now in told] == list(range(trials + 1))
        records = (tmp_path / name / "database_tuning_record.json").read_text().splitlines()
        return sorted(json.dumps(json.loads(line)) for line in records), [k.after for k in manifest.kernels.values()]

    return run


def test_the_trials_are_the_same_on_any_number_of_places(searched):
    one = searched(1, 60, "one")
    assert len(one[0]) == len(set(one[0])) == 60
    assert searched(3, 60, "three") == one


def test_the_cost_model_learns_to_rank():
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 5, (120, FEATURES)).astype(np.float32)
    seconds = 1e-3 * (1 + rows[:, 3] + 3 * rows[:, 7])
    model = CostModel(0)
    assert len(set(model.predict(list(rows)))) == len(rows)  # knows nothing yet, and says anything
    model.update(list(rows[:80]), list(seconds[:80]))
    assert np.corrcoef(model.predict(list(rows[80:])), 1 / seconds[80:])[0, 1] > 0.8


def test_the_fastest_of_what_was_measured_are_varied(monkeypatch):
    monkeypatch.setattr(evolution, "_key", lambda trace: (trace,))
    monkeypatch.setattr(evolution, "features", lambda trace: np.full(FEATURES, float(trace), np.float32))
    monkeypatch.setattr(evolution, "fits", lambda main, trace: False)
    varied = []
    monkeypatch.setattr(evolution.MutateDecision, "apply", lambda self, trace: varied.append(trace))
    context = SimpleNamespace(mod={"main": None}, generate_design_space=list)
    found = evolution.Evolution(context, 0)
    found._designs = [-1]
    monkeypatch.setattr(found, "_sample", lambda trace: None)
    for first in (0, 10, 20):
        found.learn([(trace, 1.0 + (7 * trace + 3) % 30) for trace in range(first, first + 10)])
    assert found.propose(4) == []
    fastest = sorted(range(30), key=lambda trace: (7 * trace + 3) % 30)[: evolution._ELITE]
    assert set(varied) == set(fastest)
