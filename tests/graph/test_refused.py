"""Files that are refused by the name of what they are."""

import onnx
import pytest
from onnx import TensorProto, helper

from embbert_tvm.data.tokenizer import load_tokenizer
from embbert_tvm.errors import InputError
from embbert_tvm.graph.import_onnx import load_onnx
from embbert_tvm.models.folder import onnx_metadata

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"


def model(node: onnx.NodeProto, initializers: list[onnx.TensorProto] | None = None) -> onnx.ModelProto:
    ids = helper.make_tensor_value_info("ids", TensorProto.INT64, [1, "L"])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 2])
    imports = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    graph = helper.make_graph([node], "g", [ids], [logits], initializers or [])
    return helper.make_model(graph, opset_imports=imports, ir_version=10)


def test_operators_of_integers_are_named(tmp_path):
    path = tmp_path / "m.onnx"
    node = helper.make_node("MatMulNBits", ["ids", "w", "s"], ["logits"], domain="com.microsoft", K=32, N=2, bits=4)
    weights = [helper.make_tensor(name, TensorProto.FLOAT, [1], [1.0]) for name in ("w", "s")]
    path.write_bytes(model(node, weights).SerializeToString())
    with pytest.raises(InputError, match=r"quantized in operators of its own \(MatMulNBits\)"):
        load_onnx(path)


@pytest.mark.parametrize("kind", ["INT4", "UINT4", "FLOAT8E4M3FN"])
def test_weights_of_types_that_are_not_computed_are_named(kind, tmp_path):
    path = tmp_path / "m.onnx"
    weights = [
        helper.make_tensor("w", getattr(TensorProto, kind), [2], [1, 1]),
        helper.make_tensor("s", TensorProto.FLOAT, [], [1.0]),
        helper.make_tensor("z", getattr(TensorProto, kind), [], [0]),
    ]
    node = helper.make_node("DequantizeLinear", ["w", "s", "z"], ["logits"])
    path.write_bytes(model(node, weights).SerializeToString())
    with pytest.raises(InputError, match=f"w is of type {kind.lower()}"):
        load_onnx(path)


@pytest.mark.parametrize("read", [load_onnx, onnx_metadata, load_tokenizer])
def test_a_pointer_of_git_lfs_is_named(read, tmp_path):
    path = tmp_path / "file"
    path.write_text(POINTER)
    with pytest.raises(InputError, match=r"pointer of Git LFS.*git lfs pull"):
        read(path)
