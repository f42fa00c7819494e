"""The footprint by formula."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embbert_tvm.errors import InputError
from embbert_tvm.models.config import PRESETS, ids_per_token
from embbert_tvm.models.footprint import activations, analytic


def test_embbert_has_the_published_footprint():
    """1.95 MB, of which l^2 + 2 l d numbers are activations."""
    found = analytic(PRESETS["base"])
    assert found.activations == 256 * 256 + 2 * 256 * 128
    assert found.weights_bytes == 4 * 357_248
    assert found.total_bytes == 1_953_280


@pytest.mark.parametrize(
    "preset", ["base", "bert-2mb", "mamba-2mb", "embedder", "embedder-conv", "bert-ne", "bert-ne-ea"]
)
def test_the_two_megabyte_models_have_two(preset):
    assert 1.8e6 < analytic(PRESETS[preset]).total_bytes < 2**21


@pytest.mark.parametrize(
    ("preset", "numbers"),
    [
        ("med", 512 * 512 + 3 * 512 * 256),
        ("bert-2mb", 2 * 256 * 256 + 4 * 256 * 80),
        ("bert-ea", 256 * 256 + 2 * 256 * 84),
        ("mamba-2mb", 256 * 64 * (1 + 3 + 2 * 6)),
        ("embedder-conv", 2 * 256 * 320),
    ],
)
def test_the_activations(preset, numbers):
    assert analytic(PRESETS[preset]).activations == numbers


def test_in_short_texts_the_feed_forward_block_is_the_largest():
    assert activations(PRESETS["bert-ne-ea"], 8) == 8 * (89 + 2 * 128)
    assert activations(PRESETS["bert-2mb"], 8) == 2 * 8 * 8 + 4 * 8 * 80


@given(st.sampled_from(sorted(PRESETS)), st.data())
def test_a_longer_text_takes_more(preset, data):
    config = PRESETS[preset]
    each = ids_per_token(config)
    length = each * data.draw(st.integers(1, config.max_length // each - 1))
    shorter, longer = analytic(config, length), analytic(config, length + each)
    assert shorter.activations < longer.activations
    assert shorter.weights == longer.weights == config.parameters


@pytest.mark.parametrize("length", [0, -1, 257])
def test_a_length_that_the_model_lacks(length):
    with pytest.raises(InputError, match="1 to 256"):
        analytic(PRESETS["base"], length)
