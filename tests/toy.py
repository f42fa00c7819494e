"""A package small enough to read, written by hand: its logits are a hash of the ids, and some first ids misbehave."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

LABELS = ["lights", "music", "weather"]
TEXTS = ["turn the lights off", "play some music", "will it rain tomorrow", "play", "lights on please", "rain"]
MAX_LENGTH = 16
VOCABULARY = 1000
HASH = "00c0ffee"

# First ids that ask for more than logits:
LOOP, HANG, FAULT, DEEP = 900, 901, 902, 903  # LOOP: a loop of 2 * (ids[1] << ids[2]) instructions on a board

HEADER = f"""\
#ifndef EMBBERT_H
#define EMBBERT_H
#include <stddef.h>
#include <stdint.h>
#define EMBBERT_MAX_LENGTH {MAX_LENGTH}
#define EMBBERT_CLASSES {len(LABELS)}
#define EMBBERT_LOGITS {len(LABELS)}
#define EMBBERT_OF_TOKENS 0
#define EMBBERT_VOCABULARY {VOCABULARY}
#define EMBBERT_ARENA_BYTES 64u
#define EMBBERT_ARENA_ALIGN 16
#define EMBBERT_HASH 0x{HASH}u
typedef enum {{ EMBBERT_OK = 0, EMBBERT_E_ARGUMENT, EMBBERT_E_LENGTH, EMBBERT_E_TOKEN }} embbert_status_t;
typedef struct {{ uint8_t *arena; }} embbert_t;
embbert_status_t embbert_init(embbert_t *model, void *arena, size_t bytes);
embbert_status_t embbert_run(embbert_t *model, const int32_t *ids, size_t n, float *logits);
const char *embbert_label(size_t index);
#endif
"""

MODEL = """\
#include "embbert.h"
#include "weights.h"

#ifdef EMBBERT_PROFILE
void embbert_step(int32_t step);
#define EMBBERT_STEP(step) embbert_step(step)
#else
#define EMBBERT_STEP(step) ((void)0)
#endif

#ifdef EMBBERT_TRACE
void embbert_trace(int32_t output, const void *data, size_t bytes);
#define EMBBERT_OUTPUT(output, data, count) embbert_trace(output, data, (size_t)(count) * sizeof *(data))
#else
#define EMBBERT_OUTPUT(output, data, count) ((void)0)
#endif

embbert_status_t embbert_init(embbert_t *model, void *arena, size_t bytes)
{
    if (!model || !arena || (uintptr_t)arena % EMBBERT_ARENA_ALIGN || bytes < EMBBERT_ARENA_BYTES)
        return EMBBERT_E_ARGUMENT;
    model->arena = arena;
    return EMBBERT_OK;
}

/* 2 * n instructions on a board */
static void loop(uint32_t n)
{
#ifdef __arm__
    __asm__ volatile(".syntax unified\\n1:\\tsubs %0, %0, #1\\n\\tbne 1b" : "+l"(n)::"cc");
#elif defined(__riscv) || defined(__XTENSA__)
    __asm__ volatile("1:\\n\\taddi %0, %0, -1\\n\\tbnez %0, 1b" : "+r"(n));
#else
    (void)n;
#endif
}

static uint32_t deep(volatile uint32_t n)
{
    volatile uint32_t row[64];
    for (uint32_t i = 0; i < 64u; i++)
        row[i] = n;
    return n ? row[n % 64u] + deep(n - 1u) : 0u;
}

embbert_status_t embbert_run(embbert_t *model, const int32_t *ids, size_t n, float *logits)
{
    uint32_t *sums = (uint32_t *)(void *)model->arena;
    if (n == 0 || n > EMBBERT_MAX_LENGTH)
        return EMBBERT_E_LENGTH;
    for (size_t i = 0; i < n; i++)
        if (ids[i] < 0 || ids[i] >= EMBBERT_VOCABULARY)
            return EMBBERT_E_TOKEN;
    if (ids[0] == 900)
        loop((uint32_t)ids[1] << ids[2]);
    while (ids[0] == 901) {
    }
    if (ids[0] == 902)
        *(volatile uint32_t *)(uintptr_t)0xF0000000u = 1u;
    EMBBERT_STEP(0);
    EMBBERT_OUTPUT(0, ids, n);
    for (size_t c = 0; c < EMBBERT_CLASSES; c++) {
        sums[c] = ids[0] == 903 ? deep(100000u) : 0u;
        for (size_t i = 0; i < n; i++)
            sums[c] = sums[c] * weights[c] + (uint32_t)ids[i];
        logits[c] = (float)(int32_t)(sums[c] % 2001u) / 256.0f - 3.0f;
    }
    EMBBERT_STEP(1);
    EMBBERT_OUTPUT(1, sums, EMBBERT_CLASSES);
    EMBBERT_OUTPUT(2, logits, EMBBERT_CLASSES);
    return EMBBERT_OK;
}

const char *embbert_label(size_t index)
{
    static const char *const labels[EMBBERT_CLASSES] = {"lights", "music", "weather"};
    return index < EMBBERT_CLASSES ? labels[index] : NULL;
}
"""

FACTORS = (31, 37, 41)
WEIGHTS_H = "#include <stdint.h>\nextern const uint32_t weights[3];\n"
STEPS = [{"name": "loops", "kernel": "loop", "macs": None}, {"name": "sums", "kernel": "sum", "macs": [0, 3, 0]}]
OUTPUTS = [
    {"step": 0, "name": "ids", "dtype": "int32", "float": None, "scale": None},
    {"step": 1, "name": "sums", "dtype": "uint32", "float": None, "scale": None},
    {"step": 1, "name": "logits", "dtype": "float32", "float": "value", "scale": None},
]
WEIGHTS_C = """\
#include "weights.h"
__attribute__((section(".rodata.embbert_weights.weights"))) const uint32_t weights[3] = {31u, 37u, 41u};
"""


def logits(ids: list[int]) -> np.ndarray:
    """What MODEL computes, in numpy."""
    result = []
    for factor in FACTORS:
        total = 0
        for i in ids:
            total = (total * factor + i) % 2**32
        result.append(np.float32(total % 2001) / np.float32(256) - np.float32(3))
    return np.array(result, dtype=np.float32)


def write_package(folder: Path, target: str = "cortex-m7", model: str = MODEL, **changes: object) -> Path:
    """The package's folder; `changes` replace keys of metadata.json, None takes one away."""
    source, include = folder / "codegen/host/src", folder / "codegen/host/include"
    for path in (source, include, folder / "src", folder / "parameters"):
        path.mkdir(parents=True)
    (include / "embbert.h").write_text(HEADER)
    (source / "model.c").write_text(model)
    (source / "weights.c").write_text(WEIGHTS_C)
    (source / "weights.h").write_text(WEIGHTS_H)
    metadata = {
        "version": 7,
        "format": "embbert-tvm 1",
        "model_name": "toy",
        "hash": HASH,
        "target": target,
        "precision": "int8",
        "max_length": MAX_LENGTH,
        "labels": LABELS,
        "classes": len(LABELS),
        "vocabulary": VOCABULARY,
        "arena": {"bytes": 64, "align": 16, "tensors": []},
        "weights_bytes": 12,
        "operators": [],
        "steps": STEPS,
        "outputs": OUTPUTS,
        "sources": ["codegen/host/src/model.c", "codegen/host/src/weights.c"],
        "includes": ["codegen/host/include", "codegen/host/src"],
    }
    metadata |= changes
    (folder / "metadata.json").write_text(json.dumps({k: v for k, v in metadata.items() if v is not None}))
    vectors = []
    for n in (1, 7, MAX_LENGTH):
        ids = [(i * 97 + n) % 800 for i in range(n)]
        vectors.append({"ids": ids, "logits": [f"{bits:08x}" for bits in logits(ids).view(np.uint32)]})
    (folder / "reference.json").write_text(json.dumps({"vectors": vectors}))
    return folder


def float_model(classes: int) -> bytes:
    """ONNX: logits = sin(sum(ids) * (1, 2, ...))."""
    from onnx import TensorProto, checker, helper, numpy_helper

    factors = numpy_helper.from_array(np.arange(1, classes + 1, dtype=np.float32)[None], "factors")
    axes = numpy_helper.from_array(np.array([1], dtype=np.int64), "axes")
    nodes = [
        helper.make_node("Cast", ["ids"], ["numbers"], to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["numbers", "axes"], ["sum"], keepdims=1),
        helper.make_node("Mul", ["sum", "factors"], ["product"]),
        helper.make_node("Sin", ["product"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "toy",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, [1, "L"])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, classes])],
        [factors, axes],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    checker.check_model(model)
    return model.SerializeToString()


def complete(folder: Path) -> Path:
    """Give a package of toy.write_package a tokenizer and a float model."""
    from embbert_tvm.data.tokenizer import save_tokenizer, train_tokenizer

    tokenizer = train_tokenizer(TEXTS, 100)
    tokenizer.add_tokens([f"<filler {i}>" for i in range(VOCABULARY - tokenizer.get_vocab_size())])
    save_tokenizer(tokenizer, folder / "parameters" / "tokenizer.json")
    (folder / "src" / "model.onnx").write_bytes(float_model(3))
    return folder
