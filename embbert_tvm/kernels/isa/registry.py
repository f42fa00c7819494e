"""Micro-kernels by name: what each multiplies, the header that defines it, and what can be called in its place.

The counter of multiplications (codegen/macs.py), the printer and the tuner (kernels/choices.py), and the headers of a
package (codegen/micro_headers.py) ask here. An instruction set lists its own (`Isa.micro_kernels`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Variant:
    """A function to call in the place of a micro-kernel.

    extra: what it takes after the other's arguments. fits: of the other's sizes, None for one that is no constant,
    whether they suit it. features: what a cost model is told: whether it loads by LDRD, whether it is in assembly,
    steps between two branches, sums.
    """

    name: str
    extra: tuple[int, ...] = ()
    fits: Callable[..., bool] = lambda *sizes: True
    features: tuple[float, ...] = (0, 1, 0, 8)


@dataclass(frozen=True)
class MicroKernel:
    """A function of kernels/micro that kernels call.

    header: the file that defines it. macs: multiplications with accumulation, of its last arguments, the sizes: as many
    as the function has parameters. A block has four rows, a tile of DSP two columns. variants: what can be called in
    its place; itself is the choice made by hand.
    """

    name: str
    header: str
    macs: Callable[..., int]
    variants: tuple[Variant, ...] = ()

    @property
    def sizes(self) -> int:
        """How many of its last arguments are sizes."""
        return self.macs.__code__.co_argcount


def listed(header: str, kernels: dict[str, Callable[..., int]]) -> tuple[MicroKernel, ...]:
    """Micro-kernels of one header without variants."""
    return tuple(MicroKernel(name, header, macs) for name, macs in kernels.items())


class Registry:
    """Micro-kernels by name."""

    def __init__(self, *parts: Iterable[MicroKernel]) -> None:
        self._known = {kernel.name: kernel for part in parts for kernel in part}
        self._homes = {v.name: kernel.header for kernel in self for v in kernel.variants}

    def __iter__(self) -> Iterator[MicroKernel]:
        return iter(self._known.values())

    def find(self, name: str) -> MicroKernel | None:
        return self._known.get(name)

    def header(self, name: str) -> str | None:
        """The header of a micro-kernel or of a variant."""
        kernel = self._known.get(name)
        return self._homes.get(name) if kernel is None else kernel.header
