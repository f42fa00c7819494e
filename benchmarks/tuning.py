"""What the logs of tuning are worth: each model and target compiled with and without them, and counted in QEMU; and how
far the logits are from the float model's.

    python benchmarks/tuning.py MODEL [--target CPU ...] [--precision int8] [--length 64] [--json]

With --speed, how fast searches are: the same trials in one QEMU, on a farm of one server, and on one of --servers, in
trials a second and in seconds of the processors' time a trial, which say the same on a machine that has other work.

    python benchmarks/tuning.py MODEL --speed [--trials 48] [--servers 3] [--target CPU ...] [--length 64] [--json]

With --curve, what the servers bring where a trial takes them longer: a product in fp32 on a CPU without an FPU, of more
and more columns, for texts of --length tokens.

    python benchmarks/tuning.py --curve [--columns 32 64 128 192] [--trials 48] [--servers 3] [--length 256]
        [--json]
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import resource
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, astuple, dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import psutil
from instructions import call

from embbert_tvm.device.package import load_package
from embbert_tvm.device.places import open_place
from embbert_tvm.errors import EmbbertError, InputError, WorkError
from embbert_tvm.table import table
from embbert_tvm.tuning.search import random_ids

CPUS = ("cortex-m4", "cortex-m7", "cortex-m33", "cortex-m55")


def measure(model: Path, target: str, precision: str, length: int, folder: Path) -> dict:
    """Instructions of an inference untuned and tuned, how many kernels are as tuned, and how far the logits are from
    the float model's and from each other."""
    counts, tuned, logits = [], 0, []
    for options in (["--no-tuning"], []):
        package = folder / f"{target}{'-untuned' if options else ''}"
        built = call("compile", model, "--target", target, "--precision", precision, *options, "-o", package)
        tuned = len(built["tuned"])
        profile = call("profile", package, "--on", "qemu", "--length", length)
        counts.append(profile["lengths"][0]["total_instructions"])
        with open_place("qemu", load_package(package)) as device:
            ids = random_ids(device.package.vocabulary, length)
            logits.append(np.asarray(device.run(ids).logits))
    (expected,) = onnxruntime.InferenceSession(model / "model.onnx").run(None, {"ids": np.asarray([ids])})[0]
    pairs = (("untuned", logits[0], expected), ("tuned", logits[1], expected), ("apart", *logits))
    off = {name: float(np.abs(one - other).max()) for name, one, other in pairs}
    return {"target": target, "untuned": counts[0], "tuned": counts[1], "kernels": tuned, "off": off}


@dataclass(frozen=True)
class Spent:
    """Seconds since some moment: of the clock, of the processors in this process, in programs that it called, and in
    the farm's processes."""

    clock: float
    search: float
    programs: float
    farm: float

    def since(self, before: Spent) -> Spent:
        return Spent(*(now - then for now, then in zip(astuple(self), astuple(before), strict=True)))


def spent(farm: Sequence[subprocess.Popen]) -> Spent:
    own, called = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    times = [psutil.Process(process.pid).cpu_times() for process in farm]
    served = sum(t.user + t.system + t.children_user + t.children_system for t in times)
    return Spent(time.monotonic(), own.ru_utime + own.ru_stime, called.ru_utime + called.ru_stime, served)


@contextlib.contextmanager
def farm(servers: int, board: str) -> Iterator[tuple[str, list[subprocess.Popen]]]:
    """A tracker's address and the processes of it and its servers, on loopback."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    program = [sys.executable, "-c", "from embbert_tvm.cli import main; main()", "farm"]
    processes: list[subprocess.Popen] = []

    def start(*arguments: str, until: str) -> None:
        processes.append(subprocess.Popen([*program, *arguments], stderr=subprocess.PIPE, text=True))
        said = processes[-1].stderr.readline()
        if until not in said:
            raise WorkError(said.strip())

    try:
        start("tracker", "--port", str(port), until="listens")
        for _ in range(servers):
            start("serve", "--tracker", f"127.0.0.1:{port}", "--board", board, until="serves")
        known(f"127.0.0.1:{port}", board, servers)
        yield f"127.0.0.1:{port}", processes
    finally:
        for process in processes:
            process.terminate()
            process.wait()
            process.stderr.close()


def known(tracker: str, board: str, servers: int) -> None:
    """Wait until the tracker knows all servers: they tell it a moment after they listen."""
    from embbert_tvm.tuning.farm import farm_places

    deadline = time.monotonic() + REGISTRATION
    while time.monotonic() < deadline:
        with contextlib.suppress(InputError):
            if len(farm_places(tracker, board)) == servers:
                return
        time.sleep(0.1)
    raise WorkError(f"{tracker}: not all servers came to the tracker in {REGISTRATION} s")


def search(asked: argparse.Namespace, target: str, servers: int, folder: Path) -> dict:
    """A search's speed in one QEMU (servers 0) or on a farm, from when it proposes its first trial to its last."""
    from embbert_tvm.compiler import find_source
    from embbert_tvm.tuning.places import find_places
    from embbert_tvm.tuning.session import TuneOptions, find_target, tune

    found = find_target(target)
    with farm(servers, found[1].name) if servers else contextlib.nullcontext((None, [])) as (tracker, processes):
        places, runner = find_places(found, "qemu", None, tracker, None, "instructions")
        marks: list[tuple[int, Spent]] = []
        options = TuneOptions(asked.trials, runner, precision=asked.precision, length=asked.length)
        path = folder / f"{target}-{servers}"
        source = find_source(asked.model)
        tune(source, found, places, path, options, lambda now: marks.append((now.trials, spent(processes))))
    (first, start), (last, end) = marks[0], marks[-1]
    each = {key: value / (last - first) for key, value in asdict(end.since(start)).items()}
    return {"target": target, "servers": servers, "trials": last - first, "rate": 1 / each["clock"], "a_trial": each}


def speed(options: argparse.Namespace, folder: Path) -> None:
    rows = []
    for target, servers in itertools.product(options.target, (0, 1, options.servers)):
        rows.append(search(options, target, servers, folder))
        print(json.dumps(rows[-1]), file=sys.stderr)
    if options.json:
        print(json.dumps({"model": str(options.model), "precision": options.precision, "rows": rows}))
        return
    lines = [("target", "in", "trials/s", "", "s/trial: clock", "search", "programs", "farm")]
    for row in rows:
        one = next(r["rate"] for r in rows if r["target"] == row["target"] and r["servers"] == 1)
        places = f"{row['servers']} servers" if row["servers"] > 1 else "1 server" if row["servers"] else "QEMU"
        figures = (f"{value:.3f}" for value in row["a_trial"].values())
        lines.append((row["target"], places, f"{row['rate']:.2f}", f"{row['rate'] / one:.2f} x", *figures))
    print(f"Searching {options.model.name} in {options.precision} at {options.length} tokens\n")
    print(table(lines, right=(2, 3, 4, 5, 6, 7)))


REGISTRATION = 30.0  # seconds
WIDTHS = (32, 64, 128, 192)  # columns
LAYERS = 8  # so that what else the model does is not worth a trial
_PRODUCTS = """<ir_version: 10, opset_import: ["": 18]>
products (int64[1, L] ids) => (float[1, C] logits) {{
    x0 = Gather(table, ids)
    {layers}
    logits = ReduceMax <keepdims = 0> (x{last}, rows)
}}"""


def products(width: int, path: Path) -> Path:
    """An ONNX file of products by `width` rows and columns of weights."""
    layers = "\n".join(f"x{i + 1} = MatMul(x{i}, weight)" for i in range(LAYERS))
    model = onnx.parser.parse_model(_PRODUCTS.format(layers=layers, last=LAYERS))
    random = np.random.default_rng(width)
    values = {"table": random.standard_normal((64, width), np.float32), "rows": np.asarray([1])}
    values["weight"] = random.standard_normal((width, width), np.float32) / np.float32(width**0.5)
    model.graph.initializer.extend(onnx.numpy_helper.from_array(value, name) for name, value in values.items())
    onnx.save(model, path)
    return path


def curve(options: argparse.Namespace, folder: Path) -> None:
    """Three servers against one, by how long a trial takes them."""
    rows, lines = (
        [],
        [("columns", "s/trial: server", "all else", "1 server, trials/s", f"{options.servers} servers", "")],
    )
    for width in options.columns:
        model = products(width, folder / f"products-{width}.onnx")
        work = folder / str(width)
        one, more = (
            search(model, "cortex-m3", options.trials, "fp32", options.length, servers, work)
            for servers in (1, options.servers)
        )
        rows.append({"width": width, "one": one, "more": more})
        cost = one["a_trial"]
        figures = (cost["farm"], cost["search"] + cost["programs"], one["rate"], more["rate"])
        lines.append((str(width), *(f"{figure:.2f}" for figure in figures), f"{more['rate'] / one['rate']:.2f} x"))
        print(json.dumps(rows[-1]), file=sys.stderr)
    if options.json:
        print(json.dumps({"length": options.length, "rows": rows}))
        return
    print(f"Searching a product in fp32 on cortex-m3 at {options.length} tokens, {options.trials} trials\n")
    print(table(lines, right=tuple(range(6))))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, nargs="?")
    parser.add_argument("--target", nargs="+", default=CPUS, metavar="CPU", help=f"default: {' '.join(CPUS)}")
    parser.add_argument("--precision", default="int8")
    parser.add_argument("--length", type=int, help="default: 64, and 256 with --curve")
    parser.add_argument("--speed", action="store_true", help="measure searches instead of logs")
    parser.add_argument("--curve", action="store_true", help="measure what servers bring by what a trial takes them")
    parser.add_argument("--columns", type=int, nargs="+", default=WIDTHS, metavar="N", help="of the product")
    parser.add_argument("--trials", type=int, default=48, help="of each search")
    parser.add_argument("--servers", type=int, default=3, help="of the larger farm")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    if options.model is None and not options.curve:
        parser.error("MODEL is missing")
    options.length = options.length or (256 if options.curve else 64)
    with tempfile.TemporaryDirectory(prefix="embbert-") as name:
        if options.curve:
            curve(options, Path(name))
            return
        if options.speed:
            speed(options, Path(name))
            return
        rows = [measure(options.model, t, options.precision, options.length, Path(name)) for t in options.target]
    if options.json:
        print(json.dumps({"model": str(options.model), "precision": options.precision, "rows": rows}))
        return
    lines = [("target", "untuned", "tuned", "", "kernels as tuned", "off float, untuned", "tuned", "apart")]
    for row in rows:
        times = f"{row['untuned'] / row['tuned']:.2f} x"
        off = (f"{value:.2g}" for value in row["off"].values())
        lines.append((row["target"], f"{row['untuned']:,}", f"{row['tuned']:,}", times, str(row["kernels"]), *off))
    print(f"Instructions of {options.model.name} in {options.precision} at {options.length} tokens\n")
    print(table(lines, right=(1, 2, 3, 4, 5, 6, 7)))


if __name__ == "__main__":
    try:
        main()
    except EmbbertError as error:
        print(f"tuning: {error}", file=sys.stderr)
        sys.exit(error.exit_status)
