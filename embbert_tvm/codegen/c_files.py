"""The C files of a package: entry point, kernels, weights. Written to be read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from embbert_tvm.codegen import c_api, c_ngrams, micro_headers
from embbert_tvm.codegen.c_expressions import C_TYPES, real
from embbert_tvm.codegen.equations import LEGEND, comment
from embbert_tvm.codegen.plan import ALIGN
from embbert_tvm.codegen.steps import INPUT, OUTPUT, Program, Step, Tensor
from embbert_tvm.escape import c_comment, c_formula, c_string
from embbert_tvm.heads import MANY_LABELS, ONE_LABEL, REGRESSION, TOKENS, VECTOR

_MODEL = """\
/* SPDX-License-Identifier: Apache-2.0 */
/* @TITLE@: the entry point. Made by embbert-tvm; do not edit. */
#include "@PREFIX@.h"
@INCLUDES@#include "@PREFIX@_weights.h"

/* A firmware that measures the steps is built with @UPPER@_PROFILE and has this function, which notes the time. */
#ifdef @UPPER@_PROFILE
void @PREFIX@_step(int32_t step);
#define @UPPER@_STEP(step) @PREFIX@_step(step)
#else
#define @UPPER@_STEP(step) ((void)0)
#endif

/* A firmware that shows what each step makes is built with @UPPER@_TRACE and has this function. */
#ifdef @UPPER@_TRACE
void @PREFIX@_trace(int32_t output, const void *data, size_t bytes);
#define @UPPER@_OUTPUT(output, data, count) @PREFIX@_trace(output, data, (size_t)(count) * sizeof *(data))
#else
#define @UPPER@_OUTPUT(output, data, count) ((void)0)
#endif

/* The arena at length @MAX_LENGTH@, @ARENA_BYTES@ bytes. Steps are the calls in infer(), counted from 0.
 *
@PLAN@
 */
enum { STEPS = @STEPS@ };

static void spend(int32_t *budget, int32_t cost)
{
    *budget = cost < *budget ? *budget - cost : 0;
}
@SLICE_END@
/* Go to the next step; whether the budget is spent. */
static bool next_step(@PREFIX@_t *model, int32_t budget)
{
    model->step++;
    model->iteration = 0;
    return budget == 0;
}

@LEGEND@/* Go on with the inference in hand until about `budget` multiplications are done; whether all of it is. */
static bool infer(@PREFIX@_t *model, int32_t budget, float *@OUTPUT@)
{
@ARENA@    const int32_t *const @INPUT@ = model->ids;
    const int32_t L = model->length;
@BODY@
    return model->step == STEPS;
}

@LINEAR_FUNCTION@static void infer_at_once(@PREFIX@_t *model, float *logits)
{
    while (!infer(model, INT32_MAX, logits)) {
    }
@ADDED@}

@PREFIX@_status_t @PREFIX@_init(@PREFIX@_t *model, void *arena, size_t bytes)
{
    if (model == NULL || arena == NULL) {
        return @UPPER@_E_ARGUMENT;
    }
    if (bytes < @UPPER@_ARENA_BYTES) {
        return @UPPER@_E_ARENA;
    }
    if ((uintptr_t)arena % @UPPER@_ARENA_ALIGN != 0) {
        return @UPPER@_E_ALIGN;
    }
    model->arena = (uint8_t *)arena;
    model->step = STEPS;
    return @UPPER@_OK;
}

@PREFIX@_status_t @PREFIX@_begin_ids(@PREFIX@_t *model, const int32_t *ids, size_t n)
{
    if (model == NULL || ids == NULL) {
        return @UPPER@_E_ARGUMENT;
    }
    if (model->arena == NULL) {
        return @UPPER@_E_INIT;
    }
    if (n < @UPPER@_MIN_LENGTH || n > @UPPER@_MAX_LENGTH) {
        return @UPPER@_E_LENGTH;
    }
    for (size_t i = 0; i < n; i++) {
        if (ids[i] < 0 || ids[i] >= @UPPER@_VOCABULARY) {
            return @UPPER@_E_TOKEN;
        }
    }
    model->ids = ids;
    model->length = (int32_t)n;
    model->step = model->iteration = 0;
    model->truncated = false;
@WITHOUT_TEXT@    return @UPPER@_OK;
}

@PREFIX@_status_t @PREFIX@_continue(@PREFIX@_t *model, int32_t budget, float *logits)
{
    if (model == NULL || logits == NULL) {
        return @UPPER@_E_ARGUMENT;
    }
    if (model->arena == NULL) {
        return @UPPER@_E_INIT;
    }
    if (model->step >= STEPS) {
        return @UPPER@_E_BEGIN;
    }
    if (!infer(model, budget < 0 ? 0 : budget, logits)) {
        return @UPPER@_MORE;
    }
@ADDED@    return @UPPER@_OK;
}

@PREFIX@_status_t @PREFIX@_run(@PREFIX@_t *model, const int32_t *ids, size_t n, float *logits)
{
    if (logits == NULL) {
        return @UPPER@_E_ARGUMENT;
    }
    @PREFIX@_status_t status = @PREFIX@_begin_ids(model, ids, n);
    if (status == @UPPER@_OK) {
        infer_at_once(model, logits);
    }
    return status;
}

@TEXT@
@CHECKS@
const char *@PREFIX@_label(size_t index)
{
@LABEL@
}

const char *@PREFIX@_status_text(@PREFIX@_status_t status)
{
    switch (status) {
@STATUS_TEXTS@
    default:
        break;
    }
    return "no status of this library";
}
"""

_TOKENIZE = """\
@PREFIX@_status_t @PREFIX@_tokenize(@PREFIX@_t *model, const char *utf8, size_t n, const char *pair, size_t pair_n,
                              int32_t *ids, size_t *tokens, bool *truncated)
{
    if (model == NULL || (utf8 == NULL && n > 0) || (pair == NULL && pair_n > 0)) {
        return @UPPER@_E_ARGUMENT;
    }
    if (ids == NULL || tokens == NULL || truncated == NULL) {
        return @UPPER@_E_ARGUMENT;
    }
    if (model->arena == NULL) {
        return @UPPER@_E_INIT;
    }
    return @PREFIX@_tokenizer(model->arena + @WINDOW_OFFSET@, utf8, n, pair, pair_n, ids, tokens, truncated);
}

@PREFIX@_status_t @PREFIX@_begin(@PREFIX@_t *model, const char *utf8, size_t n, const char *pair, size_t pair_n)
{
    if (model == NULL) {
        return @UPPER@_E_ARGUMENT;
    }
    if (model->arena == NULL) {
        return @UPPER@_E_INIT;
    }
    model->step = STEPS;
    int32_t *ids = (int32_t *)(void *)(model->arena + @IDS_OFFSET@);
    size_t tokens;
    bool truncated;
    @PREFIX@_status_t status = @PREFIX@_tokenize(model, utf8, n, pair, pair_n, ids, &tokens, &truncated);
    if (status != @UPPER@_OK) {
        return status;
    }
    if (tokens < @UPPER@_MIN_LENGTH) { /* a text of nothing, where nothing stands around it */
        return @UPPER@_E_LENGTH;
    }
    model->ids = ids;
    model->length = (int32_t)tokens;
    model->step = model->iteration = 0;
    model->truncated = truncated;
@WITH_TEXT@    return @UPPER@_OK;
}

@ANSWER@"""

_EXPONENTIAL = """\
/* e to the power of x <= 0, to a relative 2e-7; the same bits everywhere. */
static float power_of_e(float x)
{
    if (!(x > -87.0f)) {
        return 0.0f;
    }
    int32_t doublings = (int32_t)(x * 1.44269504f - 0.5f); /* x = doublings * ln 2 + rest, |rest| <= ln 2 / 2 */
    float rest = x - (float)doublings * 0.693359375f + (float)doublings * 2.12194440e-4f;
    float sum = 1.0f + rest * (1.0f + rest * (0.5f + rest * (0.166666667f + rest * (0.0416666667f
        + rest * (0.00833333333f + rest * 0.00138888889f)))));
    union {
        uint32_t bits;
        float value;
    } scale;
    scale.bits = (uint32_t)(doublings + 127) << 23;
    return sum * scale.value;
}

"""

# From the logits to the rest of a text's result.
_COMPLETE = """\
@PREFIX@_status_t @PREFIX@_complete(const @PREFIX@_t *model, @PREFIX@_result_t *result)
{
    if (model == NULL || result == NULL) {
        return @UPPER@_E_ARGUMENT;
    }
    if (model->arena == NULL) {
        return @UPPER@_E_INIT;
    }
    result->label = 0;
    for (size_t i = 1; i < @UPPER@_CLASSES; i++) {
        if (result->logits[i] > result->logits[result->label]) {
            result->label = i;
        }
    }
@SCORES@
    result->label_text = @PREFIX@_label(result->label);
    result->tokens = @TOKEN_COUNT@;
    result->truncated = model->truncated;
    return @UPPER@_OK;
}

"""

_ANSWER_TEXT = """\
@PREFIX@_status_t @PREFIX@_classify_pair(@PREFIX@_t *model, const char *utf8, size_t n, const char *pair,
                                   size_t pair_n, @PREFIX@_result_t *result)
{
    if (model == NULL || result == NULL) {
        return @UPPER@_E_ARGUMENT;
    }
    @PREFIX@_status_t status = @PREFIX@_begin(model, utf8, n, pair, pair_n);
    if (status != @UPPER@_OK) {
        return status;
    }
    infer_at_once(model, result->logits);
    return @PREFIX@_complete(model, result);
}
"""

_ANSWER_TOKENS = """\
@PREFIX@_status_t @PREFIX@_label_tokens(@PREFIX@_t *model, const char *utf8, size_t n, const char *pair, size_t pair_n,
                                  @PREFIX@_token_t *tokens, float *logits, size_t *count, bool *truncated)
{
    if (model == NULL || tokens == NULL || logits == NULL || count == NULL || truncated == NULL) {
        return @UPPER@_E_ARGUMENT;
    }
    @PREFIX@_status_t status = @PREFIX@_begin(model, utf8, n, pair, pair_n);
    if (status != @UPPER@_OK) {
        return status;
    }
    size_t found = (size_t)model->length;
    for (size_t i = 0; i < found; i++) {
        tokens[i].id = model->ids[i]; /* the model may write where they lie */
    }
    infer_at_once(model, logits);
    for (size_t i = 0; i < found; i++) {
        const float *own = logits + i * @UPPER@_CLASSES;
        size_t best = 0;
        for (size_t j = 1; j < @UPPER@_CLASSES; j++) {
            best = own[j] > own[best] ? j : best;
        }
        float sum = 0.0f;
        for (size_t j = 0; j < @UPPER@_CLASSES; j++) {
            sum += power_of_e(own[j] - own[best]);
        }
        tokens[i].label = best;
        tokens[i].label_text = @PREFIX@_label(best);
        tokens[i].score = 1.0f / sum;
    }
    *count = found;
    *truncated = model->truncated;
    return @UPPER@_OK;
}
"""

_CLASSIFY = """
@PREFIX@_status_t @PREFIX@_classify(@PREFIX@_t *model, const char *utf8, size_t n, @PREFIX@_result_t *result)
{
    return @PREFIX@_classify_pair(model, utf8, n, NULL, 0, result);
}
"""

_SLICE_END = """
/* Where to stop in a step of `count` iterations that is worth `cost` multiplications; at least one is done. */
static int32_t slice_end(const @PREFIX@_t *model, int32_t count, int32_t cost, int32_t *budget)
{
    int32_t each = cost / count + 1;
    int32_t rest = count - model->iteration;
    int32_t iterations = *budget / each;
    iterations = iterations < 1 ? 1 : iterations > rest ? rest : iterations;
    spend(budget, iterations * each);
    return model->iteration + iterations;
}
"""

_ARENA = "    uint8_t *const arena = model->arena;\n"

_SOFTMAX = """\
    float sum = 0.0f;
    for (size_t i = 0; i < @UPPER@_CLASSES; i++) {
        result->scores[i] = power_of_e(result->logits[i] - result->logits[result->label]);
        sum += result->scores[i];
    }
    for (size_t i = 0; i < @UPPER@_CLASSES; i++) {
        result->scores[i] /= sum;
    }"""

# A value and a vector have none but themselves.
_NO_SCORES = """\
    for (size_t i = 0; i < @UPPER@_CLASSES; i++) {
        result->scores[i] = @SCORE@;
    }"""

# Of many labels each stands for itself.
_SIGMOID = """\
    for (size_t i = 0; i < @UPPER@_CLASSES; i++) {
        bool positive = result->logits[i] > 0.0f;
        float power = power_of_e(positive ? -result->logits[i] : result->logits[i]);
        result->scores[i] = (positive ? 1.0f : power) / (1.0f + power);
    }"""

_SCORES = {
    ONE_LABEL: _SOFTMAX,
    MANY_LABELS: _SIGMOID,
    REGRESSION: _NO_SCORES.replace("@SCORE@", "1.0f"),
    VECTOR: _NO_SCORES.replace("@SCORE@", "result->logits[i]"),
}

# What a package says of texts that was compiled without a tokenizer.
_IDS_ONLY = """\
@PREFIX@_status_t @PREFIX@_begin(@PREFIX@_t *model, const char *utf8, size_t n, const char *pair, size_t pair_n)
{
    (void)model, (void)utf8, (void)n, (void)pair, (void)pair_n;
    return @UPPER@_E_TOKENIZER;
}

@PREFIX@_status_t @PREFIX@_tokenize(@PREFIX@_t *model, const char *utf8, size_t n, const char *pair, size_t pair_n,
                              int32_t *ids, size_t *tokens, bool *truncated)
{
    (void)model, (void)utf8, (void)n, (void)pair, (void)pair_n, (void)ids, (void)tokens, (void)truncated;
    return @UPPER@_E_TOKENIZER;
}

@ANSWER@"""

_NO_TEXT = """\
@PREFIX@_status_t @PREFIX@_classify_pair(@PREFIX@_t *model, const char *utf8, size_t n, const char *pair,
                                   size_t pair_n, @PREFIX@_result_t *result)
{
    (void)model, (void)utf8, (void)n, (void)pair, (void)pair_n, (void)result;
    return @UPPER@_E_TOKENIZER;
}
"""

_NO_TOKENS = """\
@PREFIX@_status_t @PREFIX@_label_tokens(@PREFIX@_t *model, const char *utf8, size_t n, const char *pair, size_t pair_n,
                                  @PREFIX@_token_t *tokens, float *logits, size_t *count, bool *truncated)
{
    (void)model, (void)utf8, (void)n, (void)pair, (void)pair_n, (void)tokens, (void)logits, (void)count;
    (void)truncated;
    return @UPPER@_E_TOKENIZER;
}
"""

_SPDX = "/* SPDX-License-Identifier: Apache-2.0 */\n"
_KERNELS_HEADER = """\
/* {title}: the kernels. Made by embbert-tvm; do not edit. */
#ifndef {upper}_KERNELS_H
#define {upper}_KERNELS_H

#include <stdint.h>

/* Whether single loads beat LDRD, as on a core that issues two instructions at once. */
#define EMBBERT_DUAL_ISSUE {dual_issue}
{includes}
{declarations}

#endif
"""


_WEIGHTS_PLACE = """\
/* The section of each: a firmware may name another, as one in external flash. */
#ifndef {upper}_WEIGHTS_SECTION
#define {upper}_WEIGHTS_SECTION(name) ".rodata.embbert_weights." #name
#endif
#if defined(__GNUC__) && defined(__ELF__)
#define {upper}_WEIGHT(name) __attribute__((aligned({align}), section({upper}_WEIGHTS_SECTION(name))))
#elif defined(__GNUC__)
#define {upper}_WEIGHT(name) __attribute__((aligned({align})))
#else
#define {upper}_WEIGHT(name)
#endif"""


def licensed(text: str) -> str:
    """A C text that names its licence first."""
    return text if text.startswith(_SPDX) else _SPDX + text


def header(
    program: Program,
    model_name: str,
    precision: str,
    prefix: str,
    digest: int,
    head: str = ONE_LABEL,
    linear: bool = False,
) -> str:
    """The C API. digest: of the package's other sources, 32 bits; head, linear: as of `entry`."""
    return c_api.header(
        prefix,
        title=c_comment(model_name),
        precision=precision,
        min_length=program.min_length,
        max_length=program.max_length,
        classes=program.classes,
        vocabulary=program.vocabulary,
        arena_bytes=program.arena_bytes,
        align=ALIGN,
        has_tokenizer=program.text is not None or linear,
        linear=linear,
        streams=linear and program.text is None,
        digest=digest,
        head=head,
        longest_slice=program.longest_slice,
    )


def entry(
    program: Program,
    model_name: str,
    labels: Sequence[str] | None,
    reasons: dict[str, str],
    prefix: str,
    head: str = ONE_LABEL,
    checks: str = "",
    linear: bool = False,
) -> str:
    """<prefix>_model.c. reasons: what a comment says of a step, by its name or its kernel's; head: what the
    outputs are, one of HEADS; checks: the C of integrity.py; linear: whether hashed n-grams of the text add to the
    logits, or, of a program without a tokenizer, are all there is."""
    lines = [f"    {_pointer(t.name, t)}" for t in program.tensors if t.block is not None]
    outputs = 0
    for number, step in enumerate(program.steps):
        lines += ["", f"    if (model->step == {number}) {{"]
        lines += [*_explained(number, step, _reason(step, reasons, prefix)), *_call(step)]
        lines.append(f"        {prefix.upper()}_STEP({number});")
        for output in step.outputs:
            lines.append(f"        {prefix.upper()}_OUTPUT({outputs}, {output.name}, {output.count});")
            outputs += 1
        lines += ["        if (next_step(model, budget)) {"]
        lines += ["            return model->step == STEPS;", "        }", "    }"]
    headers = {"kernels": program.functions, "linear": linear, "tokenizer": program.text}
    body, streams = "\n".join(lines), linear and program.text is None
    return c_api.substitute(
        _MODEL,
        prefix,
        arena=_ARENA if "arena + " in body else "",
        slice_end=_SLICE_END if "slice_end(" in body else "",
        text=c_ngrams.bytes_text() if streams else _IDS_ONLY if program.text is None else _TOKENIZE,
        answer=_answer(head, program.text is not None or linear),
        token_count=c_ngrams.TOKENS if streams else "(size_t)model->length",
        linear_function=c_ngrams.ADD if linear else "",
        added=c_ngrams.ADDED if linear else "",
        with_text=c_ngrams.WITH_TEXT if linear else "",
        without_text=c_ngrams.WITHOUT_TEXT if linear else "",
        scores=_SCORES.get(head, ""),
        includes="".join(f'#include "@PREFIX@_{name}.h"\n' for name, there in headers.items() if there),
        ids_offset=program.text and program.text.ids.offset,
        window_offset=program.text and program.text.window.offset,
        status_texts="\n".join(
            f"    case @UPPER@_{status.name}:\n        return {c_string(status.text)};" for status in c_api.STATUSES
        ),
        title=c_comment(model_name),
        input=INPUT,
        output=OUTPUT,
        max_length=program.max_length,
        arena_bytes=program.arena_bytes,
        plan="\n".join(_plan_rows(program)),
        legend=_legend() if any(step.equations for step in program.steps) else "",
        body=body,
        steps=len(program.steps),
        checks=checks,
        label=_label_body(labels, prefix),
    )


def _answer(head: str, has_tokenizer: bool) -> str:
    """The C of the calls that take a text, and of what follows from logits."""
    if head == TOKENS:
        return _EXPONENTIAL + _ANSWER_TOKENS if has_tokenizer else _NO_TOKENS
    exponential = _EXPONENTIAL if head in (ONE_LABEL, MANY_LABELS) else ""
    return exponential + _COMPLETE + (_ANSWER_TEXT if has_tokenizer else _NO_TEXT) + _CLASSIFY


def _explained(number: int, step: Step, reason: str) -> list[str]:
    """The comment before a call: what it makes, and by which equations."""
    place = step.outputs[0].name if len(step.outputs) == 1 else step.name
    where = "" if place in (step.name, OUTPUT) else f", in the place of {place}"
    start = f"        /* {number}. {step.name}{where}: {c_formula(reason)}"
    if not step.equations:
        return [f"{start} */"]
    return [start, *comment(step.equations, "         *   "), "         */"]


def _reason(step: Step, reasons: dict[str, str], prefix: str) -> str:
    kernel = step.function.name.removeprefix(f"{prefix}_")
    return reasons.get(step.name) or reasons.get(kernel) or "operators without a kernel of ours, fused"


def _pointer(name: str, tensor: Tensor) -> str:
    kind = C_TYPES[tensor.dtype]
    return f"{kind} *const {name} = ({kind} *)(void *)(arena + {tensor.block.offset}); /* {c_formula(tensor.shape)} */"


def _call(step: Step) -> list[str]:
    workspaces = [f"({C_TYPES[w.dtype]} *)(void *)(arena + {w.block.offset})" for w in step.workspaces]
    arguments = [*step.scalars, *step.arguments, *workspaces]
    if step.count is None:
        return [
            *_wrapped(f"        {step.function.name}(", arguments, ");", indent=12),
            *_wrapped("        spend(", ["&budget", step.cost], ");", indent=12),
        ]
    return [
        f"        const int32_t count = {step.count};",
        *_wrapped("        const int32_t end = slice_end(", ["model", "count", step.cost, "&budget"], ");", indent=12),
        *_wrapped(f"        {step.function.name}(", ["model->iteration", "end", *arguments], ");", indent=12),
        "        if (end < count) {",
        "            model->iteration = end;",
        "            return false;",
        "        }",
    ]


def _wrapped(start: str, parts: Sequence[str], end: str, width: int = 110, indent: int = 8) -> list[str]:
    lines, line = [], start
    for number, part in enumerate(parts):
        piece = part + (end if number == len(parts) - 1 else ",")
        if len(line) + len(piece) + 1 > width and line.strip():
            lines.append(line.rstrip())
            line = " " * indent
        line += piece + " "
    return [*lines, line.rstrip()]


def _legend() -> str:
    first, *rest = LEGEND.splitlines()
    return "\n".join([f"/* {first}", *(f" * {line}" for line in rest), " */", ""])


def _plan_rows(program: Program) -> Iterable[str]:
    blocks = [(t.block, f"{t.name} {t.dtype} {t.shape}") for t in program.tensors if t.block is not None]
    for step in program.steps:
        blocks += [(w.block, f"{step.name}: workspace {w.name} {w.dtype} {w.shape}") for w in step.workspaces]
    yield " *   offset    bytes  steps"
    for block, text in sorted(blocks, key=lambda b: (b[0].offset, b[0].first)):
        yield f" *   {block.offset:6d}  {block.bytes:7d}  {block.first:2d}-{block.last:<2d}  {c_formula(text)}"


def _label_body(labels: Sequence[str] | None, prefix: str) -> str:
    if labels is None:
        return "    (void)index;\n    return NULL;"
    names = ",\n".join(f"        {c_string(label)}" for label in labels)
    count = f"{prefix.upper()}_CLASSES"
    return (
        f"    static const char *const labels[{count}] = {{\n{names},\n    }};\n"
        f"    return index < {count} ? labels[index] : NULL;"
    )


def kernels_header(program: Program, model_name: str, features: Sequence[str], prefix: str) -> str:
    declarations = "\n".join(f"{_signature(f)};" for f in program.functions)
    bodies = "\n".join(f.body for f in program.functions)
    includes = "".join(f'#include "{path.name}"\n' for path in micro_headers.needed(bodies))
    return _SPDX + _KERNELS_HEADER.format(
        includes=includes and f"\n{includes}",
        title=c_comment(model_name),
        upper=prefix.upper(),
        dual_issue=int("dual_issue" in features),
        declarations=declarations,
    )


def kernels(program: Program, model_name: str, prefix: str) -> str:
    math = "#include <math.h>\n" if any(f.math for f in program.functions) else ""
    comment = f"{_SPDX}/* {c_comment(model_name)}: the kernels. Made by embbert-tvm; do not edit. */\n"
    parts = [f'{comment}{math}#include "{prefix}_kernels.h"']
    for f in program.functions:
        parts.append(f"{f.comment()}\n{_signature(f)}\n{{\n{f.body}\n}}")
    return "\n\n".join(parts) + "\n"


def _signature(function) -> str:
    start, _, rest = function.signature().partition("(")
    return "\n".join(_wrapped(f"{start}(", rest.removesuffix(")").split(", "), ")"))


def weights_header(program: Program, model_name: str, prefix: str) -> str:
    upper = prefix.upper()
    rows = [f"extern {_declaration(name, value, prefix)};" for name, value in program.constants.items()]
    return (
        f"{_SPDX}/* {c_comment(model_name)}: weights, scales and tables, {program.weights_bytes} bytes. */\n"
        f"#ifndef {upper}_WEIGHTS_H\n#define {upper}_WEIGHTS_H\n\n#include <stdint.h>\n\n"
        + "\n".join(rows)
        + "\n\n#endif\n"
    )


def weights(program: Program, model_name: str, prefix: str) -> str:
    upper = prefix.upper()
    reals = [c for c in program.constants.values() if c.dtype == np.float32]
    parts = [
        f"{_SPDX}/* {c_comment(model_name)}: weights, scales and tables, {program.weights_bytes} bytes. */\n"
        f"{'' if all(np.isfinite(c).all() for c in reals) else '#include <math.h>' + chr(10)}"
        f'#include "{prefix}_weights.h"\n\n'
        f"{_WEIGHTS_PLACE.format(upper=upper, align=ALIGN)}"
    ]
    for name, value in program.constants.items():
        parts.append(f"{upper}_WEIGHT({name}) {_declaration(name, value, prefix)} = {{\n{_values(value)}\n}};")
    return "\n\n".join(parts) + "\n"


def _declaration(name: str, value: np.ndarray, prefix: str) -> str:
    shape = " x ".join(str(d) for d in value.shape) or "1"
    return f"const {C_TYPES[str(value.dtype)]} {prefix}_{name}[{value.size}] /* {shape} */"


def _values(value: np.ndarray, width: int = 110) -> str:
    flat = value.reshape(-1)
    if flat.dtype == np.float32:
        texts = [real(v) for v in flat.tolist()]
    else:
        flat = flat.view(np.uint16) if flat.dtype == np.float16 else flat
        texts = ["INT32_MIN" if v == -(2**31) else str(int(v)) for v in flat.tolist()]
    per_line = max(1, (width - 4) // (max(map(len, texts)) + 2))
    rows = (", ".join(texts[i : i + per_line]) for i in range(0, len(texts), per_line))
    return "\n".join(f"    {row}," for row in rows)
