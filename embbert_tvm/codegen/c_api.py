"""The one header that a firmware includes: constants, types and functions of a compiled model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from embbert_tvm.codegen import c_tags
from embbert_tvm.codegen.c_rejection import RESULT_COMMENTS
from embbert_tvm.codegen.plan import ALIGN
from embbert_tvm.codegen.steps import OUTPUT, Program
from embbert_tvm.codegen.templates import substitute, template
from embbert_tvm.escape import c_comment
from embbert_tvm.heads import HEADS, MANY_LABELS, ONE_LABEL, REGRESSION, TOKENS, VECTOR, FurtherHead
from embbert_tvm.rejection import NONE_TEXT, Rejection


@dataclass(frozen=True)
class Status:
    """A value of `<prefix>_status_t`: what the header says of it, and what `<prefix>_status_text` returns."""

    name: str
    comment: str
    text: str


# In the order of their values. A value keeps its number: the protocol carries it.
STATUSES = (
    Status("OK", "done", "done"),
    Status("E_ARGUMENT", "a pointer that must not be null is", "a null pointer"),
    Status(
        "E_LENGTH",
        "n is below @UPPER@_MIN_LENGTH or over @UPPER@_MAX_LENGTH",
        "too few token ids, or more than the longest text has",
    ),
    Status("E_TOKEN", "an id is negative or not below @UPPER@_VOCABULARY", "a token id is not in the vocabulary"),
    Status("E_ARENA", "the arena is smaller than @UPPER@_ARENA_BYTES", "the arena is too small"),
    Status("E_ALIGN", "the arena is not aligned to @UPPER@_ARENA_ALIGN", "the arena is not aligned"),
    Status("E_INIT", "@PREFIX@_init() has not given the model its arena", "the model was not initialized"),
    Status("E_TOKENIZER", "the package was compiled without a tokenizer", "the package has no tokenizer"),
    Status(
        "E_WORD",
        "a word's tokens cannot be told from so much of it as fits in the tokenizer's window",
        "a word is too long for this tokenizer",
    ),
    Status(
        "E_DAMAGED",
        "what lies in memory is not what was compiled, or computes something else",
        "the model in memory is damaged",
    ),
    Status("MORE", "@PREFIX@_continue() has more to do", "there is more to do"),
    Status("E_BEGIN", "no inference was begun, or it is done", "no inference was begun"),
    Status("E_MAGIC", "what should be a blob of weights begins otherwise", "this is no blob of weights"),
    Status("E_VERSION", "the blob is of another version of its format", "the blob's format is of another version"),
    Status("E_LAYOUT", "the blob is of another layout: it was made for other code", "the blob is of another layout"),
    Status("E_SIZE", "the blob's size is not that of its layout", "the blob has another size"),
)

_HEADER = template("api.h.in")

# What stands in the templates where weights are constants of the firmware (Blob.places: where they lie in a blob).
LINKED: Mapping[str, object] = {
    **dict.fromkeys(
        ("blob_argument", "blob_parameter", "of_model", "model_first", "blob_first", "factory", "blob_field"), ""
    ),
    **dict.fromkeys(("blob_types", "blob_calls", "init_says", "blob_functions", "blob_checked", "blob_kept"), ""),
    **dict.fromkeys(("blob_local", "blob_declared"), ""),
    "check_needs": "Needs no model and no arena; call it with a `check` of zeros",
}


# The parts of the header that differ between a model of texts and one of tokens.
_TEXT_EXAMPLE = template("example_text.h.in").rstrip("\n")
_TOKENS_EXAMPLE = template("example_tokens.h.in").rstrip("\n")
_TEXT_RESULT = template("result_text.h.in")
_TOKENS_RESULT = template("result_tokens.h.in")
_TEXT_CALLS = template("calls_text.h.in")
_TEXT_COMPLETE = template("complete_text.h.in")
_EMBED_CALL = template("calls_embed.h.in")
_TOKENS_CALLS = template("calls_tokens.h.in")
_OFFSETS_CALL = template("calls_offsets.h.in")
_FURTHER = template("head.h.in")
_NAMES = template("head_label.h.in")
_LOGITS_OF = template("logits_of.h.in")
_PADDING = template("padding.h.in")
_LINEAR = template("linear_fields.h.in")


@dataclass(frozen=True)
class HeadWords:
    """What the header says of a head."""

    what: str  # the model is
    classes: str  # CLASSES counts
    scores: str  # scores of a result are
    uses: str  # of a result, for the example

    @property
    def values(self) -> dict[str, str]:
        return {"what": self.what, "classes_are": self.classes, "scores": self.scores, "example_uses": self.uses}


_LABEL = "result.label_text, result.scores[result.label]"
_HEAD_WORDS = {
    ONE_LABEL: HeadWords(
        "text classifier", "logits, one a label", "softmax of the logits: each 0 to 1, together 1", _LABEL
    ),
    MANY_LABELS: HeadWords(
        "classifier of texts with several labels", "logits, one a label", "sigmoid of the logits: each 0 to 1",
        "result.scores[0] to result.scores[@UPPER@_CLASSES - 1]",
    ),
    REGRESSION: HeadWords("model of a text's value", "the value", "1: there is one output", "result.logits[0]"),
    TOKENS: HeadWords("classifier of a text's tokens", "logits of a token, one a label", "", ""),
    VECTOR: HeadWords(
        "model of a text's vector", "numbers of the vector", "as the logits: a vector has no scores",
        "result.logits[0] to result.logits[@UPPER@_CLASSES - 1]",
    ),
}  # fmt: skip


def _head_macros(head: str) -> dict[str, object]:
    """What stands in the header for a head."""
    names = [name.upper().replace(" ", "_") for name in HEADS]
    of_tokens = head == TOKENS
    return {
        "example": _TOKENS_EXAMPLE if of_tokens else _TEXT_EXAMPLE,
        "result": _TOKENS_RESULT if of_tokens else _TEXT_RESULT,
        "calls": _TOKENS_CALLS if of_tokens else _TEXT_CALLS + (_EMBED_CALL if head == VECTOR else ""),
        "complete": "" if of_tokens else _TEXT_COMPLETE,
        "heads": "\n".join(f"#define @UPPER@_HEAD_{name} {number}" for number, name in enumerate(names)),
        "head": head.upper().replace(" ", "_"),
        "of_tokens": int(of_tokens),
        **_HEAD_WORDS[head].values,
    }


def _logits_macros(program: Program) -> dict[str, object]:
    """How many logits there are."""
    first = "@UPPER@_CLASSES"
    if program.more:
        logits_of = " + ".join(output.values_at("(tokens)") for output in program.outputs)
        return {
            "logits_of_run": "@UPPER@_LOGITS_OF(n) values, those of one head after another's",
            "logits_of": _LOGITS_OF.replace("@LOGITS_OF@", logits_of),
            "logits": "@UPPER@_LOGITS_OF(@UPPER@_MAX_LENGTH)",
            "result_logits": "@UPPER@_LOGITS",
        }
    return {
        "logits_of_run": f"{first} values a token" if program.of_tokens else f"{first} values",
        "logits_of": "",
        "logits": f"(@UPPER@_MAX_LENGTH * {first})" if program.of_tokens else first,
        "result_logits": first,
    }


def _further_heads(program: Program, more: Sequence[FurtherHead], prefix: str) -> str:
    """What the header says of the heads beside the first."""
    found = "".join(_further(program, head, prefix) for head in more)
    return found and f"{found}\n{c_tags.calls(program, more, prefix)}"


def _further(program: Program, head: FurtherHead, prefix: str) -> str:
    """What the header says of a head beside the first."""
    names = [output.name for output in program.outputs]
    number = names.index(f"{OUTPUT}_{head.name}")
    at = " + ".join(output.values_at("(tokens)") for output in program.outputs[:number])
    values = {"name": head.name, "upper_name": head.name.upper(), "classes": head.values, "at": at}
    are = f"logits{' of each token' * head.of_tokens}, one a label" if head.labels else "numbers of a vector"
    return substitute(_FURTHER, prefix, names=_NAMES if head.labels else "", are=are, **values)


def _label_words(rejects: bool) -> dict[str, object]:
    """What the header says of a result's label and scores."""
    words: dict[str, object] = {"rejects": int(rejects), "label_is": "index of the largest logit, the first of equals"}
    return words | RESULT_COMMENTS if rejects else words


# What becomes of a text that is longer than the model takes.
_CUT = template("texts_cut.h.in").rstrip("\n")
_CUT_BUT_FOR_NGRAMS = template("texts_cut_but_for_ngrams.h.in").rstrip("\n")
_READ_WHOLE = template("texts_read_whole.h.in").rstrip("\n")


@dataclass(frozen=True)
class Interface:
    """What a package's C says of a model beside its program: its names, its outputs, where its constants lie."""

    prefix: str
    model_name: str
    labels: Sequence[str] | None = None
    head: str = ONE_LABEL  # one of HEADS
    rejection: Rejection | None = None  # by what a text has none of the labels
    more: Sequence[FurtherHead] = ()  # heads beside the first
    # Whether hashed n-grams of the text add to the logits, or, of a program without a tokenizer, are all there is.
    linear: bool = False
    # As Blob has them, where the constants lie in one.
    places: Mapping[str, object] = field(default_factory=lambda: LINKED)
    members: Mapping[str, str] | None = None

    @property
    def named(self) -> Sequence[str] | None:
        """Names of all classes, the one of no label among them."""
        return self.labels if self.labels is None or self.rejection is None else (*self.labels, NONE_TEXT)


def header(program: Program, model: Interface, precision: str, digest: int) -> str:
    """<prefix>.h. digest: of the package's other sources, 32 bits."""
    prefix, linear = model.prefix, model.linear
    streams = linear and program.text is None
    values = _head_macros(model.head) | _label_words(model.rejection is not None) | _logits_macros(program)
    values |= model.places
    rows = [
        f"    @UPPER@_{s.name}{' = 0' if not n else ''}{',' if n < len(STATUSES) - 1 else ''} /* {s.comment} */"
        for n, s in enumerate(STATUSES)
    ]
    return substitute(
        _HEADER,
        prefix,
        padding="" if program.padding is None else substitute(_PADDING, prefix, padding=program.padding),
        **values,
        offsets=_OFFSETS_CALL if program.text is not None and program.text.offsets else "",
        more=_further_heads(program, model.more, prefix),
        title=c_comment(model.model_name),
        precision=precision,
        kind="texts of any length; its token ids are bytes" if streams else "@MIN_LENGTH@ to @MAX_LENGTH@ tokens",
        long_texts=_READ_WHOLE if streams else _CUT_BUT_FOR_NGRAMS if linear else _CUT,
        ids_alone=", without what a text's n-grams add" if linear and not streams else "",
        linear=_LINEAR if linear else "",
        statuses="\n".join(rows),
        min_length=program.min_length,
        max_length=program.max_length,
        classes=program.classes,
        vocabulary=program.vocabulary,
        arena_bytes=program.arena_bytes,
        align=ALIGN,
        has_tokenizer=int(program.text is not None or linear),
        digest=f"{digest:#010x}",
        slice=f"{100 * program.longest_slice:.2g}",
    )
