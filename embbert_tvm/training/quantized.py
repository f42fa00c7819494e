"""A classifier as it computes once it is compiled to integers, differentiable: for training through the rounding.

The forward pass is that of the simplified graph, the one that is calibrated and compiled, in the integers that a
precision gives its operators (graph_integers.py). So it serves every architecture that compiles to integers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache

import numpy as np
import onnx
import torch
from torch import Tensor, nn
from tvm import IRModule

from embbert_tvm.errors import InputError
from embbert_tvm.graph.calibrate import BINS, Histogram, scale_of
from embbert_tvm.graph.onnx_export import export_model
from embbert_tvm.graph.pipeline import front, run
from embbert_tvm.graph.precision import PrecisionPlan, named_plan
from embbert_tvm.models.classifier import TextClassifier
from embbert_tvm.models.config import ModelConfig
from embbert_tvm.models.registry import build
from embbert_tvm.training.graph_constants import Parameters
from embbert_tvm.training.graph_integers import Network, Run, Scales, Weights
from embbert_tvm.training.integer_operators import FORWARD as OPERATORS
from embbert_tvm.training.integer_products import FORWARD as PRODUCTS
from embbert_tvm.training.rounding import Fits, ScaledIntegers, round_up

_BATCH = 32
_START = 0.1  # standard deviation of the parameters by which constants are found


def network_of(exported: onnx.ModelProto, values: Mapping[str, np.ndarray], plan: PrecisionPlan) -> Network:
    """The graph of a model. values: those of its parameters by name when it was exported, no two of which may
    be alike."""
    return _network(run(front(exported)), values, plan)


def _network(mod: IRModule, values: Mapping[str, np.ndarray], plan: PrecisionPlan) -> Network:
    return Network(mod, Parameters(values), plan, {**OPERATORS, **PRODUCTS})


@lru_cache(8)
def _graph_of(config: ModelConfig, classes: int) -> tuple[IRModule, dict[str, np.ndarray]]:
    """The simplified graph of a model of a configuration whose parameters are random, and their values."""
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        model = build(config, classes, 0.0).eval()
        for parameter in model.parameters():
            parameter.normal_(0, _START)
        exported = export_model(model)
        return run(front(exported)), values_of(model)


def values_of(model: TextClassifier) -> dict[str, np.ndarray]:
    """The parameters of a model, and what its export computes of them, by name."""
    return {name: value.detach().numpy().copy() for name, value in {**model.state_dict(), **model.folded()}.items()}


class QuantizedClassifier(TextClassifier):
    """A classifier that computes in the integers that it will be compiled to; its parameters are the model's own.

    Its logits are those of `compile --precision PRECISION`. The activations' scales, calibrated on `texts` (token ids),
    and those of the blocks of weights of fewer than 8 bits are found anew whenever the model is set to train or to
    evaluate, and so follow the weights.

    Args:
        model: what is trained.
        texts: token ids to calibrate on.
        precision: as `compile` takes it.
        exported: the model as it is now, whose parameters are all different; None: a model like it is exported.

    Raises InputError for a precision that is no integers', or a model with operators that have no forward pass here.
    """

    on_any_device = False

    def __init__(
        self,
        model: TextClassifier,
        texts: Sequence[Sequence[int]],
        precision: str = "int8",
        exported: onnx.ModelProto | None = None,
    ) -> None:
        nn.Module.__init__(self)
        plan = named_plan(precision, experimental=True)
        if plan.precision("").activations != "int8":
            raise InputError(f"training rounds to int8 rows, which precision {precision} has none of")
        if model.more:
            raise InputError("a model of several heads does not train through its rounding: leave out --precision")
        self.config, self.classes, self.more = model.config, model.classes, ()
        self._parameters, self._modules, self._buffers = model._parameters, model._modules, model._buffers
        self._folded = model.folded
        self._dropout = max((m.p for m in model.modules() if isinstance(m, nn.Dropout)), default=0.0)
        self._fits = Fits()
        self._texts = [list(ids) for ids in texts]
        if exported is None:
            self._network = _network(*_graph_of(model.config, model.classes), plan)
        else:
            self._network = network_of(exported, values_of(model), plan)
        self._ranges: dict[str, Histogram] = {}
        self._scales: dict[tuple[str, str, int], float] = {}
        self._wanted = self._names()
        self.train(model.training)

    def train(self, mode: bool = True) -> QuantizedClassifier:
        super().train(mode)
        self._ranges = self._calibrated()
        self._scales.clear()
        self._fits.clear()
        return self

    def scale(self, name: str, method: str = "percentile", levels: int = 127) -> float:
        """What a step of the value `name` of the graph is worth."""
        key = (name, method, levels)
        if key not in self._scales:
            self._scales[key] = scale_of(self._ranges[name], method, levels)
        return self._scales[key]

    def features(self, ids: Tensor, mask: Tensor | None = None) -> Tensor:
        def features(made: Run) -> Tensor:
            x = self._network.last_input
            steps = made.quantized(x)
            self._last_scale = steps.scale
            return (steps.value * steps.scale)[0]

        return self._by_length(ids, mask, features, self.scale)

    def classify(self, features: Tensor) -> Tensor:
        """Logits (B, classes) of the features that were computed last."""
        weights, x = self._weights(), self._network.last_input

        def logits(row: Tensor) -> Tensor:
            made = Run(self._network, weights, 1, scales=self.scale)
            made.made_rows[x] = ScaledIntegers(round_up(row[None] / self._last_scale), self._last_scale)
            return made.dequantized(self._network.graph.output)[0]

        return torch.func.vmap(logits)(features)

    def in_float(self, ids: Tensor, mask: Tensor | None = None) -> Tensor:
        """Logits (B, classes) of the same graph with nothing rounded."""
        return self._by_length(ids, mask, lambda made: made.dequantized(self._network.graph.output)[0], None)

    def _by_length(
        self, ids: Tensor, mask: Tensor | None, made: Callable[[Run], Tensor], scales: Scales | None
    ) -> Tensor:
        """What `made` gives of each text (B, ...): texts of one length together, as the graph has no padding."""
        weights = self._weights()
        lengths = [ids.shape[1]] * len(ids) if mask is None else mask.sum(1).tolist()
        parts, order = [], []
        for length in sorted(set(lengths)):
            rows = [i for i, n in enumerate(lengths) if n == length]
            order += rows
            parts.append(self._together(ids[rows, :length], weights, made, scales))
        return torch.cat(parts)[torch.tensor(order).argsort()]

    def _together(self, ids: Tensor, weights: Weights, made: Callable[[Run], object], scales: Scales | None):
        """What `made` gives of texts of one length (B, L)."""
        dropout = self._dropout if self.training and scales is not None else 0.0

        def one(text: Tensor) -> object:
            return made(Run(self._network, weights, len(text), text[None], scales, dropout))

        return torch.func.vmap(one, randomness="different")(ids)

    def _weights(self) -> Weights:
        found: dict[str, Tensor] = dict(self._folded())

        def parameter(name: str) -> Tensor:
            if name not in found:
                module, _, attribute = name.rpartition(".")
                found[name] = getattr(self.get_submodule(module), attribute)
            return found[name]

        return Weights(parameter, self._fits)

    def _names(self) -> set[str]:
        """The values whose scales a forward pass asks for. Finds too what is read as rows and in float32."""
        wanted: set[str] = set()

        def scale(name: str, method: str, levels: int) -> float:
            wanted.add(name)
            return 1e-2

        while True:
            with torch.no_grad():
                made = Run(self._network, self._weights(), 2, torch.zeros(1, 2, dtype=torch.int64), scale)
                made.dequantized(self._network.graph.output)
            self._fits.clear()
            twice = {v for v in made.computed if v in made.made_rows or v in made.made_wide}
            if not twice:
                return wanted
            self._network.twice |= twice

    def _calibrated(self) -> dict[str, Histogram]:
        """The histogram of each wanted value over the texts, as graph/calibrate.py takes it of the float model."""
        ends: dict[str, tuple[float, float]] = {}
        counts: dict[str, np.ndarray] = {}
        for values in self._observed():
            for name, value in values.items():
                low, high = ends.get(name, (math.inf, -math.inf))
                ends[name] = (min(low, float(value.min())), max(high, float(value.max())))
        for values in self._observed():
            for name, value in values.items():
                found = np.histogram(value.double().numpy(), BINS, ends[name])[0]
                counts[name] = counts.get(name, 0) + found
        return {name: Histogram(*ends[name], tuple(counts[name].tolist())) for name in ends}

    def _observed(self) -> Iterator[dict[str, Tensor]]:
        """The wanted values of the float model, of some of the texts after the other."""
        variables = {var.name: var for var, _ in self._network.graph.bindings if var.name in self._wanted}
        weights = self._weights()
        with torch.no_grad():
            for ids in _batches(self._texts):
                yield self._together(
                    ids, weights, lambda made: {name: made.dequantized(var) for name, var in variables.items()}, None
                )


def _batches(texts: Iterable[Sequence[int]]) -> Iterator[Tensor]:
    """Texts of one length together."""
    by_length: dict[int, list[Sequence[int]]] = {}
    for ids in texts:
        by_length.setdefault(len(ids), []).append(ids)
    for found in by_length.values():
        for start in range(0, len(found), _BATCH):
            yield torch.tensor([list(ids) for ids in found[start : start + _BATCH]])
