"""Labelled sets: what is read, and what is refused with its line."""

import gzip
import lzma

import pytest

from embbert_tvm.data.dataset import (
    CALIBRATION_TEXTS,
    Example,
    calibration_sample,
    label_list,
    read_examples,
    task_name,
)
from embbert_tvm.errors import InputError
from embbert_tvm.resources import resource


@pytest.mark.parametrize(("suffix", "pack"), [("", bytes), (".gz", gzip.compress), (".xz", lzma.compress)])
def test_reads_plain_and_compressed(tmp_path, suffix, pack):
    path = tmp_path / f"set.tsv{suffix}"
    path.write_bytes(pack('\ufefflabel\ttext\r\non\tLights "on"\r\n\r\noff\té\u2028off\n'.encode()))
    assert read_examples(path) == [Example("on", 'Lights "on"'), Example("off", "é\u2028off")]


def test_reads_pairs(tmp_path):
    path = tmp_path / "pairs.tsv"
    path.write_text("label\ttext\ttext_pair\n1.5\ta\tb\n")
    assert read_examples(path, regression=True) == [Example("1.5", "a", "b")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds no examples"),
        (b"label\ttext\n", "holds no examples"),
        (b"on\tlights on\n", "line 1: must be the header"),
        (b"text\tlabel\n", "line 1: must be the header"),
        (b"label\ttext\non\n", "line 2: has 1 columns, the header has 2"),
        (b"label\ttext\non\ta\tb\n", "line 2: has 3 columns, the header has 2"),
        (b"label\ttext\non\ta\n\toops\n", "line 3: has no label"),
        (b"label\ttext\non\ta\non\t\xff\n", r"line 3: not UTF-8 \(byte 4\)"),
        (b"label\ttext\nup\ta\n", "line 2: label 'up' is not the model's"),
    ],
)
def test_refuses_with_the_line(tmp_path, content, message):
    path = tmp_path / "set.tsv"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_examples(path, labels=["on", "off"])


@pytest.mark.parametrize("label", ["good", "nan", "inf"])
def test_regression_needs_numbers(tmp_path, label):
    path = tmp_path / "set.tsv"
    path.write_text(f"label\ttext\n{label}\ta\n")
    with pytest.raises(InputError, match=r"line 2: label .* is not a number"):
        read_examples(path, regression=True)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.xz", b"plain"),
        ("a.gz", b"plain"),
        ("a.xz", lzma.compress(b"x" * 99)[:-9]),
        ("a.gz", gzip.compress(b"x", mtime=0)[:-4]),
    ],
)
def test_refuses_damaged_archives(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match="damaged"):
        read_examples(tmp_path / name)


def test_refuses_what_is_not_there(tmp_path):
    for path in (tmp_path / "none.tsv", tmp_path):
        with pytest.raises(InputError, match="cannot be read"):
            read_examples(path)


def test_snips_is_whole():
    snips = resource("data", "snips")
    sets = {name: read_examples(snips / f"{name}.tsv.xz") for name in ("train", "dev", "test")}
    assert {name: len(examples) for name, examples in sets.items()} == {
        "train": 13084,
        "dev": 700,
        "test": 700,
    }
    assert len(label_list(sets["train"])) == 7
    assert label_list(sets["test"]) == label_list(sets["train"])
    assert task_name(snips / "test.tsv.xz") == "snips"
    assert task_name(snips / "mine.tsv") == "mine"


@pytest.mark.parametrize(
    "content",
    [
        '"label"\t"text"\n"a"\t"b"\n',
        'label\ttext\na\t"say ""hi"" now"\n',
        'label\ttext\n"a"\thi\n',
        'label\ttext\na\t"two\tfields"\n',
        'label\ttext\na\t"two\nlines"\n',
    ],
)
def test_what_is_quoted_as_csv_is_refused_by_that_name(tmp_path, content):
    path = tmp_path / "x.tsv"
    path.write_text(content)
    with pytest.raises(InputError, match="quoted as CSV"):
        read_examples(path)


@pytest.mark.parametrize("text", ['"hello"', '"Yes," she said, "no."', 'the 3" pipe', '""', 'say ""hi""', '"'])
def test_a_text_may_stand_in_quotes(tmp_path, text):
    path = tmp_path / "x.tsv"
    path.write_text(f"label\ttext\na\t{text}\n")
    assert read_examples(path) == [Example("a", text)]


@pytest.mark.parametrize("label", ["a\0", "a\x1b[1m", "a\u2028b"])
def test_a_label_is_one_line_of_text(tmp_path, label):
    path = tmp_path / "x.tsv"
    path.write_text(f"label\ttext\n{label}\thi\n")
    with pytest.raises(InputError, match="control character"):
        read_examples(path)


def test_a_pointer_of_git_lfs_is_named(tmp_path):
    path = tmp_path / "x.tsv"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    with pytest.raises(InputError, match="pointer of Git LFS"):
        read_examples(path)


def test_a_sample_to_calibrate_on_is_of_the_whole_set():
    examples = [(label, n) for label in "abcd" for n in range(200)]
    sample = calibration_sample(examples)
    assert len(set(sample)) == CALIBRATION_TEXTS
    assert {label for label, _ in sample} == set("abcd")
    assert sample == calibration_sample(examples)
    assert calibration_sample(examples[:7]) == examples[:7]
