"""A whole pre-training: from files of text to a base model that `train --base` starts from."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist

from embbert_tvm.data.corpus import read_documents, read_texts
from embbert_tvm.data.dataset import calibration_sample, read_examples
from embbert_tvm.data.files import folder_in_place, sha256_of, write_atomically
from embbert_tvm.data.leaks import TEXTS_READ, HeldOut, write_text_hashes
from embbert_tvm.data.tokenizer import TextTokenizer, encodings, load_embbert_tokenizer
from embbert_tvm.errors import InputError
from embbert_tvm.models.classifier import TextClassifier
from embbert_tvm.models.config import PRESETS, ids_per_token
from embbert_tvm.models.folder import ModelFolder, find_model, read_folder
from embbert_tvm.models.registry import build, load_classifier
from embbert_tvm.progress import task
from embbert_tvm.training.job import check_output
from embbert_tvm.training.optimization import seed_of
from embbert_tvm.training.pretrain import (
    Documents,
    Point,
    PretrainingCallbacks,
    Sentences,
    place,
    pretrain,
    sentence_ids,
)
from embbert_tvm.training.recipe import PretrainRecipe
from embbert_tvm.training.start import own_tokenizer
from embbert_tvm.training.teacher import Teacher, embed_all, open_encoder, token_table
from embbert_tvm.version import __version__

_CURVE_ROWS = 25  # of the loss curve in the card


@dataclass(frozen=True)
class PretrainJob:
    """What to pre-train on, how, and where to. `command` is quoted in the model's README.

    A `teacher` folder asks for sentence-embedding distillation, none for masked or replaced tokens and next sentences.
    """

    texts: tuple[Path, ...]
    output: Path
    recipe: PretrainRecipe
    teacher: Path | None = None
    base: Path | None = None
    tokenizer: Path | None = None
    preset: str | None = None  # "base" where there is no base model
    most: int | None = None  # texts of a file
    held_out: tuple[Path, ...] = ()  # TSVs of dev and test sets, whose texts are not read
    precision: str | None = None  # of `compile`: train through the rounding of such a package
    command: str = ""


@dataclass(frozen=True)
class PretrainResult:
    """The base model; how many texts and tokens it has read, and how many texts the held-out files kept from it."""

    folder: ModelFolder
    texts: int
    left_out: int
    tokens: int
    history: list[Point]


def run_pretraining(job: PretrainJob, progress: PretrainingCallbacks | None = None) -> PretrainResult:
    """Pre-train and write the base model; the folder appears whole at the end, or what was there stays.

    An interrupted job goes on after its last checkpoint when it is run again with the same files and options.
    Raises InputError, and WorkError where the training diverges.
    """
    progress = progress or PretrainingCallbacks()
    rank, _, _ = place()
    check_output(job.output)
    if job.base is not None and (job.tokenizer is not None or job.preset is not None):
        raise InputError("a base model brings its own tokenizer and size: leave out --tokenizer and --preset")
    if job.precision is not None and (job.teacher is None or job.recipe.mlm_weight):
        raise InputError("--precision goes with a teacher's vectors alone: what finds masked tokens is not compiled")
    teacher = None if job.teacher is None else open_encoder(job.teacher)
    model, tokenizer = _start(job, teacher)
    texts, left_out = _texts(job)
    data = _data(job, model, tokenizer, teacher, texts)
    tokens = sum(map(len, data.ids)) if isinstance(data, Sentences) else sum(len(s) for d in data.sentences for s in d)
    checkpoint = _beside(job.output, "pretraining.safetensors")
    history = pretrain(_rounding(job, model, data), data, job.recipe, checkpoint, progress)
    folder = ModelFolder(job.output, job.output.resolve().name, model.config, None)
    flat = [text for document in texts for text in document]
    result = PretrainResult(folder, len(flat), left_out, tokens, history)
    if rank == 0:
        with folder_in_place(job.output) as path:
            model.save_pretrained(path, name=folder.name, labels=None, tokenizer=tokenizer)
            write_text_hashes(path / TEXTS_READ, flat)
            write_atomically(path / "README.md", _card(job, result).encode("utf-8"))
        for name in ("pretraining.safetensors", "teacher.npy", "teacher.json"):
            _beside(job.output, name).unlink(missing_ok=True)
    return result


def _start(job: PretrainJob, teacher: Teacher | None) -> tuple[TextClassifier, TextTokenizer]:
    """The model to go on with, or a fresh one whose token table is the teacher's, and its tokenizer."""
    if job.base is not None:
        base = read_folder(find_model(job.base))
        return load_classifier(base), base.tokenizer
    if (job.preset or "base") not in PRESETS:
        raise InputError(f"preset {job.preset!r} is not known: choose from {', '.join(PRESETS)}")
    config = PRESETS[job.preset or "base"]
    hashes = ids_per_token(config) > 1
    if hashes and job.tokenizer is not None:
        raise InputError(f"--preset {job.preset} hashes words: leave out --tokenizer")
    if hashes:
        tokenizer: TextTokenizer = own_tokenizer(config, ())
    elif job.tokenizer is None:
        raise InputError("a new model needs a tokenizer: give --tokenizer, or --base for a model that has one")
    else:
        tokenizer = load_embbert_tokenizer(job.tokenizer)
    config = dataclasses.replace(config, vocabulary_size=tokenizer.get_vocab_size())
    torch.manual_seed(seed_of(f"{job.recipe.seed} model"))
    model = build(config, 1)
    if teacher is not None and not hashes:
        with torch.no_grad():
            model.embedder.token.weight.copy_(token_table(teacher, tokenizer, model.embedder.token.embedding_dim))
    return model, tokenizer


def _texts(job: PretrainJob) -> tuple[list[list[str]], int]:
    """Documents of sentences, or for a teacher one of texts, without what is held out, and how many that were."""
    held_out = HeldOut.of(*(read_examples(path) for path in job.held_out))
    documents = read_documents(job.texts) if job.teacher is None else [read_texts(job.texts, job.most, job.recipe.seed)]
    filtered = [held_out.filter(document) for document in documents] if job.held_out else [(x, 0) for x in documents]
    kept = [document for document, _ in filtered if document]
    if not kept:
        raise InputError(f"{', '.join(map(str, job.held_out))}: hold every text: give other texts to pre-train on")
    return kept, sum(removed for _, removed in filtered)


def _data(
    job: PretrainJob,
    model: TextClassifier,
    tokenizer: TextTokenizer,
    teacher: Teacher | None,
    documents: list[list[str]],
) -> Sentences | Documents:
    """The texts as ids; the first process asks the teacher, the others read its answers."""
    texts = [text for document in documents for text in document]
    if teacher is None:
        each = iter(encodings(tokenizer, texts, special_tokens=False))
        sentences = [[ids for _ in document if (ids := next(each).ids)] for document in documents]
        return Documents([s for s in sentences if s], model.config.max_length)
    rank, world, _ = place()
    ids = sentence_ids(model.config, tokenizer, texts)
    cache = _beside(job.output, "teacher.npy")
    if world > 1 and rank > 0:
        dist.barrier()
    with task("the teacher reads", "texts", len(texts)) as reach:
        vectors = embed_all(teacher, texts, cache, reach)
    if world > 1 and rank == 0:
        dist.barrier()
    return Sentences(ids, vectors)


def _rounding(job: PretrainJob, model: TextClassifier, data: Sentences | Documents) -> TextClassifier:
    """What is trained in the model's place where it is to be rounded: its parameters are the model's."""
    if job.precision is None:
        return model
    assert isinstance(data, Sentences)
    from embbert_tvm.training.quantized import QuantizedClassifier

    return QuantizedClassifier(model, calibration_sample(data.ids), job.precision)


def _beside(output: Path, name: str) -> Path:
    return output.parent / f".{output.name}.{name}"


def _held_out_lines(job: PretrainJob, result: PretrainResult) -> list[str]:
    read = f"{TEXTS_READ} holds a hash of each text that was read (embbert_tvm/data/leaks.py)."
    if not job.held_out:
        return [f"No dev or test set was held out. {read}"]
    sets = ", ".join(map(str, job.held_out))
    return [f"{result.left_out:,} texts were left out since they stand in {sets}. {read}"]


def _card(job: PretrainJob, result: PretrainResult) -> str:
    """The model's README.md, with the loss curve."""
    recipe = job.recipe
    tokens = "replaced" if recipe.replaced_weight else "masked"
    objective = (
        f"{tokens} tokens and next sentences" if job.teacher is None else f"the sentence vectors of {job.teacher}"
    )
    parts = [name for name in result.history[-1].losses if name != "total"] if result.history else []
    stride = max(1, -(-len(result.history) // _CURVE_ROWS))
    shown = [p for i, p in enumerate(result.history, 1) if i % stride == 0 or i == len(result.history)]
    lines = [
        f"# {result.folder.name}",
        "",
        f"{result.folder.config.title}, {result.folder.config.parameters:,} parameters, pre-trained on {objective}:",
        "a start for `embbert-tvm train --base`. Its head is not trained.",
        f"Made by embbert-tvm {__version__}, torch {torch.__version__}, seed {recipe.seed}: {result.texts:,} texts,",
        f"{result.tokens:,} tokens, {recipe.epochs} epochs of batches of {recipe.batch_size}.",
        *_held_out_lines(job, result),
        "",
        "    " + (job.command or "embbert-tvm pretrain"),
        "",
        "| text | SHA-256 of the file |",
        "|---|---|",
        *(f"| {path} | {sha256_of(path)} |" for path in job.texts),
        "",
        "## Loss, mean over the steps since the row above",
        "",
        "| step | " + " | ".join(parts) + " |",
        "|---|" + "---|" * len(parts),
        *(f"| {p.step:,} | " + " | ".join(f"{p.losses[x]:.4f}" for x in parts) + " |" for p in shown),
    ]
    return "\n".join(lines) + "\n"
