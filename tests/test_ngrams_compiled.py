"""Hashed n-grams as packages: alone, and beside a model of tokens; the same bits in Python, on the host and on QEMU."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import small
from random_ngrams import model_of

from embbert_tvm import api
from embbert_tvm.data.byte_tokenizer import byte_tokenizer
from embbert_tvm.data.dataset import read_examples
from embbert_tvm.data.tokenizer import load_tokenizer, tokenize
from embbert_tvm.device.package import load_package, load_text_vectors, load_vectors
from embbert_tvm.device.places import open_place
from embbert_tvm.device.profile import profile
from embbert_tvm.device.validate import validate
from embbert_tvm.errors import InputError
from embbert_tvm.models.folder import read_folder, write_config
from embbert_tvm.models.ngrams import NEXT_TEXT
from embbert_tvm.models.reference import Reference
from embbert_tvm.options import CompileOptions
from embbert_tvm.rejection import LOGISTIC, Direction, Rejection
from embbert_tvm.training.whitening import add_known_head, distances, load_features

LONG = "please turn the kitchen lights off again " * 300  # 12,300 bytes


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """A package of n-grams for the Cortex-M7 with its model."""
    folder = tmp_path_factory.mktemp("alone")
    model = model_of("abcdefg", buckets=7200)
    model.save(folder / "model")
    return api.compile(folder / "model", "cortex-m7", folder / "package"), model


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    """The small EmbBERT with n-grams beside it, compiled for the Cortex-M7, and its folder."""
    folder = tmp_path_factory.mktemp("wide")
    model = small.copy_of_folder(folder / "model")
    model_of(small.LABELS, rank=3).save(model / "wide")
    return api.compile(model, "cortex-m7", folder / "package", CompileOptions(prefix="mine")), model


def examples(tmp_path, labels):
    texts = [*small.TEXTS, "Où est 你好?", LONG]
    lines = [f"{labels[i % len(labels)]}\t{text}" for i, text in enumerate(texts)]
    (tmp_path / "set.tsv").write_text("label\ttext\n" + "\n".join(lines) + "\n")
    return read_examples(tmp_path / "set.tsv")


def test_alone_gives_pythons_bits_of_texts_of_any_length(alone, tmp_path):
    package, model = alone
    found = validate(package.contents, examples(tmp_path, model.labels), "host")
    assert found.comparison.checked == found.comparison.equal > 15
    assert (found.agreement, found.truncated) == (1, 0)
    assert found.tokenized.checked == found.tokenized.equal == 6
    with open_place("host", package.contents) as device:
        told = device.classify(LONG, "and a second one")
        expected = model.logits([LONG], ["and a second one"])[0]
        np.testing.assert_array_equal(told.run.logits, expected)
        assert (told.truncated, told.label) == (False, expected.argmax())
        assert told.tokens == len(LONG) + 1 + len("and a second one")


def test_alone_on_qemu_within_20000_instructions_and_64_kb(alone):
    package, model = alone
    with open_place("qemu", package.contents) as device:
        told = device.classify("will it rain in the valley by the sea tomorrow or on Sunday")
        np.testing.assert_array_equal(
            told.run.logits, model.logits(["will it rain in the valley by the sea tomorrow or on Sunday"])[0]
        )
        assert told.run.instructions <= 20_000
        assert device.self_test(list(b"turn the lights off")).answer_known
    assert package.report.flash.total <= 64_000
    (step,) = profile(package.contents, "qemu", [12]).lengths[0].layers
    assert (step.name, step.kernel) == ("ngrams", "linear")


def test_byte_ids_are_the_librarys_with_its_cuts(alone, tmp_path):
    package, _ = alone
    (tmp_path / "tokenizer.json").write_bytes(byte_tokenizer(NEXT_TEXT))
    tokenizer = load_tokenizer(tmp_path / "tokenizer.json", 257)
    most = package.contents.max_length
    assert tokenize(tokenizer, "é<pair>", "b").ids == [*"é<pair>".encode(), 256, ord("b")]
    with open_place("host", package.contents) as device:
        for text, pair in [("ab", None), ("a" * 2000, None), ("a" * 2000, "b" * 3000), ("a" * 30, "b" * 3000),
                           ("a" * 3000, "b" * 30), ("a" * 1500, "b" * 1500), ("", "b"), ("a", "")]:  # fmt: skip
            assert device.tokenize(text, pair) == tokenize(tokenizer, text, pair, most).ids, (
                text[:3],
                pair and pair[:3],
            )


def test_wide_adds_to_the_bits_of_the_package_without(wide, tmp_path):
    package, _ = wide
    contents = package.contents
    assert contents.metadata["weights_bytes"] == small_weights() + 2000 * 3 + 3 * 4 + 3 * 3
    found = validate(contents, examples(tmp_path, contents.labels), "host")
    assert found.comparison.checked == found.comparison.equal
    assert len(load_text_vectors(contents)) > 8
    model = model_of(small.LABELS, rank=3)
    tokenizer = load_tokenizer(contents.tokenizer)
    with open_place("host", contents) as device:
        for text, pair in [(small.TEXTS[0], None), (small.TEXTS[1], small.TEXTS[2]), (LONG, None)]:
            ids = tokenize(tokenizer, text, pair, contents.max_length).ids
            expected = device.run(ids).logits + model.logits([text], [pair])[0]
            np.testing.assert_array_equal(device.classify(text, pair).run.logits, expected)


def small_weights():
    return load_package(small.package("int8", "cortex-m7")).weights_bytes


def test_the_c_says_none_of_these_by_the_n_grams_too(tmp_path):
    folder = read_folder(small.copy_of_folder(tmp_path / "model"))
    model = model_of(small.LABELS, rank=3)
    model.save(folder.path / "wide")
    texts = [f"{first} {second}" for first in small.TEXTS for second in [*small.TEXTS, "party time", "bananas", "hm"]]
    ids = [tokenize(folder.tokenizer, text, max_length=folder.config.max_length).ids for text in texts]
    found = distances(load_features(folder, ids), np.arange(len(ids)) % 3, 3)
    written = add_known_head(folder, found.map, ids)
    linear = model.logits(texts, [None] * len(texts))
    spread = found.dev.min(1).std() / linear.max(1).std()
    numbers = tuple(np.random.default_rng(0).integers(-2, 3, found.dev_vectors.shape[1]).tolist())
    rows = tuple(map(tuple, np.round(found.map.means / found.step).tolist()))
    rejection = Rejection(LOGISTIC, 1.0, 0.0, rows, found.step, Direction(numbers, 0.125, float(np.float32(spread))))
    values = rejection.with_ngrams(np.concatenate([linear, found.dev_vectors], 1), linear)
    rejection = replace(rejection, threshold=float(np.float32(np.median(rejection.known(values)))))
    write_config(replace(written, rejection=rejection))
    package = api.compile(folder.path, "host", tmp_path / "package").contents
    told = []
    with open_place("host", package) as device:
        for text, own in zip(texts, linear, strict=True):
            said = device.classify(text)
            parts = rejection.values(package.split(said.run.logits), package.more)[None]
            values = rejection.with_ngrams(parts, own[None])
            if abs(rejection.known(values)[0] - rejection.threshold) > 1e-3:
                assert said.label == rejection.labels(values)[0]
                told.append((said.label == 3, replace(rejection, direction=None).labels(parts)[0] == 3))
    by_ngrams, without = np.array(told).T
    assert 0 < by_ngrams.sum() < len(told)
    assert (by_ngrams != without).any()


def test_wide_on_qemu_gives_the_hosts_bits(wide):
    package, _ = wide
    contents = package.contents
    with open_place("qemu", contents) as device, open_place("host", contents) as host:
        for vector in [*load_text_vectors(contents)][:4]:
            np.testing.assert_array_equal(device.classify(vector.text, vector.text_pair).run.logits, vector.logits)
        run = host.classify(small.TEXTS[0]).run.logits
        np.testing.assert_array_equal(device.classify(small.TEXTS[0]).run.logits, run)


def test_a_wide_package_without_a_tokenizer_is_refused(wide, tmp_path):
    _, folder = wide
    with pytest.raises(InputError, match="tokenizer must go with it"):
        api.compile(folder, "host", tmp_path / "p", CompileOptions(tokenizer=False))


def test_wide_of_other_labels_is_refused(wide, tmp_path):
    shutil.copytree(wide[1], tmp_path / "model")
    model_of("xyz").save(tmp_path / "model" / "wide")
    with pytest.raises(InputError, match="other labels"):
        api.load_model(tmp_path / "model")


@pytest.mark.parametrize(
    ("options", "named"), [({"precision": "int4"}, "--precision"), ({"rounding": "gptq"}, "--rounding")]
)
def test_ngrams_refuse_options_of_a_graph(alone, tmp_path, options, named):
    model = alone[1]
    model.save(tmp_path / "model")
    with pytest.raises(InputError, match=named):
        api.compile(tmp_path / "model", "host", tmp_path / "p", CompileOptions(**options))


def test_reference_of_texts_is_checked_when_read(alone, tmp_path):
    package = load_package(small.copy_of_package(alone[0].path, tmp_path / "p"))
    assert len(load_vectors(package)) > 8
    document = json.loads((package.path / "reference.json").read_text())
    document["vectors"][-1]["text"] = 3
    (package.path / "reference.json").write_text(json.dumps(document))
    with pytest.raises(InputError, match="text and text_pair must be texts"):
        load_text_vectors(package)


def test_float_model_of_a_wide_package_reads_the_text_too(wide):
    package, folder = wide
    from embbert_tvm.models.reference import TextReference

    contents = package.contents
    both = TextReference(contents.reference_model, contents.linear)
    ids = load_tokenizer(contents.tokenizer).encode(small.TEXTS[0]).ids
    wanted = Reference(folder / "model.onnx")(ids) + model_of(small.LABELS, rank=3).logits([small.TEXTS[0]])[0]
    np.testing.assert_allclose(both(ids, small.TEXTS[0]), wanted, rtol=1e-5, atol=1e-5)
