"""Do the tests notice? Thirty plausible bugs, put in one by one, each before the tests that stand nearest.

    python benchmarks/mutations.py              all, about ten minutes of a free core
    python benchmarks/mutations.py norm arena   those whose name holds one of the words

Each bug replaces one text of one file in a temporary copy of the checkout. A bug is caught when a test fails; the exit
status is 1 where one survives, or where the tests fail without any bug.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("embbert_tvm", "tests", "targets", "schedules", "models", "data", "benchmarks", "fuzz")
FILES = ("pyproject.toml", "README.md", "Makefile", "LICENSE")
SECONDS = 600  # tests that a bug makes hang have noticed it


@dataclass(frozen=True)
class Bug:
    """A text of a file, what takes its place, and the tests that stand nearest, as pytest's arguments."""

    name: str
    file: str
    text: str
    wrong: str
    tests: str


BUGS = (
    # data
    Bug(
        "a set sorted by label calibrates on its first class",
        "embbert_tvm/data/dataset.py",
        "random.Random(0).sample(list(examples), CALIBRATION_TEXTS)",
        "list(examples)[:CALIBRATION_TEXTS]",
        "tests/data/test_dataset.py",
    ),
    Bug(
        "a text is cut one token short",
        "embbert_tvm/data/tokenizer.py",
        "tokenizer.enable_truncation(max_length,",
        "tokenizer.enable_truncation(max_length - 1,",
        "tests/data/test_tokenizer.py",
    ),
    Bug(
        "texts of dev may stay in train",
        "embbert_tvm/data/splits.py",
        "held_out |= {example_key(x) for x in kept_dev}",
        "held_out |= set()",
        "tests/data tests/training/test_suite.py",
    ),
    # models and training
    Bug(
        "the segment never changes",
        "embbert_tvm/models/embeddings.py",
        "(ids == SEP).to(torch.int64).cumsum(1) > 0",
        "(ids == SEP).to(torch.int64).cumsum(1) > 1",
        "tests/models/test_embbert.py",
    ),
    Bug(
        "distillation lacks the square of the temperature",
        "embbert_tvm/training/finetune.py",
        "log_target=True) * temperature**2",
        "log_target=True)",
        "tests/training/test_distill.py",
    ),
    Bug(
        "the warm-up is not cut to a fifth",
        "embbert_tvm/training/optimization.py",
        "warmup = min(warmup, total // 5)",
        "warmup = warmup + 0",
        "tests/training/test_optimization.py",
    ),
    # graph
    Bug(
        "a bias is not scaled where a factor folds",
        "embbert_tvm/graph/passes/fold_scales.py",
        "parts = [_push(factor, a, graph) for a in made.args]",
        "parts = [_push(factor, made.args[0], graph), made.args[1]]",
        "tests/graph/test_simplify.py",
    ),
    Bug(
        "a slice is pushed through an operator along the wrong axis",
        "embbert_tvm/graph/passes/dead_rows.py",
        "[_Slice(-3 - cut.axis, cut.begin, cut.end)]",
        "[_Slice(cut.axis, cut.begin, cut.end)]",
        "tests/graph/test_dead_rows.py tests/graph/test_simplify.py",
    ),
    Bug(
        "the norm's epsilon lacks the factor n",
        "embbert_tvm/graph/quantize/product.py",
        "epsilon = n * float(found.norm.attrs.epsilon)",
        "epsilon = float(found.norm.attrs.epsilon)",
        "tests/graph/test_quantize.py",
    ),
    Bug(
        "attention's scale lacks its lower bound",
        "embbert_tvm/graph/quantize/attention.py",
        "scale = max(min(q.calibration.scale(expr.name), value.scale), value.scale / 15)",
        "scale = min(q.calibration.scale(expr.name), value.scale)",
        "tests/graph/test_quantize.py",
    ),
    Bug(
        "GPTQ feeds its error back with the wrong sign",
        "embbert_tvm/graph/quantize/low_bits.py",
        "left[:, i + 1 :] -= np.outer",
        "left[:, i + 1 :] += np.outer",
        "tests/graph/test_low_bits.py",
    ),
    Bug(
        "a histogram's magnitude is taken at the inner edge",
        "embbert_tvm/graph/calibrate.py",
        "outer = np.maximum(np.abs(edges[:-1]), np.abs(edges[1:]))",
        "outer = np.minimum(np.abs(edges[:-1]), np.abs(edges[1:]))",
        "tests/graph/test_calibrate.py",
    ),
    Bug(
        "the first pattern of a plan wins",
        "embbert_tvm/graph/precision.py",
        "reversed(list(entries.items()))",
        "list(entries.items())",
        "tests/graph/test_precision.py",
    ),
    Bug(
        "the search for a budget rounds errors down",
        "embbert_tvm/graph/budget_search.py",
        "return -int(-error // unit)",
        "return int(error // unit)",
        "tests/graph/test_budget_search.py",
    ),
    # kernels
    Bug(
        "multiply_high rounds ties down",
        "embbert_tvm/kernels/fixed_point.py",
        "(product + i64(1 << 31)) >> i64(32)",
        "(product + i64((1 << 31) - 1)) >> i64(32)",
        "tests/kernels/test_fixed_point.py",
    ),
    Bug(
        "plain C saturates at -127",
        "embbert_tvm/kernels/micro/embbert_arithmetic.h",
        "return max_i32(min_i32(value, 127), -128);",
        "return max_i32(min_i32(value, 127), -127);",
        "tests/kernels/test_fixed_point.py",
    ),
    Bug(
        "codes of a matrix that ends inside a word lose their last",
        "embbert_tvm/kernels/low_bits.py",
        "return tuple(4 * -(-count * bits // 32) for bits, _ in self.planes)",
        "return tuple(4 * max(count * bits // 32, 1) for bits, _ in self.planes)",
        "tests/kernels/test_codes.py tests/graph/test_low_bits.py",
    ),
    Bug(
        "a weight borrows although the one below is not negative",
        "embbert_tvm/kernels/raw_words.py",
        "- (weight[..., 0] < 0)",
        "- (weight[..., 0] <= 0)",
        "tests/kernels/test_raw_words.py",
    ),
    Bug(
        "a mean's epsilon is added after the root",
        "embbert_tvm/kernels/pool.py",
        "tirx.min(mean, i32(2**30)) + epsilon",
        "tirx.min(mean, i32(2**30)) + 0 * epsilon",
        "tests/kernels/test_pool.py",
    ),
    # codegen
    Bug(
        "sizes in the arena are rounded down",
        "embbert_tvm/codegen/plan.py",
        "-(-b.bytes // align)",
        "max(b.bytes // align, 1)",
        "tests/codegen/test_plan.py",
    ),
    Bug(
        "a difference of floating point is regrouped in C",
        "embbert_tvm/codegen/c_expressions.py",
        'and not dtype.startswith("float")\n        right',
        "\n        right",
        "tests/codegen/test_c_expressions.py",
    ),
    # firmware
    Bug(
        "one entry of the firmware's CRC table is wrong",
        "embbert_tvm/firmware/src/frames.c",
        "0xEDB88320, 0xF00F9344",
        "0xEDB88320, 0xF00F9345",
        "tests/device/test_protocol.py",
    ),
    Bug(
        "BPE merges the last of pairs of equal rank",
        "embbert_tvm/firmware/tokenizer/embbert_bpe.h",
        "if (ranks[i] < ranks[best]) {",
        "if (ranks[i] <= ranks[best]) {",
        "tests/codegen/test_tokenizer_c.py",
    ),
    Bug(
        "of two texts that are too long, the shorter gives way",
        "embbert_tvm/firmware/tokenizer/embbert_template.h",
        "size_t more = less > room || room - less < less ? less : room - less;",
        "size_t more = less > room || room - less < less ? less : room - less / 2;",
        "tests/codegen/test_tokenizer_c.py",
    ),
    # device and target
    Bug(
        "functions of the C library count nothing in the worst stack",
        "embbert_tvm/device/footprint.py",
        "frames.get(function, LIBRARY_FRAME)",
        "frames.get(function, 0)",
        "tests/device/test_footprint.py",
    ),
    Bug(
        "a board's instructions per tick are off",
        "targets/boards/mps2_an500.yaml",
        "instructions_per_tick: 40",
        "instructions_per_tick: 41",
        "tests/device/test_boards.py",
    ),
    Bug(
        "the advice on what would fit is one token too long",
        "embbert_tvm/device/fit.py",
        "(middle, high) if not missing(board, need_at(middle)) else (low, middle - 1)",
        "(middle, high) if not missing(board, need_at(middle - 1)) else (low, middle - 1)",
        "tests/device/test_fit.py",
    ),
    Bug(
        "energy is taken at the clock of the current's measurement",
        "embbert_tvm/device/estimate.py",
        "power.milliamperes * clock / power.at_hz",
        "power.milliamperes",
        "tests/device/test_estimate.py",
    ),
    Bug(
        "a UF2 page that an image fills in part begins at the wrong byte",
        "embbert_tvm/device/uf2.py",
        "page = at - at % PAYLOAD",
        "page = at - at % (PAYLOAD // 2)",
        "tests/device/test_firmware.py",
    ),
    # tuning
    Bug(
        "a slower schedule replaces the best of a log",
        "embbert_tvm/tuning/evolution.py",
        "key=lambda pair: pair[0])[:_ELITE]",
        "key=lambda pair: -pair[0])[:_ELITE]",
        "tests/tuning/test_search.py tests/tuning/test_tune.py",
    ),
)


def copy_of_checkout(to: Path) -> Path:
    """The folders and files that tests read, without what was built."""
    ignored = shutil.ignore_patterns("__pycache__", "build", ".git")
    for name in FOLDERS:
        shutil.copytree(ROOT / name, to / name, ignore=ignored, symlinks=True)
    for name in FILES:
        shutil.copy(ROOT / name, to / name)
    return to


def failed_test(checkout: Path, tests: str) -> str | None:
    """The first test that fails, or None where all pass."""
    command = [sys.executable, "-B", "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests.split()]
    paths = {**os.environ, "PYTHONPATH": str(checkout)}
    try:
        done = subprocess.run(
            command, cwd=checkout, env=paths, capture_output=True, text=True, timeout=SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return "(hangs)"
    if done.returncode == 0:
        return None
    failures = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    if done.returncode != 1 and not failures:
        raise RuntimeError(
            f"{tests}: pytest ended with status {done.returncode}: {done.stdout[-400:]}{done.stderr[-400:]}"
        )
    return failures[0].split(" - ")[0].split(" ", 1)[-1] if failures else "(fails)"


def try_bug(checkout: Path, bug: Bug) -> str | None:
    """The test that notices the bug; the copy is restored. Raises ValueError where the text is not there."""
    path = checkout / bug.file
    text = path.read_text(encoding="utf-8")
    if text.count(bug.text) != 1:
        raise ValueError(f"{bug.file}: holds {text.count(bug.text)} times {bug.text!r}, not once")
    path.write_text(text.replace(bug.text, bug.wrong), encoding="utf-8")
    try:
        return failed_test(checkout, bug.tests)
    finally:
        path.write_text(text, encoding="utf-8")


def main(words: list[str]) -> int:
    chosen = [bug for bug in BUGS if not words or any(word in bug.name for word in words)]
    survivors = 0
    with tempfile.TemporaryDirectory(prefix="embbert-mutations-") as name:
        checkout = copy_of_checkout(Path(name))
        for number, bug in enumerate(chosen, 1):
            start = time.monotonic()
            found = try_bug(checkout, bug)
            survivors += found is None
            verdict = f"caught by {found}" if found else f"SURVIVES {bug.tests}"
            print(f"{number:2}  {bug.name:64}  {time.monotonic() - start:5.0f} s  {verdict}", flush=True)
    print(f"{len(chosen) - survivors} of {len(chosen)} caught")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
