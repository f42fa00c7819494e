import pytest
import torch
import torch.nn.functional as F

from embbert_tvm.models.config import EmbBertConfig, EmbBertSumConfig
from embbert_tvm.models.embbert import EmbBert
from embbert_tvm.models.training_ops import CausalDepthwise, RmsNorm


def _same(found, expected):
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


def test_rms_norm_and_its_gradients_are_torchs():
    torch.manual_seed(0)
    x = torch.randn(3, 5, 16, dtype=torch.float64, requires_grad=True)
    weight = torch.rand(16, dtype=torch.float64, requires_grad=True)
    goal = torch.randn_like(x)
    results = []
    for y in (RmsNorm.apply(x, weight, 1e-7), F.rms_norm(x, (16,), weight, 1e-7)):
        results.append([y, *torch.autograd.grad(y, (x, weight), goal)])
    _same(*results)


@pytest.mark.parametrize("taps", [1, 2, 8, 32, 40])
@pytest.mark.parametrize("length", [1, 7, 31, 32, 33, 64, 100])
def test_the_convolution_and_its_gradients_are_torchs(taps, length):
    torch.manual_seed(0)
    x = torch.randn(4, 3, length, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(4, taps, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(4, dtype=torch.float64, requires_grad=True)
    goal = torch.randn_like(x)
    padded = F.pad(x.transpose(0, 1), (taps - 1, 0))
    expected = F.conv1d(padded, weight[:, None], bias, groups=4).transpose(0, 1)
    one_by_one = torch.func.vmap(lambda text: CausalDepthwise.apply(text[:, None], weight, bias)[:, 0], 1, 1)(x)
    results = []
    for y in (CausalDepthwise.apply(x, weight, bias), expected, one_by_one):
        results.append([y, *torch.autograd.grad(y, (x, weight, bias), goal)])
    _same(results[0], results[1])
    _same(results[2], results[1])


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(
    "config", [EmbBertConfig(100, 64, 32, 8, 16, 1, 2), EmbBertConfig(100, 64, 32, 8, 16, 2, 1), EmbBertSumConfig(100)]
)
def test_a_model_in_training_gives_what_it_gives_in_evaluation(config, masked):
    torch.manual_seed(0)
    model = EmbBert(config, 3, dropout=0.0).double()
    ids = torch.randint(5, 100, (4, 50))
    mask = None
    if masked:
        mask = torch.arange(50)[None] < torch.tensor([50, 3, 20, 1])[:, None]
        ids = ids * mask
    results = []
    for mode in (True, False):
        logits = model.train(mode)(ids, mask)
        results.append([logits, *torch.autograd.grad(logits.square().sum(), list(model.parameters()))])
    _same(*results)
