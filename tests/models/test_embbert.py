"""EmbBERT: its sizes, what padding must not change, its folder on disk."""

import dataclasses
import json

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from embbert_tvm.data.tokenizer import SEP, train_tokenizer
from embbert_tvm.errors import InputError
from embbert_tvm.models.config import PRESETS, EmbBertConfig
from embbert_tvm.models.embbert import EmbBert
from embbert_tvm.models.folder import read_folder
from embbert_tvm.models.registry import load_classifier

torch.set_num_threads(1)
SMALL = EmbBertConfig(60, 24, 8, 4, kernel_size=5, expansion=2, layers=2)


@pytest.mark.parametrize(
    ("preset", "parameters"),
    [("nano", 65_856), ("tiny", 146_048), ("base", 357_248), ("med", 1_834_752), ("big", 7_306_752)],
)
def test_the_family_has_its_published_sizes(preset, parameters):
    assert PRESETS[preset].parameters == parameters
    with torch.device("meta"):
        model = EmbBert(PRESETS[preset], 7)
    head = 7 * PRESETS[preset].hidden_size + 7
    assert sum(p.numel() for p in model.parameters()) - head == parameters


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("config", [PRESETS["base"], PRESETS["nano"], SMALL], ids=["base", "nano", "small"])
def test_padding_changes_nothing(config, seed):
    torch.manual_seed(seed)
    model = EmbBert(config, 7).eval()
    lengths = [1, 2, config.max_length // 2, config.max_length]
    texts = [torch.randint(5, config.vocabulary_size, (n,)) for n in lengths]
    texts[2][3] = texts[3][9] = SEP
    padded = torch.nn.utils.rnn.pad_sequence(texts, batch_first=True)
    with torch.no_grad():
        together = model(padded, padded != 0)
        alone = torch.cat([model(text[None]) for text in texts])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)


def test_the_second_segment_starts_at_the_first_sep():
    model = EmbBert(SMALL, 2).eval()
    seen = []
    model.embedder.segment.register_forward_hook(lambda module, args, output: seen.append(args[0].tolist()))
    ids = torch.tensor([[2, 7, SEP, 8, SEP, 0, 0]])
    model(ids, ids != 0)
    model(ids[:, :5])
    assert seen == [[[1, 1, 2, 2, 2, 0, 0]], [[1, 1, 2, 2, 2]]]


def test_the_convolution_is_causal_and_a_block_has_no_residual():
    torch.manual_seed(0)
    block = EmbBert(SMALL, 2).eval().blocks[0]
    x = torch.randn(1, 9, 8)
    y = block.norm(x)
    torch.testing.assert_close(y, x / (x.pow(2).mean(-1, keepdim=True) + torch.finfo(torch.float32).eps).sqrt())
    expected = torch.zeros(1, 9, 16)
    for t in range(9):
        for channel in range(16):  # two of each of the 8
            window = [(k, t - 4 + k) for k in range(5) if t - 4 + k >= 0]
            total = sum(block.conv.weight[channel, 0, k] * y[0, i, channel // 2] for k, i in window)
            expected[0, t, channel] = total + block.conv.bias[channel]
    convolution = block.conv_out(expected * expected.sigmoid())
    attention = block.attention_out(torch.softmax(block.query(y) @ y.mT / 8**0.5, -1) @ y)
    l1, l2 = ((a @ b).exp() for a, b in [(block.lambda_q1, block.lambda_k1), (block.lambda_q2, block.lambda_k2)])
    torch.testing.assert_close(block(x, None), l1 * attention - l2 * convolution)


@settings(max_examples=25, deadline=None)
@given(
    st.builds(
        EmbBertConfig,
        vocabulary_size=st.integers(6, 40),
        max_length=st.integers(2, 20),
        hidden_size=st.integers(1, 12),
        reduced_size=st.integers(1, 5),
        kernel_size=st.integers(1, 9),
        expansion=st.integers(1, 3),
        layers=st.integers(1, 3),
    )
)
def test_any_configuration_counts_and_survives_json(config):
    assert EmbBertConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    model = EmbBert(config, 3).eval()
    assert sum(p.numel() for p in model.parameters()) - 3 * config.hidden_size - 3 == config.parameters
    assert model(torch.full((1, config.max_length), 5)).shape == (1, 3)


@pytest.mark.parametrize(
    "change",
    [
        {"layers": 0},
        {"hidden_size": -1},
        {"max_length": 1.5},
        {"max_length": True},
        {"max_length": 1},
        {"layers": 10**9},
        {"vocabulary_size": 5},
    ],
)
def test_an_impossible_configuration_is_refused(change):
    with pytest.raises(InputError):
        dataclasses.replace(EmbBertConfig(), **change)


@pytest.fixture
def saved(tmp_path):
    torch.manual_seed(0)
    tokenizer = train_tokenizer(["turn the lights off and on", "play the song again"] * 3, 60)
    config = dataclasses.replace(SMALL, vocabulary_size=tokenizer.get_vocab_size())
    model = EmbBert(config, 2)
    return model, model.save_pretrained(tmp_path / "m", name="m", labels=["off", "on"], tokenizer=tokenizer)


def test_a_folder_gives_the_model_back(saved):
    model, folder = saved
    assert sorted(x.name for x in folder.path.iterdir()) == [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
    ]
    again = load_classifier(folder.path)
    assert not again.training
    for key, value in model.state_dict().items():
        assert torch.equal(value, again.state_dict()[key])
    read = read_folder(folder.path)
    assert (read.name, read.config, read.labels, read.classes) == ("m", model.config, ("off", "on"), 2)
    assert read.tokenizer.get_vocab_size() == model.config.vocabulary_size
    assert len(read.weights_sha256()) == 64


def test_what_does_not_fit_is_not_saved(saved, tmp_path):
    model, folder = saved
    for labels, tokenizer in [(["a", "b", "c"], folder.tokenizer), (["a", "b"], train_tokenizer(["ab"], 20))]:
        with pytest.raises(InputError, match="fit"):
            model.save_pretrained(tmp_path / "new", name="x", labels=labels, tokenizer=tokenizer)
    assert not (tmp_path / "new").exists()


def _rewrite(change):
    def apply(path):
        tensors = safetensors.torch.load_file(path)
        change(tensors)
        safetensors.torch.save_file(tensors, path)

    return apply


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda p: p.unlink(), "cannot be read"),
        (lambda p: p.write_bytes(b""), "not a safetensors file"),
        (lambda p: p.write_bytes(b"\xff" * 64), "not a safetensors file"),
        (lambda p: p.write_bytes(p.read_bytes()[:-8]), "not a safetensors file"),
        (_rewrite(lambda t: t.pop("head.bias")), "has no tensor head.bias"),
        (_rewrite(lambda t: t.update(extra=torch.zeros(1))), "holds extra"),
        (
            _rewrite(lambda t: t.update({"head.bias": torch.zeros(3)})),
            r"shape \(3,\), config.json asks for \(2,\)",
        ),
        (_rewrite(lambda t: t.update({"head.bias": torch.full((2,), torch.nan)})), "not finite float32"),
        (
            _rewrite(lambda t: t.update({"head.bias": torch.zeros(2, dtype=torch.float64)})),
            "not finite float32",
        ),
    ],
)
def test_a_wrong_checkpoint_is_refused(saved, damage, message):
    damage(saved[1].weights)
    with pytest.raises(InputError, match=message):
        load_classifier(saved[1].path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"architecture": "gpt"}, "architecture 'gpt' is not known"),
        ({"config": {"layers": 2}}, "lacks"),
        ({"config": 3}, "must be a JSON object"),
        ({"labels": ["one"]}, "two or more"),
        ({"labels": ["a", "a"]}, "twice"),
        ({"labels": "ab"}, "two or more"),
        ({"name": 3}, "name must be"),
    ],
)
def test_a_wrong_config_is_refused(saved, change, message):
    file = saved[1].path / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(InputError, match=message):
        read_folder(saved[1].path)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[]", b"null"])
def test_a_malformed_config_is_refused(saved, content):
    (saved[1].path / "config.json").write_bytes(content)
    with pytest.raises(InputError, match=r"config\.json"):
        read_folder(saved[1].path)


def test_a_folder_that_is_none_is_refused(tmp_path):
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(InputError, match="model folder"):
            read_folder(path)
