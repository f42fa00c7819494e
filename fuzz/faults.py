"""Every write of every command fails once: each time one line, a status, and nothing half-written.

    python fuzz/faults.py [--command compile,project] [--error ENOSPC] [--step 1]

A shim below Python (faults.c, by LD_PRELOAD) counts what creates, writes, flushes or renames, and fails the n-th. A
command runs once to be counted, then once for every n in a fork of this process. What is left is checked: the output is
what it was before or whole, nothing lies beside it, and what the command said is one line of ours. `--kill` ends the
process by SIGKILL at that moment instead; then the same command once more must leave only its output. A command that
resumes may leave what it has saved of its progress, if the same command then ends well and leaves its output alone.
"""

from __future__ import annotations

import argparse
import ctypes
import errno
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "tests"), str(HERE)]

# `{}` is a folder with what readers.seeds() makes, OUT what the command makes. `again`: it exists already.
COMMANDS = {
    "compile": "compile {}/m.onnx --target host --precision fp32 --max-length 9 -o OUT",
    "compile again": "compile {}/m.onnx --target host --precision fp32 --max-length 9 -o OUT",
    "dump": "compile {}/m.onnx --target host --precision fp32 --max-length 9 --dump-ir {}/ir -o OUT",
    "project": "project {}/package --template bare -o OUT",
    "project zephyr": "project {}/package --template zephyr -o OUT",
    "board": "targets new OUT.yaml --cpu cortex-m4 --flash 512k --ram 128k --clock 80MHz",
    "firmware": "firmware {}/package --board nucleo_h743zi2 -o OUT",
    "run": "run {}/package play",
    "qemu": "run {}/package play --on qemu",
    "profile": "profile {}/package --on qemu --length 4",
    "evaluate": "evaluate {}/model --data {}/set.tsv -o OUT.tsv",
    "hub": "export {}/hub -o OUT",
    "validate": "validate {}/package --data {}/package.tsv",
    "export": "export {}/model --calibration {}/set.tsv",
    "pretrain": "pretrain {}/text.txt --objective mlm --tokenizer {}/tokenizer.json --preset nano --epochs 1 -o OUT",
    # Alone and not measured: a teacher and a compilation would be fine-tuned and made anew for every fault.
    "train": "train {}/set.tsv --dev {}/set.tsv --preset nano --epochs 1 --teacher none --no-measure -o OUT",
    "tune": "tune {}/m.onnx --target cortex-m4 --precision fp32 --length 2 --trials 2 -o OUT",
}
# Files in which a command that resumes keeps its progress; those of tune hold a time besides.
PROGRESS = {
    "pretrain": r"\.out\.pretraining\.safetensors",
    "train": r"\.out\.training\.safetensors",
    "tune": r"out/.*",
}
# What a command may write besides its output: caches, which hold what is whole or nothing.
_ERRORS = {name: getattr(errno, name) for name in ("ENOSPC", "EIO", "EROFS", "EACCES", "EDQUOT")}
_TEMPORARY = re.compile(r"\.(new|old)\.[0-9a-f]{8}$|^\.new-|\.partial$")


@dataclass(frozen=True)
class Fault:
    """One run in which a call failed: its number, the status, and what is wrong with what it left or said."""

    command: str
    at: int
    status: int
    wrong: str


def shim(folder: Path) -> Path:
    """The shim, compiled."""
    library = folder / "faults.so"
    flags = ["-std=gnu11", "-O1", "-shared", "-fPIC", "-Wall", "-Wextra"]
    subprocess.run(["gcc", *flags, str(HERE / "faults.c"), "-ldl", "-o", str(library)], check=True)
    return library


def state(folder: Path) -> dict[str, str]:
    """Every file below a folder with its hash; of caches that programs are built in, nothing."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_file() and "/build/" not in f"/{name}":
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        elif path.is_symlink():
            found[name] = os.readlink(path)
    return found


def run(arguments: list[str], said: Path, at: int, number: int, kill: bool) -> tuple[int, int]:
    """(status, calls) of a command in a fork in which the call `at` fails; 0 for none."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        library = ctypes.CDLL(None)
        from embbert_tvm.cli import main

        for stream, mode in ((1, "stdout"), (2, "stderr")):
            os.dup2(os.open(said.with_suffix(f".{mode}"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
            setattr(sys, mode, open(stream, "w", closefd=False))  # noqa: SIM115
        sys.argv = ["embbert-tvm", *arguments]
        status = 0
        library.fault_arm(ctypes.c_long(at), -number if kill else number)
        try:
            main()
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 1
        except BaseException:
            status = 99
        count = library.fault_count
        count.restype = ctypes.c_long
        made = count()
        library.fault_arm(ctypes.c_long(-1), 0)
        os.write(writing, str(made).encode())
        os._exit(status)
    os.close(writing)
    told = os.read(reading, 100)
    os.close(reading)
    _, ended = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(ended), int(told or 0)


def complaint(status: int, said: str, before: dict, after: dict, whole: dict, progress: str = "(?!)") -> str:
    """What is wrong with how a command ended in which a call failed."""
    lines = said.strip().splitlines()
    if "unforeseen" in said or "Traceback" in said or status not in (0, 1, 2):
        return f"status {status}: {lines[-1] if lines else 'says nothing'}"
    if status and not (lines and lines[-1].startswith("embbert-tvm: ")):
        return f"status {status} says nothing of ours: {lines[-1:]}"
    left = [name for name in after if any(_TEMPORARY.search(part) for part in Path(name).parts)]
    if left:
        return f"leaves {left[0]}"
    names = {n for n in after.keys() | before.keys() if not re.fullmatch(progress, n)}
    if status == 0 and (after.keys() != whole.keys() or any(after[n] != whole[n] for n in names & after.keys())):
        return "says that all is done, and it is not"
    half = [n for n in names if after.get(n) not in (before.get(n), whole.get(n))]
    return f"leaves {half[0]} half-written" if half else ""


def inject(name: str, seeds: Path, number: int, step: int = 1, kill: bool = False) -> Iterator[Fault]:
    """Run a command once for every call of it that may fail."""
    here = Path(tempfile.mkdtemp(prefix="embbert-faults-"))
    place, out = here / "work", here / "work" / "out"
    said = here / "said"

    def fresh() -> list[str]:
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(seeds, place / "in", symlinks=True)
        arguments = COMMANDS[name].replace("{}", str(place / "in")).replace("OUT", str(out)).split()
        if name.endswith("again"):
            run(arguments, said, 0, 0, False)
        return arguments

    arguments = fresh()
    status, calls = run(arguments, said, 0, 0, False)
    words = said.with_suffix(".stderr").read_text(errors="replace")
    if status:
        raise SystemExit(f"{name}: fails without a fault: {words}")
    whole = state(place)
    for at in range(1, calls + 1, step):
        arguments = fresh()
        before = state(place)
        status, _ = run(arguments, said, at, number, kill)
        if kill:
            status, _ = run(arguments, said, 0, 0, False)
        words = said.with_suffix(".stderr").read_text(errors="replace")
        wrong = complaint(status, words, before, state(place), whole, PROGRESS.get(name, "(?!)"))
        if status and not wrong and name in PROGRESS:
            again, _ = run(arguments, said, 0, 0, False)
            words = said.with_suffix(".stderr").read_text(errors="replace")
            if again or state(place).keys() != whole.keys():
                wrong = f"does not resume (status {again}): {words.strip().splitlines()[-1:]}"
        yield Fault(name, at, status, wrong)
    shutil.rmtree(here, ignore_errors=True)


def preloaded(arguments: list[str]) -> None:
    """Start this program anew below the shim, where it is not yet."""
    if "EMBBERT_FAULTS" in os.environ:
        return
    folder = Path(tempfile.mkdtemp(prefix="embbert-shim-"))
    environment = os.environ | {"LD_PRELOAD": str(shim(folder)), "EMBBERT_FAULTS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([sys.executable, __file__, *arguments], env=environment)
    shutil.rmtree(folder)
    sys.exit(done.returncode)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--command", default=",".join(COMMANDS), help="of " + ", ".join(COMMANDS))
    parser.add_argument("--error", default="ENOSPC", choices=_ERRORS)
    parser.add_argument("--step", type=int, default=1, help="fail every so many-th call only")
    parser.add_argument("--kill", action="store_true", help="kill the process at the call instead")
    arguments = parser.parse_args()
    preloaded(sys.argv[1:])
    ctypes.CDLL(None).fault_arm(ctypes.c_long(-1), 0)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    import readers
    import toy

    import embbert_tvm.report.compile  # noqa: F401 (what every fork would import)

    seeds = readers.seeds(Path(tempfile.mkdtemp(prefix="embbert-faults-")))
    rows = [f"{label}\t{text}" for label, text in zip(toy.LABELS, toy.TEXTS[:3], strict=True)]
    (seeds / "package.tsv").write_text("label\ttext\n" + "\n".join(rows) + "\n")
    (seeds / "text.txt").write_text("\n".join(toy.TEXTS * 20) + "\n")
    wrong = total = 0
    for name in arguments.command.split(","):
        faults = list(inject(name, seeds, _ERRORS[arguments.error], arguments.step, arguments.kill))
        for fault in (fault for fault in faults if fault.wrong):
            print(f"{name}, call {fault.at}: {fault.wrong}")
        bad = sum(bool(fault.wrong) for fault in faults)
        print(
            f"{name:16} {len(faults):4} faults, {sum(f.status == 0 for f in faults)} outlived, {bad} wrong", flush=True
        )
        wrong, total = wrong + bad, total + len(faults)
    print(f"{total} faults, {wrong} wrong")
    shutil.rmtree(seeds)
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
