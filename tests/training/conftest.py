"""A labelled set that a tiny model learns in seconds."""

import random

import pytest

from embbert_tvm.models.config import PRESETS, EmbBertConfig
from embbert_tvm.training import job as job_module

ON = ["turn the {} on", "switch on the {}", "{} on please"]
OFF = ["turn the {} off", "switch off the {}", "no more {}"]
THINGS = ["lights", "heating", "radio", "fan", "kettle", "oven"]


@pytest.fixture
def tsv(tmp_path):
    rng = random.Random(0)
    lines = [f"on\t{rng.choice(ON)}".format(rng.choice(THINGS)) for _ in range(40)]
    lines += [f"off\t{rng.choice(OFF)}".format(rng.choice(THINGS)) for _ in range(40)]
    path = tmp_path / "set.tsv"
    path.write_text("label\ttext\n" + "\n".join(lines) + "\n")
    return path


@pytest.fixture
def quick(monkeypatch):
    """A preset that trains at once, and no calibration, which is graph/'s to test and costs seconds."""
    monkeypatch.setitem(PRESETS, "quick", EmbBertConfig(300, 16, 16, 4, kernel_size=3, layers=1))
    monkeypatch.setattr(job_module, "calibrate", lambda folder, examples: 0)


@pytest.fixture
def without_export(monkeypatch):
    """An export costs seconds; tests/graph has its own tests."""
    monkeypatch.setattr(job_module, "export_folder", lambda folder: {})


@pytest.fixture(scope="session")
def teacher_folder(tmp_path_factory):
    """An encoder that knows the words of the set."""
    return encoder_of([*ON, *OFF, *THINGS], tmp_path_factory.mktemp("teacher"))


def encoder_of(texts, folder, spread=0.5):
    """An encoder of a few weights with the words of some texts, in the form that sentence-transformers writes."""
    import torch
    from sentence_transformers import SentenceTransformer, models
    from transformers import BertConfig, BertModel, BertTokenizerFast

    torch.manual_seed(0)
    words = sorted({word for text in texts for word in text.split()} - {"{}"})
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]
    (folder / "vocab.txt").write_text("\n".join(words))
    inner = folder / "inner"
    BertTokenizerFast(vocab=str(folder / "vocab.txt")).save_pretrained(inner)
    config = BertConfig(
        vocab_size=len(words), hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        initializer_range=spread,
    )  # fmt: skip
    BertModel(config, add_pooling_layer=False).save_pretrained(inner)
    model = SentenceTransformer(modules=[models.Transformer(str(inner)), models.Pooling(32)], device="cpu")
    model.save(str(folder / "teacher"))
    return folder / "teacher"
