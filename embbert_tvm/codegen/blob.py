"""A model apart from its firmware: one blob of weights, scales, tables, labels and the known answer.

A firmware is compiled for a layout: a C struct with the blob's fields at fixed offsets, little-endian, and the code
that reads them. Its hash is of that code and of the struct, so that a blob fits any firmware of the same layout hash.

    magic, version, layout hash, bytes, CRC-32 of all that follows it, hash of the model, two words of 0; the fields
"""

from __future__ import annotations

import hashlib
import re
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from embbert_tvm.c_names import c_name
from embbert_tvm.codegen import c_api, c_files, c_ngrams
from embbert_tvm.codegen.c_expressions import C_TYPES
from embbert_tvm.codegen.integrity import BLOB_CRC_END, KnownAnswer
from embbert_tvm.codegen.plan import ALIGN
from embbert_tvm.codegen.templates import substitute, template
from embbert_tvm.escape import c_comment, c_string
from embbert_tvm.models.ngrams import NgramModel

FILE = "weights.bin"
MAGIC = int.from_bytes(b"EMBW", "little")
VERSION = 1
HEADER_BYTES = 32
LABEL_ROOM = 64  # bytes of a label's name and its end mark; more where a name needs it, in such steps
_HEADER_FIELDS = ("magic", "version", "layout", "bytes", "crc", "model", "reserved")
_COMMENT = re.compile(r'("(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\')|/\*.*?\*/|//[^\n]*', re.S)


@dataclass(frozen=True)
class Field:
    """A field of the struct: an array, of dtype S<n> where it is of texts. offset: of it in the blob."""

    name: str
    value: np.ndarray
    comment: str
    offset: int

    @property
    def end(self) -> int:
        return self.offset + self.value.nbytes


@dataclass(frozen=True)
class Blob:
    """The fields of a blob. members: the names of the constants' fields by their C names; of_labels, of_answer and so
    on: those of what is no constant of a kernel."""

    prefix: str
    title: str
    fields: tuple[Field, ...]
    members: Mapping[str, str]

    @property
    def bytes(self) -> int:
        return _aligned(self.fields[-1].end)

    def content(self, layout: int) -> bytes:
        """weights.bin for firmware of that layout hash."""
        room = bytearray(self.bytes)
        for field in self.fields:
            ordered = np.ascontiguousarray(field.value.astype(field.value.dtype.newbyteorder("<"), copy=False))
            room[field.offset : field.end] = ordered.tobytes()
        body = bytes(room[HEADER_BYTES:])
        model = int.from_bytes(hashlib.sha256(layout.to_bytes(4, "little") + body).digest()[:4], "little")
        rest = struct.pack("<3I", model, 0, 0) + body
        return struct.pack("<5I", MAGIC, VERSION, layout, self.bytes, zlib.crc32(rest)) + rest

    def header(self) -> str:
        """<prefix>_weights.h: the struct."""
        rows, at = [], HEADER_BYTES
        for number, field in enumerate(self.fields):
            if field.offset > at:
                rows.append(f"    uint8_t padding_{number}[{field.offset - at}];")
            rows.append(f"    {_declared(field)}; /* {field.comment} */")
            at = field.end
        if self.bytes > at:
            rows.append(f"    uint8_t padding_{len(self.fields)}[{self.bytes - at}];")
        last = self.fields[-1]
        return substitute(
            template("blob_weights.h.in"),
            self.prefix,
            title=c_comment(self.title),
            bytes=self.bytes,
            fields="\n".join(rows),
            last=last.name,
            last_offset=last.offset,
        )

    def source(self, layout: int) -> str:
        """<prefix>_weights.c: the blob as the object that a firmware starts with."""
        _, _, _, size, crc, model, _, _ = struct.unpack_from("<8I", self.content(layout))
        reals = [f.value for f in self.fields if f.value.dtype == np.float32]
        math = "" if all(np.isfinite(value).all() for value in reals) else "#include <math.h>\n"
        return substitute(
            template("blob_weights.c.in"),
            self.prefix,
            title=c_comment(self.title),
            math=math,
            place=substitute(c_files.WEIGHTS_PLACE, self.prefix, align=ALIGN),
            magic=f"{MAGIC:#010x}",
            version=VERSION,
            bytes=size,
            crc=f"{crc:#010x}",
            model=f"{model:#010x}",
            values="\n".join(f"    .{f.name} = {{\n{_initializer(f.value)}\n    }}," for f in self.fields),
        )

    def places(self) -> dict[str, object]:
        """What stands in the templates of a package's C where constants lie in a blob (c_api.LINKED: where not)."""
        names = {"magic": f"{MAGIC:#010x}", "version": VERSION, "align": ALIGN, "blob_crc_end": BLOB_CRC_END}

        def part(name: str) -> str:
            return substitute(template(name), self.prefix, **names)

        return {
            "blob_argument": ", const void *blob",
            "blob_parameter": f"const struct {self.prefix}_blob *blob, ",
            "blob_declared": f"\nstruct {self.prefix}_blob;\n",
            "of_model": f"const {self.prefix}_t *model, ",
            "model_first": "model, ",
            "blob_first": "model->blob, ",
            "factory": f", &{self.prefix}_blob",
            "blob_field": f"    const struct {self.prefix}_blob *blob; /* that it reads its weights from */\n",
            "blob_types": substitute(template("blob_types.h.in"), self.prefix, bytes=self.bytes),
            "blob_calls": part("blob_calls.h.in"),
            "init_says": part("blob_init_says.h.in"),
            "check_needs": "The blob's own CRC\n * and that of the tokenizer's tables; call it with a `check` of zeros",
            "blob_functions": part("blob_functions.c.in"),
            "blob_checked": part("blob_checked.c.in"),
            "blob_kept": f"    model->blob = (const struct {self.prefix}_blob *)blob;\n",
            "blob_local": f"    const struct {self.prefix}_blob *const blob = model->blob;\n",
        }


def _aligned(size: int) -> int:
    return -(-size // ALIGN) * ALIGN


def _declared(field: Field) -> str:
    kind = field.value.dtype
    if kind.kind == "S":
        return f"char {field.name}[{len(field.value)}][{kind.itemsize}]"
    return f"{C_TYPES[str(kind)]} {field.name}[{field.value.size}]"


def _initializer(value: np.ndarray) -> str:
    if value.dtype.kind == "S":
        return "\n".join(f"        {c_string(text.decode())}," for text in value.tolist())
    return c_files.values(value)


def make_blob(
    model: c_api.Interface, constants: Mapping[str, np.ndarray], answer: KnownAnswer, linear: NgramModel | None = None
) -> Blob:
    """Place what one model has and the next of its kind may have otherwise.

    Args:
        constants: the arrays of kernels by their C names without the prefix.
        answer: the known answer.
        linear: hashed n-grams that add to the logits, whose arrays are among the constants.
    """
    prefix, rejection = model.prefix, model.rejection
    arrays: dict[str, tuple[np.ndarray, str]] = {}
    members, paddings = {}, {f"padding_{n}" for n in range(len(constants) + len(_EXTRAS) + 1)}
    for name, value in constants.items():
        member = c_name(name, {*_HEADER_FIELDS, *_EXTRAS, *arrays, *paddings})
        members[f"{prefix}_{name}"] = member
        arrays[member] = value.reshape(-1), _shape(value)
    arrays["known_answer"] = answer.bits, "float32 as bits"
    if answer.tolerance:
        arrays["known_answer_tolerance"] = np.array([answer.allowed], np.float32), "by how much they may differ"
    if rejection is not None:
        numbers = [1 / rejection.temperature, rejection.threshold, -rejection.threshold]
        arrays["none_of_these"] = np.array(numbers, np.float32), "1 / temperature, threshold, -threshold"
        if rejection.means is not None:
            means = np.array(rejection.means, np.float32)
            arrays["class_means"] = means.reshape(-1), f"{_shape(means)}: each class's mean logits"
    if linear is not None:
        factor = np.array([c_ngrams.factor(linear)], np.float32)
        arrays["linear_factor"] = factor, "of the sums of n-grams"
    if model.named is not None:
        arrays["labels"] = _texts(model.named), "UTF-8, ended by 0"
    fields, at = [], HEADER_BYTES
    for name, (value, comment) in arrays.items():
        fields.append(Field(name, value, comment, _aligned(at)))
        at = fields[-1].end
    return Blob(prefix, model.model_name, tuple(fields), members)


_EXTRAS = ("known_answer", "known_answer_tolerance", "none_of_these", "class_means", "linear_factor", "labels")


def _shape(value: np.ndarray) -> str:
    return " x ".join(map(str, value.shape)) or "1"


def _texts(labels: Sequence[str]) -> np.ndarray:
    encoded = [label.encode() for label in labels]
    room = -(-(max(map(len, encoded)) + 1) // LABEL_ROOM) * LABEL_ROOM
    return np.array(encoded, f"S{room}")


def layout_hash(sources: Mapping[str, bytes]) -> int:
    """32 bits of what a firmware's code is, by the C of a package without the values; comments do not count."""
    digest = hashlib.sha256()
    for path, content in sorted(sources.items()):
        code = _COMMENT.sub(lambda match: match[1] or " ", content.decode())
        words = " ".join(code.split()).encode()
        digest.update(f"{path} {len(words)} ".encode() + words)
    return int.from_bytes(digest.digest()[:4], "little")


def model_of(content: bytes) -> int:
    """The hash of the model, of the content of a blob."""
    return int(struct.unpack_from("<8I", content)[5])


def layout_of(content: bytes) -> int:
    """The layout hash of the firmware, of the content of a blob."""
    return int(struct.unpack_from("<8I", content)[2])
