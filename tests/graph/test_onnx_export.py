"""The ONNX export: symbolic length, equal to PyTorch, tied to its weights."""

import dataclasses

import exported
import numpy as np
import onnx
import pytest
import torch

from embbert_tvm.data.tokenizer import train_tokenizer
from embbert_tvm.errors import InputError, WorkError
from embbert_tvm.graph import onnx_export
from embbert_tvm.graph.onnx_export import LENGTHS, export_folder, export_model, fresh_onnx
from embbert_tvm.models.config import EmbBertConfig
from embbert_tvm.models.embbert import EmbBert
from embbert_tvm.models.folder import onnx_metadata
from embbert_tvm.models.reference import Reference
from embbert_tvm.models.registry import load_classifier

torch.set_num_threads(1)


@pytest.fixture(scope="module", autouse=True)
def each_export():
    """Here each is an export, whereas other tests' are of a configuration's first (exported.py)."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onnx_export, "export_model", export_model)
        yield


@pytest.fixture(scope="module")
def base_folder(tmp_path_factory):
    """A small model that takes 256 tokens, with the published kernel."""
    torch.manual_seed(0)
    tokenizer = train_tokenizer(["turn the lights off and on", "play the song again"] * 3, 60)
    config = EmbBertConfig(tokenizer.get_vocab_size(), 256, 16, 4, kernel_size=32, expansion=2, layers=1)
    path = tmp_path_factory.mktemp("export") / "m"
    folder = EmbBert(config, 3).save_pretrained(path, name="m", labels=["a", "b", "c"], tokenizer=tokenizer)
    export_folder(folder)
    return folder


@pytest.mark.parametrize("length", LENGTHS)
def test_equals_pytorch(base_folder, length):
    model = load_classifier(base_folder)
    ids = torch.randint(5, model.config.vocabulary_size, (1, length))
    with torch.no_grad():
        expected = model(ids)[0].numpy()
    np.testing.assert_allclose(Reference(base_folder.onnx)(ids[0].tolist()), expected, rtol=1e-4, atol=1e-6)


def test_the_interface_is_the_contract(base_folder):
    graph = onnx.load(base_folder.onnx).graph
    (ids,), (logits,) = graph.input, graph.output
    dims = [d.dim_param or d.dim_value for d in ids.type.tensor_type.shape.dim]
    assert (ids.name, ids.type.tensor_type.elem_type, dims) == ("ids", onnx.TensorProto.INT64, [1, "L"])
    dims = [d.dim_param or d.dim_value for d in logits.type.tensor_type.shape.dim]
    assert (logits.name, logits.type.tensor_type.elem_type, dims) == (
        "logits",
        onnx.TensorProto.FLOAT,
        [1, 3],
    )
    metadata = onnx_metadata(base_folder.onnx)
    assert metadata == {"embbert.weights_sha256": base_folder.weights_sha256(), "embbert.max_length": "256"}


def test_the_graph_is_clean(base_folder):
    graph = onnx.load(base_folder.onnx).graph
    operators = [node.op_type for node in graph.node]
    assert operators.count("Shape") == 1  # the slice of the positions
    assert not {"Range", "Expand", "Pad", "If", "Loop", "Where", "Unsqueeze"} & set(operators)
    names = {x.name for x in graph.initializer}
    assert {"blocks.0.query.weight.T", "blocks.0.conv_out.weight.T", "embedder.token.weight"} <= names
    content = base_folder.onnx.read_bytes()
    assert b"stack_trace" not in content
    assert b".py" not in content


def test_is_deterministic(base_folder):
    before = base_folder.onnx.read_bytes()
    export_folder(base_folder)
    assert base_folder.onnx.read_bytes() == before


def test_the_shortest_model_exports(base_folder):
    config = dataclasses.replace(base_folder.config, max_length=2, layers=1, kernel_size=3)
    model = EmbBert(config, 2).eval()
    content = export_model(model).SerializeToString()
    assert list(onnx_export._compare(model, content, "m")) == [1, 2]


def test_stale_weights_are_noticed_and_exported_anew(base_folder, monkeypatch):
    before = base_folder.onnx.read_bytes()
    assert not base_folder.onnx_is_stale()
    model = load_classifier(base_folder)
    with torch.no_grad():
        model.head.bias += 1
    tokenizer = base_folder.tokenizer
    model.save_pretrained(base_folder.path, name="m", labels=base_folder.labels, tokenizer=tokenizer)
    assert base_folder.onnx_is_stale()
    with monkeypatch.context() as patch:
        patch.setattr(onnx_export, "find_spec", lambda name: None)
        with pytest.raises(InputError, match="embbert-tvm export"):
            fresh_onnx(base_folder)
    assert base_folder.onnx.read_bytes() == before
    assert fresh_onnx(base_folder) == base_folder.onnx
    assert not base_folder.onnx_is_stale()


def test_without_weights_the_onnx_counts(base_folder, tmp_path):
    path = tmp_path / "onnx-only"
    path.mkdir()
    (path / "model.onnx").write_bytes(base_folder.onnx.read_bytes())
    assert not dataclasses.replace(base_folder, path=path).onnx_is_stale()


def test_a_wrong_export_is_not_written(base_folder, monkeypatch):
    before = base_folder.onnx.read_bytes()
    monkeypatch.setattr(onnx_export, "TOLERANCE", -1.0)
    monkeypatch.setattr(onnx_export, "export_model", lambda model: onnx.load(base_folder.onnx))
    with pytest.raises(WorkError, match="differ at length 1"):
        export_folder(base_folder)
    assert base_folder.onnx.read_bytes() == before


@pytest.mark.parametrize("content", [b"", b"\xff" * 40, b"not onnx"])
def test_a_malformed_onnx_is_refused(tmp_path, content):
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"model\.onnx"):
        Reference(path)
    with pytest.raises(InputError, match=r"none\.onnx"):
        Reference(tmp_path / "none.onnx")


def test_relax_imports_it_with_the_length_symbolic(base_folder):
    from tvm.relax.frontend.onnx import from_onnx

    main = from_onnx(onnx.load(base_folder.onnx))["main"]
    assert str(main.params[0].ty.shape.values[1]) == "L"


def test_a_graph_with_other_weights_is_their_export(tmp_path):
    """By which other tests export a configuration once."""
    config, exports = EmbBertConfig(60, 32, 16, 4, kernel_size=4, expansion=1, layers=2), []
    once = exported.once(lambda model: exports.append(model) or export_model(model), lambda: tmp_path)
    for seed in range(2):
        torch.manual_seed(seed)
        model = EmbBert(config, 3)
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter)
        made = once(model)
    assert len(exports) == 1
    assert made.SerializeToString(deterministic=True) == export_model(model).SerializeToString(deterministic=True)
