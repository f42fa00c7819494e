"""The steps that bring a model to the one form that is compiled, in order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from embbert_tvm.errors import InputError, WorkError
from embbert_tvm.graph.door import cleanup
from embbert_tvm.graph.door.branches import inline_control_flow
from embbert_tvm.graph.door.endings import SIGMOID, to_logits
from embbert_tvm.graph.door.fixed import open_length
from embbert_tvm.graph.door.forms import to_plain_form
from embbert_tvm.graph.door.inputs import describe, fixed_length, meaning_of, real_inputs
from embbert_tvm.graph.door.lengths import Replacement, of_the_length
from embbert_tvm.graph.door.one_hot import to_lookups
from embbert_tvm.graph.door.outputs import TEXT, head_of, name_logits, one_output
from embbert_tvm.graph.door.probe import IDS, Probe, ProbeError, random_ids

DEFAULT_LONGEST = 256  # where the model itself knows no limit
_MOST_POSITIONS = 512  # the usual limit, tried first
_SHORTEST_TRIED = (1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 13, 16, 17, 23, 29, 32, 64)
# Lengths that are no usual width, so that a dimension that follows the length is told from one that does not.
_SAMPLES = (7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43)
_TOLD_BY = 3  # lengths that tell what follows the length
TOLERANCE = 1e-4  # of the largest output
_PROBED = 1000  # ids below this are tried where a model looks nothing up
NORMAL = "embbert.normal"  # the key that says of a model that it has come through the door
# Attributes of an imported module's `main`; OUTPUTS are the names of its outputs, one after the other.
LEAST, MOST, HEAD, OUTPUTS = "embbert.least", "embbert.most", "embbert.head", "embbert.outputs"


@dataclass(frozen=True)
class Door:
    """A model in the one form that is compiled.

    least, most: the shortest and the longest text that it takes, most None where it knows no limit. head: what each
    row of its output is of, "text" or "tokens"; of several outputs joined by "+". notes: what its owner should know.
    ending: SOFTMAX or SIGMOID, which the model ended in and this one does not.
    """

    model: onnx.ModelProto
    least: int
    most: int | None
    head: str = TEXT
    notes: tuple[str, ...] = ()
    ending: str | None = None

    @property
    def many_labels(self) -> bool:
        """Whether each score is a probability of its own."""
        return self.ending == SIGMOID


def normalize(
    model: onnx.ModelProto,
    longest: int | None = None,
    separator: int | None = None,
    padding: int | None = None,
    keeps_scores: bool = False,
) -> Door:
    """A model of any inputs, batch and exporter as one of `ids` int64 (1, L) that computes nothing of shapes.

    Args:
        model: stays as it is.
        longest: tokens of the longest text that is wished, where the model itself does not know.
        separator: the id after which the second of two texts begins, for a model that has token types.
        padding: the id that fills a text up, for a model of one length that has a mask.
        keeps_scores: whether a softmax or sigmoid at the end stays, as that of a vector or a value.

    Raises:
        InputError: for what is no text model, or is computed from the length in a way that is not compiled.
    """
    plain, notes = to_plain_form(model)
    output = one_output(plain.graph)
    meaning = meaning_of(plain.graph)
    ids = next(i for i in real_inputs(plain.graph) if i.name == meaning.ids)
    opened = open_length(plain, meaning, separator, fixed_length(ids), padding)
    plain, static, only = opened.model, opened.static, opened.only
    before = Probe(plain)
    to_lookups(plain.graph)
    vocabulary = _vocabulary(plain, Probe(plain), static)
    inline_control_flow(plain, vocabulary)
    least, most = (
        _limits(before, _leaves_none(plain, vocabulary), vocabulary, longest, describe(ids))
        if static is None
        else (static, static)
    )
    if static is None and least == most:
        return _of_one_length(model, least, separator, padding, keeps_scores)
    if only is None and (fixed := fixed_length(ids)) is not None:
        most = min(fixed, most or fixed)
    table = only or most or max(longest or DEFAULT_LONGEST, least + _SAMPLES[3])
    lengths = [n for n in _SAMPLES if least <= n < table][:_TOLD_BY]
    if len(lengths) < _TOLD_BY:  # a short text at most: any lengths are better than one
        lengths = list(range(least, table))[-_TOLD_BY:] or [least]
    scores = None if keeps_scores else to_logits(plain, vocabulary, lengths)
    if scores is not None:
        output, before = plain.graph.output[0], Probe(plain)
    if output.name in of_the_length(plain.graph)[0]:
        raise InputError(f"the output {output.name} does not depend on the tokens: the model answers nothing")
    answers = {n: before(random_ids(n, vocabulary))[output.name] for n in lengths}
    if not all(np.isfinite(a).all() for a in answers.values() if isinstance(a, np.ndarray) and a.dtype.kind == "f"):
        raise InputError(f"the output {output.name} is not finite for ordinary token ids: is the model sound?")
    head = head_of(output.name, answers)
    _replace_lengths(plain, vocabulary, sorted({*lengths, table}))
    _with_rank(plain, answers[lengths[0]])
    name_logits(plain.graph, head, answers[lengths[0]].shape[-1] if answers[lengths[0]].shape else 1, static)
    _compare(before, plain, vocabulary, sorted({least, *lengths, table}))
    least, most = (least, most) if only is None else (only, only)
    known = {p.key: p.value for p in plain.metadata_props}
    helper.set_model_props(plain, known | {NORMAL: f"{least} {most or 0} {head} {scores or ''}".rstrip()})
    return Door(plain, least, most, head, tuple(notes), scores)


def _of_one_length(
    model: onnx.ModelProto, length: int, separator: int | None, padding: int | None, keeps_scores: bool
) -> Door:
    """The door of a model that runs at one length, though its inputs are said to be of any."""
    fixed = onnx.ModelProto.FromString(model.SerializeToString())
    del fixed.graph.value_info[:]
    for value in real_inputs(fixed.graph):
        value.type.tensor_type.shape.dim[-1].dim_value = length
    door = normalize(fixed, length, separator, padding, keeps_scores)
    note = f"its exporter wrote the length {length} into the graph: shorter texts are filled up to it"
    return replace(door, notes=(*door.notes, note))


def _with_rank(model: onnx.ModelProto, answer: np.ndarray) -> None:
    """Give an output without a batch its (1, C), in place."""
    if answer.ndim >= 2:
        return
    graph = model.graph
    name = graph.output[0].name
    graph.initializer.append(numpy_helper.from_array(np.array([1, -1]), "door.logits_shape"))
    graph.node.append(helper.make_node("Reshape", [name, "door.logits_shape"], [f"{name}.of_a_batch"]))
    graph.output[0].name = f"{name}.of_a_batch"


def _vocabulary(model: onnx.ModelProto, probe: Probe, fixed: int | None) -> int:
    """How many ids there are: all that the model looks up without leaving a table."""
    graph = model.graph
    rows = [t.dims[0] for t in graph.initializer if len(t.dims) == 2]
    lengths = _SHORTEST_TRIED[::-1] if fixed is None else (fixed,)
    length = next((n for n in lengths if probe.runs([np.zeros((1, n))])), None)

    def takes(count: int) -> bool:
        return probe.runs([np.full((1, length), count - 1)])

    most = max(rows, default=_PROBED)
    return most if length is None or takes(most) else _last(takes, 1, most)


def _samples(length: int, vocabulary: int) -> list[np.ndarray]:
    """Ids at random, and ones that are no padding however ids are numbered."""
    return [random_ids(length, vocabulary), np.full((1, length), vocabulary - 1)]


def _limits(
    probe: Probe, leaves_none: Callable[[int], bool], vocabulary: int, longest: int | None, ids: str
) -> tuple[int, int | None]:
    """The fewest and the most tokens that a model takes; the most None where it is not below what is wished."""

    def takes(length: int) -> bool:
        return probe.runs(_samples(length, vocabulary))

    def answers(length: int) -> bool:
        return takes(length) and probe.is_finite(random_ids(length, vocabulary)) and not leaves_none(length)

    # A shorter text may leave nothing to be averaged; what is finite nowhere is said so later.
    least = next((n for n in _SHORTEST_TRIED if answers(n)), None) or next(filter(takes, _SHORTEST_TRIED), None)
    if least is None:
        try:
            probe(random_ids(_SAMPLES[1], vocabulary))
        except ProbeError as error:
            raise InputError(f"{error}; its ids are {ids}") from None
        raise InputError(f"onnxruntime runs this model at no length up to {_SHORTEST_TRIED[-1]}")
    wished = max(longest or _MOST_POSITIONS, least)
    if takes(wished + 1):
        return least, None
    return least, wished if takes(wished) else _last(takes, least, wished)


def _leaves_none(model: onnx.ModelProto, vocabulary: int) -> Callable[[int], bool]:
    """The function of a length that tells whether a text of it is too short for what is cut off: whether none is left
    to be averaged, of which onnxruntime makes 0, or fewer than none."""
    nodes = list(model.graph.node)
    cut = {node.output[0] for node in nodes if node.op_type == "Slice"}
    reducing = [n for n in nodes if n.op_type.startswith(("Reduce", "Global")) and n.op_type != "ReduceSum"]
    averaged = {node.input[0] for node in reducing}
    made = {name for node in nodes for name in node.output}
    probe = Probe(model, sorted(cut | (averaged & made))) if cut else None

    def empty(length: int) -> set[str]:
        ids = random_ids(length, vocabulary)
        found = probe(ids) if probe is not None and probe.runs([ids]) else {}
        return {name for name, value in found.items() if np.ndim(value) > 1 and np.size(value) == 0}

    def leaves_none(length: int) -> bool:
        none = empty(length)
        return bool(none & averaged) or bool(none and none & cut & empty(length + 1))

    return leaves_none


def _last(takes: Callable[[int], bool], low: int, high: int) -> int:
    """The last length of [low, high) that is taken, where low is and high is not."""
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if takes(middle) else (low, middle)
    return low


def _replace_lengths(model: onnx.ModelProto, vocabulary: int, lengths: list[int]) -> None:
    """Replace what the length alone decides, and drop what then does nothing."""
    graph = model.graph
    everything = [name for node in graph.node for name in node.output if name]
    probe = Probe(model, everything)
    found = {n: probe(random_ids(n, vocabulary)) for n in (lengths[:-1] or lengths)}
    arrays = {n: {k: v for k, v in at.items() if isinstance(v, np.ndarray)} for n, at in found.items()}
    constants = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    kinds = cleanup.element_types({**constants, **next(iter(arrays.values()))})
    sizes = {name: {n: arrays[n][name].shape for n in arrays} for name in next(iter(arrays.values()))}
    sizes |= {name: dict.fromkeys(arrays, value.shape) for name, value in constants.items()}
    sizes[IDS], kinds[IDS] = {n: (1, n) for n in arrays}, onnx.TensorProto.INT64
    produced = {name for node in graph.node for name in node.output}
    _, border = of_the_length(graph)
    border &= produced & sizes.keys()
    longest = lengths[-1]
    at_most = Probe(model, sorted(border))(random_ids(longest, vocabulary)) if border else {}
    values = {name: {**{n: arrays[n][name] for n in arrays}, longest: at_most[name]} for name in border}
    Replacement(graph, values, sizes, longest).run()
    _drop_idle(model, vocabulary, lengths[:-1] or lengths)


def _drop_idle(model: onnx.ModelProto, vocabulary: int, lengths: list[int]) -> None:
    """Drop what does nothing until nothing more can be dropped."""
    graph, count = model.graph, None
    while count != len(graph.node):
        count = len(graph.node)
        probe = Probe(model, [name for node in graph.node for name in node.output if name])
        found = {n: probe(random_ids(n, vocabulary)) for n in lengths}
        first = {k: v for k, v in found[lengths[0]].items() if isinstance(v, np.ndarray)}
        constants = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
        sizes = {name: {n: found[n][name].shape for n in lengths} for name in first}
        sizes |= {name: dict.fromkeys(lengths, value.shape) for name, value in constants.items()}
        sizes[IDS] = {n: (1, n) for n in lengths}
        kinds = cleanup.element_types({**constants, **first}) | {IDS: onnx.TensorProto.INT64}
        free, _ = of_the_length(graph)
        counts = {name: 1 for name in free & first.keys() if all(bool((found[n][name] == n).all()) for n in lengths)}
        cleanup.clean(graph, sizes, kinds, counts if len(lengths) > 1 else {})


def _compare(before: Probe, model: onnx.ModelProto, vocabulary: int, lengths: list[int]) -> None:
    """WorkError where a model no longer answers as it did."""
    after = Probe(model)
    for length in lengths:
        for ids in _samples(length, vocabulary):
            for (name, expected), found in zip(before(ids).items(), after(ids).values(), strict=True):
                if expected.size != found.size or not _close(expected.reshape(found.shape), found):
                    raise WorkError(
                        f"{name} differs at {length} tokens once what the length decides is a constant: this is a "
                        "fault of embbert-tvm, please report it with the model"
                    )


def _close(expected: np.ndarray, found: np.ndarray) -> bool:
    scale = max(float(np.abs(expected).max(initial=0)), 1e-6)
    return bool(np.abs(expected - found).max(initial=0) <= TOLERANCE * scale)


def content(door: Door, given: onnx.ModelProto, path: Path) -> bytes:
    """The bytes of a door's model, whole: those of the file at `path`, which `given` is, where they are that."""
    tensors = onnx.load(path, load_external_data=False).graph.initializer
    is_whole = all(t.data_location != onnx.TensorProto.EXTERNAL for t in tensors)
    return path.read_bytes() if door.model is given and is_whole else door.model.SerializeToString(deterministic=True)
