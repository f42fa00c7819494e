"""The C files of a package: entry point, kernels, weights. Written to be read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from embbert_tvm.codegen import c_api, c_ngrams, c_rejection, c_tables, c_tags, micro_headers
from embbert_tvm.codegen.c_expressions import C_TYPES, real
from embbert_tvm.codegen.conditionals import Builds
from embbert_tvm.codegen.equations import comment, legend
from embbert_tvm.codegen.steps import INPUT, OUTPUT, CallStep, Program, Tensor
from embbert_tvm.codegen.templates import substitute, template
from embbert_tvm.escape import c_comment, c_formula, c_string
from embbert_tvm.heads import MANY_LABELS, ONE_LABEL, REGRESSION, TOKENS, VECTOR, FurtherHead

_MODEL = template("model.c.in")

_TOKENIZE = template("tokenize.c.in").rstrip("\n")
_OFFSETS = template("tokenize_offsets.c.in")
_TOO_SHORT = template("too_short.c.in").rstrip("\n")
_FILL = template("fill.c.in").rstrip("\n")  # a model of one length takes what a text lacks in padding

_EXPONENTIAL = template("power_of_e.c.in")

# From the logits to the rest of a text's result.
_COMPLETE = template("complete.c.in")

_ANSWER_TEXT = template("answer_text.c.in")

_ANSWER_TOKENS = template("answer_tokens.c.in")

_CLASSIFY = template("classify.c.in")

_SLICE_END = "\n" + template("slice_end.c.in")

_ARENA = "    uint8_t *const arena = model->arena;\n"

_SOFTMAX = template("scores_softmax.c.in").rstrip("\n")

# A value and a vector have none but themselves.
_NO_SCORES = template("scores_none.c.in").rstrip("\n")

# Of many labels each stands for itself.
_SIGMOID = template("scores_sigmoid.c.in").rstrip("\n")

_SCORES = {
    ONE_LABEL: _SOFTMAX,
    MANY_LABELS: _SIGMOID,
    REGRESSION: _NO_SCORES.replace("@SCORE@", "1.0f"),
    VECTOR: _NO_SCORES.replace("@SCORE@", "result->logits[i]"),
}

# What a package says of texts that was compiled without a tokenizer.
_IDS_ONLY = template("tokenize_none.c.in").rstrip("\n")

_NO_TEXT = template("answer_text_none.c.in")

_NO_TOKENS = template("answer_tokens_none.c.in")

_EMBED = template("embed.c.in")

_HEAD_LABELS = template("head_labels.c.in")

_CACHE_LINE = 32  # bytes: a weight that begins inside one is fetched by a line more
_SPDX = "/* SPDX-License-Identifier: Apache-2.0 */\n"
_KERNELS_HEADER = template("kernels.h.in")


WEIGHTS_PLACE = template("weights_section.c.in").rstrip("\n")


def licensed(text: str) -> str:
    """A C text that names its licence first."""
    return text if text.startswith(_SPDX) else _SPDX + text


def entry(program: Program, model: c_api.Interface, reasons: Mapping[str, str], checks: str) -> str:
    """<prefix>_model.c. reasons: what a comment says of a step, by its name or its kernel's; checks: the C of
    integrity.py."""
    prefix, members, rejection = model.prefix, model.members, model.rejection
    lines = _pointers(program)
    outputs = 0
    for number, step in enumerate(program.steps):
        lines += ["", f"    if (model->step == {number}) {{"]
        lines += [*_explained(number, step, _reason(step, reasons, prefix)), *_call(step, members or {})]
        lines.append(f"        {prefix.upper()}_STEP({number});")
        for output in step.outputs:
            lines.append(f"        {prefix.upper()}_OUTPUT({outputs}, {output.name}, {output.count});")
            outputs += 1
        lines += ["        if (next_step(model, budget)) {"]
        lines += ["            return model->step == STEPS;", "        }", "    }"]
    body = "\n".join(lines)
    formulas = [formula for step in program.steps for formula in step.equations]
    return substitute(
        _MODEL,
        prefix,
        **_texts(program, model.head, model.linear),
        arena=_ARENA if "arena + " in body else "",
        slice_end=_SLICE_END if "slice_end(" in body else "",
        fill=_TOO_SHORT if program.padding is None else _FILL,
        given="(int32_t)tokens" if program.padding is None else "@UPPER@_MAX_LENGTH",
        scores=_SCORES.get(model.head, "") if rejection is None else c_rejection.scores(rejection, members is not None),
        ids_offset=program.text and program.text.ids.offset,
        window_offset=program.text and program.text.window.offset,
        status_texts="\n".join(
            f"    case @UPPER@_{status.name}:\n        return {c_string(status.text)};" for status in c_api.STATUSES
        ),
        title=c_comment(model.model_name),
        input=INPUT,
        output=OUTPUT,
        max_length=program.max_length,
        arena_bytes=program.arena_bytes,
        plan="\n".join(_plan_rows(program)),
        legend=_legend(formulas) if formulas else "",
        body=body,
        steps=len(program.steps),
        checks=checks,
        heads=_heads(model.more, prefix) + c_tags.source(program, model.more, prefix),
        label=_label_body(model.named, prefix, members is not None),
        **model.places,
    )


def _texts(program: Program, head: str, linear: bool) -> dict[str, str]:
    """What stands in the entry point for texts, and for their n-grams."""
    headers = {"kernels": program.functions, "linear": linear, "tokenizer": program.text}
    streams = linear and program.text is None
    return {
        "text": c_ngrams.bytes_text() if streams else _IDS_ONLY if program.text is None else _TOKENIZE,
        "offsets": _OFFSETS if program.text is not None and program.text.offsets else "",
        "answer": _answer(head, program.text is not None or linear),
        "linear_function": c_ngrams.ADD if linear else "",
        "added": c_ngrams.ADDED if linear else "",
        "with_text": c_ngrams.WITH_TEXT if linear else "",
        "without_text": c_ngrams.WITHOUT_TEXT if linear else "",
        "includes": "".join(f'#include "@PREFIX@_{name}.h"\n' for name, there in headers.items() if there),
    }


def _answer(head: str, has_tokenizer: bool) -> str:
    """The C of the calls that take a text, and of what follows from logits."""
    if head == TOKENS:
        return _EXPONENTIAL + _ANSWER_TOKENS if has_tokenizer else _NO_TOKENS
    exponential = _EXPONENTIAL if head in (ONE_LABEL, MANY_LABELS) else ""
    embed = _EMBED if head == VECTOR else ""
    return exponential + _COMPLETE + (_ANSWER_TEXT if has_tokenizer else _NO_TEXT) + _CLASSIFY + embed


def _explained(number: int, step: CallStep, reason: str) -> list[str]:
    """The comment before a call: what it makes, and by which equations."""
    place = step.outputs[0].name if len(step.outputs) == 1 else step.name
    where = "" if place in (step.name, OUTPUT) else f", in the place of {place}"
    name = OUTPUT if place == OUTPUT else step.name
    start = f"        /* {number}. {name}{where}: {c_formula(reason)}"
    if not step.equations:
        return [f"{start} */"]
    return [start, *comment(step.equations, "         *   "), "         */"]


def _reason(step: CallStep, reasons: dict[str, str], prefix: str) -> str:
    kernel = step.function.name.removeprefix(f"{prefix}_")
    return reasons.get(step.name) or reasons.get(kernel) or "operators without a kernel of ours, fused"


def _pointers(program: Program) -> list[str]:
    """Where tensors lie in the arena, and further outputs behind the first."""
    lines = [f"    {_pointer(t.name, t)}" for t in program.tensors if t.block is not None]
    return lines + [f"    float *const {o.name} = {OUTPUT} + {program.place_of(o.name)};" for o in program.more]


def _pointer(name: str, tensor: Tensor) -> str:
    kind = C_TYPES[tensor.dtype]
    return f"{kind} *const {name} = ({kind} *)(void *)(arena + {tensor.block.offset}); /* {c_formula(tensor.shape)} */"


def _call(step: CallStep, members: Mapping[str, str]) -> list[str]:
    workspaces = [f"({C_TYPES[w.dtype]} *)(void *)(arena + {w.block.offset})" for w in step.workspaces]
    given = (f"blob->{members[name]}" if name in members else name for name in step.arguments)
    arguments = [*step.scalars, *given, *workspaces]
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


def _heads(more: Sequence[FurtherHead], prefix: str) -> str:
    """The names of what each further head tells."""
    return "".join(
        substitute(
            _HEAD_LABELS, prefix, name=head.name, upper_name=head.name.upper(),
            names=",\n".join(f"        {c_string(label)}" for label in head.labels),
        )
        for head in more
        if head.labels
    )  # fmt: skip


def _legend(formulas: Iterable[str]) -> str:
    first, *rest = legend(formulas)
    return "\n".join([f"/* {first}", *(f" * {line}" for line in rest), " */", ""])


def _plan_rows(program: Program) -> Iterable[str]:
    blocks = [(t.block, f"{t.name} {t.dtype} {t.shape}") for t in program.tensors if t.block is not None]
    for step in program.steps:
        blocks += [(w.block, f"{step.name}: workspace {w.name} {w.dtype} {w.shape}") for w in step.workspaces]
    yield " *   offset    bytes  steps"
    for block, text in sorted(blocks, key=lambda b: (b[0].offset, b[0].first)):
        yield f" *   {block.offset:6d}  {block.bytes:7d}  {block.first:2d}-{block.last:<2d}  {c_formula(text)}"


def _label_body(labels: Sequence[str] | None, prefix: str, in_blob: bool = False) -> str:
    if labels is None:
        return f"{'    (void)model;' + chr(10) if in_blob else ''}    (void)index;\n    return NULL;"
    if in_blob:
        return "\n".join(
            [
                "    if (model == NULL || model->arena == NULL || index >= @UPPER@_CLASSES + @UPPER@_REJECTS) {",
                "        return NULL;",
                "    }",
                "    return model->blob->labels[index];",
            ]
        )
    names = ",\n".join(f"        {c_string(label)}" for label in labels)
    count = f"{prefix.upper()}_CLASSES + {prefix.upper()}_REJECTS"
    return (
        f"    static const char *const labels[{count}] = {{\n{names},\n    }};\n"
        f"    return index < {count} ? labels[index] : NULL;"
    )


def kernels_header(
    program: Program,
    model_name: str,
    features: Sequence[str],
    prefix: str,
    builds: Builds = (),
    macros: Mapping[str, int] | None = None,
) -> str:
    """macros: what the headers of the micro-kernels are told."""
    declarations = "\n".join(f"{_signature(f)};" for f in program.functions)
    bodies = "\n".join(f.body for f in program.functions)
    includes = "".join(f'#include "{path.name}"\n' for path in micro_headers.needed(bodies, builds=builds))
    return _SPDX + substitute(
        _KERNELS_HEADER,
        prefix,
        includes=includes and f"\n{includes}",
        title=c_comment(model_name),
        dual_issue=int("dual_issue" in features),
        macros="".join(f"#define {macro} {value}\n" for macro, value in (macros or {}).items()),
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


# What a constant of an operator is, by the end of its name.
_ROLES = {
    "weight": "rows of the matrix, or taps of the filters, each row in steps of its own scale",
    "bias": "in steps of the accumulator",
    "score_multiplier": "from a difference of scores to a place in the table of exp, a head each, times 2**32",
    "multiplier": "2**32 times the accumulator's step over the output's",
    "channel_rescale": "2**32 times what brings the rows to one step, less than a half",
    "epsilon": "n times the norm's, in squares of that step",
    "gain": "the norm's weight over the output's step, scaled",
    "shift": "the norm's bias in 256ths of the output's step, and the half that rounds",
    "table": "rows of int8, or a function of one int8 by its value plus 128",
    "embedding_rows": "rows of a small embedding, in steps of the accumulator",
    "residual_factor": "256 times the step of what is added over the accumulator's",
    "exp": "127 * exp(-i * ln(254) / 255)",
    "step": "the step of the rows that are read, as a real number",
    "ratio": "the values' step over the output's, times 2**27",
    "scale": "the accumulator's step as a real number",
}


def _role(name: str) -> tuple[str, str]:
    """The operator that a constant belongs to, and what it is there; its own name and nothing where it has no role."""
    for suffix, role in _ROLES.items():
        if name.endswith(f"_{suffix}"):
            return name[: -len(suffix) - 1], role
    return name, ""


def weights_header(program: Program, model_name: str, prefix: str) -> str:
    upper, rows, group = prefix.upper(), [], None
    for name, value in program.constants.items():
        owner, role = _role(name)
        if owner != group:
            rows += [""] * bool(rows) + [f"/* {owner} */"]
            group = owner
        rows.append(f"extern {_declaration(name, value, prefix)};{f' /* {role} */' if role else ''}")
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
        f"{substitute(WEIGHTS_PLACE, prefix, align=_CACHE_LINE)}"
    ]
    for name, value in program.constants.items():
        parts.append(f"{upper}_WEIGHT({name}) {_declaration(name, value, prefix)} = {{\n{values(value)}\n}};")
    return "\n\n".join(parts) + "\n"


def _declaration(name: str, value: np.ndarray, prefix: str) -> str:
    shape = " x ".join(str(d) for d in value.shape) or "1"
    return f"const {C_TYPES[str(value.dtype)]} {prefix}_{name}[{value.size}] /* {shape} */"


def values(value: np.ndarray) -> str:
    """An array's elements as lines of a C initializer."""
    flat = value.reshape(-1)
    if flat.dtype == np.float32:
        texts = [real(v) for v in flat.tolist()]
    else:
        flat = flat.view(np.uint16) if flat.dtype == np.float16 else flat
        if flat.dtype.itemsize < 4:
            return c_tables.rows_of_integers(flat)
        texts = ["INT32_MIN" if value == -(2**31) else str(value) for value in flat.tolist()]
    return c_tables.rows(texts)
