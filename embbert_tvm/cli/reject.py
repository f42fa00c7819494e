"""`embbert-tvm reject`: calibrate a model's scores, and let it say that a text has none of its labels."""

from __future__ import annotations

from pathlib import Path

import click

_PATH = click.Path(path_type=Path)
_SHARE = click.FloatRange(0, 1)


@click.command()
@click.argument("model", type=_PATH)
@click.option("--dev", type=_PATH, required=True, help="TSV with the model's labels, of texts it was not trained on.")
@click.option("--outside", type=_PATH, help="TSV of texts that have none of the labels; its labels are not read.")
@click.option("--keep", type=_SHARE, help="Share of dev's texts that are to be accepted.  [default: 0.95]")
@click.option("--accept", type=_SHARE, help="In place of --keep: the share of --outside that may be accepted.")
@click.option("--vector", is_flag=True, help="Give the model a vector of the text, by which a board learns intents.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
def command(
    model: Path, dev: Path, outside: Path | None, keep: float | None, accept: float | None, vector: bool, as_json: bool
) -> None:
    """Fit a temperature and a threshold on --dev and write them to MODEL/config.json; compile the model again after.

    Measures of how known a text looks are compared: the largest score, the energy of the logits, their distance to the
    means of classes, that of what the head reads, in steps of its spread (Mahalanobis), and, with 20 texts of --outside
    or more, logistic regression on it. The one that tells --outside best is kept; without such texts, the one that
    tells the texts of each label from the rest when the model has to do without that label, and of two labels the
    largest score.
    """
    import json
    from dataclasses import asdict

    from embbert_tvm.models.folder import read_folder
    from embbert_tvm.training.reject import RejectOptions, fit_folder

    if keep is not None and accept is not None:
        raise click.UsageError("give --keep or --accept, not both")
    found = fit_folder(read_folder(model), dev, RejectOptions(outside, keep, accept, vector))
    rejection = found.rejection
    if as_json:
        document = {
            "model": str(model),
            "score": rejection.score,
            "temperature": rejection.temperature,
            "threshold": rejection.threshold,
            "compared": dict(found.compared),
            "ece": {"before": found.before.ece, "after": found.dev.ece},
            "outside": found.outside and asdict(found.outside),
        }
        click.echo(json.dumps(document))
        return
    compared = ", ".join(f"{score} {value:.4f}" for score, value in found.compared.items())
    if compared:
        click.echo(f"AUROC by {compared}")
    click.echo(f"ECE on dev {found.before.ece:.4f}, with temperature {rejection.temperature:.3f} {found.dev.ece:.4f}")
    click.echo(f"{model}: none of these where {rejection.score} is below {rejection.threshold:.6g}")
