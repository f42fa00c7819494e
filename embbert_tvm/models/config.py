"""EmbBERT's configuration and the sizes of the published family."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from embbert_tvm.errors import InputError

_MOST = 2**20  # far past what a microcontroller holds: a number beyond is a mistake
_MOST_LAYERS = 1024


@dataclass(frozen=True)
class EmbBertConfig:
    """The shape of an EmbBERT without its head. Raises InputError for a shape that cannot be."""

    vocabulary_size: int = 8192
    max_length: int = 256
    hidden_size: int = 128
    reduced_size: int = 16  # width of the token and position tables, mapped up to hidden_size
    kernel_size: int = 32
    expansion: int = 1  # channels that the convolution makes of each
    layers: int = 4

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            most = _MOST_LAYERS if field.name == "layers" else _MOST
            if type(value) is not int or not 1 <= value <= most:
                raise InputError(f"the model's {field.name} must be a whole number of 1 to {most}, not {value!r}")
        if self.max_length < 2:
            raise InputError("a max_length of 1 has no room beside [CLS]")
        if self.vocabulary_size <= 5:
            raise InputError(f"a vocabulary of {self.vocabulary_size} has no room beside the 5 special tokens")

    @property
    def parameters(self) -> int:
        """How many weights the model has without its head."""
        d, r, channels = self.hidden_size, self.reduced_size, self.expansion * self.hidden_size
        embedder = (self.vocabulary_size + self.max_length) * r + 2 * r * d + 3 * d
        attention = 2 * (d * d + d)
        convolution = channels * self.kernel_size + channels + channels * d + d
        return embedder + self.layers * (attention + convolution + 4 * d + d)

    def to_dict(self) -> dict[str, int]:
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Any) -> EmbBertConfig:
        """The inverse of `to_dict`; raises InputError on a missing or unknown key."""
        if not isinstance(values, dict):
            raise InputError("the model's configuration must be a JSON object")
        known = {field.name for field in dataclasses.fields(cls)}
        if set(values) != known:
            missing, unknown = sorted(known - set(values)), sorted(set(values) - known)
            raise InputError(
                f"the model's configuration lacks {missing or 'nothing'}, does not know {unknown or 'none'}"
            )
        return cls(**values)


PRESETS: dict[str, EmbBertConfig] = {
    "nano": EmbBertConfig(2048, 256, 64, 16, kernel_size=8, expansion=1, layers=2),
    "tiny": EmbBertConfig(2048, 256, 128, 16, kernel_size=16, expansion=1, layers=2),
    "base": EmbBertConfig(),
    "med": EmbBertConfig(8192, 512, 256, 16, kernel_size=32, expansion=2, layers=6),
    "big": EmbBertConfig(16384, 1024, 512, 32, kernel_size=64, expansion=2, layers=6),
}
