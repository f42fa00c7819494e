"""The door: what people export becomes ids to logits, and what is no text model is refused by name."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper, parser
from small import VOCABULARY, classifier, normal, some_ids

from embbert_tvm.errors import InputError
from embbert_tvm.graph.door import content, normalize
from embbert_tvm.graph.import_onnx import load_onnx, open_door

WEIGHTS = {"emb": normal(VOCABULARY, 8), "types": normal(2, 8), "pos": normal(24, 8), "fc": normal(8, 3)}
# Of ids, a mask, token types and positions, as an encoder uses them.
BODY = """
e = Gather(emb, {ids})
t = Gather(types, {types})
p = Gather(pos, {positions})
et = Add(e, t)
x = Add(et, p)
m = Cast<to=1>({mask})
last = Constant<value_ints=[2]>()
m3 = Unsqueeze(m, last)
masked = Mul(x, m3)
tokens = Constant<value_ints=[1]>()
sum = ReduceSum<keepdims=0>(masked, tokens)
count = ReduceSum<keepdims=0>(m3, tokens)
mean = Div(sum, count)
y = MatMul(mean, fc)
"""


def model(names: str, body: str = BODY, output: str = "float[batch,C] y", opset: int = 18) -> onnx.ModelProto:
    """names: of ids, mask, types and positions, `name:type[shape]` each."""
    inputs = [name.split(":") for name in names.split()]
    given = dict(zip(("ids", "mask", "types", "positions"), (name for name, _ in inputs), strict=False))
    declared = ", ".join(f"{kind} {name}" for name, kind in sorted(inputs))
    text = f'<ir_version: 8, opset_import: ["": {opset}]> g ({declared}) => ({output}) {{{body.format(**given)}}}'
    made = parser.parse_model(text)
    used = {name for node in made.graph.node for name in node.input}
    made.graph.initializer.extend(numpy_helper.from_array(v, k) for k, v in WEIGHTS.items() if k in used)
    return made


def answers(made: onnx.ModelProto, feeds: dict) -> np.ndarray:
    return onnxruntime.InferenceSession(made.SerializeToString()).run(None, feeds)[0]


@pytest.mark.parametrize(
    "names",
    [
        "input_ids:int64[batch,seq] attention_mask:int64[batch,seq] token_type_ids:int64[batch,seq] "
        "position_ids:int64[batch,seq]",
        "b:int64[1,seq] a:float[1,seq] d:int32[1,seq] c:int64[1,seq]",
        "words:int32[N,L] ones:bool[N,L] s:int64[N,L] places:int32[N,L]",
    ],
    ids=["by name", "by use", "other types"],
)
def test_inputs_of_any_name_order_and_type(names):
    given = model(names)
    door = normalize(given)
    assert [i.name for i in door.model.graph.input] == ["ids"]
    assert [d.dim_param for d in door.model.graph.input[0].type.tensor_type.shape.dim] == ["", "L"]
    assert [o.name for o in door.model.graph.output] == ["logits"]
    assert (door.least, door.most, door.head) == (1, 24, "text"), "the table of positions has 24 rows"
    operators = {n.op_type for n in door.model.graph.node} - {"Cast"}
    assert operators == {"Gather", "Shape", "Slice", "Add", "ReduceMean", "MatMul"}
    types = {i.name: i.type.tensor_type.elem_type for i in given.graph.input}
    fed = [name.split(":")[0] for name in names.split()]
    for length in (1, 5, 24):
        ids = np.array([some_ids(length)])
        values = (ids, np.ones_like(ids), np.zeros_like(ids), np.arange(length)[None])
        feeds = {n: v.astype(helper.tensor_dtype_to_np_dtype(types[n])) for n, v in zip(fed, values, strict=True)}
        np.testing.assert_allclose(answers(door.model, {"ids": ids}), answers(given, feeds), rtol=1e-5, atol=1e-6)


def test_token_types_of_pairs_follow_from_the_separator():
    given = model("ids:int64[1,L] mask:int64[1,L] token_type_ids:int64[1,L] position_ids:int64[1,L]")
    door = normalize(given, separator=3)
    ids = np.array([[2, 9, 8, 3, 7, 6, 3]])
    feeds = {"ids": ids, "mask": np.ones_like(ids), "token_type_ids": np.array([[0, 0, 0, 0, 1, 1, 1]])}
    feeds["position_ids"] = np.arange(7)[None]
    np.testing.assert_allclose(answers(door.model, {"ids": ids}), answers(given, feeds), rtol=1e-5, atol=1e-6)


def test_initializers_that_are_inputs_and_old_opsets():
    body = "e = Gather(emb, {ids})\nq = ReduceMean<axes=[1], keepdims=0>(e)\ny = MatMul(q, fc)"
    given = model("ids:int64[N,L]", body, opset=11)
    for tensor in given.graph.initializer:
        given.graph.input.append(helper.make_tensor_value_info(tensor.name, TensorProto.FLOAT, tensor.dims))
    door = normalize(given)
    assert door.model.opset_import[0].version == 18
    assert [i.name for i in door.model.graph.input] == ["ids"]
    ids = np.array([some_ids(6)])
    np.testing.assert_allclose(answers(door.model, {"ids": ids}), answers(given, {"ids": ids}), rtol=1e-5)


@pytest.mark.parametrize("kind", [np.float64, np.float16])
def test_other_floating_point_becomes_float32_and_says_so(kind):
    given = classifier(
        "e = Gather(emb__weight, ids)\none = Constant<value_ints=[1]>()\nlogits = ReduceMean<keepdims=0>(e, one)",
        emb__weight=normal(VOCABULARY, 4).astype(kind),
    )
    given.graph.output[0].type.tensor_type.elem_type = helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    door = normalize(given)
    assert "compiled in float32" in door.notes[0]
    assert answers(door.model, {"ids": np.array([[1, 2]])}).dtype == np.float32


def test_a_bias_by_distance_is_kept_as_one_value_a_distance():
    body = """
e = Gather(emb, {ids})
kt = Transpose<perm=[0,2,1]>(e)
s = MatMul(e, kt)
dims = Shape(ids)
one = Constant<value_int=1>()
n = Gather(dims, one)
zero = Constant<value_int=0>()
r = Range(zero, n, one)
first = Constant<value_ints=[0]>()
second = Constant<value_ints=[1]>()
rows = Unsqueeze(r, second)
columns = Unsqueeze(r, first)
apart = Sub(columns, rows)
far = Abs(apart)
real = Cast<to=1>(far)
b = Add(s, real)
p = Softmax<axis=-1>(b)
c = MatMul(p, e)
m = ReduceMean<keepdims=0>(c, second)
y = MatMul(m, fc)"""
    given = model("ids:int64[N,L]", body)
    door = normalize(given, longest=30)
    sizes = {t.name: int(np.prod(t.dims)) for t in door.model.graph.initializer if t.name not in WEIGHTS}
    assert max(sizes.values()) == 2 * 30 - 1
    assert door.most is None
    ids = np.array([some_ids(30)])
    np.testing.assert_allclose(answers(door.model, {"ids": ids}), answers(given, {"ids": ids}), rtol=1e-4, atol=1e-5)


def test_a_condition_on_the_batch_is_decided():
    body = """
e = Gather(emb, {ids})
dims = Shape(e)
zero = Constant<value_int=0>()
n = Gather(dims, zero)
one = Constant<value_int=1>()
single = Equal(n, one)
f = If(single) <
  then_branch = a () => (float[N,L,8] kept) {{ kept = Identity(e) }},
  else_branch = b () => (float[N,L,8] gone) {{ gone = Neg(e) }}
>
tokens = Constant<value_ints=[1]>()
m = ReduceMean<keepdims=0>(f, tokens)
y = MatMul(m, fc)"""
    door = normalize(model("ids:int64[N,L]", body))
    assert [n.op_type for n in door.model.graph.node] == ["Gather", "ReduceMean", "MatMul"]


HEADED = "e = Gather(emb, {ids})\ntokens = Constant<value_ints=[1]>()\nm = ReduceMean<keepdims=0>(e, tokens)\n"


@pytest.mark.parametrize(
    ("body", "output", "match"),
    [
        (HEADED + "y = MatMul(m, fc)", "float[N,3] y, float[N,8] m", r"one tensor.*y float \(N, 3\), m float \(N, 8\)"),
        (HEADED + "z = MatMul(m, fc)\ny = ArgMax<axis=1, keepdims=0>(z)", "int64[N] y", "y is int64 .* ArgMax"),
        (HEADED + "z = Mul(fc, fc)\ny = Neg(z)", "float[8,3] y", "y does not depend on the tokens"),
        (HEADED + "y = Transpose<perm=[0,2,1]>(e)", "float[N,8,L] y", "neither logits of the text"),
        (HEADED + "z = Log(m)\ny = MatMul(z, fc)", "float[N,3] y", "is not finite for ordinary token ids"),
    ],
    ids=["two outputs", "a label", "a constant", "transposed", "not finite"],
)
def test_an_output_that_is_no_head_is_refused(body, output, match):
    with pytest.raises(InputError, match=match) as error:
        normalize(model("ids:int64[N,L]", body, output))
    assert "\n" not in str(error.value)


def test_a_token_classifier_is_one():
    door = normalize(model("ids:int64[N,L]", "e = Gather(emb, {ids})\ny = MatMul(e, fc)", "float[N,L,3] y"))
    assert door.head == "tokens"


@pytest.mark.parametrize(
    ("names", "match"),
    [
        ("ids:float[1,L]", "ids float .* holds no integers"),
        ("ids:int64[4,L]", "takes 4 texts at once"),
        ("ids:int64[1,L,8]", "holds no token ids"),
    ],
)
def test_an_input_that_is_none_of_ids_is_refused(names, match):
    with pytest.raises(InputError, match=match):
        normalize(model(names, HEADED + "y = MatMul(m, fc)"))


@pytest.mark.parametrize(("value", "word"), [(np.nan, "NaN"), (np.inf, "an infinity"), (-np.inf, "an infinity")])
def test_weights_that_are_not_finite_are_refused_by_name(value, word):
    spoiled = model("ids:int64[1,L]", HEADED + "y = MatMul(m, fc)")
    weights = WEIGHTS["fc"].copy()
    weights[1, 2] = value
    spoiled.graph.initializer[-1].CopyFrom(numpy_helper.from_array(weights, "fc"))
    with pytest.raises(InputError, match=f"fc holds {word}"):
        open_door(spoiled)


def test_external_data_are_part_of_a_model(tmp_path):
    path = tmp_path / "m.onnx"
    big = model("ids:int64[1,L]", HEADED + "y = MatMul(m, fc)")
    copy = onnx.ModelProto.FromString(big.SerializeToString())
    onnx.save(copy, path, save_as_external_data=True, location="m.data", size_threshold=0)
    given = load_onnx(path)
    whole = onnx.load_from_string(content(open_door(given), given, path))
    ids = np.array([some_ids(4)])
    np.testing.assert_allclose(answers(whole, {"ids": ids}), answers(big, {"ids": ids}), rtol=1e-5)
    (tmp_path / "m.data").write_bytes((tmp_path / "m.data").read_bytes()[:40])
    with pytest.raises(InputError, match=r"m\.onnx") as error:
        load_onnx(path)
    assert "\n" not in str(error.value)


def test_the_hash_covers_external_data(tmp_path):
    from embbert_tvm.graph.calibrate import sha256

    path = tmp_path / "m.onnx"
    onnx.save(
        model("ids:int64[1,L]", HEADED + "y = MatMul(m, fc)"), path, save_as_external_data=True, location="m.data",
        size_threshold=0,
    )  # fmt: skip
    before = sha256(path)
    data = bytearray((tmp_path / "m.data").read_bytes())
    data[0] ^= 1
    (tmp_path / "m.data").write_bytes(data)
    assert sha256(path) != before
