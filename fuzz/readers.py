"""Mutated inputs through the real command line: nothing ends in a trace, a crash, a hang or half a result.

    python fuzz/readers.py --count 20000 [--kind onnx,plan] [--seed 0] [--keep FOLDER]

Seeds are small right inputs of every kind that a command reads. One of them is changed (mutate.py), a command reads it
in this process, and what it says is checked: exit status 0, 1 or 2, one line of ours on stderr where it failed, and no
output left. Batches are forks, so that a crash of a library is seen and is a finding too.
"""

from __future__ import annotations

import argparse
import json
import lzma
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "tests"), str(HERE)]

import mutate  # noqa: E402
import small  # noqa: E402
import toy  # noqa: E402

BATCH = 50
SECONDS, WAITING = 60, 900  # that one input may take: of a processor, and in all on a machine that has other work
MEMORY = 12 << 30
Mutator = Callable[[bytes, random.Random], bytes]


@dataclass(frozen=True)
class Kind:
    """A file of a seed folder, how it is changed, and the commands that read it; `{}` is the folder, OUT an output."""

    file: str
    change: Mutator
    commands: tuple[str, ...]
    weight: float = 1.0


@dataclass
class Tally:
    counts: Counter = field(default_factory=Counter)
    findings: list[str] = field(default_factory=list)


_COMPILE = "compile {}/m.onnx --target host --max-length 9 -o OUT"
_FOLDER = "compile {}/model --target host --max-length 9 -o OUT"
_EVALUATE = "evaluate {}/model --data {}/set.tsv"
KINDS = {
    "onnx": Kind("m.onnx", mutate.of_onnx, (f"{_COMPILE} --precision fp32",), 0.5),
    "plan": Kind("plan.json", mutate.of_json, (f"{_FOLDER} --plan {{}}/plan.json",), 0.5),
    "log": Kind("schedules/host/x/manifest.json", mutate.of_json, (f"{_COMPILE} --precision fp32",), 0.1),
    "config": Kind("model/config.json", mutate.of_json, (_EVALUATE, "footprint {}/model")),
    "tokenizer": Kind("model/tokenizer.json", mutate.of_json, (_EVALUATE,), 2),
    "device tokenizer": Kind("tokenizer.json", mutate.of_json, (f"{_COMPILE} --precision fp32",), 0.5),
    "safetensors": Kind("model/model.safetensors", mutate.of_bytes, (_EVALUATE,), 0.5),
    "calibration": Kind("model/calibration.json", mutate.of_json, (_FOLDER,), 0.2),
    "record": Kind("model/training.json", mutate.of_json, (_FOLDER,), 0.2),
    "set": Kind("set.tsv", mutate.of_bytes, (_EVALUATE,), 2),
    "calibration set": Kind("set.tsv", mutate.of_bytes, (f"{_FOLDER} --calibration {{}}/set.tsv",), 0.1),
    "packed set": Kind("set.tsv.xz", mutate.of_bytes, ("evaluate {}/model --data {}/set.tsv.xz",)),
    "labels": Kind("labels.txt", mutate.of_bytes, (f"{_COMPILE} --precision fp32 --labels {{}}/labels.txt",), 0.3),
    "board": Kind("board.yaml", mutate.of_yaml, ("targets show {}/board.yaml", "targets show {}/board.yaml --json"), 3),
    "cpu": Kind("cpu.yaml", mutate.of_yaml, ("compile {}/m.onnx --precision fp32 --target {}/cpu.yaml -o OUT",), 1),
    "package": Kind(
        "package/metadata.json", mutate.of_json, ("project {}/package --template bare -o OUT", "run {}/package play"), 3
    ),
    "vectors": Kind("package/reference.json", mutate.of_json, ("project {}/package --template zephyr -o OUT",)),
    "hub config": Kind("hub/config.json", mutate.of_json, ("export {}/hub -o OUT",)),
    "hub weights": Kind("hub/model.safetensors", mutate.of_bytes, ("export {}/hub -o OUT",), 0.5),
    "hub tokenizer": Kind("hub/tokenizer_config.json", mutate.of_json, ("export {}/hub -o OUT",), 0.5),
}


def seeds(folder: Path) -> Path:
    """One of everything, small."""
    body = (
        "x = Gather(ids__weight, ids)\nm = MatMul(x, mix__weight)\ns = Sin(m)\nz = Constant<value_int=0>()\n"
        "p = Gather<axis=1>(s, z)\nlogits = MatMul(p, head__weight)"
    )
    weights = {"ids__weight": (300, 8), "mix__weight": (8, 8), "head__weight": (8, 3)}
    model = small.classifier(body, **{name: small.normal(*shape) for name, shape in weights.items()})
    (folder / "m.onnx").write_bytes(model.SerializeToString())
    small.copy_of_folder(folder / "model")
    shutil.copy(folder / "model/tokenizer.json", folder / "tokenizer.json")
    labels = small.LABELS
    rows = [f"{labels[i % 3]}\t{text}" for i, text in enumerate(small.TEXTS)]
    (folder / "set.tsv").write_text("label\ttext\n" + "\n".join(rows) + "\n")
    (folder / "model/training.json").write_text(json.dumps({"recipe": {"precision": "int8", "epochs": 3}}))
    (folder / "set.tsv.xz").write_bytes(lzma.compress((folder / "set.tsv").read_bytes()))
    (folder / "labels.txt").write_text("one\ntwo\nthree\n")
    operators = {"head": "fp16", "blocks_*": "int4"}
    plan = {"format": "embbert-tvm plan 1", "default": "int8", "operators": operators, "calibration": "percentile"}
    (folder / "plan.json").write_text(json.dumps(plan))
    _hub_folder(folder / "hub")
    targets = HERE.parent / "targets"
    shutil.copy(targets / "boards/mps2_an500.yaml", folder / "board.yaml")
    shutil.copy(targets / "cpus/cortex-m7.yaml", folder / "cpu.yaml")
    log = folder / "schedules/host/x"
    log.parent.mkdir(parents=True)
    shutil.copytree(HERE.parent / "schedules/cortex-m7/embbert-snips-int8", log)
    toy.complete(toy.write_package(folder / "package"))
    return folder


def _hub_folder(folder: Path) -> None:
    """A folder as a hub has it, of a small BERT."""
    import transformers

    from embbert_tvm.data.tokenizer import load_tokenizer

    tokenizer = load_tokenizer(small.folder() / "tokenizer.json")
    config = transformers.BertConfig(
        vocab_size=tokenizer.get_vocab_size(), hidden_size=8, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=16, max_position_embeddings=32, id2label=dict(enumerate(small.LABELS)),
    )  # fmt: skip
    transformers.BertForSequenceClassification(config).save_pretrained(folder)
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]").save_pretrained(folder)


def call(arguments: list[str], folder: Path) -> tuple[int, str]:
    """The exit status of a command, and its stderr."""
    from embbert_tvm.cli import main

    said = folder / "stderr"
    for number, name, path in ((1, "stdout", os.devnull), (2, "stderr", said)):
        with open(path, "wb") as file:
            os.dup2(file.fileno(), number)
        setattr(sys, name, open(number, "w", closefd=False))  # noqa: SIM115 (as long as the fork)
    sys.argv = ["embbert-tvm", *arguments]
    status = 0
    try:
        main()
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    return status, said.read_text(encoding="utf-8", errors="replace")


def complaint(status: int, said: str, out: Path) -> str:
    """What is wrong with how a command ended; nothing where all is right."""
    lines = said.strip().splitlines()
    if "unforeseen" in said or "Traceback" in said or "panicked" in said:
        return lines[-1] if lines else "trace"
    if status not in (0, 1, 2):
        return f"status {status}"
    if status and not (lines and (lines[-1].startswith(("embbert-tvm: ", "Error: ")))):
        return f"says nothing of ours: {lines[-1:]}"
    if status and out.exists():
        return f"leaves an output at status {status}"
    return ""


def one(kind: Kind, rng: random.Random, folder: Path) -> tuple[str, str]:
    """(what is wrong, the exit status) of one changed input."""
    path, out = folder / kind.file, folder / "out"
    right = path.read_bytes()
    command = rng.choice(kind.commands)
    path.write_bytes(kind.change(right, rng))
    shutil.copy(path, folder / "changed")
    (folder / "command").write_text(command)
    try:
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        signal.alarm(WAITING)
        arguments = command.format(*[folder] * command.count("{}")).replace("OUT", str(out)).split()
        status, said = call(arguments, folder)
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.alarm(0)
        return complaint(status, said, out), str(status)
    finally:
        path.write_bytes(right)
        shutil.rmtree(out, ignore_errors=True)


def refused(folder: Path, names: list[str]) -> list[str]:
    """Commands that do not end with 0 on the seeds as they are, and what they say."""
    found = []
    for kind in (KINDS[name] for name in names):
        for command in kind.commands:
            unchanged = replace(kind, change=lambda data, _: data, commands=(command,))
            reading, writing = os.pipe()
            if (child := os.fork()) == 0:
                os.chdir(folder)
                wrong, status = one(unchanged, random.Random(0), folder)
                if wrong or status != "0":
                    os.write(writing, f"{command}: {(folder / 'stderr').read_text()}".encode())
                os._exit(0)
            os.waitpid(child, 0)
            os.close(writing)
            if said := os.read(reading, 4096).decode(errors="replace"):
                found.append(said)
            os.close(reading)
    return found


def batch(kind: Kind, seed: str, count: int, folder: Path) -> None:
    """Run in a fork: a line a changed input into `results`."""
    os.chdir(folder)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    rng = random.Random(seed)
    with (folder / "results").open("w") as results:
        for _ in range(count):
            wrong, status = one(kind, rng, folder)
            if wrong:
                shutil.copy(folder / "changed", folder / f"finding-{secrets_of(wrong)}")
            results.write(json.dumps([wrong, status]) + "\n")
            results.flush()


def secrets_of(wrong: str) -> str:
    """A name of few characters for a finding."""
    return "".join(c for c in wrong.split("/tmp")[0] if c.isalnum())[:60]


def run_batch(name: str, seed: str, count: int, folder: Path, tally: Tally, keep: Path | None) -> None:
    for path in (folder / "results", *folder.glob("finding-*")):
        path.unlink(missing_ok=True)
    seed_file = folder / KINDS[name].file
    right = seed_file.read_bytes()
    child = os.fork()
    if child == 0:
        try:
            batch(KINDS[name], seed, count, folder)
        finally:
            os._exit(0)
    _, ended = os.waitpid(child, 0)
    seed_file.write_bytes(right)  # which a child that was killed leaves changed
    lines = (folder / "results").read_text().splitlines() if (folder / "results").exists() else []
    for line in lines:
        wrong, status = json.loads(line)
        tally.counts[name, status] += 1
        if wrong:
            tally.findings.append(f"{name}: {wrong}")
    if os.WIFSIGNALED(ended):
        tally.counts[name, "crash"] += 1
        number = signal.Signals(os.WTERMSIG(ended)).name
        tally.findings.append(f"{name}: ended by {number}: {(folder / 'command').read_text()}")
        shutil.copy(folder / "changed", folder / f"finding-{number}-{len(tally.findings)}")
    for found in folder.glob("finding-*") if keep else ():
        shutil.copy(found, keep / f"{name.replace(' ', '_')}-{found.name}")


def fuzz(count: int, names: list[str], seed: int, keep: Path | None = None) -> Tally:
    """Change `count` inputs of the kinds named, by their weights."""
    tally, folder = Tally(), seeds(Path(tempfile.mkdtemp(prefix="embbert-readers-")))
    import embbert_tvm.compiler
    import embbert_tvm.hub_export
    import embbert_tvm.report.compile  # noqa: F401 (what a fork would import each time)

    weight = sum(KINDS[name].weight for name in names)
    for name in names:
        left, number = round(count * KINDS[name].weight / weight), 0
        while left > 0:
            run_batch(name, f"{seed}/{name}/{number}", min(BATCH, left), folder, tally, keep)
            left, number = left - BATCH, number + 1
    shutil.rmtree(folder, ignore_errors=True)
    return tally


def summary(tally: Tally, seconds: float, as_json: bool) -> str:
    total = sum(tally.counts.values())
    if as_json:
        return json.dumps({"inputs": total, "findings": tally.findings})
    lines = []
    for name in KINDS:
        parts = {status: n for (kind, status), n in sorted(tally.counts.items()) if kind == name}
        if parts:
            lines.append(f"{name:17} {sum(parts.values()):6}  by status {parts}")
    lines += [f"{times:6} times {finding}" for finding, times in Counter(tally.findings).most_common(40)]
    return "\n".join([*lines, f"{total} inputs in {seconds:.0f} s, {len(tally.findings)} findings"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", default=",".join(KINDS), help="of " + ", ".join(KINDS))
    parser.add_argument("--keep", type=Path, help="folder for the inputs of findings")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if arguments.keep:
        arguments.keep.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    out = os.dup(1)
    tally = fuzz(arguments.count, arguments.kind.split(","), arguments.seed, arguments.keep)
    with open(out, "w") as screen:
        screen.write(f"{summary(tally, time.monotonic() - start, arguments.json)}\n")
    sys.exit(bool(tally.findings))


if __name__ == "__main__":
    main()
