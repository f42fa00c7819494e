"""`embbert-tvm export`: a model folder's ONNX and calibration statistics."""

from __future__ import annotations

from pathlib import Path

import click

_PATH = click.Path(path_type=Path)


@click.command()
@click.argument("model", type=_PATH)
@click.option("--calibration", type=_PATH, help="TSV whose texts give new calibration statistics.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
def command(model: Path, calibration: Path | None, as_json: bool) -> None:
    """Write MODEL/model.onnx and, from the texts of --calibration, MODEL/calibration.json.

    The ONNX is compared with PyTorch in onnxruntime at several lengths before it is written.
    """
    import json

    from embbert_tvm.data.dataset import read_examples
    from embbert_tvm.errors import InputError
    from embbert_tvm.models.folder import read_folder

    try:
        from embbert_tvm.graph.onnx_export import export_folder
        from embbert_tvm.training.job import calibrate
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise InputError("export needs torch: pip install 'embbert-tvm[train]'") from error

    folder = read_folder(model)
    examples = read_examples(calibration) if calibration else []
    stale = folder.onnx_is_stale()
    differences = export_folder(folder)
    texts = calibrate(folder, examples) if examples else 0
    if stale and not examples and folder.calibration.is_file():
        click.echo(f"{folder.calibration} is of other weights: give --calibration to renew it", err=True)
    if as_json:
        document = {
            "onnx": str(folder.onnx),
            "weights_sha256": folder.weights_sha256(),
            "lengths": {str(length): difference for length, difference in differences.items()},
            "calibration_texts": texts,
        }
        click.echo(json.dumps(document))
    else:
        worst = max(differences.values())
        lengths = ", ".join(str(length) for length in differences)
        click.echo(f"{folder.onnx}: within {worst:.1e} of PyTorch at lengths {lengths}")
        if texts:
            click.echo(f"{folder.calibration}: from {texts} texts")
