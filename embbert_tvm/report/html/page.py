"""The page itself: figures, pictures and the trial put into the templates."""

from __future__ import annotations

import base64
import functools
import json
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from importlib.util import cache_from_source
from pathlib import Path
from typing import TYPE_CHECKING

from embbert_tvm.data.files import write_atomically
from embbert_tvm.report.html import charts

if TYPE_CHECKING:
    import jinja2
    from jinja2.bccache import Bucket

    from embbert_tvm.measuring.accuracy import Accuracy
    from embbert_tvm.measuring.figures import PackageFigures
    from embbert_tvm.measuring.sensitivity import Sensitivity

FILE = "report.html"
LENGTHS = (12, 32, 128)
# More names of tokens than this make a page slow; it shows their numbers then.
_MOST_NAMES = 60_000


@functools.cache
def _environment() -> jinja2.Environment:
    import jinja2

    found = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        optimized=False,  # each template is rendered once
        bytecode_cache=_bytecode(),
    )
    found.filters["thousands"] = charts.thousands
    return found


def _bytecode() -> jinja2.BytecodeCache:
    """The templates' bytecode, kept where Python keeps this module's and under its rules; jinja2 compares a hash of the
    template and the versions. Half of what a page takes is to compile them."""
    import jinja2

    class Bytecode(jinja2.FileSystemBytecodeCache):
        def dump_bytecode(self, bucket: Bucket) -> None:
            if not sys.dont_write_bytecode:
                with suppress(OSError):  # of a folder that cannot be written
                    super().dump_bytecode(bucket)

    return Bytecode(str(Path(cache_from_source(__file__)).parent))


def page_of(
    figures: Sequence[PackageFigures],
    accuracies: Sequence[Accuracy] = (),
    modules: Sequence[bytes | None] = (),
    lacking: str | None = None,
    sensitivities: Sequence[Sensitivity] = (),
) -> str:
    """The HTML of one package, or of several with a comparison first.

    Args:
        figures: of each package.
        accuracies: likewise, or none.
        modules: WebAssembly of each, None where there is no trial, or nothing.
        lacking: what a trial lacks, said where there is none.
        sensitivities: of each, or none; what a package's own plan holds is shown then.
    """
    packages = [
        _package(
            f,
            accuracies[n] if accuracies else None,
            modules[n] if modules else None,
            sensitivities[n] if sensitivities else f.sensitivity,
            n,
        )
        for n, f in enumerate(figures)
    ]
    title = figures[0].package.model_name if len(figures) == 1 else f"{len(figures)} packages"
    several = _several(figures, accuracies) if len(figures) > 1 else None
    chart = {name: getattr(charts, name) for name in ("WIDTH", "HEIGHT", "LEFT", "RIGHT", "TOP", "BOTTOM")}
    return (
        _environment()
        .get_template("report.html.j2")
        .render(title=title, packages=packages, several=several, chart=chart, lacking=lacking)
    )


def write_page(figures: PackageFigures) -> None:
    """Put a package's own page beside it, as `compile` does: no trial, which takes a compiler two seconds."""
    write_atomically(figures.package.path / FILE, page_of([figures]).encode())


def _package(
    figures: PackageFigures,
    accuracy: Accuracy | None,
    module: bytes | None,
    sensitivity: Sensitivity | None,
    number: int,
) -> dict[str, object]:
    package = figures.package
    lengths = [n for n in LENGTHS if n < package.max_length] + [package.max_length]
    total = {length: max(figures.macs_at(length), 1) for length in lengths}
    steps = [
        {
            "name": step.name,
            "kernel": step.kernel,
            "macs": step.macs,
            "at": [step.macs_at(length) for length in lengths],
            "share": (step.macs_at(lengths[-1]) or 0) / total[lengths[-1]],
        }
        for step in package.steps
    ]
    return {
        "id": f"package{number}",
        "figures": figures,
        "package": package,
        "bars": [
            charts.memory_bar("Flash", figures.flash, figures.memory("flash")),
            charts.memory_bar("RAM", figures.ram, figures.memory("ram")),
        ],
        "arena": charts.arena(figures),
        "work": charts.work(figures),
        "lengths": lengths,
        "steps": steps,
        "fell_back": [o for o in figures.operators if o.fell_back],
        "sensitivity": sensitivity,
        "accuracy": accuracy,
        "calibration": None if accuracy is None else charts.calibration(accuracy.probabilities, accuracy.right),
        "trial": None if module is None else _trial(figures, module),
    }


def _trial(figures: PackageFigures, module: bytes) -> dict[str, object]:
    package = figures.package
    known = {
        "labels": None if package.answers is None else list(package.answers),
        "rejects": package.rejection is not None,
        "head": package.head,
        "classes": package.classes,
        "names": _token_names(package.tokenizer, package.vocabulary),
    }
    return {
        "data": json.dumps(known, ensure_ascii=False).replace("<", "\\u003c"),
        "wasm": base64.b64encode(module).decode("ascii"),
        "bytes": len(module),
        "example": package.example or "turn the lights off",
    }


def _token_names(tokenizer: Path, vocabulary: int) -> list[str] | None:
    """The names of the tokens by their ids; None where there are too many for a page, or none."""
    if vocabulary > _MOST_NAMES or not tokenizer.is_file():
        return None
    from embbert_tvm.data.tokenizer import load_tokenizer

    found = load_tokenizer(tokenizer, vocabulary)
    return [found.id_to_token(number) or "" for number in range(vocabulary)]


def _several(figures: Sequence[PackageFigures], accuracies: Sequence[Accuracy]) -> dict[str, object]:
    """The table of several packages, and their front: bytes of flash against what is wrong, or against the work."""
    rows = []
    for number, one in enumerate(figures):
        right = accuracies[number].compiled_share if accuracies else None
        rows.append({"figures": one, "macs": one.macs_at(LENGTHS[1]), "right": right})
    size = [one.flash_total or one.package.weights_bytes for one in figures]
    cost = [100 * (1 - a.compiled_share) for a in accuracies] or [one.macs_at(LENGTHS[1]) / 1e6 for one in figures]
    points = [(one.name, float(s), float(c)) for one, s, c in zip(figures, size, cost, strict=True)]
    names = {name for name, _, _ in charts.unbeaten(points)}
    what = "wrong answers, %" if accuracies else f"million multiplications at {LENGTHS[1]} tokens"
    return {"rows": rows, "front": charts.front(points), "unbeaten": names, "what": what, "length": LENGTHS[1]}


def as_plain(accuracy: Accuracy) -> dict[str, object]:
    """What `report --json` says of an accuracy: its figures without what is only drawn."""
    found = asdict(accuracy)
    return {name: found[name] for name in ("data", "examples", "float_share", "compiled_share", "flipped")}
