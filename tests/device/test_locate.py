"""The first operator that differs, on the toy package: a kernel that is broken on one place alone, or against float."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from toy import MAX_LENGTH, MODEL, OUTPUTS, VOCABULARY, complete, logits, write_package

from embbert_tvm.device import protocol
from embbert_tvm.device.locate import against_float, against_place, open_traced, rows
from embbert_tvm.device.package import OutputRecord, load_package
from embbert_tvm.device.places import open_place
from embbert_tvm.errors import InputError, WorkError

TEXTS = [[1], [5, 6, 7], list(range(MAX_LENGTH))]
SUM = "sums[c] = sums[c] * weights[c] + (uint32_t)ids[i];"


def broken_on_arm(tmp_path, line: str, **changes):
    model = MODEL.replace(SUM, f"{SUM}\n#ifdef __arm__\n        {line}\n#endif")
    assert model != MODEL
    return load_package(complete(write_package(tmp_path / "p", model=model, **changes)))


def test_sound_places_agree_in_every_output(toy):
    found = against_place(toy, TEXTS, "qemu", "host")
    assert (found.first, found.worst, found.outputs, found.examples) == (None, None, len(OUTPUTS), 3)


def test_what_a_step_makes_is_read_whole(toy):
    with open_traced("host", toy) as device:
        assert device.output(0, [3, 4]).tolist() == [3, 4]
        assert device.output(2, [3, 4]).tolist() == logits([3, 4]).tolist()
        assert [size for size, _ in device.digests([3, 4])] == [8, 12, 12]
        with pytest.raises(WorkError, match="EMBBERT_E_TOKEN"):
            device.digests([VOCABULARY])


def test_an_output_longer_than_a_reply_comes_in_pieces(tmp_path):
    long = "static uint32_t many[9000];\n    for (uint32_t i = 0; i < 9000u; i++) many[i] = i * 77u;\n"
    model = MODEL.replace("    EMBBERT_OUTPUT(0, ids, n);", f"    {long}    EMBBERT_OUTPUT(0, many, 9000);")
    package = load_package(write_package(tmp_path / "p", model=model))
    with open_traced("host", package) as device:
        assert device.output(0, [1]).tolist() == [i * 77 for i in range(9000)]


def test_a_kernel_that_is_broken_on_one_place_is_named(tmp_path):
    package = broken_on_arm(tmp_path, "if (n == 3 && c == 1) sums[c] += 2u;")
    found = against_place(package, TEXTS, "qemu", "host")
    first = found.first
    assert (first.step, first.kernel, first.output) == ("sums", "sum", "sums")
    assert (first.example, first.tokens, first.element) == (2, 3, 1)
    assert first.lsb == first.absolute == first.found - first.expected
    assert first.differing == 1
    assert 0 < first.relative < 1


def test_the_command_names_it(cli, tmp_path):
    package = broken_on_arm(tmp_path, "if (n == 2 && c == 1) sums[c] += 2u;")
    result = cli("validate", package.path, "--on", "qemu", "--against", "host", "--json")
    assert result.status == 1
    assert result.json["first"]["step"] == "sums"
    assert result.json["on"], result.json["against"] == ("qemu", "host")
    assert "the first operator that differs from host is sums (sum): text 2 of 2 tokens, element 1 is" in result.err
    assert "LSB); 1 of 3 differ" in result.err
    assert result.err.count("\n") == 1


def test_the_command_on_a_labelled_set(cli, toy_package, tsv):
    result = cli("validate", toy_package, "--data", tsv, "--on", "host", "--against", "host", "--limit", 2)
    assert (result.status, result.out) == (0, "3 outputs of 2 steps, 2 texts, on host\n")


def test_logits_that_are_not_those_of_the_float_model(tmp_path):
    package = load_package(write_package(tmp_path / "p"))

    def sound(ids):
        return {"value": logits(ids)[None]}

    def other(ids):
        return {"value": logits(ids)[None] + (len(ids) == 3) * np.float32([0, 8, 0])}

    assert against_float(package, TEXTS, "host", sound).first is None
    found = against_float(package, TEXTS, "host", other)
    assert (found.first.output, found.first.example, found.first.element, found.outputs) == ("logits", 2, 1, 1)
    assert found.first.absolute == pytest.approx(8, abs=1e-5)
    assert found.first.lsb is None
    assert found.worst == found.first


@pytest.mark.parametrize("length", [1, 3, 4, 5])
def test_pairs_are_rows_side_by_side(length):
    every = np.arange(8 * 6).reshape(8, 6)
    packed = every.reshape(4, 2, 6).transpose(0, 2, 1).reshape(-1)
    pairs = OutputRecord(0, "y", "int8", "y", 1.0, 2)
    assert rows(pairs, packed, length, 6).tolist() == every[:length].tolist()
    with pytest.raises(WorkError, match="y has 7 elements"):
        rows(pairs, packed[:7], length, 6)


def test_a_firmware_that_does_not_trace(toy):
    with open_place("host", toy) as device, pytest.raises(WorkError, match="type that it does not know"):
        device.digests([1])
    more = replace(toy, outputs=(*toy.outputs, *toy.outputs))
    with open_traced("host", more) as device, pytest.raises(WorkError, match="no output 5"):
        device.output(5, [1])


def test_packages_that_say_nothing_of_their_outputs(tmp_path):
    package = load_package(write_package(tmp_path / "p", outputs=None))
    with pytest.raises(InputError, match="does not say what its steps make"):
        against_place(package, TEXTS, "qemu", "host")
    write_package(tmp_path / "q", outputs=[{"step": "x"}])
    with pytest.raises(InputError, match=r"outputs\[0\]: must be"):
        load_package(tmp_path / "q")


def test_a_trace_request_of_a_wrong_length(toy):
    with open_traced("host", toy) as device:
        for payload in (b"", bytes(6), bytes(9), bytes(8 + 2 * MAX_LENGTH + 2)):
            with pytest.raises(WorkError, match="wrong length"):
                device._request(protocol.TRACE, payload, 5)
