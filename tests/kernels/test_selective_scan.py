"""The selective scan: kernel, ONNX function and PyTorch against the recurrence."""

from __future__ import annotations

import functools

import numpy as np
import onnx
import onnxruntime
import pytest
from running import Kernel

from embbert_tvm.errors import InputError
from embbert_tvm.graph import selective_scan as in_onnx
from embbert_tvm.kernels.selective_scan import SelectiveScan, selective_scan


def operands(length: int, channels: int, state: int) -> list[np.ndarray]:
    """u, step, decay, into, out_of"""
    rng = np.random.default_rng([length, channels, state])
    shapes = [(1, length, channels), (1, length, channels), (channels, state), *[(1, length, state)] * 2]
    u, step, decay, into, out_of = (rng.standard_normal(s).astype(np.float32) for s in shapes)
    return [u, np.abs(step), -np.exp(decay), into, out_of]


def recurrence(u, step, decay, into, out_of) -> np.ndarray:
    h, rows = np.zeros(decay.shape), []
    for t in range(u.shape[1]):
        column = step[0, t][:, None].astype(np.float64)
        h = np.exp(column * decay) * h + column * u[0, t][:, None] * into[0, t]
        rows.append(h @ out_of[0, t])
    return np.array([rows])


@functools.cache
def kernel(channels: int, state: int) -> Kernel:
    return Kernel(selective_scan(SelectiveScan(channels, state)))


@pytest.mark.parametrize(("channels", "state"), [(1, 1), (5, 6), (16, 3)])
@pytest.mark.parametrize("length", [1, 2, 40])
def test_kernel(channels, state, length):
    values = operands(length, channels, state)
    found = kernel(channels, state)(*values, out=((1, length, channels), "float32"), length=length)
    np.testing.assert_allclose(found, recurrence(*values), rtol=1e-4, atol=1e-5)


def model(body: onnx.FunctionProto) -> onnx.ModelProto:
    text = """<ir_version: 10, opset_import: ["" : 18, "embbert" : 1]>
        g (float[1,L,5] u, float[1,L,5] step, float[5,6] decay, float[1,L,6] into, float[1,L,6] out_of)
        => (float[1,L,5] rows) { rows = embbert.SelectiveScan(u, step, decay, into, out_of) }"""
    made = onnx.parser.parse_model(text)
    made.functions.append(body)
    onnx.checker.check_model(made)
    return made


@pytest.mark.parametrize("length", [1, 2, 40])
def test_the_onnx_function_in_onnxruntime(length):
    values = operands(length, 5, 6)
    session = onnxruntime.InferenceSession(model(in_onnx.function()).SerializeToString())
    (found,) = session.run(None, dict(zip(("u", "step", "decay", "into", "out_of"), values, strict=True)))
    np.testing.assert_allclose(found, recurrence(*values), rtol=1e-4, atol=1e-5)


def test_pytorch_and_its_gradient():
    import torch

    from embbert_tvm.models.selective_scan import selective_scan as in_torch

    values = operands(7, 5, 6)
    tensors = [torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in values]
    np.testing.assert_allclose(in_torch(*tensors).detach().numpy(), recurrence(*values), rtol=1e-6)
    assert torch.autograd.gradcheck(in_torch, tensors)


def test_another_function_of_that_name_is_refused():
    other = in_onnx.function()
    other.node[1].op_type = "Identity"
    with pytest.raises(InputError, match=r"embbert\.SelectiveScan is not the one"):
        in_onnx.check(model_of_ids(other))


def model_of_ids(body: onnx.FunctionProto) -> onnx.ModelProto:
    made = model(in_onnx.function())
    made.functions[0].CopyFrom(body)
    return made
