"""The tokenizer: ids and cuts, texts that try to break it, files that are not one."""

import json
import os
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from embbert_tvm.data.prune_vocabulary import prune_tokenizer
from embbert_tvm.data.tokenizer import (
    CLS,
    SEP,
    SPECIAL_TOKENS,
    UNK,
    encode,
    encoding,
    encodings,
    is_embbert,
    load_embbert_tokenizer,
    load_tokenizer,
    save_tokenizer,
    tokenize,
    train_tokenizer,
)
from embbert_tvm.errors import InputError
from embbert_tvm.models.foreign import separator_of
from embbert_tvm.resources import resource

SHIPPED = load_tokenizer(resource("models", "tokenizer.json"), 8192)
LINES = ["turn the lights off", "Turn the café lights on!", "play the new song"]


def test_special_tokens_have_their_ids():
    assert [SHIPPED.token_to_id(token) for token in SPECIAL_TOKENS] == [0, 1, 2, 3, 4]


def test_one_text_starts_with_cls_and_a_pair_has_a_sep():
    a, b = encode(SHIPPED, "turn it off"), encode(SHIPPED, "play a song")
    assert a[0] == b[0] == CLS
    assert SEP not in a
    assert encode(SHIPPED, "turn it off", "play a song") == [*a, SEP, *b[1:]]


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("Turn OFF", "turn off"),
        ("café", "cafe"),
        ("turn\toff\n", "turn off"),
        ("turn\x00 off\u200b", "turn off"),
        ("  turn   off ", "turn off"),
    ],
)
def test_normalization(text, same):
    assert encode(SHIPPED, text) == encode(SHIPPED, same)


@pytest.mark.parametrize("text", ["", " ", "\x00\x01", "\ufffd", "\u200b"])
def test_a_text_without_words_is_cls_alone(text):
    assert encode(SHIPPED, text) == [CLS]


def test_what_the_alphabet_lacks_is_unk():
    assert encode(SHIPPED, "漢") == [CLS, UNK]


@pytest.mark.parametrize("token", SPECIAL_TOKENS)
def test_a_special_token_that_a_user_types_is_text(token):
    ids = encode(SHIPPED, f"a {token} b", "[SEP]")
    assert ids.count(SEP) == 1
    assert min(ids[1:]) > SEP or ids[1:].count(SEP) == 1
    assert 0 not in ids


def test_a_lone_surrogate_is_refused():
    with pytest.raises(InputError, match="not valid UTF-8"):
        encode(SHIPPED, b"lights \xff off".decode("utf-8", "surrogateescape"))


@pytest.mark.parametrize("max_length", [1, 4, 16])
def test_the_cut_is_reported(max_length):
    found = tokenize(SHIPPED, "turn the lights off in the kitchen", max_length=max_length)
    assert len(found.ids) == min(max_length, found.full_length)
    assert found.truncated == (max_length < found.full_length)


@settings(max_examples=200, deadline=None)
@given(st.text(), st.none() | st.text(), st.integers(2, 40))
def test_any_text_gives_ids_of_the_vocabulary(text, pair, max_length):
    found = tokenize(SHIPPED, text, pair, max_length)
    assert 1 <= len(found.ids) <= max_length
    assert found.ids[0] == CLS
    assert all(1 <= i < 8192 for i in found.ids)
    if pair is None:
        assert found.ids == tokenize(SHIPPED, text, pair, 10**6).ids[:max_length]


def test_the_longer_text_of_a_pair_gives_way_first():
    short, long = "play a song", "turn the lights off in the kitchen and in the living room"
    a, b = encode(SHIPPED, short), encode(SHIPPED, long)
    assert encode(SHIPPED, short, long, len(a) + 5) == [*a, SEP, *b[1:5]]
    assert encode(SHIPPED, long, short, len(a) + 5) == [*b[:5], SEP, *a[1:]]


def test_a_length_without_room_for_the_special_tokens_is_refused():
    with pytest.raises(InputError, match="no room for the tokenizer's 2 special tokens"):
        encode(SHIPPED, "on", "off", 1)


BERT = ("[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "play", "##ing")


def foreign():
    tokenizer = Tokenizer(models.WordPiece({token: n for n, token in enumerate(BERT)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 4), ("[CLS]", 3))
    return tokenizer


def test_another_models_tokenizer_is_taken_as_it_is(tmp_path):
    foreign().save(str(tmp_path / "tokenizer.json"))
    loaded = load_tokenizer(tmp_path / "tokenizer.json", len(BERT))
    assert not is_embbert(loaded)
    assert encode(loaded, "playing [MASK]") == [3, 6, 7, 5, 4]
    assert encode(loaded, "playing", "play") == [3, 6, 7, 4, 6, 4]
    assert encode(loaded, "playing playing", max_length=4) == [3, 6, 7, 4]
    with pytest.raises(InputError, match=r"\[UNK\] has id 2"):
        load_embbert_tokenizer(tmp_path / "tokenizer.json")


def test_an_unknown_token_that_is_not_there_is_told_wherever_a_text_is_encoded(tmp_path):
    """Texts of known tokens are encoded; at any other the library raises a bare Exception, which once ended in a trace
    in whatever had called it: the id between two texts, pruning, pre-training."""
    tokenizer = Tokenizer(models.WordPiece({"play": 0, "##ing": 1, "[SEP]": 2}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    path = tmp_path / "tokenizer.json"
    tokenizer.save(str(path))
    loaded = load_tokenizer(path)
    assert encode(loaded, "playing") == [0, 1]
    assert [x.ids for x in encodings(loaded, ["play", "playing"])] == [[0], [0, 1]]
    assert prune_tokenizer(loaded, ["playing"]).kept == (0, 1)
    calls = [lambda: encoding(loaded, "stop"), lambda: encodings(loaded, ["play", "stop"])]
    calls += [lambda: prune_tokenizer(loaded, ["stop"]), lambda: encode(loaded, "play", "stop")]
    for call in calls:
        with pytest.raises(InputError, match="the tokenizer cannot read the text"):
            call()
    assert separator_of(path) is None  # what is wrong with the tokenizer is said where it is used


def test_the_ids_alone_do_not_make_a_tokenizer_embberts(tmp_path):
    tokenizer = train_tokenizer(LINES, 60)
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 4), ("[CLS]", 2))
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    loaded = load_tokenizer(tmp_path / "tokenizer.json")
    assert encode(loaded, "turn [SEP]") == [CLS, *encode(loaded, "turn")[1:-1], SEP, SEP]
    with pytest.raises(InputError, match="does not write"):
        load_embbert_tokenizer(tmp_path / "tokenizer.json")


def test_training_is_deterministic_and_survives_the_disk(tmp_path):
    first, second = (train_tokenizer(LINES * 3, 80) for _ in range(2))
    assert first.to_str() == second.to_str()
    save_tokenizer(first, tmp_path / "tokenizer.json")
    again = load_tokenizer(tmp_path / "tokenizer.json", first.get_vocab_size())
    assert encode(again, "[SEP] turn the lights") == encode(first, "[SEP] turn the lights")


def test_rare_characters_do_not_fill_the_vocabulary():
    many = "".join(chr(0x4E00 + i) for i in range(3000))
    tokenizer = train_tokenizer([*LINES * 5, many], 600)
    assert tokenizer.get_vocab_size() < 600
    assert UNK not in encode(tokenizer, "turn")


@pytest.mark.parametrize(("lines", "size"), [([], 100), (["", " "], 100), (LINES, 8)])
def test_training_refuses_what_cannot_be(lines, size):
    with pytest.raises(InputError):
        train_tokenizer(lines, size)


def _swap_ids(document):
    document["model"]["vocab"]["[CLS]"], document["model"]["vocab"]["[SEP]"] = 4, 2
    for token in document["added_tokens"]:
        token["id"] = document["model"]["vocab"][token["content"]]


def _leave_a_hole(document):
    document["model"]["vocab"]["zzz"] = 5000


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.pop("model"), "not a tokenizer.json"),
        (_swap_ids, r"\[CLS\] has id 4"),
        (_leave_a_hole, "the highest is 5000"),
    ],
)
def test_a_wrong_tokenizer_is_refused(tmp_path, change, message):
    document = json.loads(train_tokenizer(LINES, 60).to_str())
    change(document)
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(document))
    with pytest.raises(InputError, match=message):
        load_embbert_tokenizer(path)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[]", b'{"model": 3}'])
def test_a_malformed_file_is_refused(tmp_path, content):
    path = tmp_path / "tokenizer.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match="tokenizer"):
        load_tokenizer(path)


def test_a_panic_of_the_library_says_nothing_of_its_own(tmp_path, capfd):
    document = json.loads(train_tokenizer(LINES, 60).to_str())
    document["model"]["continuing_subword_prefix"] = "longer than a merge"
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(document))
    with pytest.raises(InputError, match=r"not a tokenizer\.json .*out of range"):
        load_tokenizer(path)
    assert capfd.readouterr().err == ""
    os.write(2, b"still here")
    assert capfd.readouterr().err == "still here"


def test_a_template_of_a_token_that_is_not_there(tmp_path, capfd):
    """The library takes such a file, and panics at the first text."""
    document = json.loads(train_tokenizer(LINES, 60).to_str())
    document["post_processor"]["special_tokens"]["[CLS]"]["id"] = "[ELSE]"
    document["post_processor"]["special_tokens"]["[ELSE]"] = document["post_processor"]["special_tokens"].pop("[CLS]")
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(document))
    with pytest.raises(InputError, match=r"not a tokenizer\.json"):
        load_tokenizer(path)
    assert capfd.readouterr().err == ""


def test_an_id_far_beyond_the_tokens_is_refused(tmp_path):
    """The library writes such a tokenizer by walking over every id up to 2^31, which took longer than a minute."""
    document = json.loads(train_tokenizer(LINES, 60).to_str())
    last = max(document["model"]["vocab"], key=document["model"]["vocab"].get)
    document["model"]["vocab"][last] = 2**31
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(document))
    with pytest.raises(InputError, match="a token of the id 2147483648, 16777216 ids are the most"):
        load_tokenizer(path)


def test_another_vocabulary_is_refused(tmp_path):
    with pytest.raises(InputError, match="holds 8192 tokens, the model has 2048"):
        load_tokenizer(resource("models", "tokenizer.json"), 2048)
    with pytest.raises(InputError, match="holds 8192 tokens, the model has 9000"):
        load_embbert_tokenizer(resource("models", "tokenizer.json"), 9000)
    with pytest.raises(InputError, match="cannot be read"):
        load_tokenizer(tmp_path / "none.json")


def test_the_deploy_path_needs_no_torch():
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "import embbert_tvm.data.tokenizer, embbert_tvm.data.dataset, embbert_tvm.models.folder\n"
        "import embbert_tvm.models.reference, embbert_tvm.training.evaluate"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_command_trains_one(tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("<|book|>\n" + "\n\n".join(LINES * 3), encoding="utf-8")
    command = [sys.executable, "-m", "embbert_tvm", "tokenizer", str(text), "-o", str(tmp_path / "t.json")]
    subprocess.run([*command, "--vocabulary-size", "40"], check=True)
    tokenizer = load_tokenizer(tmp_path / "t.json", 40)
    assert tokenizer.token_to_id("t") is not None
    assert tokenizer.token_to_id("|") is None
