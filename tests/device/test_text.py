"""Text in, label out: the device's own tokenizer and model, over the protocol, on the host and in QEMU."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import small
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models

from embbert_tvm.data.tokenizer import load_tokenizer, tokenize
from embbert_tvm.device.classify import answer
from embbert_tvm.device.package import load_package
from embbert_tvm.device.places import open_place
from embbert_tvm.errors import InputError

PLACES = {"host": "host", "qemu": "cortex-m4"}
NASTY = [
    "",
    " ",
    "turn the LIGHTS\toff",
    "Grüß dich, müde Welt",
    "a[SEP]b [CLS]",
    "\u200b\ufffd\u0301",
    "日本語 and 🙂",
    "x" * 90,
]


@pytest.fixture(scope="module", params=PLACES)
def device(request):
    with open_place(request.param, load_package(small.package(target=PLACES[request.param]))) as opened:
        yield opened


def expected(device, text, pair=None):
    package = device.package
    tokenizer = load_tokenizer(package.tokenizer, package.vocabulary)
    return tokenize(tokenizer, text, pair, package.max_length)


def check(device, text, pair=None):
    """Ids as the library's, the label and the logits as of those ids, and a cut that is said."""
    wanted = expected(device, text, pair)
    assert device.takes(text, pair)
    assert device.tokenize(text, pair) == wanted.ids
    found = device.classify(text, pair)
    run = device.run(wanted.ids)
    np.testing.assert_array_equal(found.run.logits.view("u4"), run.logits.view("u4"))
    assert found.label == run.logits.argmax()
    assert (found.tokens, found.truncated) == (len(wanted.ids), wanted.truncated)


@pytest.mark.parametrize("text", [*small.TEXTS, *NASTY])
def test_a_text(device, text):
    check(device, text)


@pytest.mark.parametrize("pair", [("turn it on", "please"), ("", ""), ("k " * 60, "off"), ("on", "k " * 60)])
def test_a_pair_as_the_model_was_trained(device, pair):
    check(device, *pair)


def test_too_long_a_text_is_cut_and_says_so(device):
    text = "k " * 80
    assert expected(device, text).truncated
    check(device, text)


def test_a_text_of_more_bytes_than_the_firmware_takes_is_refused_before_it_is_sent(device):
    assert not device.takes("on " * 5000)


def test_the_tokenizer_costs_instructions():
    with open_place("qemu", load_package(small.package(target="cortex-m4"))) as device:
        text = small.TEXTS[0]
        with_text, with_ids = device.classify(text).run, device.run(expected(device, text).ids)
    assert 100 < with_text.instructions - with_ids.instructions < 400 * len(text)


@pytest.fixture(scope="module")
def on_host():
    with open_place("host", load_package(small.package())) as opened:
        yield opened


@settings(max_examples=100)
@given(text=st.text(max_size=30), pair=st.none() | st.text(max_size=20))
def test_any_text_on_the_host(on_host, text, pair):
    check(on_host, text, pair)


def test_run_prints_the_devices_label(cli):
    text = small.TEXTS[0]
    ran = cli("run", small.package(), "--on", "host", "--json", text)
    (result,) = ran.json["results"]
    with open_place("host", load_package(small.package())) as device:
        assert result["label"] == small.LABELS[device.classify(text).label]
    assert json.loads(ran.out)["on"] == "host"


def test_a_text_without_tokens_is_refused():
    """GPT-2's tokenizer puts nothing around an empty text."""
    tokenizer = Tokenizer(models.BPE({"a": 0}, []))
    device = SimpleNamespace(package=SimpleNamespace(max_length=8))
    with pytest.raises(InputError, match="has no tokens for this model"):
        answer(device, tokenizer, "")
