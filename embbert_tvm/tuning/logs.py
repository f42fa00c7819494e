"""Logs of tuning: MetaSchedule's JSON database of a model on a target, with a manifest, and what `compile` takes of it.

A log is a folder schedules/<CPU or board>/<name>/ of database_workload.json, database_tuning_record.json,
manifest.json, and failures.jsonl with why candidates failed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import tvm
import tvm_ffi
from tvm import tirx
from tvm.s_tir import meta_schedule as ms

from embbert_tvm.codegen.lower import repeat_last, schedule
from embbert_tvm.data.files import write_atomically
from embbert_tvm.errors import InputError
from embbert_tvm.graph.tvm_workarounds import recorded_schedules
from embbert_tvm.kernels.forms import KernelForms, forms_of
from embbert_tvm.resources import resource
from embbert_tvm.tuning.task import is_ours, workload

# What the numbers of a log's choices mean; raised where kernels/choices.py or the printer number them otherwise.
FORMAT = 1
TARGET = {"kind": "llvm", "mtriple": "thumbv7em-none-eabi", "num-cores": 1}
UNIT = 1e-9  # seconds of an instruction or a cycle, as MetaSchedule's databases know only seconds
MANIFEST, FAILURES = "manifest.json", "failures.jsonl"
_RECORDS, _WORKLOADS = "database_tuning_record.json", "database_workload.json"


def fingerprint(func: tirx.PrimFunc) -> str:
    """What tells a kernel from every other: a structural hash."""
    return f"{tvm_ffi.structural_hash(workload(func)) % 2**64:016x}"


@dataclass
class Kernel:
    """What is on record of a kernel. before, after: by the log's objective, untuned and at best so far."""

    name: str
    calls: int
    before: float
    after: float
    trials: int = 0


@dataclass
class WholeRecord:
    """Cycles of whole inferences: of the forms made by hand, of those chosen, and of these with the log's schedules,
    None where that is not measured yet. tried: cycles by what differs from the forms made by hand."""

    before: float
    chosen: float
    tuned: float | None = None
    tried: dict[str, float] = field(default_factory=dict)

    @property
    def keeps_schedules(self) -> bool:
        return self.tuned is None or self.tuned <= self.chosen

    @property
    def after(self) -> float:
        return self.chosen if self.tuned is None else min(self.chosen, self.tuned)


@dataclass
class Manifest:
    """What a log is of. kernels: by fingerprint. forms: of the kernels, where they differ from those made by hand;
    whole: what they cost, None where only kernels were measured."""

    model: str
    target: str
    precision: str
    objective: str
    runner: str
    length: int
    compiler: str
    date: str
    tvm: str = tvm.__version__
    format: int = FORMAT
    trials: int = 0
    failures: int = 0
    seconds: float = 0.0
    kernels: dict[str, Kernel] = field(default_factory=dict)
    forms: dict[str, int | bool] = field(default_factory=dict)
    whole: WholeRecord | None = None

    @property
    def kernel_forms(self) -> KernelForms:
        return forms_of(self.forms)

    @property
    def keeps_schedules(self) -> bool:
        """Whether `compile` takes the log's schedules."""
        return self.whole is None or self.whole.keeps_schedules


class Log:
    """A log on disk."""

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path, self.manifest = path, manifest
        path.mkdir(parents=True, exist_ok=True)
        for name in (_RECORDS, _WORKLOADS):
            _repair(path / name)
        self.database = ms.database.JSONDatabase(work_dir=str(path))
        # A search that was killed between a record and the manifest is one trial further than the manifest says.
        manifest.trials = max(manifest.trials, len(self.database))
        for record in self.database.get_all_tuning_records():
            kernel = manifest.kernels.get(fingerprint(record.workload.mod["main"]))
            if kernel is not None:
                kernel.after = min(kernel.after, round(_seconds(record) / UNIT, 3))
        self.save()

    def save(self) -> None:
        document = asdict(self.manifest)
        write_atomically(self.path / MANIFEST, (json.dumps(document, indent=1) + "\n").encode())

    def fail(self, kernel: str, error: str) -> None:
        with (self.path / FAILURES).open("a", encoding="utf-8") as file:
            file.write(json.dumps({"kernel": kernel, "error": error}) + "\n")

    def prune(self) -> None:
        """Keep the best record of each kernel that was improved, where `compile` takes any, and nothing else."""
        target = tvm.target.Target(TARGET)
        best = []
        for record in self.database.get_all_tuning_records():
            known = self.manifest.kernels.get(fingerprint(record.workload.mod["main"]))
            if known is not None and known.after < known.before and self.manifest.keeps_schedules:
                best.append(record)
        kept: dict[str, Any] = {}
        for record in best:
            key = fingerprint(record.workload.mod["main"])
            if key not in kept or _seconds(record) < _seconds(kept[key]):
                kept[key] = record
        for name in (_RECORDS, _WORKLOADS, FAILURES):
            (self.path / name).unlink(missing_ok=True)
        self.database = ms.database.JSONDatabase(work_dir=str(self.path))
        for record in kept.values():
            made = self.database.commit_workload(record.workload.mod)
            self.database.commit_tuning_record(
                ms.database.TuningRecord(record.trace, made, record.run_secs, target, None)
            )


def _seconds(record) -> float:
    return min((float(s) for s in record.run_secs or ()), default=float("inf"))


def _repair(path: Path) -> None:
    """Take away a last line that an interrupted process has left half-written."""
    if not path.is_file():
        return
    content = path.read_bytes()
    lines = content.splitlines(keepends=True)
    if lines:
        try:
            json.loads(lines[-1])
            whole = lines[-1].endswith(b"\n")
        except ValueError:
            whole = False
        if not whole:
            path.write_bytes(b"".join(lines[:-1]))


def read_manifest(path: Path) -> Manifest:
    """The manifest of a log's folder; InputError for one that is none."""
    where = path / MANIFEST
    try:
        document = json.loads(where.read_text(encoding="utf-8"))
        kernels = {key: Kernel(**value) for key, value in document.pop("kernels").items()}
        whole = document.pop("whole", None)
        manifest = Manifest(**document, kernels=kernels, whole=whole and WholeRecord(**whole))
        forms_of(manifest.forms)
        return manifest
    except OSError as error:
        raise InputError(f"{where}: cannot be read ({error.strerror})") from error
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{where}: is not a manifest of tuning ({error})") from error


class TunedSchedules:
    """The schedules of the logs of a target, as codegen/program.py takes them; `warnings` say what was left out."""

    def __init__(self, model: str, targets: Sequence[str], precision: str, roots: Sequence[Path] = ()) -> None:
        """targets: a board and its CPU, the first that knows a kernel decides. roots: folders such as schedules/."""
        self.warnings: list[str] = []
        self.used: list[str] = []
        self._model, self._precision = model, precision
        self._logs: list[tuple[Path, Manifest]] = []
        self._databases: dict[Path, Callable[..., Any]] = {}
        found = [root / target for target in targets for root in (*roots, resource("schedules"))]
        seen = set()
        for path in (p for folder in found for p in sorted(folder.glob(f"*/{MANIFEST}"))):
            if path.resolve() not in seen:
                seen.add(path.resolve())
                self._read(path.parent)

    def _read(self, path: Path) -> None:
        try:
            manifest = read_manifest(path)
        except InputError as error:
            self.warnings.append(f"{error}: ignored")
            return
        if (manifest.tvm, manifest.format) != (tvm.__version__, FORMAT):
            if (manifest.model, manifest.precision) == (self._model, self._precision):
                versions = f"TVM {manifest.tvm}, format {manifest.format}, not {tvm.__version__}, {FORMAT}"
                self.warnings.append(f"{path}: was tuned with {versions}: ignored; tune again")
            return
        self._logs.append((path, manifest))

    @classmethod
    def of_log(cls, path: Path, manifest: Manifest) -> TunedSchedules:
        """Those of one log alone."""
        made = cls(manifest.model, (), manifest.precision)
        made._logs = [(path, manifest)]
        return made

    @property
    def forms(self) -> KernelForms | None:
        """The forms that the first log of the model and the precision names; None where there is none."""
        own = (m for _, m in self._logs if (m.model, m.precision) == (self._model, self._precision))
        return next((manifest.kernel_forms for manifest in own), None)

    def __call__(self, name: str, func: tirx.PrimFunc) -> tirx.PrimFunc | None:
        key = fingerprint(func)
        # Of logs that know the kernel, the model's own first.
        known = sorted(self._logs, key=lambda log: log[1].model != self._model)
        for path, manifest in known:
            kernel = manifest.kernels.get(key)
            if kernel is None:
                continue
            worth = kernel.after < kernel.before and manifest.keeps_schedules
            scheduled = self._schedule(path, func) if worth else None
            if scheduled is not None:
                self.used.append(name)
            return scheduled
        for path, manifest in self._logs:
            same = (manifest.model, manifest.precision) == (self._model, self._precision)
            if same and any(k.name == name for k in manifest.kernels.values()):
                self.warnings.append(f"{path}: holds a {name} of another shape: ignored; tune again")
        return None

    def _schedule(self, path: Path, func: tirx.PrimFunc) -> tirx.PrimFunc | None:
        try:
            if path not in self._databases:
                self._databases[path] = recorded_schedules(path / _WORKLOADS, path / _RECORDS)
            found = self._databases[path](workload(func), tvm.target.Target(TARGET))
        except Exception as error:  # TVM's own errors have no common class
            self.warnings.append(f"{path}: cannot be used ({str(error).strip().splitlines()[-1]}): ignored")
            return None
        if found is None:
            return None
        # What is chosen of a kernel of ours is chosen in print: its loops are always the same.
        return schedule(found.mod["main"]) if is_ours(func) else repeat_last(found.mod["main"])
