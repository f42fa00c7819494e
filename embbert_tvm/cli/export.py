"""`embbert-tvm export`: a model folder's ONNX and calibration statistics."""

from __future__ import annotations

from pathlib import Path

import click

from embbert_tvm import progress

_PATH = click.Path(path_type=Path)


@click.command()
@click.argument("model", type=_PATH)
@click.option("-o", "--output", type=_PATH, metavar="FOLDER", help="For a hub's folder: the model folder to write.")
@click.option("--calibration", type=_PATH, help="Texts to take calibration statistics of: a TSV, or lines.")
@click.option("--vector", is_flag=True, help="Write a model of texts' vectors to --output.")
@click.option(
    "--sketch",
    type=click.IntRange(min=0),
    metavar="N",
    help="For --vector: how many of its numbers are of the text's n-grams. [default: 5/4 of the encoder's]",
)
@click.option(
    "--prune-vocabulary",
    type=_PATH,
    metavar="TSV|TXT",
    help="For a hub's folder: keep only the tokens that these texts need.",
)
@click.option(
    "--vocabulary-size", type=click.IntRange(min=1), metavar="N", help="The most tokens that --prune-vocabulary keeps."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
def command(
    model: Path,
    output: Path | None,
    calibration: Path | None,
    prune_vocabulary: Path | None,
    vocabulary_size: int | None,
    vector: bool,
    sketch: int | None,
    as_json: bool,
) -> None:
    """Write MODEL/model.onnx and, from the texts of --calibration, MODEL/calibration.json.

    A hub's folder (config.json with "architectures", or modules.json) stays as it is: --output names the model folder
    that is made of it.

    The ONNX is compared with PyTorch in onnxruntime at several lengths before it is written.
    """
    import json

    from embbert_tvm.data.dataset import read_examples
    from embbert_tvm.errors import InputError
    from embbert_tvm.models.folder import read_folder
    from embbert_tvm.models.huggingface import is_hub_folder

    if is_hub_folder(model):
        _of_a_hub(model, output, calibration, as_json, prune_vocabulary, vocabulary_size)
        return
    if prune_vocabulary is not None or vocabulary_size is not None:
        raise InputError(f"{model}: is a model folder of ours: prune its vocabulary with `compile --prune-vocabulary`")
    if vector:
        _of_vectors(model, output, calibration, sketch, as_json)
        return
    if sketch is not None:
        raise InputError("--sketch goes with --vector")
    if output is not None:
        raise InputError(f"--output {output}: {model} is a model folder of ours, whose model.onnx lies in it")
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
    with progress.task("exporting"):
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


def _of_vectors(model: Path, output: Path | None, calibration: Path | None, sketch: int | None, as_json: bool) -> None:
    import json

    from embbert_tvm.cli.training import need_torch
    from embbert_tvm.errors import InputError
    from embbert_tvm.models.folder import find_model, read_folder

    if output is None or calibration is None:
        raise InputError("--vector needs --output FOLDER, and --calibration TSV for the mean and the statistics")
    need_torch()
    from embbert_tvm.training.vector_export import export_vector

    with progress.task("exporting"):
        width = export_vector(read_folder(find_model(model)), output, calibration, sketch)
    if as_json:
        click.echo(json.dumps({"onnx": str(output / "model.onnx"), "width": width}))
    else:
        click.echo(f"{output}: vectors of {width} numbers")


def _of_a_hub(
    model: Path,
    output: Path | None,
    calibration: Path | None,
    as_json: bool,
    corpus: Path | None,
    most: int | None,
) -> None:
    import json
    from dataclasses import asdict

    from embbert_tvm.errors import InputError
    from embbert_tvm.hub_export import export_hub_folder
    from embbert_tvm.report.vocabulary import vocabulary_line

    if output is None:
        raise InputError(f"{model}: is a hub's folder: name the model folder to write with -o FOLDER")
    if most is not None and corpus is None:
        raise InputError("--vocabulary-size goes with --prune-vocabulary")
    with progress.task("exporting"):
        done = export_hub_folder(model, output, calibration, corpus, most)
    texts, pruned = done.calibration_texts, done.pruned
    if as_json:
        document = {"onnx": str(output / "model.onnx"), "calibration_texts": texts}
        if pruned is not None:
            document["vocabulary"] = asdict(pruned)
        click.echo(json.dumps(document))
        return
    click.echo(f"{output}: {output / 'model.onnx'} as the model in {model} answers")
    if pruned is not None:
        click.echo(f"{output / 'tokenizer.json'}: {vocabulary_line(pruned)}")
    if texts:
        click.echo(f"{output / 'calibration.json'}: from {texts} texts")
