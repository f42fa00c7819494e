"""Short texts of every domain for `pretrain`: glosses, examples and requests made of WordNet, and sentences of skills.

    apt-get install wordnet-base
    pip install --no-deps --target PACKAGES home-assistant-intents chatterbot-corpus ovos-skill-weather ...
    python benchmarks/phrases.py /usr/share/wordnet PACKAGES -o phrases.txt
    embbert-tvm pretrain phrases.txt ... --teacher minilm --base models/embbert-base -o models/more

Novels and reviews do not speak of credit cards and oil changes; a base model that has read nothing else knows little
of what a user says to a device. A request is one of `REQUESTS` with nouns, verbs and adjectives of WordNet in it,
drawn by the root of how often they are used. Of PACKAGES the English sentences of *.intent, *.dialog and *.voc files
are taken (their alternatives drawn, their slots filled with nouns), chatterbot's conversations, and Home Assistant's
sentences.

The requests were written by hand by someone who knows what sets of intents ask; no text of one was looked at.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from embbert_tvm.data.files import write_atomically

REQUESTS = (
    "what is the {n}", "what's my {n}", "tell me my {n}", "how much is the {n}", "how do i {v} my {n}",
    "how do i {v} the {n}", "can you {v} the {n}", "please {v} my {n}", "i need to {v} a {n}", "i want to {v} my {n}",
    "i lost my {n}", "where is my {n}", "where can i find a {n}", "is there a {n} near me", "when is the {n}",
    "when was my last {n}", "how long does a {n} take", "how many {n} are there", "what does {a} mean",
    "what is the {n} of {n2}", "who is the {n}", "who made the {n}", "show me the {n} for my {n2}",
    "give me a {n} for {n2}", "set the {n} to {a}", "turn the {n} on", "turn off the {n}", "remind me to {v} the {n}",
    "do i have a {n}", "do i need a {n} for {n2}", "why is my {n} {a}", "why was my {n} {a}", "cancel my {n}",
    "change my {n} to {n2}", "order a {n}", "book a {n} for {n2}", "i would like a {a} {n}", "find me a {a} {n}",
    "add {n} to my {n2} list", "remove the {n} from my {n2}", "what's the difference between {n} and {n2}",
    "could you tell me about {n}", "let me know the {n}", "my {n} is {a}", "help me {v} a {n}",
    "i'm not sure about the {n}", "that is a {a} {n}", "you are a {a} {n}", "thanks for the {n}",
    "are there any {n} in {n2}", "how {a} is the {n}", "put {n} in the {n2}", "go to the {n}", "start the {n}",
    "stop the {n}", "report my {n} as {a}", "send the {n} to my {n2}", "has my {n} been {a}",
    "what should i {v} for {n}", "{v} the {n}", "{v} {n} {n2}", "{n} {n2}", "{a} {n}", "{n}", "what time is the {n}",
    "which {n} is {a}", "i can't {v} my {n}", "don't {v} the {n}", "check the {n} of my {n2}",
)  # fmt: skip
DRAWN = 260_000  # requests
# Texts kept of each kind, all of those that are not named.
KEPT = {"request": 253_000, "gloss": 90_000, "meaning": 8_000, "skill": 24_000}
LIVING = (5, 20)  # WordNet's files of animals and plants, whose nouns are mostly names of species
RELATIONAL = 1  # that of adjectives that say "of or about"
MOST_WORDS = 20
_FILLER = re.compile(r"\(([^()\[\]]*)\)|\[([^()\[\]]*)\]")


@dataclass
class Words:
    """Words of one kind, and how often each is drawn, summed up."""

    known: set[str] = field(default_factory=set)
    words: list[str] = field(default_factory=list)
    sums: list[float] = field(default_factory=list)

    def finish(self, used: Counter[str]) -> None:
        """used: how often WordNet's texts use a word. Words in a row count twice: "credit card"."""
        self.words = sorted(self.known)
        weights = ((1 + used[word.replace(" ", "_")]) ** 0.5 * (2 if " " in word else 1) for word in self.words)
        self.sums = list(itertools.accumulate(weights))

    def draw(self, rng: random.Random) -> str:
        return rng.choices(self.words, cum_weights=self.sums)[0]


@dataclass(frozen=True)
class Synset:
    """A line of WordNet: the number of its file, its words, its gloss and the examples behind that."""

    file: int
    words: tuple[str, ...]
    gloss: str
    examples: tuple[str, ...]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wordnet", type=Path, help="folder with data.noun, data.verb, ...")
    parser.add_argument("packages", type=Path, nargs="*", help="folders of unpacked packages")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    kinds: dict[str, str] = {}  # of each text
    words = {part: Words() for part in ("noun", "verb", "adj")}
    for text, kind in of_wordnet(options.wordnet, words, rng):
        keep(kinds, text, kind)
    for _ in range(DRAWN):
        n, n2, v, a = (words[part].draw(rng) for part in ("noun", "noun", "verb", "adj"))
        keep(kinds, rng.choice(REQUESTS).format(n=n, n2=n2, v=v, a=a), "request")
    for folder in options.packages:
        for text, kind in of_packages(folder, words["noun"], rng):
            keep(kinds, text, kind)
    texts = sampled(kinds, rng)
    write_atomically(options.output, ("\n".join(texts) + "\n").encode())
    print(f"{options.output}: {len(texts):,} texts")


def keep(kinds: dict[str, str], text: str, kind: str) -> None:
    """Take a text in ASCII of two words to `MOST_WORDS`, once."""
    text = " ".join(text.split())
    if text.isascii() and 2 <= len(text.split()) <= MOST_WORDS:
        kinds.setdefault(text, kind)


def of_wordnet(folder: Path, words: dict[str, Words], rng: random.Random) -> Iterator[tuple[str, str]]:
    """Glosses and examples, each with its kind; fills `words`."""
    for part in ("noun", "verb", "adj", "adv"):
        for synset in synsets(folder / f"data.{part}"):
            if synset.file not in LIVING:
                yield synset.gloss, "gloss"
                if rng.random() < 0.3:
                    yield f"{synset.words[0]} means {synset.gloss}", "meaning"
            yield from ((example.lower(), "example") for example in synset.examples)
            left_out = {"noun": LIVING, "adj": (RELATIONAL,)}.get(part, ())
            if part in words and synset.file not in left_out:
                words[part].known |= {word for word in synset.words if part != "noun" or word.islower()}
    used: Counter[str] = Counter()
    for line in (folder / "cntlist.rev").read_text().splitlines():
        sense, _, count = line.split()
        used[sense.split("%")[0]] += int(count)
    for of_part in words.values():
        of_part.finish(used)


def synsets(path: Path) -> Iterator[Synset]:
    """The lines of data.noun and its like: offset, file, part of speech, count of words in hex, words, ... | gloss."""
    for line in path.read_text().splitlines():
        if line.startswith("  "):  # the licence
            continue
        fields, said = line.split(" | ", 1)
        columns = fields.split()
        names = columns[4 : 4 + 2 * int(columns[3], 16) : 2]
        words = tuple(re.sub(r"\(.*\)", "", name).replace("_", " ") for name in names)
        yield Synset(int(columns[1]), words, said.split(";")[0].strip(), tuple(re.findall(r'"([^"]+)"', said)))


def of_packages(folder: Path, nouns: Words, rng: random.Random) -> Iterator[tuple[str, str]]:
    """Sentences of skills, conversations, and Home Assistant's sentences, each with its kind."""
    for path in sorted(x for ext in ("intent", "dialog", "voc") for x in folder.rglob(f"*.{ext}")):
        if not any(part.lower().startswith("en-") for part in path.parts):
            continue
        for line in path.read_text(encoding="utf-8", errors="ignore").splitlines():
            if line.strip() and line[0] not in "#0123456789":  # days in history are told by year
                for _ in range(6 if path.suffix == ".intent" else 2):
                    yield filled(line, nouns, rng), "skill"
    for path in sorted(folder.rglob("chatterbot_corpus/data/english/*.yml")):
        for conversation in yaml.safe_load(path.read_text(encoding="utf-8")).get("conversations", []):
            yield from ((str(line), "conversation") for line in conversation)
    for path in sorted(folder.rglob("home_assistant_intents/data/en.json")):
        for sentence in sentences(json.loads(path.read_text(encoding="utf-8"))):
            yield from ((filled(sentence, nouns, rng), "home") for _ in range(8))


def sentences(node: object) -> Iterator[str]:
    """What stands under "sentences" anywhere in a document."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield from map(str, value) if key == "sentences" else sentences(value)
    elif isinstance(node, list):
        for item in node:
            yield from sentences(item)


def filled(text: str, nouns: Words, rng: random.Random) -> str:
    """One of the texts that a pattern with (a|b), [c] and {slot} or <slot> stands for."""
    while (found := _FILLER.search(text)) is not None:
        choices = found[1].split("|") if found[1] is not None else [*found[2].split("|"), ""]
        text = text[: found.start()] + rng.choice(choices) + text[found.end() :]
    return re.sub(r"\{+[^}]*\}+|<[^>]*>", lambda _: nouns.draw(rng), text).lower()


def sampled(kinds: dict[str, str], rng: random.Random) -> list[str]:
    """Texts of each kind, as many as `KEPT` says, in random order."""
    by_kind = defaultdict(list)
    for text, kind in kinds.items():
        by_kind[kind].append(text)
    texts = [text for kind, all in by_kind.items() for text in rng.sample(all, min(len(all), KEPT.get(kind, len(all))))]
    rng.shuffle(texts)
    return texts


if __name__ == "__main__":
    main()
