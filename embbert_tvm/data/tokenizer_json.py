"""Reads a tokenizer.json into a TokenizerSpec; what the tokenizer on the device cannot do is refused by its name."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

from embbert_tvm.data.tokenizer import TextTokenizer, id_count, load_tokenizer
from embbert_tvm.data.tokenizer_models import read_model
from embbert_tvm.data.tokenizer_spec import (
    AddedToken,
    Begin,
    Delimit,
    MapCharacters,
    MapGraphemes,
    Normalizer,
    OrderMarks,
    Prepend,
    ReplaceRun,
    ReplaceText,
    SplitPattern,
    Splitter,
    Strip,
    Template,
    TokenizerSpec,
)
from embbert_tvm.errors import InputError

_ADVICE = "--no-tokenizer compiles the model for token ids alone (docs/tokenizer.md lists what is supported)"

_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}@|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_PATTERNS = {
    _GPT2: SplitPattern(newlines=False, digits=0),
    _LLAMA3.replace("@", "{1,3}"): SplitPattern(newlines=True, digits=3),
    _LLAMA3.replace("@", ""): SplitPattern(newlines=True, digits=1),
}
# A regular expression of one character, and how often it stands.
_ATOM = r"(\\[^a-zA-Z0-9]|\\[sSdDwWtnr]|\\[pP]\{\w+\}|\[\^?(?:\\.|[^\\\[\]&])+\]|[^\\\[\](){}.*+?^$|])"
_RUN = re.compile(_ATOM + r"(?:(\+)|\{(\d{1,2}),\})?")
_MOST_HELD = 16  # characters of a run that are held back

Refuse = Callable[[str], NoReturn]


def read_spec(path: Path) -> TokenizerSpec:
    """The spec of a tokenizer.json; InputError names what the device cannot do."""
    return spec_of(load_tokenizer(path), path)


def spec_of(tokenizer: TextTokenizer, path: Path) -> TokenizerSpec:
    """The spec of a tokenizer; `path` stands in the messages."""

    def refuse(what: str) -> NoReturn:
        raise InputError(f"{path}: {what} is not supported on the device: {_ADVICE}")

    document = json.loads(tokenizer.to_str())
    byte_level, splitters = _splitters(document["pre_tokenizer"], refuse)
    normalizers = tuple(_normalizers(document["normalizer"], refuse))
    _check_first(normalizers, splitters, refuse)
    return TokenizerSpec(
        tokenizer=tokenizer,
        vocabulary=id_count(tokenizer),
        normalizers=normalizers,
        splitters=splitters,
        byte_level=byte_level,
        model=read_model(document["model"], refuse),
        template=_template(document["post_processor"], refuse),
        added=_added(document["added_tokens"], tokenizer, refuse),
        trims=_trims(document["post_processor"]) if byte_level else (False, False),
    )


def _parts(found: dict[str, Any] | None, key: str) -> Iterator[dict[str, Any]]:
    """The parts of a sequence, and of those in it."""
    if found is None:
        return
    if found["type"] == "Sequence":
        for part in found[key]:
            yield from _parts(part, key)
    else:
        yield found


def _normalizers(found: dict[str, Any] | None, refuse: Refuse) -> Iterator[Normalizer]:
    for step in _parts(found, "normalizers"):
        kind = step["type"]
        if kind == "BertNormalizer":
            yield from _bert(step)
        elif kind in ("NFD", "NFKD", "NFC", "NFKC"):
            yield MapCharacters(json.dumps({"type": kind.replace("C", "D")}))
            yield OrderMarks(compose=kind.endswith("C"))
        elif kind in ("Lowercase", "StripAccents"):
            yield MapCharacters(json.dumps(step))
        elif kind == "Replace":
            yield _replace(step, refuse)
        elif kind == "Prepend":
            if step["prepend"]:
                yield Prepend(step["prepend"])
        elif kind == "Strip":
            yield Strip(step["strip_left"], step["strip_right"])
        elif kind == "Precompiled":
            if step["precompiled_charsmap"]:
                yield MapGraphemes(json.dumps(step), base64.b64decode(step["precompiled_charsmap"]))
        else:
            refuse(f"the normalizer {kind}")


def _bert(step: dict[str, Any]) -> Iterator[Normalizer]:
    """BertNormalizer's own order: clean, part Chinese, strip accents, lower-case."""

    def only(**options: bool) -> str:
        off = dict.fromkeys(("clean_text", "handle_chinese_chars", "strip_accents", "lowercase"), False)
        return json.dumps({"type": "BertNormalizer"} | off | options)

    strips = step["lowercase"] if step["strip_accents"] is None else step["strip_accents"]
    if step["clean_text"] or step["handle_chinese_chars"]:
        yield MapCharacters(only(clean_text=step["clean_text"], handle_chinese_chars=step["handle_chinese_chars"]))
    if strips:
        yield MapCharacters('{"type": "NFD"}')
        yield OrderMarks(compose=False)
        yield MapCharacters(only(strip_accents=True))
    if step["lowercase"]:
        yield MapCharacters('{"type": "Lowercase"}')


def _replace(step: dict[str, Any], refuse: Refuse) -> Normalizer:
    (kind, pattern), content = next(iter(step["pattern"].items())), step["content"]
    if kind == "String" and len(pattern) == 1:
        return MapCharacters(json.dumps(step))
    if kind == "String" and 1 < len(pattern) <= _MOST_HELD:
        return ReplaceText(pattern, content)
    match = _RUN.fullmatch(pattern) if kind == "Regex" else None
    if match is None or int(match[3] or 1) > _MOST_HELD or match[3] == "0":
        refuse(f"the normalizer Replace with the pattern {pattern!r}")
    if match[2] or match[3]:
        return ReplaceRun(match[1], int(match[3] or 1), content)
    return MapCharacters(json.dumps(step))


def _splitters(found: dict[str, Any] | None, refuse: Refuse) -> tuple[bool, tuple[Splitter, ...]]:
    """Whether words are cut into bytes, and how they are split."""
    splitters: list[Splitter] = []
    byte_level = False
    for step in _parts(found, "pretokenizers"):
        kind = step["type"]
        if byte_level:
            refuse(f"the pre-tokenizer {kind} behind ByteLevel")
        if kind == "ByteLevel":
            byte_level = True
            if step["add_prefix_space"]:
                splitters.append(Begin(" ", first=False, always=True, replaces=None))
            if step.get("use_regex", True):
                splitters.append(_PATTERNS[_GPT2])
        elif kind == "Metaspace":
            splitters += _metaspace(step)
        elif kind in _DELIMITERS:
            splitters += _DELIMITERS[kind](step)
        elif kind == "Split":
            splitters.append(_split(step, refuse))
        else:
            refuse(f"the pre-tokenizer {kind}")
    for wanted, name in ((Begin, "added prefix"), (SplitPattern, "pattern")):
        if sum(isinstance(s, wanted) for s in splitters) > 1:
            refuse(f"a pre-tokenizer with more than one {name}")
    return byte_level, tuple(splitters)


_DELIMITERS: dict[str, Callable[[dict[str, Any]], list[Delimit]]] = {
    "BertPreTokenizer": lambda _: [Delimit("white space", "removed"), Delimit("punctuation", "isolated")],
    "Whitespace": lambda _: [Delimit("space", "removed"), Delimit("word", "contiguous")],
    "WhitespaceSplit": lambda _: [Delimit("white space", "removed")],
    "Punctuation": lambda step: [Delimit("punctuation", _behavior(step))],
    "Digits": lambda step: [Delimit("numeric", "isolated" if step["individual_digits"] else "contiguous")],
    "CharDelimiterSplit": lambda step: [Delimit(re.escape(step["delimiter"]), "removed")],
}


def _behavior(step: dict[str, Any]) -> Any:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", step["behavior"]).lower()


def _metaspace(step: dict[str, Any]) -> list[Splitter]:
    scheme, mark = step["prepend_scheme"], step["replacement"]
    found: list[Splitter] = [Begin(mark, first=scheme == "first", always=scheme == "always", replaces=" ")]
    if step["split"]:
        found.append(Delimit(re.escape(mark), "merged_with_next"))
    return found


def _split(step: dict[str, Any], refuse: Refuse) -> Splitter:
    (kind, pattern), behavior = next(iter(step["pattern"].items())), _behavior(step)
    whole = (behavior, step["invert"]) in (("isolated", False), ("removed", True))
    if kind == "Regex" and pattern in _PATTERNS and whole:
        return _PATTERNS[pattern]
    if kind == "String" and len(pattern) == 1 and not step["invert"]:
        return Delimit(re.escape(pattern), behavior)
    match = _RUN.fullmatch(pattern) if kind == "Regex" and not step["invert"] else None
    if match is not None and not match[2] and not match[3]:
        return Delimit(match[1], behavior)
    if match is not None and match[2] and behavior in ("removed", "isolated"):
        return Delimit(match[1], "removed" if behavior == "removed" else "contiguous")
    inverted = ", inverted," if step["invert"] else ""
    refuse(f"the pre-tokenizer Split with the pattern {pattern!r}{inverted} and {step['behavior']}")


def _check_first(normalizers: tuple[Normalizer, ...], splitters: tuple[Splitter, ...], refuse: Refuse) -> None:
    """A prefix for the text's first piece alone needs to be told whether what stands before it was removed."""
    place = next((n for n, s in enumerate(splitters) if isinstance(s, Begin) and s.first), None)
    if place is None:
        return
    first = "the pre-tokenizer Metaspace with prepend_scheme 'first'"
    if place > 0:
        refuse(f"{first} behind another pre-tokenizer")
    for number, step in enumerate(normalizers):
        expanded = any(isinstance(s, OrderMarks | MapGraphemes | Prepend) for s in normalizers[:number])
        if isinstance(step, Strip) and step.left and number > 0:
            refuse(f"{first} and a Strip that is not the first normalizer")
        if isinstance(step, ReplaceRun) and step.least == 1:
            refuse(f"{first} and a Replace of runs of any length")
        if isinstance(step, MapCharacters) and expanded and '"StripAccents"' in step.normalizer:
            refuse(f"{first} and StripAccents")


def _template(found: dict[str, Any] | None, refuse: Refuse) -> Template:
    plain = Template(("A",), ("A", "B"))
    steps = [step for step in _parts(found, "processors") if step["type"] != "ByteLevel"]
    if not steps:
        return plain
    if len(steps) > 1:
        refuse(f"the post-processors {' and '.join(step['type'] for step in steps)} together")
    (step,) = steps
    if step["type"] == "TemplateProcessing":
        ids = {name: token["ids"] for name, token in step["special_tokens"].items()}
        template = Template(_pieces(step["single"], ids), _pieces(step["pair"], ids))
    elif step["type"] in ("BertProcessing", "RobertaProcessing"):
        cls, sep = step["cls"][1], step["sep"][1]
        between = (sep,) if step["type"] == "BertProcessing" else (sep, sep)
        template = Template((cls, "A", sep), (cls, "A", *between, "B", sep))
    else:
        refuse(f"the post-processor {step['type']}")
    for pieces, texts in ((template.single, "A"), (template.pair, "AB")):
        if "".join(piece for piece in pieces if isinstance(piece, str)) != texts:
            refuse(f"the post-processor {step['type']} with a template that is not of {' and '.join(texts)} in order")
    return template


def _trims(found: dict[str, Any] | None) -> tuple[bool, bool]:
    steps = [step for step in _parts(found, "processors") if step.get("trim_offsets")]
    return bool(steps), any(step["add_prefix_space"] for step in steps)


def _pieces(pieces: list[dict[str, Any]], ids: dict[str, list[int]]) -> tuple[int | str, ...]:
    found: list[int | str] = []
    for piece in pieces:
        if "Sequence" in piece:
            found.append(piece["Sequence"]["id"])
        else:
            found += ids[piece["SpecialToken"]["id"]]
    return tuple(found)


def _added(tokens: list[dict[str, Any]], tokenizer: TextTokenizer, refuse: Refuse) -> tuple[AddedToken, ...]:
    """The added tokens that a text may hold; none where all are special and stand for their text."""
    found = []
    for token in tokens:
        text = token["content"]
        if token["normalized"] and tokenizer.normalizer is not None:
            text = tokenizer.normalizer.normalize_str(text)
        if not text:
            refuse(f"the added token {token['content']!r}, of which normalizing leaves nothing,")
        ignored = token["special"] and tokenizer.encode_special_tokens
        flags = token["single_word"], token["lstrip"], token["rstrip"], token["normalized"]
        found.append(AddedToken(token["id"], text, *flags, ignored))
    if all(token.ignored for token in found):
        return ()
    if any(token.strips_right for token in found):
        for token in found:
            if token.text[0].isspace():
                refuse(f"the added token {token.text!r}, beginning with white space, beside one with rstrip,")
    return tuple(found)
