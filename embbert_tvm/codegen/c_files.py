"""The C files of a package: header, entry point, kernels, weights. Written to be read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from embbert_tvm.codegen.c_expressions import C_TYPES, real
from embbert_tvm.codegen.plan import ALIGN
from embbert_tvm.codegen.program import INPUT, OUTPUT, Program, Step, Tensor

_HEADER = """\
/* {title}
 *
 * {precision} text classifier for sequences of 1 to {max_length} tokens. Made by embbert-tvm; do not edit.
 * Nothing here allocates, prints, or keeps state of its own: all that is written lies in the caller's arena.
 */
#ifndef {upper}_H
#define {upper}_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {{
#endif

#define {upper}_MAX_LENGTH {max_length}
#define {upper}_CLASSES {classes}
#define {upper}_VOCABULARY {vocabulary}
#define {upper}_ARENA_BYTES {arena_bytes}u
#define {upper}_ARENA_ALIGN {align}
#define {upper}_HASH {hash}u /* of this package's other sources: tells one model's firmware from another's */

typedef enum {{
    {upper}_OK = 0,
    {upper}_E_ARGUMENT, /* a null pointer, or an arena that is too small or not aligned */
    {upper}_E_LENGTH,   /* n is 0 or over {upper}_MAX_LENGTH */
    {upper}_E_TOKEN     /* an id is negative or not below {upper}_VOCABULARY */
}} {prefix}_status_t;

/* A model and the memory that it works in. */
typedef struct {{
    uint8_t *arena; /* {upper}_ARENA_BYTES, aligned to {upper}_ARENA_ALIGN; its content need not be kept between runs */
}} {prefix}_t;

/* Give the model its arena. */
{prefix}_status_t {prefix}_init({prefix}_t *model, void *arena, size_t bytes);

/* Classify n token ids. logits: {upper}_CLASSES values, written only where {upper}_OK is returned. */
{prefix}_status_t {prefix}_run({prefix}_t *model, const int32_t *ids, size_t n, float *logits);

/* The name of a class; NULL past the last one, or where there are no names. */
const char *{prefix}_label(size_t index);

#ifdef __cplusplus
}}
#endif

#endif
"""

_MODEL = """\
/* {title}: the entry point. Made by embbert-tvm; do not edit. */
#include "{prefix}.h"
#include "{prefix}_kernels.h"
#include "{prefix}_weights.h"

/* A firmware that measures the steps is built with {upper}_PROFILE and has this function, which notes the time. */
#ifdef {upper}_PROFILE
void {prefix}_step(int32_t step);
#define {upper}_STEP(step) {prefix}_step(step)
#else
#define {upper}_STEP(step) ((void)0)
#endif

/* The arena at length {max_length}, {arena_bytes} bytes. Steps are the calls in infer(), counted from 0.
 *
{plan}
 */
static void infer(uint8_t *arena, const int32_t *{input}, int32_t L, float *{output})
{{
{body}
}}

{prefix}_status_t {prefix}_init({prefix}_t *model, void *arena, size_t bytes)
{{
    if (model == NULL || arena == NULL || bytes < {upper}_ARENA_BYTES || (uintptr_t)arena % {upper}_ARENA_ALIGN != 0) {{
        return {upper}_E_ARGUMENT;
    }}
    model->arena = (uint8_t *)arena;
    return {upper}_OK;
}}

{prefix}_status_t {prefix}_run({prefix}_t *model, const int32_t *ids, size_t n, float *logits)
{{
    if (model == NULL || model->arena == NULL || ids == NULL || logits == NULL) {{
        return {upper}_E_ARGUMENT;
    }}
    if (n == 0 || n > {upper}_MAX_LENGTH) {{
        return {upper}_E_LENGTH;
    }}
    for (size_t i = 0; i < n; i++) {{
        if (ids[i] < 0 || ids[i] >= {upper}_VOCABULARY) {{
            return {upper}_E_TOKEN;
        }}
    }}
    infer(model->arena, ids, (int32_t)n, logits);
    return {upper}_OK;
}}

const char *{prefix}_label(size_t index)
{{
{label}
}}
"""

_KERNELS_HEADER = """\
/* {title}: the kernels. Made by embbert-tvm; do not edit. */
#ifndef {upper}_KERNELS_H
#define {upper}_KERNELS_H

#include <stdint.h>

/* Whether single loads beat LDRD, as on a core that issues two instructions at once. */
#define EMBBERT_DUAL_ISSUE {dual_issue}

#include "embbert_arithmetic.h"
#include "embbert_dsp.h"
#include "embbert_mve.h"

{declarations}

#endif
"""


def title(model_name: str) -> str:
    return "".join(c if c.isprintable() and c not in "*/\\" else "-" for c in model_name)


def header(program: Program, model_name: str, precision: str, prefix: str, digest: int) -> str:
    """The C API. digest: of the package's other sources, 32 bits."""
    return _HEADER.format(
        title=title(model_name),
        precision=precision,
        prefix=prefix,
        upper=prefix.upper(),
        max_length=program.max_length,
        classes=program.classes,
        vocabulary=program.vocabulary,
        arena_bytes=program.arena_bytes,
        align=ALIGN,
        hash=f"{digest:#010x}",
    )


def entry(program: Program, model_name: str, labels: Sequence[str] | None, reasons: dict[str, str], prefix: str) -> str:
    """model.c. reasons: what a comment says of a step, by its name or its kernel's."""
    lines = [f"    {_pointer(t.name, t)}" for t in program.tensors if t.block is not None]
    for number, step in enumerate(program.steps):
        lines += ["", f"    /* {number}. {step.name}: {_reason(step, reasons, prefix)} */"]
        lines += [*_call(step), f"    {prefix.upper()}_STEP({number});"]
    return _MODEL.format(
        title=title(model_name),
        prefix=prefix,
        upper=prefix.upper(),
        input=INPUT,
        output=OUTPUT,
        max_length=program.max_length,
        arena_bytes=program.arena_bytes,
        plan="\n".join(_plan_rows(program)),
        body="\n".join(lines),
        label=_label_body(labels, prefix),
    )


def _reason(step: Step, reasons: dict[str, str], prefix: str) -> str:
    kernel = step.function.name.removeprefix(f"{prefix}_")
    return reasons.get(step.name) or reasons.get(kernel) or "operators without a kernel of ours, fused"


def _pointer(name: str, tensor: Tensor) -> str:
    kind = C_TYPES[tensor.dtype]
    return f"{kind} *const {name} = ({kind} *)(arena + {tensor.block.offset}); /* {tensor.shape} */"


def _call(step: Step) -> list[str]:
    workspaces = [f"({C_TYPES[w.dtype]} *)(arena + {w.block.offset})" for w in step.workspaces]
    return _wrapped(f"    {step.function.name}(", [*step.scalars, *step.arguments, *workspaces], ");")


def _wrapped(start: str, parts: Sequence[str], end: str, width: int = 110) -> list[str]:
    lines, line = [], start
    for number, part in enumerate(parts):
        piece = part + (end if number == len(parts) - 1 else ",")
        if len(line) + len(piece) + 1 > width and line.strip():
            lines.append(line.rstrip())
            line = " " * 8
        line += piece + " "
    return [*lines, line.rstrip()]


def _plan_rows(program: Program) -> Iterable[str]:
    blocks = [(t.block, f"{t.name} {t.dtype} {t.shape}") for t in program.tensors if t.block is not None]
    for step in program.steps:
        blocks += [(w.block, f"{step.name}: workspace {w.name} {w.dtype} {w.shape}") for w in step.workspaces]
    yield " *   offset    bytes  steps"
    for block, text in sorted(blocks, key=lambda b: (b[0].offset, b[0].first)):
        yield f" *   {block.offset:6d}  {block.bytes:7d}  {block.first:2d}-{block.last:<2d}  {text}"


def _label_body(labels: Sequence[str] | None, prefix: str) -> str:
    if labels is None:
        return "    (void)index;\n    return NULL;"
    names = ",\n".join(f"        {c_string(label)}" for label in labels)
    count = f"{prefix.upper()}_CLASSES"
    return (
        f"    static const char *const labels[{count}] = {{\n{names},\n    }};\n"
        f"    return index < {count} ? labels[index] : NULL;"
    )


def c_string(text: str) -> str:
    """A C string literal of any text, UTF-8."""
    out = []
    for byte in text.encode():
        plain = 0x20 <= byte < 0x7F and chr(byte) not in '"\\?'
        # Octal escapes end after three digits, so that no following character joins them.
        out.append(chr(byte) if plain else f"\\{byte:03o}")
    return '"' + "".join(out) + '"'


def kernels_header(program: Program, model_name: str, features: Sequence[str], prefix: str) -> str:
    declarations = "\n".join(f"{_signature(f)};" for f in program.functions)
    return _KERNELS_HEADER.format(
        title=title(model_name),
        upper=prefix.upper(),
        dual_issue=int("dual_issue" in features),
        declarations=declarations,
    )


def kernels(program: Program, model_name: str, prefix: str) -> str:
    math = "#include <math.h>\n" if any(f.math for f in program.functions) else ""
    comment = f"/* {title(model_name)}: the kernels. Made by embbert-tvm; do not edit. */\n"
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
        f"/* {title(model_name)}: weights, scales and tables, {program.weights_bytes} bytes. */\n"
        f"#ifndef {upper}_WEIGHTS_H\n#define {upper}_WEIGHTS_H\n\n#include <stdint.h>\n\n"
        + "\n".join(rows)
        + "\n\n#endif\n"
    )


def weights(program: Program, model_name: str, prefix: str) -> str:
    upper = prefix.upper()
    reals = [c for c in program.constants.values() if c.dtype == np.float32]
    parts = [
        f"/* {title(model_name)}: weights, scales and tables, {program.weights_bytes} bytes. */\n"
        f"{'' if all(np.isfinite(c).all() for c in reals) else '#include <math.h>' + chr(10)}"
        f'#include "{prefix}_weights.h"\n\n'
        "#if defined(__GNUC__)\n"
        f"#define {upper}_ALIGNED __attribute__((aligned({ALIGN})))\n"
        f"#else\n#define {upper}_ALIGNED\n#endif"
    ]
    for name, value in program.constants.items():
        parts.append(f"{upper}_ALIGNED {_declaration(name, value, prefix)} = {{\n{_values(value)}\n}};")
    return "\n\n".join(parts) + "\n"


def _declaration(name: str, value: np.ndarray, prefix: str) -> str:
    shape = " x ".join(str(d) for d in value.shape) or "1"
    return f"const {C_TYPES[str(value.dtype)]} {prefix}_{name}[{value.size}] /* {shape} */"


def _values(value: np.ndarray, width: int = 110) -> str:
    flat = value.reshape(-1)
    if flat.dtype == np.float32:
        texts = [real(v) for v in flat.tolist()]
    else:
        texts = ["INT32_MIN" if v == -(2**31) else str(int(v)) for v in flat.tolist()]
    per_line = max(1, (width - 4) // (max(map(len, texts)) + 2))
    rows = (", ".join(texts[i : i + per_line]) for i in range(0, len(texts), per_line))
    return "\n".join(f"    {row}," for row in rows)
