"""Import: what is no model for us is refused in one line, and nothing is printed."""

from __future__ import annotations

import onnx
import pytest
import small
from small import classifier, normal

from embbert_tvm.errors import InputError
from embbert_tvm.graph.dataflow import Dataflow, constant
from embbert_tvm.graph.import_onnx import import_onnx, load_onnx, open_door

EMBED = "x = Gather(emb__weight, ids)\n"


def write(path, content: bytes):
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    "spoil",
    [
        lambda good: b"",
        lambda good: b"this is text, not protobuf\n",
        lambda good: good[: len(good) // 2],
        lambda good: good[:10],
        lambda good: b"\xff" * 64,
        lambda good: onnx.ModelProto().SerializeToString(),
    ],
    ids=["empty", "text", "half", "ten bytes", "noise", "empty model"],
)
def test_a_malformed_file_is_refused(tmp_path, spoil):
    good = (small.folder() / "model.onnx").read_bytes()
    path = write(tmp_path / "model.onnx", spoil(good))
    with pytest.raises(InputError, match="is not a valid ONNX model") as error:
        load_onnx(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        load_onnx(tmp_path / "none.onnx")


def refused(model, match: str, capfd) -> None:
    with pytest.raises(InputError, match=match) as error:
        import_onnx(model)
    assert "\n" not in str(error.value)
    assert capfd.readouterr().out == ""


def test_an_unknown_operator_is_refused(capfd):
    model = classifier(EMBED + "y = Neg(x)\nlogits = Gather<axis=1>(y, ids)", emb__weight=normal(40, 4))
    model.graph.node[1].op_type, model.graph.node[1].domain = "Frobnicate", "com.example"
    model.opset_import.append(onnx.helper.make_opsetid("com.example", 1))
    refused(model, "cannot load this ONNX model: .*Frobnicate", capfd)


def test_a_fixed_length_is_the_only_one():
    model = classifier(EMBED + "y = ReduceMax<keepdims=0>(x)\nlogits = Cast<to=1>(y)", emb__weight=normal(40, 4))
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 16
    door = open_door(model)
    assert (door.least, door.most) == (16, 16)


def test_a_model_of_floats_is_refused(capfd):
    model = classifier("logits = Neg(ids)")
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    refused(model, "the input ids float .* holds no integers", capfd)


def test_two_inputs_of_ids_are_refused(capfd):
    model = classifier(
        EMBED + "y = Gather(emb__weight, ids)\nz = Add(x, y)\nlogits = ReduceMax<keepdims=0>(z)",
        emb__weight=normal(40, 4),
    )
    second = model.graph.input.add()
    second.CopyFrom(model.graph.input[0])
    second.name = model.graph.node[1].input[1] = "others"
    refused(model, r"not clear which input holds the token ids.*ids int64 \(1, L\), others int64 \(1, L\)", capfd)


@pytest.mark.parametrize("attribute", ["value_int=3", "value_ints=[3]", "value_float=3.0", "value_floats=[3.0]"])
def test_every_form_of_a_constant_is_read(attribute):
    model = classifier(
        f"c = Constant<{attribute}>()\nf = Cast<to=1>(c)\nx = Gather(emb__weight, ids)\ny = Mul(x, f)\n"
        "logits = ReduceMax<keepdims=0>(y)",
        emb__weight=normal(40, 4),
    )
    before = model.SerializeToString()
    values = [constant(a) for _, v in Dataflow(import_onnx(model)).bindings for a in getattr(v, "args", [])]
    assert any(v is not None and v.size == 1 and v.item() == 3 for v in values)
    assert model.SerializeToString() == before
