"""Packages that hold micro-kernels twice, as the CPU runs them and in plain C; their logits say where they differ."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from embbert_tvm.kernels import micro

_HEADER = """\
#ifndef EMBBERT_H
#define EMBBERT_H
#include <stddef.h>
#include <stdint.h>
#define EMBBERT_MAX_LENGTH 8
#define EMBBERT_CLASSES %(classes)d
#define EMBBERT_VOCABULARY 8
#define EMBBERT_ARENA_BYTES 16u
#define EMBBERT_ARENA_ALIGN 16
#define EMBBERT_HASH 0u
typedef enum { EMBBERT_OK = 0, EMBBERT_E_ARGUMENT, EMBBERT_E_LENGTH, EMBBERT_E_TOKEN } embbert_status_t;
typedef struct { uint8_t *arena; } embbert_t;
embbert_status_t embbert_init(embbert_t *model, void *arena, size_t bytes);
embbert_status_t embbert_run(embbert_t *model, const int32_t *ids, size_t n, float *logits);
#endif
"""


def write_package(folder: Path, name: str, kernels: Sequence[str], precision: str, target: str = "cortex-m55") -> Path:
    """Write a package of NAME_checks.c and NAME_kernels.c with a logit a kernel; return its folder."""
    source = folder / "src"
    source.mkdir(parents=True)
    here = Path(__file__).parent
    shared = (here / "kernel_pairs.h", here / "unpack_kernel.h")
    for path in (*shared, *here.glob(f"{name}_*.[ch]"), *Path(micro.__file__).parent.glob("*.h")):
        shutil.copy(path, source)
    (source / "plain.c").write_text(f'#define PLAIN\n#include "{name}_kernels.c"\n')
    (source / "embbert.h").write_text(_HEADER % {"classes": len(kernels)})
    metadata = {
        "format": "embbert-tvm 1", "model_name": name, "target": target, "precision": precision, "max_length": 8,
        "labels": None, "classes": len(kernels), "vocabulary": 8, "arena": {"bytes": 16, "align": 16, "tensors": []},
        "weights_bytes": 0, "operators": [], "steps": [], "includes": ["src"], "hash": "00000000",
        "sources": [f"src/{name}_checks.c", f"src/{name}_kernels.c", "src/plain.c"],
    }  # fmt: skip
    (folder / "metadata.json").write_text(json.dumps(metadata))
    return folder
