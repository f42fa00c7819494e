"""The package on disk: Model Library Format, as docs/architecture.md states it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from embbert_tvm.c_names import DEFAULT_PREFIX
from embbert_tvm.codegen import blob, c_api, c_files, c_ngrams, c_tokenizer, integrity, micro_headers
from embbert_tvm.codegen.blob import Blob, layout_hash, make_blob
from embbert_tvm.codegen.conditionals import builds_of, resolved
from embbert_tvm.codegen.memory_report import memory_text
from embbert_tvm.codegen.plan import ALIGN, MemoryPlan
from embbert_tvm.codegen.steps import OUTPUT, CallStep, Program, StepOutput
from embbert_tvm.codegen.unused_code import without_empty_headers, without_unused_code
from embbert_tvm.data.tokenizer_spec import TokenizerSpec
from embbert_tvm.errors import InputError
from embbert_tvm.escape import c_comment
from embbert_tvm.graph.quantize import KernelSelection
from embbert_tvm.heads import ONE_LABEL, FurtherHead
from embbert_tvm.kernels.forms import DEFAULT_FORMS, KernelForms
from embbert_tvm.models.ngrams import NgramModel
from embbert_tvm.rejection import Rejection
from embbert_tvm.target import Board, Cpu

FORMAT = "embbert-tvm 1"
MLF_VERSION = 7
_HOST = "codegen/host"
# As device/validate.py has them, which codegen/ does not import.
FP32_TOLERANCE, FLOATING_TOLERANCE = 1e-4, 2e-2


@dataclass(frozen=True)
class Contents:
    """What goes into a package. tokenizer: tokenizer.json or None; tokenizer_spec: what the device's tokenizer is made
    of, None where it is left out. origins: by the name of a value, the float value that it stands for and the scale of
    its int8. plan: plan.json, the precision of every operator. answer: token ids that the package carries, with the
    logits of LLVM's build. linear: hashed n-grams of the text that add to the logits, or are all there is. in_blob:
    whether what a retrained model has otherwise lies in a blob and not in the firmware."""

    program: Program
    model_name: str
    cpu: Cpu
    precision: str
    labels: Sequence[str] | None
    choices: Sequence[KernelSelection]
    plan: str
    relax_text: str | None  # None where there is no graph
    onnx: bytes | None
    tokenizer: bytes | None
    tokenizer_spec: TokenizerSpec | None
    answer: tuple[Sequence[int], np.ndarray]
    prefix: str = DEFAULT_PREFIX
    board: Board | None = None
    origins: Mapping[str, tuple[str, float | None]] = field(default_factory=dict)
    head: str = ONE_LABEL
    rejection: Rejection | None = None
    linear: NgramModel | None = None
    example: str | None = None  # a text of the model's own kind
    in_blob: bool = False
    more: tuple[FurtherHead, ...] = ()  # heads beside the first
    forms: KernelForms = DEFAULT_FORMS

    @property
    def streams(self) -> bool:
        """Whether texts of any length are read, since hashed n-grams are all there is."""
        return self.linear is not None and self.program.text is None


def files(contents: Contents) -> dict[str, bytes]:
    """Every file of the package by its path, but for its reference. The same contents give the same bytes."""
    program, prefix = contents.program, contents.prefix
    if contents.in_blob and contents.more:
        raise InputError(f"{contents.model_name}: weights in a blob go with a model of one head, this has more")
    tokenizer: dict[str, bytes] = {}
    tables = None
    if contents.tokenizer_spec is not None:
        tokenizer = c_tokenizer.files(contents.tokenizer_spec, prefix, c_comment(contents.model_name))
        named, tables = integrity.tokenizer_parts(tokenizer[f"{prefix}_tokenizer.c"].decode(), prefix)
        tokenizer[f"{prefix}_tokenizer.c"] += named.encode()
    answer = integrity.KnownAnswer(*contents.answer, _tolerance(contents))
    made = _blob(contents, answer) if contents.in_blob else None
    checks = integrity.source(prefix, program.constants, tables, answer, contents.in_blob)
    found = {f"{_HOST}/src/{name}": text.encode() for name, text in _code(contents, checks, made).items()}
    found |= {f"{_HOST}/src/{file}": content for file, content in tokenizer.items()}
    found = {path: c_files.licensed(content.decode()).encode() for path, content in found.items()}
    found = _with_headers_of(prefix, _without_unused_code(prefix, found, contents.cpu))
    found, digest, model = _with_weights(contents, made, found)
    found[f"{_HOST}/include/{prefix}.h"] = _header(contents, made, digest).encode()
    texts = {
        "plan.json": contents.plan,
        "memory.txt": memory_text(program.arena.blocks, program.arena_bytes, _step_names(program)),
        "metadata.json": json.dumps(metadata(contents, digest, model), indent=2, ensure_ascii=False) + "\n",
    }
    found |= {path: text.encode() for path, text in texts.items()}
    return found | _beside(contents)


def _code(contents: Contents, checks: str, made: Blob | None) -> dict[str, str]:
    """The model's own C by name, but for the weights' values."""
    program, name, prefix, linear = contents.program, contents.model_name, contents.prefix, contents.linear
    model = _interface(contents, made)
    reasons = {key: c.reason for c in contents.choices for key in (c.kernel, c.name)}
    sources = {
        f"{prefix}_model.c": c_files.entry(program, model, reasons, checks),
        f"{prefix}_weights.h": c_files.weights_header(program, name, prefix) if made is None else made.header(),
    }
    if program.functions:
        features = contents.forms.features(contents.cpu.features)
        dual_issue = {"EMBBERT_DUAL_ISSUE": int("dual_issue" in features)}
        builds = [{**build, **dual_issue} for build in builds_of(contents.cpu)]
        kernels = c_files.kernels_header(program, name, features, prefix, builds, contents.forms.macros)
        code = c_files.kernels(program, name, prefix)
        sources |= {f"{prefix}_kernels.h": kernels, f"{prefix}_kernels.c": code}
        sources |= micro_headers.shipped(kernels, code, builds=builds)
    if linear is not None:
        sources |= c_ngrams.files(linear, prefix, name, model.places, made is not None)
    return sources


def _blob(contents: Contents, answer: integrity.KnownAnswer) -> Blob:
    return make_blob(_interface(contents, None), contents.program.constants, answer, contents.linear)


def _with_weights(contents: Contents, made: Blob | None, found: dict[str, bytes]) -> tuple[dict[str, bytes], int, int]:
    """The sources with the weights' values; what tells this firmware from others, and this model."""
    name = f"{_HOST}/src/{contents.prefix}_weights.c"
    if made is None:
        weights = c_files.weights(contents.program, contents.model_name, contents.prefix)
        found |= {name: c_files.licensed(weights).encode()}
        digest = _digest(found)
        return found, digest, digest
    header = {f"{_HOST}/include/{contents.prefix}.h": _header(contents, made, 0).encode()}
    layout = layout_hash(found | header)
    content = made.content(layout)
    found |= {name: made.source(layout).encode(), blob.FILE: content}
    return found, layout, blob.model_of(content)


def blob_file(found: Mapping[str, bytes]) -> tuple[int, int] | None:
    """The size of the blob among a package's files and the layout hash that it is for, None where there is none."""
    content = found.get(blob.FILE)
    return None if content is None else (len(content), blob.layout_of(content))


def _header(contents: Contents, made: Blob | None, digest: int) -> str:
    return c_api.header(contents.program, _interface(contents, made), contents.precision, digest)


def _interface(contents: Contents, made: Blob | None) -> c_api.Interface:
    return c_api.Interface(
        prefix=contents.prefix,
        model_name=contents.model_name,
        labels=contents.labels,
        head=contents.head,
        rejection=contents.rejection,
        more=contents.more,
        linear=contents.linear is not None,
        places=c_api.LINKED if made is None else made.places(),
        members=None if made is None else made.members,
    )


def _step_names(program: Program) -> list[str]:
    """Names of the steps, and of what is behind the last."""
    return [*(step.name for step in program.steps), *["slots"] * (program.tagging is not None)]


def _beside(contents: Contents) -> dict[str, bytes]:
    """What the C is made from: the graph, the float model, the n-grams, the tokenizer."""
    graph = None if contents.relax_text is None else contents.relax_text.encode()
    found = {
        "src/relax.txt": graph,
        "src/model.onnx": contents.onnx,
        "parameters/tokenizer.json": contents.tokenizer,
    }
    if contents.linear is not None:
        found |= {f"src/linear/{file}": text for file, text in contents.linear.files(contents.model_name).items()}
    return {path: content for path, content in found.items() if content is not None}


def _tolerance(contents: Contents) -> float:
    """Share of the largest logit by which a place may differ from LLVM's build: 0 in integers."""
    if contents.precision == "fp32":
        return FP32_TOLERANCE
    floating = contents.precision == "fp16" or any(str(c.precision).startswith("float") for c in contents.choices)
    return FLOATING_TOLERANCE if floating else 0.0


def _without_unused_code(prefix: str, sources: dict[str, bytes], cpu: Cpu) -> dict[str, bytes]:
    """The sources without what they do not use, or a CPU never takes, but for the tokenizer's header, which is for
    callers."""
    texts = {path: content.decode() for path, content in sources.items() if not path.endswith(f"{prefix}_tokenizer.h")}
    kept = without_unused_code(resolved(texts, builds_of(cpu)))
    others = {path: content for path, content in sources.items() if path not in texts}
    return others | {path: text.encode() for path, text in without_empty_headers(kept).items()}


def _with_headers_of(prefix: str, sources: dict[str, bytes]) -> dict[str, bytes]:
    """The sources with the headers that all packages share under names of the prefix's, as every file's name is."""
    renamed = {}
    for path, content in sources.items():
        folder, _, name = path.rpartition("/")
        content = re.sub(rb'#include "embbert_(\w+\.h)"', rf'#include "{prefix}_\1"'.encode(), content)
        renamed[f"{folder}/{re.sub('^embbert_', f'{prefix}_', name)}"] = content
    return renamed


def _digest(sources: dict[str, bytes]) -> int:
    """32 bits that tell one package's C from another's."""
    digest = hashlib.sha256()
    for path, content in sorted(sources.items()):
        digest.update(f"{path} {len(content)} ".encode() + content)
    return int.from_bytes(digest.digest()[:4], "big")


def metadata(contents: Contents, digest: int, model: int) -> dict:
    """metadata.json. digest: EMBBERT_HASH; model: what tells this model from others of the same firmware, or digest."""
    program = contents.program
    return {
        "version": MLF_VERSION,
        "format": FORMAT,
        "model_name": contents.model_name,
        "prefix": contents.prefix,
        "hash": f"{model:08x}",
        "layout": f"{digest:08x}" if contents.in_blob else None,
        "target": contents.cpu.name,
        "board": None if contents.board is None else asdict(contents.board),
        "precision": contents.precision,
        "min_length": program.min_length,
        "max_length": program.max_length,
        "labels": None if contents.labels is None else list(contents.labels),
        "classes": program.classes,
        "head": contents.head,
        "heads": [head.to_dict() for head in contents.more],
        "padding": program.padding,
        "none_of_these": None if contents.rejection is None else contents.rejection.to_dict(),
        "vocabulary": program.vocabulary,
        "arena": _arena(program.arena),
        "weights_bytes": program.weights_bytes,
        "constants": {name: value.nbytes for name, value in program.constants.items()},
        "operators": [asdict(c) for c in contents.choices],
        "steps": [_step(step, contents.prefix) for step in program.steps],
        "outputs": [_output(n, o, contents) for n, step in enumerate(program.steps) for o in step.outputs],
        "tokenizer": contents.tokenizer_spec is not None or contents.streams,
        "linear": contents.linear and {"bytes": contents.linear.bytes, **asdict(contents.linear.features)},
        "streams": contents.streams,
        "example": contents.example,
        "sources": [f"{_HOST}/src/{contents.prefix}_{name}.c" for name in _sources(contents)],
        "includes": [f"{_HOST}/include"],
    }


def _sources(contents: Contents) -> tuple[str, ...]:
    parts = {
        "model": True,
        "kernels": bool(contents.program.functions),
        "weights": True,
        "linear": contents.linear is not None,
        "tokenizer": contents.tokenizer_spec is not None,
    }
    return tuple(name for name, there in parts.items() if there)


def _step(step: CallStep, prefix: str) -> dict:
    kernel = step.function.name.removeprefix(f"{prefix}_")
    return {"name": step.name, "kernel": kernel, "macs": None if step.macs is None else list(step.macs)}


def _output(step: int, output: StepOutput, contents: Contents) -> dict:
    """float: the value of the simplified float module that it stands for, `scale` what one step of it is worth."""
    origin, scale = contents.origins.get(OUTPUT if output.name == OUTPUT else output.value, (None, None))
    shown = {"step": step, "name": output.name, "dtype": output.dtype, "shape": output.shape}
    shown["interleave"] = output.interleave
    return shown | {"float": origin, "scale": scale}


def _arena(plan: MemoryPlan) -> dict:
    """The plan; `least` is true where no plan is smaller."""
    return {"bytes": plan.peak, "align": ALIGN, "least": plan.optimal, "tensors": [asdict(b) for b in plan.blocks]}


def write(contents: Contents, folder: Path) -> None:
    """Fill an empty folder with the package, but for its reference."""
    write_files(files(contents), folder)


def write_files(found: Mapping[str, bytes], folder: Path) -> None:
    """Write what `files` gave."""
    for path, content in found.items():
        where = folder / path
        where.parent.mkdir(parents=True, exist_ok=True)
        where.write_bytes(content)


def write_reference(
    vectors: Sequence[tuple[Sequence[int], np.ndarray]],
    folder: Path,
    texts: Sequence[tuple[str, str | None, np.ndarray]] = (),
) -> None:
    """Complete a package with its reference: token ids, each with the logits that every place must give.

    texts: the same of texts and pairs of texts, where a model reads them beside their ids.
    """
    found: list[dict[str, object]] = [{"ids": list(map(int, ids)), "logits": _bits(logits)} for ids, logits in vectors]
    found += [{"text": text, "text_pair": pair, "logits": _bits(logits)} for text, pair, logits in texts]
    document = json.dumps({"vectors": found}, ensure_ascii=False) + "\n"
    (folder / "reference.json").write_text(document, encoding="utf-8")


def _bits(logits: np.ndarray) -> list[str]:
    return [f"{bits:08x}" for bits in np.float32(logits).reshape(-1).view(np.uint32)]
