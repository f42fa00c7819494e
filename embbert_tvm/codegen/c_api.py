"""The one header that a firmware includes: constants, types and functions of a compiled model."""

from __future__ import annotations

from dataclasses import dataclass

from embbert_tvm.heads import HEADS, MANY_LABELS, ONE_LABEL, REGRESSION, TOKENS, VECTOR


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
)

_HEADER = """\
/* SPDX-License-Identifier: Apache-2.0 */
/* @TITLE@
 *
 * @PRECISION@ @WHAT@ for @KIND@. Made by embbert-tvm; do not edit.
 *
 *     static uint8_t arena[@UPPER@_ARENA_BYTES] __attribute__((aligned(@UPPER@_ARENA_ALIGN)));
 *     @PREFIX@_t model;
@EXAMPLE@
 *
 * Where a scheduler switches tasks during a call it must save the registers of the FPU and of the vector unit (Zephyr:
 * CONFIG_FPU_SHARING), or results are silently wrong. Do not call from an interrupt: a call takes milliseconds and the
 * stack that `compile` tells. The arena may be cached memory; no DMA may write to it during a call. Weights are only
 * read, by the processor, and may lie in flash that is mapped into its addresses.
 *
 * Nothing here allocates, prints, or keeps state of its own: all that is written lies in the caller's arena and in
 * what the caller's pointers name. Two models, or two arenas of one model, may therefore run in two tasks at once; one
 * arena may not; and what switches between tasks must save the registers of the FPU and of its vector unit, where the
 * processor has them, or results are silently wrong. Memory and time follow the length of the text, not
 * @UPPER@_MAX_LENGTH.
 */
#ifndef @UPPER@_H
#define @UPPER@_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define @UPPER@_API 2 /* of this header: what a later version has besides, a firmware can ask for */
#define @UPPER@_MIN_LENGTH @MIN_LENGTH@ /* tokens that the model needs at least */
#define @UPPER@_MAX_LENGTH @MAX_LENGTH@ /* tokens, with those that stand around a text */
@HEADS@
#define @UPPER@_HEAD @UPPER@_HEAD_@HEAD@ /* what the logits are */
#define @UPPER@_CLASSES @CLASSES@ /* @CLASSES_ARE@ */
#define @UPPER@_OF_TOKENS @OF_TOKENS@ /* whether each token has so many, or the text */
#define @UPPER@_LOGITS @LOGITS@ /* that a text has at most */
#define @UPPER@_VOCABULARY @VOCABULARY@ /* token ids are 0 to one less */
#define @UPPER@_ARENA_BYTES @ARENA_BYTES@u
#define @UPPER@_ARENA_ALIGN @ALIGN@
#define @UPPER@_HASH @DIGEST@u /* of the package's other sources: tells one model's firmware from another's */
#define @UPPER@_HAS_TOKENIZER @HAS_TOKENIZER@ /* whether texts are taken, or token ids alone */

typedef enum {
@STATUSES@
} @PREFIX@_status_t;

/* A model and the memory that it works in. The caller gives the room; the fields are the library's own. */
typedef struct {
    uint8_t *arena;
    const int32_t *ids;
    int32_t length, step, iteration; /* of the inference in hand, and where it goes on */
    bool truncated;
@LINEAR@} @PREFIX@_t;

@RESULT@
/* Give the model its arena: at least @UPPER@_ARENA_BYTES bytes aligned to @UPPER@_ARENA_ALIGN. It must live as long
 * as the model is used; its content need not be kept between calls. */
@PREFIX@_status_t @PREFIX@_init(@PREFIX@_t *model, void *arena, size_t bytes);

@CALLS@/* The token ids that texts become for the model. ids: room for @UPPER@_MAX_LENGTH, outside the arena;
 * tokens: how many were written; truncated: whether the texts have more. */
@PREFIX@_status_t @PREFIX@_tokenize(@PREFIX@_t *model, const char *utf8, size_t n, const char *pair, size_t pair_n,
                              int32_t *ids, size_t *tokens, bool *truncated);

/* Run the model on n token ids@IDS_ALONE@. logits: @LOGITS_OF_RUN@, written only where
 * @UPPER@_OK is returned. ids and logits lie outside the arena. */
@PREFIX@_status_t @PREFIX@_run(@PREFIX@_t *model, const int32_t *ids, size_t n, float *logits);

/* An inference in slices, so that a loop can feed a watchdog, answer a radio or give up between them. Begin with a text
 * (pair NULL) or two, or with token ids, which must stay where they are until the inference is done; then call
 * @PREFIX@_continue() as long as it returns @UPPER@_MORE. With @UPPER@_OK the logits are those of @PREFIX@_run(). The
 * arena must be left alone in between; any other call on the model that uses it ends what was begun, and so does a new
 * begin. budget: about how many multiplications to do; with 0 a slice is as short as can be, @SLICE@ % of an inference
 * of @UPPER@_MAX_LENGTH tokens (tokenizing is not divided). */
@PREFIX@_status_t @PREFIX@_begin(@PREFIX@_t *model, const char *utf8, size_t n, const char *pair, size_t pair_n);
@PREFIX@_status_t @PREFIX@_begin_ids(@PREFIX@_t *model, const int32_t *ids, size_t n);
@PREFIX@_status_t @PREFIX@_continue(@PREFIX@_t *model, int32_t budget, float *logits);
@COMPLETE@
/* How far @PREFIX@_check() has come; all zero before its first call. */
typedef struct {
    uint32_t crc;
    size_t part, offset;
    bool done; /* everything was read */
} @PREFIX@_check_t;

/* Read at most `bytes` bytes more of the weights, the tables and the tokenizer as they lie in memory, so that an idle
 * task may spread it over its turns. Once check->done, @UPPER@_OK says that their CRC-32 is that of what was compiled,
 * @UPPER@_E_DAMAGED that it is not. Needs no model and no arena; call it with a `check` of zeros to begin anew. */
@PREFIX@_status_t @PREFIX@_check(@PREFIX@_check_t *check, size_t bytes);

/* Run the model on token ids that the package carries, and compare its logits with those that TVM's LLVM build gave:
 * @UPPER@_E_DAMAGED where they differ. logits: as of @PREFIX@_run(). */
@PREFIX@_status_t @PREFIX@_known_answer(@PREFIX@_t *model, float *logits);

/* The name of a class, UTF-8; NULL past the last one, or where there are no names. */
const char *@PREFIX@_label(size_t index);

/* What a status says, in a few words of ASCII. */
const char *@PREFIX@_status_text(@PREFIX@_status_t status);

#ifdef __cplusplus
}
#endif

#endif
"""


# The parts of the header that differ between a model of texts and one of tokens.
_TEXT_EXAMPLE = """\
 *     @PREFIX@_result_t result;
 *     if (@PREFIX@_init(&model, arena, sizeof arena) == @UPPER@_OK &&
 *         @PREFIX@_classify(&model, text, strlen(text), &result) == @UPPER@_OK) {
 *         ... @EXAMPLE_USES@, result.truncated
 *     }"""
_TOKENS_EXAMPLE = """\
 *     static @PREFIX@_token_t tokens[@UPPER@_MAX_LENGTH];
 *     static float logits[@UPPER@_LOGITS];
 *     size_t count;
 *     bool truncated;
 *     if (@PREFIX@_init(&model, arena, sizeof arena) == @UPPER@_OK &&
 *         @PREFIX@_label_tokens(&model, text, strlen(text), NULL, 0, tokens, logits, &count, &truncated) ==
 *             @UPPER@_OK) {
 *         ... tokens[0].label_text to tokens[count - 1].label_text
 *     }"""
_TEXT_RESULT = """\
/* What a text was found to be. */
typedef struct {
    size_t label;                     /* index of the largest logit, the first of equals */
    const char *label_text;           /* its name, UTF-8; NULL where the model has none */
    float logits[@UPPER@_CLASSES]; /* as @PREFIX@_run() gives them */
    float scores[@UPPER@_CLASSES]; /* @SCORES@ */
    size_t tokens;                    /* how many ids the model was given */
    bool truncated;                   /* the text has more tokens than @UPPER@_MAX_LENGTH; the rest was left out */
} @PREFIX@_result_t;
"""
_TOKENS_RESULT = """\
/* What a token was found to be. */
typedef struct {
    int32_t id;
    size_t label;           /* index of the largest of its logits, the first of equals */
    const char *label_text; /* its name, UTF-8; NULL where the model has none */
    float score;            /* of that label, by the softmax of the token's logits: 0 to 1 */
} @PREFIX@_token_t;
"""
_TEXT_CALLS = """\
/* Classify n bytes of UTF-8, which need no end mark. Any bytes are taken: what is not UTF-8 reads as U+FFFD, one for
 * each maximal part of a sequence that breaks off, as in Python's decode(errors="replace"). @LONG_TEXTS@
 * result is written only where @UPPER@_OK is returned. */
@PREFIX@_status_t @PREFIX@_classify(@PREFIX@_t *model, const char *utf8, size_t n, @PREFIX@_result_t *result);

/* The same for two texts as the model's tokenizer joins them; where there are too many tokens, the longer text is cut.
 * Where pair is NULL there is one text. */
@PREFIX@_status_t @PREFIX@_classify_pair(@PREFIX@_t *model, const char *utf8, size_t n, const char *pair,
                                   size_t pair_n, @PREFIX@_result_t *result);

"""
_TEXT_COMPLETE = """
/* Fill in what follows from the logits of a result that @PREFIX@_continue() has computed in it. */
@PREFIX@_status_t @PREFIX@_complete(const @PREFIX@_t *model, @PREFIX@_result_t *result);
"""
_TOKENS_CALLS = """\
/* Label the tokens of n bytes of UTF-8, which need no end mark, and of a second text where pair is not NULL, as the
 * model's tokenizer joins them, with what it puts around them. Any bytes are taken: what is not UTF-8 reads as U+FFFD,
 * one for each maximal part of a sequence that breaks off, as in Python's decode(errors="replace").
 *
 *   tokens     room for @UPPER@_MAX_LENGTH
 *   logits     room for @UPPER@_LOGITS: @UPPER@_CLASSES a token, one token after another
 *   count      how many tokens there are
 *   truncated  the texts have more than @UPPER@_MAX_LENGTH; where there are two, the longer was cut
 *
 * All lie outside the arena and are written only where @UPPER@_OK is returned. */
@PREFIX@_status_t @PREFIX@_label_tokens(@PREFIX@_t *model, const char *utf8, size_t n, const char *pair, size_t pair_n,
                                  @PREFIX@_token_t *tokens, float *logits, size_t *count, bool *truncated);

"""


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
        "calls": _TOKENS_CALLS if of_tokens else _TEXT_CALLS,
        "complete": "" if of_tokens else _TEXT_COMPLETE,
        "heads": "\n".join(f"#define @UPPER@_HEAD_{name} {number}" for number, name in enumerate(names)),
        "head": head.upper().replace(" ", "_"),
        "of_tokens": int(of_tokens),
        "logits_of_run": "@UPPER@_CLASSES values a token" if of_tokens else "@UPPER@_CLASSES values",
        "logits": "(@UPPER@_MAX_LENGTH * @UPPER@_CLASSES)" if of_tokens else "@UPPER@_CLASSES",
        **_HEAD_WORDS[head].values,
    }


_CUT = "A text of more than\n * @UPPER@_MAX_LENGTH tokens is cut, and `truncated` says so."
_CUT_BUT_FOR_NGRAMS = _CUT[:-1] + ";\n * the n-grams of all of it add to the logits."
_STREAMS = "A text of any length\n * is read whole."
_LINEAR = """\
    bool has_text;                   /* whether the inference in hand is of a text, of */
    size_t bytes;                    /* so many bytes, */
    float linear[@UPPER@_CLASSES]; /* whose n-grams add this to the logits */
"""


def substitute(template: str, prefix: str, **values: object) -> str:
    """A template's text: @PREFIX@ and @UPPER@, and @KEY@ for each of `values`."""
    for key, value in values.items():
        template = template.replace(f"@{key.upper()}@", str(value))
    return template.replace("@PREFIX@", prefix).replace("@UPPER@", prefix.upper())


def header(
    prefix: str,
    *,
    title: str,
    precision: str,
    min_length: int,
    max_length: int,
    classes: int,
    vocabulary: int,
    arena_bytes: int,
    align: int,
    has_tokenizer: bool,
    digest: int,
    head: str = ONE_LABEL,
    longest_slice: float = 1.0,
    linear: bool = False,
    streams: bool = False,
) -> str:
    """<prefix>.h. head: one of HEADS; longest_slice: the share of an inference that is not interrupted; linear: whether
    the text's n-grams add to the logits; streams: whether they are all there is."""
    rows = [
        f"    @UPPER@_{s.name}{' = 0' if not n else ''}{',' if n < len(STATUSES) - 1 else ''} /* {s.comment} */"
        for n, s in enumerate(STATUSES)
    ]
    return substitute(
        _HEADER,
        prefix,
        **_head_macros(head),
        title=title,
        precision=precision,
        kind="texts of any length; its token ids are bytes" if streams else "@MIN_LENGTH@ to @MAX_LENGTH@ tokens",
        long_texts=_STREAMS if streams else _CUT_BUT_FOR_NGRAMS if linear else _CUT,
        ids_alone=", without what a text's n-grams add" if linear and not streams else "",
        linear=_LINEAR if linear else "",
        statuses="\n".join(rows),
        min_length=min_length,
        max_length=max_length,
        classes=classes,
        vocabulary=vocabulary,
        arena_bytes=arena_bytes,
        align=align,
        has_tokenizer=int(has_tokenizer),
        digest=f"{digest:#010x}",
        slice=f"{100 * longest_slice:.2g}",
    )
