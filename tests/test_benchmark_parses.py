"""The benchmark that has a parser label sentences."""

from __future__ import annotations

import itertools
import random
import sys

import pytest

from embbert_tvm.data.dataset import Example
from embbert_tvm.errors import InputError, WorkError
from embbert_tvm.resources import resource

BENCHMARKS = resource("benchmarks")
sys.path.insert(0, str(BENCHMARKS))

import parses  # noqa: E402

SOUND = [
    f"{who} {did} the {what}."
    for who in ("The man", "He", "Anna")
    for did in ("sees", "saw")
    for what in ("dog", "book")
]
PARSER = """
import sys
print("echo set to 1")
for line in sys.stdin:
    line = line.rstrip("\\n")
    print(line)
    if "book" in line:
        print("No complete linkages found.")
    found = 1 if line.endswith(("the dog.", "the book.")) else 0
    print(f"Found 7 linkages ({found} of 1 random linkages had no P.P. violations)")
"""


@pytest.fixture
def parser_of_two_objects(monkeypatch):
    monkeypatch.setattr(parses, "PARSER", (sys.executable, "-c", PARSER))


def test_a_sentence_is_parsed_where_a_linkage_breaks_no_rule(parser_of_two_objects):
    assert parses.parsed(["He saw the dog.", "He the saw dog.", "He saw the book.", "Dog."]) == [
        True,
        False,
        True,
        False,
    ]


def test_the_parser_is_scored_by_a_labelled_set(parser_of_two_objects, monkeypatch, tmp_path, capsys):
    rows = ["1\tHe saw the dog.", "1\tHe saw  the book.", "0\tHe the saw.", "0\tAnna saw the dog."]
    (tmp_path / "set.tsv").write_text("label\ttext\n" + "\n".join(rows) + "\n", encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["parses", "--score", str(tmp_path / "set.tsv")])
    assert parses.main() == 0
    assert capsys.readouterr().out == "57.7\n"


def test_a_parser_that_skips_a_sentence_is_an_error(monkeypatch):
    monkeypatch.setattr(parses, "PARSER", (sys.executable, "-c", "import sys; print(sys.stdin.readline())"))
    with pytest.raises(WorkError, match="read 1 of 2"):
        parses.parsed(["He saw the dog.", "Anna saw the dog."])


def test_labelled_sentences_are_new_and_the_same_again(parser_of_two_objects, monkeypatch):
    monkeypatch.setattr(parses, "CHUNK", 40)
    without = [Example("0", "He saw  the dog."), Example("1", "anna the saw dog.")]
    made = parses.labelled(SOUND, SOUND[:2], without, 100, 1)
    texts = [x.text for x in made]
    assert len(set(texts)) == 100
    assert not {"he saw the dog.", "anna the saw dog."} & {text.lower() for text in texts}
    assert {x.label for x in made} == {"0", "1"}
    assert all(x.label == str(int(x.text.endswith(("the dog.", "the book.")))) for x in made)
    assert made == parses.labelled(SOUND, SOUND[:2], without, 100, 1)


def test_what_somebody_wrote_and_the_parser_cannot_read_is_left_out(parser_of_two_objects, monkeypatch):
    texts = {"He saw the dog.": True, "Nobody sees.": True, "He saw dog.": False, "Anna saw the dog.": False}
    monkeypatch.setattr(parses, "CHUNK", len(texts))
    monkeypatch.setattr(parses, "candidates", lambda *given: iter(texts.items()))
    made = parses.labelled(SOUND, [], [], 3, 1)
    assert [(x.label, x.text) for x in made] == [
        ("1", "He saw the dog."),
        ("0", "He saw dog."),
        ("1", "Anna saw the dog."),
    ]


def test_too_little_text_is_refused(parser_of_two_objects, monkeypatch):
    monkeypatch.setattr(parses, "candidates", lambda *given: itertools.repeat(("He saw the dog.", True)))
    with pytest.raises(InputError, match="do not make 100 sentences"):
        parses.labelled(SOUND, [], [], 100, 1)


def test_a_broken_sentence_takes_forms_of_the_same_words():
    breaker = parses.Breaker(SOUND * 4, [], random.Random(0))
    made = {breaker.broken("He sees the dog.") for _ in range(300)}
    assert {"Him sees the dog.", "He the sees dog.", "He sees the."} <= made
    assert not any(text[0].islower() for text in made)


def test_a_missing_parser_is_one_line(monkeypatch, tmp_path, capsys):
    (tmp_path / "text.txt").write_text("He saw the dog.\n" * 3, encoding="utf-8")
    monkeypatch.setattr(parses, "PARSER", ("no-such-parser",))
    monkeypatch.setattr(sys, "argv", ["parses", str(tmp_path / "text.txt"), "-o", str(tmp_path / "out")])
    assert parses.main() == 1
    assert capsys.readouterr().err == "parses: no-such-parser is not installed: apt-get install link-grammar\n"
    assert not (tmp_path / "out").exists()
