"""How a row-block kernel attends, and what that wants of keys and values."""

from __future__ import annotations

from dataclasses import dataclass

from embbert_tvm.kernels.isa import Isa
from embbert_tvm.kernels.row_block.scratch import width
from embbert_tvm.kernels.row_block.spec import Attend, Load, RowBlock


@dataclass(frozen=True)
class Attending:
    """isa: what attends. offset: the tensors that it wants otherwise than they lie, by `Isa.offset`."""

    isa: Isa
    offset: frozenset[int] = frozenset()


def attending(spec: RowBlock, isa: Isa) -> Attending:
    """How the instruction set would, where nothing else of the kernel but the block's own rows reads these tensors."""
    attends = [stage for stage in spec.stages if isinstance(stage, Attend)]
    read = {(number, stage.query) for stage in attends for number in (stage.keys, stage.values)}
    tensors = frozenset(number for number, _ in read)
    if any(stage.relative is not None for stage in attends):
        return Attending(isa)
    if tensors & {getattr(s, "tensor", None) for s in spec.stages if not isinstance(s, (Attend, Load))}:
        return Attending(isa)
    made = [isa.attending(isa.padded(spec.values[q].parts[0]), width(spec.tensors[n].parts, isa)) for n, q in read]
    if not made or None in made:
        return Attending(isa)
    return Attending(made[0], tensors)
