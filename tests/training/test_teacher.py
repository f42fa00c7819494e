"""A teacher of a few weights, made here in the form that sentence-transformers writes."""

import importlib
from pathlib import Path

import numpy as np
import pytest

from embbert_tvm.data.tokenizer import PAD, train_tokenizer
from embbert_tvm.errors import InputError
from embbert_tvm.training import teacher as teacher_module
from embbert_tvm.training.pretrain_job import PretrainJob, run_pretraining
from embbert_tvm.training.recipe import PretrainRecipe
from embbert_tvm.training.teacher import SentenceTransformersTeacher, embed_all, find_teacher, teacher_name, token_table
from tests.training.conftest import THINGS

TEXTS = [f"{a} {b}" for a in ("turn", "switch", "more", "please") for b in THINGS[:4]]


def test_unit_vectors_kept_as_they_come(teacher_folder, tmp_path, monkeypatch):
    teacher = SentenceTransformersTeacher(teacher_folder)
    vectors = teacher.embed(TEXTS)
    assert vectors.shape == (len(TEXTS), teacher.width) == (16, 32)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-3)
    monkeypatch.setattr("embbert_tvm.training.teacher._CHUNK", 4)
    asked = []
    embed = teacher.embed

    def stopping(texts):
        asked.append(len(texts))
        if len(asked) == 3:
            raise KeyboardInterrupt
        return embed(texts)

    monkeypatch.setattr(teacher, "embed", stopping)
    with pytest.raises(KeyboardInterrupt):
        embed_all(teacher, TEXTS, tmp_path / "cache.npy")
    kept = embed_all(teacher, TEXTS, tmp_path / "cache.npy")
    assert asked == [4, 4, 4, 4, 4]  # two whole chunks, the one broken off, the two that were left
    assert ((kept * vectors).sum(1) > 0.95).all()  # the ranges that int8 takes are those of a batch
    embed_all(teacher, TEXTS[::-1], tmp_path / "cache.npy")
    assert len(asked) == 9  # other texts start over


def test_the_table_holds_what_tells_the_tokens_apart(teacher_folder):
    tokenizer = train_tokenizer(TEXTS, 60)
    table = token_table(SentenceTransformersTeacher(teacher_folder), tokenizer, 4)
    assert table.shape == (tokenizer.get_vocab_size(), 4)
    assert table.std().item() == pytest.approx(0.5, rel=0.1)
    assert not table[PAD].any()


def test_distillation_from_text_to_a_base_model(teacher_folder, tmp_path):
    from embbert_tvm.data.tokenizer import save_tokenizer

    tsv, tokenizer = tmp_path / "set.tsv", tmp_path / "tokenizer.json"
    tsv.write_text("label\ttext\n" + "".join(f"x\t{text}\n" for text in TEXTS))
    save_tokenizer(train_tokenizer(TEXTS, 60), tokenizer)
    recipe = PretrainRecipe(epochs=30, batch_size=8, lr=5e-3, warmup_steps=5, save_every=20)
    job = PretrainJob(
        (tsv,), tmp_path / "base", recipe, teacher=teacher_folder, tokenizer=tokenizer, preset="nano", command="cmd"
    )
    result = run_pretraining(job)
    assert result.texts == len(TEXTS)
    assert result.history[-1].losses["cosine"] < 0.5 * result.history[0].losses["cosine"]
    assert [x.name for x in tmp_path.iterdir() if x.name.startswith(".")] == []


def test_what_is_no_teacher_is_refused(tmp_path):
    with pytest.raises(InputError, match="not a sentence-transformers folder"):
        SentenceTransformersTeacher(tmp_path)
    (tmp_path / "modules.json").write_text("[{}]")
    with pytest.raises(InputError, match="not a sentence encoder that loads"):
        SentenceTransformersTeacher(tmp_path)


def test_a_teacher_is_found_by_its_name(tmp_path, monkeypatch):
    assert find_teacher(tmp_path) == tmp_path
    assert find_teacher(Path("other")) == Path("other")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(teacher_module.NAMED_TEACHERS, "minilm", ("gt-mini", "gt_mini_of_a_test"))
    with pytest.raises(InputError, match="pip install gt-mini"):
        find_teacher(Path("minilm"))
    folder = tmp_path / "gt_mini_of_a_test" / "model"
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").touch()
    importlib.invalidate_caches()
    with pytest.raises(InputError, match="install gt-mini again"):
        find_teacher(Path("minilm"))
    (folder / "modules.json").touch()
    assert find_teacher(Path("minilm")) == folder
    assert teacher_name(folder) == "minilm"
    assert teacher_name(tmp_path / "mine") == "mine"
