"""The float reference: a model's ONNX in onnxruntime, no torch; and of a text's n-grams."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from embbert_tvm.errors import InputError
from embbert_tvm.models.ngrams import load_ngram_model


class Reference:
    """Logits of one text at a time, computed in float32 by onnxruntime on one thread; of a model that is quantized
    already as its file says, as onnxruntime's own integer kernels would round it otherwise.

    Raises InputError for a file that is not an ONNX model of one input `ids` whose first output is `logits`.
    """

    def __init__(self, model: Path | bytes) -> None:
        """`model` is the path of an ONNX file, or its content."""
        import onnxruntime

        where = "model.onnx" if isinstance(model, bytes) else str(model)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        if not isinstance(model, bytes) and not Path(model).is_file():
            raise InputError(f"{where}: no such file: write it with `embbert-tvm export`")
        content = model if isinstance(model, bytes) else Path(model).read_bytes()
        if b"QuantizeLinear" in content:
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        try:
            self._session = onnxruntime.InferenceSession(
                model if isinstance(model, bytes) else str(model), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime has a class of its own for every failure
            raise InputError(f"{where}: onnxruntime cannot load it ({error})") from error
        inputs = [x.name for x in self._session.get_inputs()]
        outputs = [x.name for x in self._session.get_outputs()]
        if inputs != ["ids"] or outputs[:1] != ["logits"]:
            raise InputError(f"{where}: takes {inputs} and gives {outputs}, not ids and logits")
        self.count = len(outputs)

    def __call__(self, ids: list[int]) -> np.ndarray:
        """Float32 logits (classes,) of one list of token ids."""
        return self._session.run(["logits"], {"ids": np.asarray([ids], dtype=np.int64)})[0][0]

    def outputs(self, ids: list[int]) -> list[np.ndarray]:
        """What each head gives: logits (classes,), or (tokens, classes)."""
        return [made[0] for made in self._session.run(None, {"ids": np.asarray([ids], dtype=np.int64)})]

    def flat(self, ids: list[int]) -> np.ndarray:
        """All of `outputs`, one after the other."""
        return np.concatenate([made.ravel() for made in self.outputs(ids)])


class TextReference:
    """Logits of one text at a time: of its token ids by `model`, and of its n-grams by the folder `linear`.

    Either may be missing on disk, in which case the other is all there is. Raises InputError as `Reference` does.
    """

    def __init__(self, model: Path, linear: Path) -> None:
        self._linear = load_ngram_model(linear) if linear.is_dir() else None
        self._model = None if self._linear is not None and not model.is_file() else Reference(model)

    def __call__(self, ids: list[int], text: str, pair: str | None = None) -> np.ndarray:
        """Float32 logits (classes,), or (tokens, classes); of a model of several heads all of them, flat."""
        logits: np.ndarray | None = None
        if self._model is not None:
            logits = self._model(ids) if self._model.count == 1 else self._model.flat(ids)
        if self._linear is None:
            assert logits is not None
            return logits
        linear: np.ndarray = self._linear.logits([text], [pair])[0]
        return linear if logits is None else self._linear.added_to(logits, text, pair)
