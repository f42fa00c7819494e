"""Folders as transformers and sentence-transformers save them: exported, compiled, and refused by name."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import kinds
import numpy as np
import onnxruntime
import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from embbert_tvm import hub_export
from embbert_tvm.errors import InputError
from embbert_tvm.hub_export import export_hub_folder
from embbert_tvm.models.foreign import padding_of, separator_of
from embbert_tvm.models.huggingface import read_hub_folder
from embbert_tvm.source import find_source, read_labels

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz"]
WORDS += [f"##{c}" for c in "abcdefghijklmnopqrstuvwxyz"] + ["turn", "off", "the", "lights", "play", "music"]


def tokenizer() -> Tokenizer:
    made = Tokenizer(models.WordPiece({word: n for n, word in enumerate(WORDS)}, unk_token="[UNK]"))
    made.normalizer, made.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return made


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A function from a kind to its folder, as save_pretrained() writes it, with a WordPiece tokenizer."""
    root, made = tmp_path_factory.mktemp("hub"), {}

    def folder(kind: str) -> Path:
        if kind not in made:
            made[kind] = root / kind
            kinds.model(kind).save_pretrained(made[kind])
            tokenizer().save(str(made[kind] / "tokenizer.json"))
        return made[kind]

    return folder


def answers(folder: Path, ids: list[int]) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"))
    return session.run(None, {"ids": np.array([ids])})[0]


@pytest.mark.parametrize(
    ("kind", "head", "labels"),
    [
        ("bert", "one label", kinds.LABELS),
        ("roberta", "one label", kinds.LABELS),
        ("distilbert", "one label", ("LABEL_0", "LABEL_1", "LABEL_2", "LABEL_3")),
        ("modernbert", "one label", kinds.LABELS),
        ("many_labels", "many labels", kinds.LABELS),
        ("regression", "regression", None),
        ("tokens", "tokens", kinds.LABELS),
    ],
)
def test_a_folder_of_transformers(kind, head, labels, folders, tmp_path):
    out = tmp_path / "out"
    export_hub_folder(folders(kind), out)
    source = find_source(out)
    assert (source.head, source.labels, source.name) == (head, labels, kind)
    assert source.separator == 3
    ids = tokenizer().encode("turn off the lights").ids
    model = kinds.model(kind)
    with torch.no_grad():
        expected = model(torch.tensor([ids])).logits.numpy()
    assert np.abs(answers(out, ids) - expected).max() <= 1e-4 * np.abs(expected).max()


def test_many_labels_have_scores_of_their_own(folders, tmp_path):
    import embbert_tvm
    from embbert_tvm import CompileOptions

    export_hub_folder(folders("many_labels"), tmp_path / "out")
    package = embbert_tvm.compile(tmp_path / "out", "host", tmp_path / "p", CompileOptions("fp32", max_length=12))
    ids = tokenizer().encode("turn off the lights").ids
    expected = 1 / (1 + np.exp(-answers(tmp_path / "out", ids)[0]))
    with package.open() as device:
        found = device.classify("turn off the lights")
    assert found.tokens == len(ids)
    np.testing.assert_allclose([found.scores[label] for label in kinds.LABELS], expected, atol=1e-5)
    sources = tmp_path / "p" / "codegen" / "host"
    assert "sigmoid of the logits" in (sources / "include" / "embbert.h").read_text()


def test_the_second_text_of_a_pair_has_its_own_type(folders, tmp_path):
    export_hub_folder(folders("bert"), tmp_path / "out")
    pair = tokenizer().encode("play music", "turn the lights off")
    with torch.no_grad():
        given = {"input_ids": torch.tensor([pair.ids]), "token_type_ids": torch.tensor([pair.type_ids])}
        expected = kinds.model("bert")(**given).logits.numpy()
    assert np.abs(answers(tmp_path / "out", pair.ids) - expected).max() <= 1e-4 * np.abs(expected).max()


def sentence_folder(folder: Path, modules: list[tuple[str, dict]]) -> Path:
    bert = kinds.model("embedding").bert
    bert.save_pretrained(folder)
    tokenizer().save(str(folder / "tokenizer.json"))
    listed = [{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"}]
    for index, (kind, settings) in enumerate(modules, 1):
        place = folder / f"{index}_{kind}"
        place.mkdir()
        (place / "config.json").write_text(json.dumps(settings))
        listed.append({"idx": index, "path": place.name, "type": f"sentence_transformers.models.{kind}"})
    (folder / "modules.json").write_text(json.dumps(listed))
    return folder


MEAN = {"word_embedding_dimension": kinds.WIDTH, "pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}


def test_a_folder_of_sentence_transformers(tmp_path):
    given = sentence_folder(tmp_path / "in", [("Pooling", MEAN), ("Normalize", {})])
    export_hub_folder(given, tmp_path / "out")
    assert find_source(tmp_path / "out").head == "vector"
    ids = tokenizer().encode("play music").ids
    values = (
        torch.tensor([ids]),
        torch.ones(1, len(ids), dtype=torch.int64),
        torch.zeros(1, len(ids), dtype=torch.int64),
    )
    with torch.no_grad():
        expected = kinds.model("embedding")(*values).numpy()
    found = answers(tmp_path / "out", ids)
    assert np.abs(found - expected).max() <= 1e-5
    assert abs(np.linalg.norm(found) - 1) < 1e-5


def test_calibration_is_of_the_librarys_ids(folders, tmp_path):
    texts = tmp_path / "texts.txt"
    texts.write_text("turn off the lights\n\nplay music\n")
    assert export_hub_folder(folders("bert"), tmp_path / "out", texts).calibration_texts == 2
    assert json.loads((tmp_path / "out" / "calibration.json").read_text())["examples"] == 2


def changed(folder: Path, to: Path, **changes: object) -> Path:
    shutil.copytree(folder, to)
    config = json.loads((to / "config.json").read_text())
    (to / "config.json").write_text(json.dumps(config | changes))
    return to


def test_what_is_no_fine_tuned_model_is_refused(folders, tmp_path):
    for name in ("BertForMaskedLM", "BertModel"):
        with pytest.raises(InputError, match=f"{name} is neither"):
            read_hub_folder(changed(folders("bert"), tmp_path / name, architectures=[name]))
    with pytest.raises(InputError, match="leaves out an id"):
        read_hub_folder(changed(folders("bert"), tmp_path / "gap", id2label={"0": "a", "2": "b"}))
    with pytest.raises(InputError, match="transformers cannot load it"):
        export_hub_folder(changed(folders("bert"), tmp_path / "unknown", model_type="frob"), tmp_path / "out")
    headless = tmp_path / "headless"
    kinds.model("bert").bert.save_pretrained(headless)
    config = json.loads((headless / "config.json").read_text())
    (headless / "config.json").write_text(json.dumps(config | {"architectures": ["BertForSequenceClassification"]}))
    with pytest.raises(InputError, match=r"its weights lack classifier\.bias"):
        export_hub_folder(headless, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_export_that_ends_midway_leaves_nothing(folders, tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise InputError("no such operator")

    monkeypatch.setattr(hub_export, "normalize", refuse)
    with pytest.raises(InputError, match="no such operator"):
        export_hub_folder(folders("bert"), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("modules", "match"),
    [
        ([("Pooling", MEAN | {"pooling_mode_cls_token": True})], "pooling by cls and mean is not compiled"),
        ([("Pooling", {"pooling_mode_weightedmean_tokens": True})], "pooling by weightedmean is not compiled"),
        ([("LSTM", {})], "LSTM is not compiled"),
    ],
)
def test_modules_that_are_not_compiled_are_refused(modules, match, tmp_path):
    given = sentence_folder(tmp_path / "in", modules)
    with pytest.raises(InputError, match=match):
        export_hub_folder(given, tmp_path / "out")


def test_labels_are_named(tmp_path):
    (tmp_path / "labels.txt").write_text("on\noff\n")
    assert read_labels(str(tmp_path / "labels.txt")) == ("on", "off")
    assert read_labels("on, off") == ("on", "off")
    for wrong, match in (
        ("on,,off", "empty or there twice"),
        ("on,on", "there twice"),
        ("none.txt", "no such file"),
        ("on,o\ud800", "a surrogate"),  # which no file holds
    ):
        with pytest.raises(InputError, match=match):
            read_labels(wrong)


def test_padding_of_a_tokenizer_that_makes_the_library_panic(tmp_path, capfd):
    made = tokenizer()
    made.enable_padding(pad_id=1, pad_token="[UNK]")
    path = tmp_path / "tokenizer.json"
    made.save(str(path))
    assert padding_of(path) == 1
    document = json.loads(path.read_text())
    document["model"] |= {"type": "BPE", "merges": [["a", "b"]], "continuing_subword_prefix": "longer than a merge"}
    document["model"]["vocab"] |= {"a": 500, "b": 501}
    path.write_text(json.dumps(document))
    assert padding_of(path) is None
    assert capfd.readouterr().err == ""


def test_a_tokenizer_without_types_has_no_separator(tmp_path):
    made = tokenizer()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    made.save(str(tmp_path / "tokenizer.json"))
    assert separator_of(tmp_path / "tokenizer.json") is None
