"""The micro-kernels of DSP on QEMU, each against its plain C, and the orders of their instructions."""

from __future__ import annotations

import sys
from pathlib import Path

import kernel_pairs
import pytest

from embbert_tvm.device.package import load_package
from embbert_tvm.device.places import open_place
from embbert_tvm.resources import resource

sys.path.insert(0, str(resource("benchmarks")))

import orders

KERNELS = ("dot", "context", "widen", "fir", "raw", "transpose", "context_transposed", "rows", "softmax", "filter")
KERNELS += ("offset", "scores", "values", "softmax_fours", "normalize", "codes", "unpack", "lookup")
CPUS = {"cortex-m4": 0, "cortex-m7": 1, "cortex-m33": 0}


@pytest.mark.parametrize("cpu", CPUS)
@pytest.mark.parametrize("level", ["-O1", "-O3"])
def test_the_micro_kernels_on_qemu_compute_what_their_plain_c_does(cpu, level, tmp_path):
    package = kernel_pairs.write_package(tmp_path / "package", "dsp", KERNELS, "int8", cpu)
    parts = 8 if level == "-O1" else 0
    defined = (f"-DEMBBERT_DUAL_ISSUE={CPUS[cpu]}", f"-DEMBBERT_FILTER_PAIRS={parts}")
    flags = (level, "-Werror", "-pedantic", *defined)
    with open_place("qemu", load_package(package), flags=flags) as device:
        wrong = dict(zip(KERNELS, device.run([1]).logits, strict=True))
    assert wrong == dict.fromkeys(KERNELS, 0)


def test_the_orders_header_is_what_its_generator_writes():
    assert Path(orders.HEADER).read_text() == orders.header()


@pytest.mark.parametrize("order", orders.ORDERS, ids=lambda order: order.name)
def test_an_order_finds_every_value_where_it_is_read(order):
    assert orders.keeps_values(order.loop, order.where, order.steps)
    assert sorted(value for value, _ in order.steps) == sorted(orders.INNER_LOOPS[order.loop].values)
    swapped = [order.steps[-1], *order.steps[1:-1], order.steps[0]]
    assert not orders.keeps_values(order.loop, order.where, swapped)


# Cycles a pair of columns by the worst of the models, before these orders and by them.
WORST = {"DOT_SINGLE": (12, 10), "DOT_RAW_SINGLE": (12, 9), "CONTEXT_SINGLE": (15, 12), "DOT_GROUPED": (18, 17)}
WORST |= {"DOT_RAW_GROUPED": (18, 16), "DOT_KEYS_GROUPED": (18, 16), "VALUES_GROUPED": (20, 17.5)}
WORST |= {"DOT_RAW_2X4": (17, 15), "DOT_KEYS_2X4": (17, 15)}
WORST |= {"DOT_CODES_4_GROUPED": (16, 15), "DOT_CODES_4_STACK": (16, 8.1)}
WORST |= {"DOT_CODES_2_GROUPED": (17, 15.5), "DOT_CODES_2_SINGLE": (15.5, 10.5)}
WORST |= {"DOT_RAW_TWO": (9, 4), "DOT_KEYS_TWO": (9, 4), "VALUES_TWO": (10, 4.5)}  # of two rows
WORST |= {"SOFTMAX_SINGLE": (34, 23), "SOFTMAX_GROUPED": (34, 31)}  # of four columns of a row


@pytest.mark.parametrize("order", orders.ORDERS, ids=lambda order: order.name)
def test_an_order_is_fast_under_every_model(order):
    found = orders.costs(order, clean=False)
    before, asked = WORST[order.name]
    assert max(found.values()) <= asked + 0.05 < before
    assert max(orders.costs(order, clean=True).values()) >= before


def test_a_search_keeps_values_and_gets_faster():
    taken, order = orders.search("dot", "cortex-m7", 400, 1)
    assert orders.keeps_values(order.loop, order.where, order.steps)
    assert max(taken) < max(v for k, v in orders.costs(orders.ORDERS[0], clean=True).items() if k != "llvm-mca")
