"""What a module of an operator offers to the driver (quantizer.py)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from embbert_tvm.graph.dataflow import Dataflow, Expr

if TYPE_CHECKING:
    from embbert_tvm.graph.quantize.quantizer import Quantizer, Rows


class Operator(Protocol):
    """A module of these functions. `Any` is the module's own frozen Match.

    One that can make int16 rows, for the values of `streams.py`, has `wide`, of the arguments of `quantized`, too. One
    that may have neither weights nor tables has `weightless`, of the arguments of `inputs`: whether it has none, so
    that beside float32 alone it stays in float32.
    """

    def match(self, graph: Dataflow, expr: Expr) -> Any | None:
        """The parts of this operator, if `expr` is what it makes; what it lacks goes to `graph.refuse`."""

    def inputs(self, graph: Dataflow, found: Any) -> list[Expr]:
        """The values that it reads."""

    def precision_source(self, found: Any) -> Expr | None:
        """The value whose precision it shares; None where the plan says how it is computed."""

    def quantized(self, q: Quantizer, expr: Expr, found: Any) -> Rows:
        """Emit its kernel, for int8 rows."""

    def dequantized(self, q: Quantizer, expr: Expr, found: Any) -> Expr | None:
        """Emit its kernel, for float32; None where the int8 rows are to be converted."""
