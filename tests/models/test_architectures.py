"""Every architecture of the paper: its size, what padding must not change, its folder, its equations."""

import dataclasses
import json
import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from embbert_tvm.data.tokenizer import SEP, train_tokenizer
from embbert_tvm.errors import InputError
from embbert_tvm.models.classifier import root_mean_square
from embbert_tvm.models.config import ARCHITECTURES, PRESETS, BertConfig, EmbBertConfig, MambaConfig, ids_per_token
from embbert_tvm.models.folder import read_folder
from embbert_tvm.models.registry import MODELS, build, load_classifier

torch.set_num_threads(1)
PUBLISHED = {
    "nano": 65_856, "tiny": 146_048, "base": 357_248, "med": 1_834_752, "big": 7_306_752,
    "bert-2mb": 288_720, "embedder": 291_776, "bert-ne-ea": 364_772,
}  # fmt: skip
# Of the authors' configurations, for which no count is published.
COUNTED = {"mamba-2mb": 219_968, "embedder-conv": 297_216, "bert-ne": 269_898, "bert-ea": 322_560, "base-sum": 355_200}
COUNTED |= {"base-pooled": 357_248, "hash": 231_936}


def small(preset):
    """A preset's architecture, as small as it gets."""
    config = PRESETS[preset]
    sizes = {"vocabulary_size": 60, "max_length": 24, "hidden_size": 8, "layers": 2, "feed_forward_size": 12}
    sizes |= {"reduced_size": 4 if config.reduced_size else 0, "ids_per_token": min(2, ids_per_token(config))}
    sizes |= {"kernel_size": 3 if getattr(config, "kernel_size", 0) else 0}
    return dataclasses.replace(config, **{k: v for k, v in sizes.items() if hasattr(config, k)})


def test_every_architecture_has_a_model():
    assert set(MODELS) == set(ARCHITECTURES)
    assert set(PUBLISHED) | set(COUNTED) == set(PRESETS)


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_has_its_size(preset):
    config = PRESETS[preset]
    assert config.parameters == (PUBLISHED | COUNTED)[preset]
    with torch.device("meta"):
        model = build(config, 7)
    assert sum(p.numel() for p in model.parameters()) - 7 * config.hidden_size - 7 == config.parameters


@pytest.mark.parametrize("preset", PRESETS)
def test_padding_changes_nothing(preset):
    torch.manual_seed(0)
    config = small(preset)
    model = build(config, 7).eval()
    lengths = (ids_per_token(config), 2 * ids_per_token(config), 12, config.max_length)
    texts = [torch.randint(5, config.vocabulary_size, (n,)) for n in lengths]
    texts[2][3] = texts[3][9] = SEP
    padded = torch.nn.utils.rnn.pad_sequence(texts, batch_first=True)
    with torch.no_grad():
        together = model(padded, padded != 0)
        alone = torch.cat([model(text[None]) for text in texts])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)


def test_a_token_of_hashed_words_is_the_mean_of_its_ids_rows():
    torch.manual_seed(0)
    embedder = build(small("hash"), 2).eval().embedder
    ids = torch.tensor([[5, 9, 7, 7, 30, 6]])
    with torch.no_grad():
        rows = [(embedder.token.weight[a] + embedder.token.weight[b]) / 2 for a, b in ((5, 9), (7, 7), (30, 6))]
        expected = embedder.token_map(torch.stack(rows))[None]
        torch.testing.assert_close(embedder(ids, None), expected)


def test_a_text_of_hashed_words_has_whole_tokens():
    with pytest.raises(InputError, match="a max_length of 100 is not whole tokens of 8 ids"):
        EmbBertConfig(768, 100, ids_per_token=8)


@pytest.mark.parametrize("preset", ["base-sum", "bert-2mb", "bert-ne-ea", "mamba-2mb", "embedder", "embedder-conv"])
def test_a_model_learns_and_its_folder_gives_it_back(preset, tmp_path):
    torch.manual_seed(0)
    tokenizer = train_tokenizer(["turn the lights off and on", "play the song again"] * 3, 60)
    model = build(dataclasses.replace(small(preset), vocabulary_size=tokenizer.get_vocab_size()), 2, 0.0)
    ids = torch.tensor([[2, 7, 9, 11], [2, 7, 9, 13], [2, 8, 9, 11], [2, 8, 13, 0]])
    targets = torch.tensor([0, 0, 1, 1])
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-2)
    for _ in range(60):
        loss = F.cross_entropy(model(ids, ids != 0), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    folder = model.save_pretrained(tmp_path / "m", name="m", labels=["off", "on"], tokenizer=tokenizer)
    again = load_classifier(folder.path)
    assert type(again) is type(model)
    torch.testing.assert_close(again(ids, ids != 0), model.eval()(ids, ids != 0))
    assert read_folder(folder.path).config == model.config


@settings(max_examples=60, deadline=None)
@given(st.data(), st.sampled_from(sorted(ARCHITECTURES)))
def test_any_configuration_counts_and_survives_json(data, architecture):
    kind = ARCHITECTURES[architecture]
    values = {
        field.name: data.draw(st.integers(0 if field.name in kind.may_be_zero else 1, 6), field.name)
        for field in dataclasses.fields(kind)
    }
    longest = values.get("ids_per_token", 1) * data.draw(st.integers(2, 20))
    values |= {"vocabulary_size": data.draw(st.integers(6, 40)), "max_length": longest}
    if "heads" in values:
        values["hidden_size"] *= values["heads"]
    config = kind(**values)
    assert kind.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    model = build(config, 3).eval()
    assert sum(p.numel() for p in model.parameters()) - 3 * config.hidden_size - 3 == config.parameters
    assert model(torch.full((1, config.max_length), 5)).shape == (1, 3)


def test_heads_must_divide_the_width():
    with pytest.raises(InputError, match="cannot be cut in 3 heads"):
        BertConfig(60, 24, 8, 0, heads=3)
    with pytest.raises(InputError, match="kernel_size"):
        MambaConfig(60, 24, 8, 0, kernel_size=0)


def test_bert_is_torchs_own_encoder_layer():
    torch.manual_seed(0)
    block = build(small("bert-2mb"), 2).eval().blocks[0]
    theirs = torch.nn.TransformerEncoderLayer(8, 2, 12, batch_first=True).eval()
    maps = (block.query, block.key, block.value)
    theirs.load_state_dict(
        {
            "self_attn.in_proj_weight": torch.cat([m.weight for m in maps]),
            "self_attn.in_proj_bias": torch.cat([m.bias for m in maps]),
            **{
                f"{their}.{kind}": getattr(getattr(block, ours), kind)
                for kind in ("weight", "bias")
                for ours, their in {
                    "attention_out": "self_attn.out_proj", "attention_norm": "norm1", "norm": "norm2",
                    "inner": "linear1", "outer": "linear2",
                }.items()
            },
        }
    )  # fmt: skip
    x, mask = torch.randn(3, 9, 8), torch.arange(9) < torch.tensor([[9], [4], [1]])
    expected = theirs(x, src_key_padding_mask=~mask)
    torch.testing.assert_close(block(x, mask)[mask], expected[mask])


def test_efficient_attention_keeps_the_normed_rows():
    torch.manual_seed(0)
    block = build(small("bert-ne-ea"), 2).eval().blocks[0]
    x = torch.randn(1, 5, 8)
    y = block.attention_norm(x)
    y = block.norm(block.attention_out(torch.softmax(block.query(y) @ y.mT / math.sqrt(8), -1) @ y) + y)
    torch.testing.assert_close(block(x, None), block.outer(F.silu(block.inner(y))) + y)


def test_a_mamba_block_is_its_recurrence():
    torch.manual_seed(0)
    block = build(small("mamba-2mb"), 2).eval().blocks[0]
    x = torch.randn(1, 6, 8)
    y = block.norm(x)
    u = block.input(y)[0]
    taps = F.pad(u, (0, 0, 2, 0))
    u = F.silu(torch.stack([(taps[t : t + 3].T * block.conv.weight[:, 0]).sum(1) for t in range(6)]) + block.conv.bias)
    h, rows = torch.zeros(8, 6), []
    for t in range(6):
        step, into, out_of = block.select(u[t]).split([1, 6, 6])
        step = F.softplus(block.step(step))[:, None]
        h = torch.exp(-step * block.decay_log.exp()) * h + step * u[t][:, None] * into
        rows.append(h @ out_of + block.skip * u[t])
    expected = x + block.out(torch.stack(rows) * F.silu(block.gate(y)))
    torch.testing.assert_close(block(x), expected)


def test_pooling_leaves_padding_out():
    x = torch.tensor([[[3.0], [4.0], [100.0]]])
    pooled = root_mean_square(x, torch.tensor([[True, True, False]]))
    torch.testing.assert_close(pooled, torch.tensor([[math.sqrt(12.5)]]))
    torch.testing.assert_close(root_mean_square(x[:, :2], None), pooled)
