"""Training through the rounding: the forward pass is the compiled integers', the backward pass learns."""

import functools
from dataclasses import replace

import numpy as np
import onnx
import pytest
import small
import torch
from hypothesis import given
from hypothesis import strategies as st

from embbert_tvm.compiler import llvm_runner
from embbert_tvm.errors import InputError
from embbert_tvm.graph.calibrate import load_calibration, sha256
from embbert_tvm.graph.precision import PLANS
from embbert_tvm.graph.quantize import quantize
from embbert_tvm.models.config import BertConfig, EmbBertConfig, EmbBertSumConfig, MambaConfig
from embbert_tvm.models.embbert import EmbBert
from embbert_tvm.models.folder import read_folder
from embbert_tvm.models.reference import Reference
from embbert_tvm.models.registry import build, load_classifier
from embbert_tvm.training.batches import TokenizedSet, in_order
from embbert_tvm.training.finetune import evaluate_model, finetune
from embbert_tvm.training.job import Job, run_job
from embbert_tvm.training.lora import add_lora, merge_lora
from embbert_tvm.training.quantized import QuantizedClassifier
from embbert_tvm.training.recipe import Recipe
from embbert_tvm.training.record import read_record
from embbert_tvm.training.rounding import per_channel


@functools.cache
def model() -> EmbBert:
    return load_classifier(read_folder(small.folder()))


def ids_of(length: int, seed: int = 0) -> list[int]:
    return small.some_ids(length, model().config.vocabulary_size, seed)


@functools.cache
def quantized() -> QuantizedClassifier:
    """On the texts that small.folder() was calibrated on."""
    return of_precision("int8")


def of_precision(precision: str) -> QuantizedClassifier:
    texts = [ids_of(n, n) for n in range(1, 49)]
    return QuantizedClassifier(model(), texts, precision, onnx.load(small.folder() / "model.onnx"))


def test_the_scales_are_the_compilers():
    calibration = load_calibration(small.folder() / "calibration.json", sha256(small.folder() / "model.onnx"))
    made = small.quantized()
    names = {origin for origin, scale in made.origins.values() if scale is not None}
    assert len(names) > 8
    for name in names:
        assert quantized().scale(name) == pytest.approx(calibration.scale(name), rel=1e-4), name


def test_logits_are_the_compiled_integers():
    """Measured: a mean difference of a tenth of the float model's and less; most texts agree to float's last bits."""
    integers, reference = llvm_runner(small.quantized().mod), Reference(small.folder() / "model.onnx")
    texts = [ids_of(n, 100 + n) for n in range(1, 49)]
    compiled = np.stack([integers(ids) for ids in texts])
    with torch.no_grad():
        ours = np.stack([quantized()(torch.tensor([ids]))[0].numpy() for ids in texts])
    real = np.stack([reference(ids) for ids in texts])
    assert np.abs(ours - compiled).mean() < 0.2 * np.abs(real - compiled).mean()
    assert np.mean(np.abs(ours - compiled).max(1) < 1e-5) > 0.5
    assert (ours.argmax(1) == compiled.argmax(1)).all()


@pytest.mark.parametrize("precision", ["int4", "int2"])
def test_logits_are_those_of_the_compiled_low_bits(precision):
    """Of the module whose bits every package has; measured: most texts agree but for rounded multipliers."""
    calibration = load_calibration(small.folder() / "calibration.json", sha256(small.folder() / "model.onnx"))
    integers = llvm_runner(quantize(small.simplified(), calibration, replace(PLANS[precision], rounding="nearest")).mod)
    trained = of_precision(precision)
    texts = [ids_of(n, 100 + n) for n in range(1, 49, 3)]
    compiled = np.stack([integers(ids) for ids in texts])
    with torch.no_grad():
        ours = np.stack([trained(torch.tensor([ids]))[0].numpy() for ids in texts])
        eight = np.stack([quantized()(torch.tensor([ids]))[0].numpy() for ids in texts])
    assert np.abs(ours - compiled).mean() < 0.1 * np.abs(eight - compiled).mean()


def test_padding_changes_nothing():
    texts = [[1 + i for i in ids_of(n, 7 * n)] for n in (1, 5, 12, 30)]  # no [PAD]
    texts = [[min(i, model().config.vocabulary_size - 1) for i in ids] for ids in texts]
    data = TokenizedSet(texts, [0] * len(texts), 0)
    with torch.no_grad():
        (batch,) = in_order(data, 8)
        together = quantized()(batch.ids, batch.mask)
        alone = torch.cat([quantized()(torch.tensor([ids])) for ids in texts])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "config",
    [
        EmbBertConfig(40, 24, 16, 8, kernel_size=4, expansion=2, layers=2),
        EmbBertSumConfig(40, 24, 16, 8, kernel_size=4, expansion=1, layers=1),
        BertConfig(40, 24, 16, 8, feed_forward_size=24, heads=2, layers=1),
        MambaConfig(40, 24, 16, kernel_size=3, state_size=4, layers=1),
    ],
    ids=lambda config: config.architecture,
)
def test_every_parameter_learns(config):
    torch.manual_seed(0)
    made = build(config, 3)
    texts = [small.some_ids(n, 40) for n in range(3, 20)]
    trained = QuantizedClassifier(made.train(), texts, "int4")
    assert trained.training
    trained(torch.tensor([texts[-1], texts[-1][::-1]])).square().sum().backward()
    for name, parameter in made.named_parameters():
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().sum() > 0, name


@given(st.integers(0, 99))
def test_weights_are_within_half_a_step(seed):
    weight = torch.from_numpy(small.normal(5, 7, seed=seed))
    steps = per_channel(weight)
    assert steps.value.abs().max() <= 127
    assert torch.equal(steps.value, steps.value.round())
    assert ((weight - steps.value * steps.scale[:, None]).abs() <= steps.scale[:, None] * 0.5001).all()


def toy_set(size: int, seed: int) -> TokenizedSet:
    """The class says whether token 7 occurs."""
    rng = np.random.default_rng(seed)
    ids = [[2, *rng.integers(5, 20, rng.integers(0, 11)).tolist()] for _ in range(size)]
    return TokenizedSet(ids, [int(7 in x) for x in ids], 0)


def test_training_through_two_bits_gets_back_what_rounding_costs(tmp_path):
    torch.manual_seed(0)
    train, dev = toy_set(200, 1), toy_set(100, 2)
    made = EmbBert(EmbBertConfig(20, 12, 16, 4, kernel_size=3, layers=2), 2)
    options = {"batch_size": 16, "token_dropout": 0.0, "label_smoothing": 0.0, "average": 0.9, "dropout": 0.0}
    finetune(made, train, dev, Recipe(epochs=8, lr=2e-2, **options), tmp_path / "float")
    rounded = QuantizedClassifier(made.eval(), dev.ids, "int2")
    before = evaluate_model(rounded, dev)
    finetune(rounded, train, dev, Recipe(epochs=5, lr=5e-3, **options), tmp_path / "rounded")
    after = evaluate_model(rounded, dev)
    assert after[1] < 0.7 * before[1]  # the loss; measured: to about a third
    assert after[0] >= before[0]
    assert (
        evaluate_model(QuantizedClassifier(made, dev.ids, "int2"), dev) == after
    )  # the parameters are the model's own


def test_lora_starts_as_the_model_and_merges_into_it():
    torch.manual_seed(0)
    made = EmbBert(EmbBertConfig(20, 12, 16, 4, kernel_size=3, layers=1), 2).eval()
    names = list(made.state_dict())
    ids = torch.tensor([[2, 7, 9, 11]])
    before = made(ids)
    trained = add_lora(made, 3)
    # token_map and position_map (16 x 4), query, attention_out and conv_out (16 x 16), head (2 x 16, of rank 2)
    assert trained == 2 * 3 * (16 + 4) + 3 * 3 * (16 + 16) + 2 * (2 + 16)
    torch.testing.assert_close(made(ids), before)
    optimizer = torch.optim.AdamW([p for p in made.parameters() if p.requires_grad], lr=0.1)
    for _ in range(2):
        made(ids).square().sum().backward()
        optimizer.step()
    changed = made(ids)
    assert not torch.allclose(changed, before)
    merge_lora(made)
    assert set(made.state_dict()) == set(names)
    assert all(parameter.requires_grad for parameter in made.parameters())
    torch.testing.assert_close(made(ids), changed)


@pytest.mark.usefixtures("quick", "without_export")
def test_a_job_that_recovers(tsv, tmp_path):
    recipe = Recipe(epochs=1, batch_size=8, lr=1e-2)
    run_job(Job(tsv, tmp_path / "base", recipe, preset="quick"))
    job = Job(tsv, tmp_path / "lora", recipe, base=tmp_path / "base", precision="int4", lora=2)
    run_job(job)
    base, recovered = (load_classifier(tmp_path / name).state_dict() for name in ("base", "lora"))
    assert list(base) == list(recovered)
    assert {name for name in base if not torch.equal(base[name], recovered[name])} == {
        name for name in base if name.endswith(("map.weight", "query.weight", "_out.weight", "head.weight"))
    }
    assert read_record(tmp_path / "lora").recipe["lora"] == 2
    with pytest.raises(InputError, match="give --base"):
        run_job(Job(tsv, tmp_path / "m", recipe, preset="quick", lora=2))
    assert not (tmp_path / "m").exists()
