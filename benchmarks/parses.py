"""Sentences, sound and broken, each with whether Link Grammar parses it: a set that teaches a base model syntax.

    apt-get install link-grammar link-grammar-dictionaries-en
    python benchmarks/parses.py TEXT... --near COLA/train.tsv.xz --without COLA/test.tsv.xz -o PARSES
    embbert-tvm train PARSES/train.tsv.xz --dev PARSES/dev.tsv.xz --base models/embbert-base --epochs 4 \\
        --token-dropout 0 --label-smoothing 0 -o models/embbert-parses

    python benchmarks/parses.py --score COLA/test.tsv.xz

TEXT is plain text of whole sentences. Half of the set is made of the texts of --near, a set that the model shall learn
later; its labels are not read. Label 1: every word can be linked (Sleator and Temperley, CMU-CS-91-196), 0: not.
--score prints 100 times Matthews' correlation of the labels of a set, 1 and 0, with what the parser says of its texts.
"""

from __future__ import annotations

import argparse
import itertools
import random
import re
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from embbert_tvm.data.corpus import read_texts
from embbert_tvm.data.dataset import Example, read_examples, write_examples
from embbert_tvm.data.leaks import HeldOut, text_key
from embbert_tvm.data.metrics import mcc
from embbert_tvm.errors import EmbbertError, InputError, WorkError

PARSER = ("link-parser", "en", "-null=0", "-graphics=0", "-limit=20", "-timeout=1", "-panic=0", "-echo=1")
FOUND = re.compile(r"Found \d+ linkages? \([1-9]")  # that break no rule of the parser's post-processing
SENTENCE = re.compile(r"[A-Z][A-Za-z ,';-]*[.?!]")
WORD = re.compile(r"[A-Za-z]+(?:['-][A-Za-z]+)*|[.,?!;]")
SUFFIX = re.compile(r"(ies|ied|ying|ing|ed|es|s|er|est|ly|en|d|e|y)$")
FEWEST, MOST = 3, 14  # words of a sentence
FOLLOWERS = 3000  # kept of a word
CHUNK = 3000  # sentences that one parser reads
TRIES = 100  # candidates for one that is new, on average of a chunk
DEV = 3000
CLASSES = [
    line.split()
    for line in """
is are was were be been being am
has have had having
do does did done doing
he him his himself
she her hers herself
they them their themselves
I me my myself
we us our ourselves
it its itself
who whom whose which that what
the a an any some no every all each both
to for of in on at by with from into
this these that those
can could will would shall should may might must
and or but than as if because that
much many few little
he they I you it
there it this
go goes went gone going
see sees saw seen
give gives gave given
take takes took taken
come comes came
himself herself themselves him
more most very too so
""".strip().splitlines()
]


class Breaker:
    """Breaks sentences as learners do: another form, a word too few or too many, or in another order."""

    def __init__(self, sentences: Sequence[str], near: Sequence[str], rng: random.Random) -> None:
        self._sentences, self._rng = sentences, rng
        self._after: dict[str, list[str]] = defaultdict(list)
        self._before: dict[str, list[str]] = defaultdict(list)
        self._counts: Counter[str] = Counter()
        for sentence in [*sentences, *near]:
            words = WORD.findall(sentence)
            words[0] = words[0] if words[0] == "I" else words[0].lower()
            self._counts.update(words)
            for left, right in itertools.pairwise(words):
                for found, word in ((self._after[left], right), (self._before[right], left)):
                    if len(found) < FOLLOWERS:
                        found.append(word)
        self._forms = self._related()

    def _related(self) -> dict[str, list[str]]:
        """Words of the same stem, and of the same closed class."""
        stems = defaultdict(list)
        for word, count in self._counts.items():
            if count >= 4 and len(word) > 3 and word.isalpha() and word.islower():
                stem = SUFFIX.sub("", word)
                stems[stem if len(stem) >= 3 else word].append(word)
        related = defaultdict(set)
        for group in [*stems.values(), *CLASSES]:
            for word in group:
                related[word].update(other for other in group if other != word)
        return {word: sorted(others) for word, others in related.items() if others}

    def broken(self, sentence: str) -> str:
        """The sentence with one to three changes; it may have become another sound one."""
        *words, end = WORD.findall(sentence)
        lowered = words[0].lower()
        if words[0] != "I" and self._counts[lowered] > self._counts[words[0]]:
            words[0] = lowered
        for _ in range(self._rng.choice((1, 1, 1, 2, 2, 3))):
            self._change(words, self._rng.randrange(len(words)))
        text = re.sub(r" ([.,?!;])", r"\1", " ".join([*words, end]))
        return text[0].upper() + text[1:]

    def _change(self, words: list[str], i: int) -> None:
        kind = self._rng.random()
        if kind < 0.3:
            known = [j for j, word in enumerate(words) if word in self._forms]
            if known:
                j = self._rng.choice(known)
                words[j] = self._rng.choice(self._forms[words[j]])
        elif kind < 0.5:
            left, right = (words[i - 1] if i else ""), (words[i + 1] if i + 1 < len(words) else "")
            choices = self._after[left] if self._rng.random() < 0.5 else self._before[right]
            words[i] = self._rng.choice(choices) if choices else words[i]
        elif kind < 0.66:
            if len(words) > 3:
                del words[i]
        elif kind < 0.76:
            words[i - 1], words[i] = words[i], words[i - 1]
        elif kind < 0.84:
            words.insert(self._rng.randrange(len(words)), words.pop(i))
        elif kind < 0.92:
            words.insert(i, self._rng.choice(WORD.findall(self._rng.choice(self._sentences))))
        else:
            other = WORD.findall(self._rng.choice(self._sentences))[:-1]
            words[i + 1 :] = other[self._rng.randrange(len(other)) :][: MOST - i]


def parsed(sentences: Sequence[str]) -> list[bool]:
    """Whether the parser links every word of each; WorkError where it does not answer for each."""
    done = subprocess.run(PARSER, input="\n".join(sentences) + "\n", capture_output=True, text=True)
    answers: list[bool] = []
    for line in done.stdout.splitlines():
        if len(answers) < len(sentences) and line == sentences[len(answers)]:
            answers.append(False)
        elif answers and FOUND.match(line):
            answers[-1] = True
    if len(answers) != len(sentences):
        raise WorkError(f"{PARSER[0]} read {len(answers)} of {len(sentences)} sentences: {done.stderr[-200:]}")
    return answers


def agreement(examples: Sequence[Example]) -> float:
    """Matthews' correlation of whether a text is labelled 1 and whether it is parsed."""
    sound = parsed([" ".join(x.text.split()) for x in examples])
    return mcc(np.array([x.label == "1" for x in examples]).astype(int), np.array(sound).astype(int))


def candidates(sentences: Sequence[str], near: Sequence[str], rng: random.Random) -> Iterator[tuple[str, bool]]:
    """Texts to label, without end, and whether each is somebody's sentence; two broken ones for each of these."""
    breaker = Breaker(sentences, near, rng)
    while True:
        for pool in (sentences, near) if near else (sentences,):
            sentence = rng.choice(pool)
            yield sentence, True
            for _ in range(2):
                yield breaker.broken(sentence), False


def labelled(
    sentences: Sequence[str], near: Sequence[str], without: Sequence[Example], most: int, seed: int
) -> list[Example]:
    """`most` different texts with the parser's label, none of them one of `without`.

    What somebody wrote and the parser cannot read is left out. InputError where there are not so many texts.
    """
    kept: dict[str, Example] = {}
    unwanted = HeldOut.of(without).texts
    source = candidates(sentences, near, random.Random(seed))
    while len(kept) < most:
        texts: dict[str, bool] = {}
        for text, written in itertools.islice(source, TRIES * CHUNK):
            if text not in kept and text_key(text) not in unwanted and SENTENCE.fullmatch(text):
                texts[text] = written
                if len(texts) == CHUNK:
                    break
        if len(texts) < CHUNK:
            raise InputError(f"these texts do not make {most:,} sentences: give more text, or a smaller --most")
        for (text, written), sound in zip(texts.items(), parsed(list(texts)), strict=True):
            if sound or not written:
                kept[text] = Example(str(int(sound)), text)
        print(f"{len(kept):,} of {most:,}", end="\r", file=sys.stderr)
    return list(kept.values())[:most]


def _sentences(paths: Sequence[Path]) -> list[str]:
    found = [" ".join(text.strip().strip('"').split()) for text in read_texts(paths)] if paths else []
    return [x for x in found if FEWEST <= len(x.split()) <= MOST and SENTENCE.fullmatch(x)]


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="parses", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("texts", type=Path, nargs="*", metavar="TEXT")
    parser.add_argument(
        "--score", type=Path, help="labelled set: print Matthews' correlation of its labels and the parser"
    )
    parser.add_argument(
        "--near", type=Path, action="append", default=[], help="set whose texts make half of the output"
    )
    parser.add_argument("--without", type=Path, action="append", default=[], help="set whose texts must not be in it")
    parser.add_argument("--most", type=int, default=300_000, help=f"texts of the output, of which {DEV} are for dev")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--output", type=Path)
    arguments = parser.parse_args()
    if arguments.score is None and not (arguments.texts and arguments.output):
        parser.error("give TEXT... and -o, or --score")
    if arguments.most <= DEV:
        parser.error(f"--most must be over {DEV}")
    try:
        if arguments.score is not None:
            print(f"{100 * agreement(read_examples(arguments.score)):.1f}")
            return 0
        sentences, near = _sentences(arguments.texts), _sentences(arguments.near)
        if not sentences:
            raise InputError(f"no sentence of {FEWEST} to {MOST} words in {', '.join(map(str, arguments.texts))}")
        without = [x for path in arguments.without for x in read_examples(path)]
        examples = labelled(sentences, near, without, arguments.most, arguments.seed)
    except FileNotFoundError:
        print(f"parses: {PARSER[0]} is not installed: apt-get install link-grammar", file=sys.stderr)
        return 1
    except EmbbertError as error:
        print(f"parses: {error}", file=sys.stderr)
        return 1
    arguments.output.mkdir(parents=True, exist_ok=True)
    for name, part in (("dev", examples[:DEV]), ("train", examples[DEV:])):
        write_examples(arguments.output / f"{name}.tsv.xz", part)
        sound = sum(x.label == "1" for x in part)
        print(f"{name}: {len(part):,} texts, of which {sound:,} can be parsed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
