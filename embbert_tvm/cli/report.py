"""`embbert-tvm report`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from embbert_tvm.progress import over

_PATH = click.Path(path_type=Path)


@click.command()
@click.argument("packages", nargs=-1, required=True, type=_PATH, metavar="PACKAGE...")
@click.option(
    "--data", type=_PATH, metavar="TSV", help="Labelled text, for accuracy, confusions, calibration and flips."
)
@click.option("--profile", type=_PATH, metavar="JSON", help="What `profile --json` printed of the package.")
@click.option("--sensitivity", is_flag=True, help="Measure what each operator loses alone, on --data. Takes minutes.")
@click.option("--no-trial", is_flag=True, help="Leave out the package's C as WebAssembly.")
@click.option("-o", "--output", type=_PATH, help="The page. Default: report.html in the package, or here for several.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
def command(
    packages: tuple[Path, ...],
    data: Path | None,
    profile: Path | None,
    sensitivity: bool,
    no_trial: bool,
    output: Path | None,
    as_json: bool,
) -> None:
    """Write one HTML page of a PACKAGE, or a comparison of several.

    The page shows memory, the arena as a picture, work by layer and length, and what fell back and why. It needs no
    network. Where clang, lld and wasi-libc are installed, the package itself answers texts typed into the page.
    """
    from embbert_tvm.data.files import write_atomically
    from embbert_tvm.device import webassembly
    from embbert_tvm.errors import InputError
    from embbert_tvm.measuring import accuracy
    from embbert_tvm.measuring.figures import read_figures
    from embbert_tvm.measuring.sensitivity import measure_sensitivity
    from embbert_tvm.report.html import page

    if profile is not None and len(packages) > 1:
        raise InputError("--profile is of one package: give one")
    if sensitivity and data is None:
        raise InputError("--sensitivity measures on labelled text: give --data TSV")
    where = output or (packages[0] / page.FILE if len(packages) == 1 else Path(page.FILE))
    figures = [read_figures(path, profile) for path in packages]
    accuracies = [] if data is None else [accuracy.measure(one.package, data) for one in figures]
    modules = [] if no_trial else [webassembly.build(f.package) for f in over(figures, "to WebAssembly", "packages")]
    lost = [measure_sensitivity(one.package, data) for one in figures] if sensitivity and data is not None else []
    lacking = None if no_trial else webassembly.missing()
    content = page.page_of(figures, accuracies, modules, lacking, lost).encode()
    write_atomically(where, content)
    if as_json:
        measured = [page.as_plain(one) for one in accuracies]
        tried = [str(path) for path, module in zip(packages, modules, strict=False) if module is not None]
        document = {"page": str(where), "bytes": len(content), "trials": tried, "accuracies": measured}
        click.echo(json.dumps(document))
        return
    missing = f"; no trial: {lacking} is missing ({webassembly.INSTALL})" if lacking else ""
    click.echo(f"{where}: {len(content):,} bytes{missing}")
