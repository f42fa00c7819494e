"""embbert-tvm doctor: what this machine has and lacks."""

from __future__ import annotations

import json
from dataclasses import asdict

import click


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(as_json: bool) -> None:
    """Say what this machine has, what it lacks, and how to get it; exit status 1 where it cannot deploy."""
    from embbert_tvm.device.doctor import examine
    from embbert_tvm.errors import WorkError

    checks = examine()
    missing = [check.name for check in checks if not check.ok]
    if as_json:
        click.echo(json.dumps({"ok": not missing, "checks": [asdict(check) for check in checks]}))
    else:
        width = max(len(check.name) for check in checks)
        for check in checks:
            mark = "ok     " if check.found else "missing" if check.needed else "absent "
            said = check.found or (check.get if check.needed else f"optional: {check.get}")
            click.echo(f"{mark}  {check.name.ljust(width)}  {said}  ({check.purpose})")
    if missing:
        raise WorkError(f"{', '.join(missing)} missing: the lines above say how to get them")
