"""Pre-training: its data, its losses, interrupted and in several processes."""

import dataclasses
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from embbert_tvm.data.corpus import read_documents, read_texts, split_sentences
from embbert_tvm.data.dataset import Example, read_examples
from embbert_tvm.data.leaks import TEXTS_READ, already_read, read_text_hashes
from embbert_tvm.data.tokenizer import CLS, MASK, SEP, load_tokenizer, save_tokenizer, train_tokenizer
from embbert_tvm.errors import InputError, WorkError
from embbert_tvm.models.config import PRESETS, EmbBertConfig, MambaConfig
from embbert_tvm.models.embbert import EmbBert
from embbert_tvm.models.folder import read_folder
from embbert_tvm.models.registry import build, load_classifier
from embbert_tvm.training.objectives import generator_of, mask_tokens
from embbert_tvm.training.pretrain import Documents, PretrainingCallbacks, Sentences, length_batches, pretrain
from embbert_tvm.training.pretrain_job import PretrainJob, run_pretraining
from embbert_tvm.training.quantized import QuantizedClassifier
from embbert_tvm.training.recipe import PAPER, PretrainRecipe

CONFIG = EmbBertConfig(300, 32, 16, 4, kernel_size=3, layers=1)
RECIPE = PretrainRecipe(epochs=4, batch_size=8, lr=1e-2, warmup_steps=2, save_every=3)
WORDS = ["red", "blue", "green", "cat", "dog", "bird", "runs", "sleeps", "sings", "far"]


@pytest.fixture
def book(tmp_path):
    rng = random.Random(0)
    lines = ["<|book|>\tone"]
    for number in range(40):
        lines.append(" ".join(rng.choice(WORDS) for _ in range(6)) + ". " + "The cat sleeps all day long!")
        if number == 20:
            lines.append("<|book|>\ttwo")
    path = tmp_path / "book.txt"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def tokenizer_file(tmp_path, book):
    path = tmp_path / "tokenizer.json"
    save_tokenizer(train_tokenizer(book.read_text().splitlines(), 60), path)
    return path


def sentences(count=32):
    """Texts of which the first word decides the vector."""
    rng = random.Random(0)
    ids = [[CLS, 5 + i % 4, *(rng.randrange(9, 300) for _ in range(i % 5))] for i in range(count)]
    return Sentences(ids, np.eye(6, dtype=np.float16)[[i % 4 for i in range(count)]])


def fresh():
    torch.manual_seed(0)
    return EmbBert(CONFIG, 1)


def weights(model):
    return {key: value.clone() for key, value in model.state_dict().items()}


def test_texts_and_documents(tmp_path, book):
    assert split_sentences(' He said "no." Then he left! ') == ['He said "no."', "Then he left!"]
    documents = read_documents([book])
    assert [len(document) for document in documents] == [42, 38]
    assert documents[0][1] == "The cat sleeps all day long!"
    reviews = tmp_path / "reviews.txt"
    reviews.write_text("Good. Very good.\nBad.\n\n")
    assert read_documents([reviews]) == [["Good.", "Very good."], ["Bad."]]
    tsv = tmp_path / "pairs.tsv"
    tsv.write_text("label\ttext\ttext_pair\n1\ta b\tc d\n0\ta b\t \n")
    assert sorted(read_texts([tsv])) == ["a b", "c d"]
    texts = read_texts([book, tsv])
    assert len(texts) == len(set(texts)) == 43
    assert read_texts([book, tsv]) == texts != read_texts([book, tsv], seed=1)
    assert len(read_texts([book], most=5)) == 5
    reviews.write_text("\n")
    for read in (read_documents, read_texts):
        with pytest.raises(InputError, match="no text to pre-train on"):
            read([reviews])


def test_masking_takes_berts_shares_of_the_texts_tokens_alone():
    torch.manual_seed(0)
    ids = torch.randint(0, 300, (200, 100))
    masked, chosen = mask_tokens(ids, 300)
    assert not (chosen & (ids < 5)).any()
    assert (masked == ids)[~chosen].all()
    share = chosen.sum() / (ids >= 5).sum()
    assert 0.14 < share < 0.16
    assert 0.78 < (masked[chosen] == MASK).float().mean() < 0.82
    assert 0.09 < (masked[chosen] == ids[chosen]).float().mean() < 0.12
    assert (masked[chosen] >= 3).all()
    masked, chosen = mask_tokens(ids, 300, always=True)
    assert (masked[chosen] == MASK).all()


def test_pairs_follow_or_do_not():
    documents = [[[10 * d + s] * 3 for s in range(8)] for d in range(1, 6)]
    pairs, follows = Documents(documents, 9).epoch(random.Random(0))
    assert 0 < sum(follows) < len(follows)
    for ids, is_next in zip(pairs, follows, strict=True):
        assert len(ids) <= 9
        cut = ids.index(SEP)
        assert ids[0] == CLS
        if is_next:
            assert ids[cut + 1] == ids[cut - 1] + 1


def test_each_text_once_in_batches_of_like_lengths():
    lengths = [random.Random(i).randrange(1, 60) for i in range(1000)]
    batches = length_batches(lengths, 16, random.Random(0))
    assert sorted(i for batch in batches for i in batch) == list(range(1000))
    assert np.mean([np.ptp([lengths[i] for i in batch]) for batch in batches]) < 5


def test_distillation_learns_the_vectors(tmp_path):
    history = pretrain(fresh(), sentences(), dataclasses.replace(RECIPE, epochs=30), tmp_path / "c")
    assert history[-1].losses["cosine"] < 0.2 < 0.7 < history[0].losses["cosine"]


def test_what_a_head_reads_keeps_its_size(tmp_path):
    """Vectors that are a thousand times too long come to about 1 a number, though only their direction is taught."""
    model = fresh()
    with torch.no_grad():
        for linear in (model.blocks[-1].attention_out, model.blocks[-1].conv_out):
            linear.weight *= 1000
    data = sentences()
    pretrain(model, data, dataclasses.replace(RECIPE, epochs=30), tmp_path / "c")
    with torch.no_grad():
        size = torch.cat([model.features(torch.tensor([ids])) for ids in data.ids]).square().mean().sqrt()
    assert 0.2 < size < 50


def test_every_architecture_learns_by_what_its_head_reads(tmp_path):
    """The first row of Mamba, which is causal, is [CLS] alone: of it nothing could be told of a text."""
    torch.manual_seed(0)
    model = build(MambaConfig(300, 32, 32, 1), 1)
    history = pretrain(model, sentences(), dataclasses.replace(RECIPE, epochs=30), tmp_path / "c")
    assert history[-1].losses["cosine"] < 0.3


def test_what_was_pre_trained_through_a_rounding_loses_less_by_it(tmp_path):
    data, recipe = sentences(), dataclasses.replace(RECIPE, epochs=30, contrastive_weight=0.0)
    losses = {}
    for name in ("float", "ternary"):
        model = fresh()
        rounded = QuantizedClassifier(model, data.ids[:8], "ternary")
        pretrain(model if name == "float" else rounded, data, recipe, tmp_path / name)
        state = load_file(tmp_path / name)
        weight, bias = (state[next(k for k in state if k.endswith(f"to_teacher.{x}"))] for x in ("weight", "bias"))
        rounded.eval()
        with torch.no_grad():
            features = torch.cat([rounded.features(torch.tensor([ids])) for ids in data.ids])
        found = torch.nn.functional.normalize(features @ weight.T + bias, dim=1)
        losses[name] = 1 - float((found * torch.from_numpy(data.vectors).float()).sum(1).mean())
    assert losses["ternary"] < 0.8 * losses["float"]


def test_a_generator_shares_the_embedder_and_both_fit_the_papers_two_megabytes():
    """The paper's second open question: generator and discriminator within 2 MB of float32."""
    model = build(PRESETS["base"], 1)
    generator = generator_of(model)
    assert generator.embedder is model.embedder
    own = sum(p.numel() for p in {*model.parameters(), *generator.parameters()})
    assert 4 * own < 2e6


def test_replaced_tokens_are_told(tmp_path):
    """Texts of one repeated token: what a generator that knows nothing draws is nearly always another."""
    recipe = dataclasses.replace(RECIPE, mlm_weight=0.01, replaced_weight=50.0, epochs=30)
    data = Documents([[[token] * 5] * 4 for token in range(5, 20)], 12)
    history = pretrain(fresh(), data, recipe, tmp_path / "c")
    assert history[-1].losses["replaced"] < 0.3 < history[0].losses["replaced"]


@pytest.mark.parametrize("replaced", [0.0, 50.0])
@pytest.mark.parametrize("data", [sentences(), Documents([[[5, 6], [7, 8, 9], [10]] * 4] * 3, 12)])
def test_an_interrupted_run_ends_with_the_same_weights(tmp_path, data, replaced):
    recipe = dataclasses.replace(RECIPE, mlm_weight=0.5, replaced_weight=replaced)
    whole = fresh()
    history = pretrain(whole, data, recipe, tmp_path / "whole")
    assert {"mlm", "replaced"} & set(history[0].losses) == ({"mlm", "replaced"} if replaced else {"mlm"})

    class Stop(Exception):
        pass

    def stop(done, total):
        if done == 5:
            raise Stop

    with pytest.raises(Stop):
        pretrain(fresh(), data, recipe, tmp_path / "c", PretrainingCallbacks(on_step=stop))
    resumed, notes = fresh(), []
    assert (
        pretrain(resumed, data, recipe, tmp_path / "c", PretrainingCallbacks(on_note=notes.append))[-1].step
        == history[-1].step
    )
    assert "resuming after step 3" in notes[0]
    for key, value in weights(whole).items():
        assert torch.equal(value, weights(resumed)[key]), key


def test_a_loss_that_is_no_number_ends_the_run(tmp_path):
    data = sentences()
    data.vectors[3, 0] = np.nan
    with pytest.raises(WorkError, match="no longer finite"):
        pretrain(fresh(), data, RECIPE, tmp_path / "c")


def test_the_papers_objective_from_text_to_a_base_model(tmp_path, book, tokenizer_file):
    recipe = dataclasses.replace(PAPER, batch_size=4, save_every=5)
    job = PretrainJob((book,), tmp_path / "base", recipe, tokenizer=tokenizer_file, preset="nano", command="cmd")
    result = run_pretraining(job)
    assert set(result.history[0].losses) == {"next", "mlm", "total"}
    assert {x.name for x in (tmp_path / "base").iterdir()} == {
        "README.md", "config.json", "model.safetensors", "texts-read.xz", "tokenizer.json",
    }  # fmt: skip
    assert "| step | next | mlm |" in (tmp_path / "base" / "README.md").read_text()
    again = dataclasses.replace(job, output=tmp_path / "more", base=tmp_path / "base", tokenizer=None, preset=None)
    run_pretraining(again)
    first, second = (load_classifier(tmp_path / name).state_dict() for name in ("base", "more"))
    assert not torch.equal(first["embedder.token.weight"], second["embedder.token.weight"])


def test_a_model_of_ours_teaches_one_that_hashes_words(tmp_path, book, monkeypatch, tokenizer_file):
    monkeypatch.setitem(PRESETS, "small-hash", EmbBertConfig(100, 64, 16, 4, 3, 1, 1, ids_per_token=4))
    torch.manual_seed(0)
    tokenizer = load_tokenizer(tokenizer_file)
    ours = build(dataclasses.replace(CONFIG, vocabulary_size=tokenizer.get_vocab_size()), 1)
    ours.save_pretrained(tmp_path / "ours", name="ours", labels=None, tokenizer=tokenizer)
    recipe = dataclasses.replace(RECIPE, epochs=12)
    job = PretrainJob((book,), tmp_path / "base", recipe, teacher=tmp_path / "ours", preset="small-hash")
    result = run_pretraining(job)
    assert result.history[-1].losses["cosine"] < 0.6 * result.history[0].losses["cosine"]
    assert read_folder(tmp_path / "base").tokenizer.encode("red cat").ids[:4] == [CLS] * 4
    for other, message in (
        ({"tokenizer": tokenizer_file}, "hashes words: leave out --tokenizer"),
        ({}, "no row for each"),
    ):
        wrong = dataclasses.replace(job, output=tmp_path / "other", teacher=None, recipe=PAPER, **other)
        with pytest.raises(InputError, match=message):
            run_pretraining(wrong)


def test_what_is_held_out_is_not_read_and_what_is_read_is_listed(tmp_path, book, tokenizer_file):
    held = tmp_path / "test.tsv"
    held.write_text("label\ttext\nx\tthe CAT sleeps, all day long\nx\tnobody wrote this\n")
    recipe = dataclasses.replace(PAPER, batch_size=4, save_every=5)
    job = PretrainJob((book,), tmp_path / "base", recipe, tokenizer=tokenizer_file, preset="nano", held_out=(held,))
    result = run_pretraining(job)
    sentences = [text for document in read_documents([book]) for text in document]
    assert (result.left_out, result.texts) == (40, len(sentences) - 40)
    hashes = read_text_hashes(tmp_path / "base" / TEXTS_READ)
    assert already_read(hashes, read_examples(held)) == []
    others = {text for text in sentences if "cat sleeps all day" not in text.lower()}
    assert set(already_read(hashes, [Example("", text.upper()) for text in others])) == {x.upper() for x in others}
    card = (tmp_path / "base" / "README.md").read_text()
    assert f"40 texts were left out since they stand in {held}." in card
    only = tmp_path / "only.txt"
    only.write_text("Nobody wrote this!\n")
    with pytest.raises(InputError, match="hold every text"):
        run_pretraining(dataclasses.replace(job, texts=(only,), output=tmp_path / "none"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tokenizer": None}, "needs a tokenizer"),
        ({"preset": "huge"}, "not known"),
        ({"base": Path("x")}, "brings its own"),
        ({"texts": (Path("none.txt"),)}, "none.txt"),
        ({"teacher": Path("none")}, "not a sentence-transformers folder"),
        ({"precision": "ternary"}, "vectors alone"),
    ],
)
def test_bad_input_leaves_nothing(tmp_path, book, tokenizer_file, options, message):
    job = PretrainJob((book,), tmp_path / "base", PAPER, tokenizer=tokenizer_file)
    with pytest.raises(InputError, match=message):
        run_pretraining(dataclasses.replace(job, **options))
    assert not (tmp_path / "base").exists()


def test_two_processes_share_the_batches(tmp_path, book, tokenizer_file):
    command = [
        sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--rdzv-backend", "c10d",
        "--rdzv-endpoint", "localhost:0", "-m", "embbert_tvm", "pretrain", str(book), "--objective", "mlm",
        "--tokenizer", str(tokenizer_file), "--preset", "nano", "--batch-size", "1", "--epochs", "2",
        "--save-every", "1", "--json", "-o", str(tmp_path / "base"),
    ]  # fmt: skip
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=300, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 1  # the first process alone prints
    assert json.loads(lines[0])["losses"]["mlm"] > 0
    load_classifier(tmp_path / "base")
