"""What can be asked of a compilation."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from embbert_tvm.c_names import DEFAULT_PREFIX
from embbert_tvm.kernels.forms import DEFAULT_FORMS, KernelForms

if TYPE_CHECKING:
    from embbert_tvm.graph.precision import PrecisionPlan

DEFAULT_PRECISION = "int8"
MIXED = "mixed"
LINKED, BLOB = "linked", "blob"


@dataclass(frozen=True)
class CompileOptions:
    """How a model is compiled, for any target. None leaves the choice to the model or to the plan."""

    precision: str = DEFAULT_PRECISION  # a uniform plan's name, or "mixed": chosen within `budget`
    plan: PrecisionPlan | Path | None = None  # each operator's precision, or the file that holds it
    budget: str | None = None  # for mixed: as flash=300k,ram=64k,drop=0.5
    choices: str | None = None  # for mixed: the precisions to choose from, as int8,int4,fp16
    dev: Path | None = None  # for mixed and prune_vocabulary: a labelled TSV to measure on
    max_length: int | None = None  # the longest text in tokens
    calibration: Path | None = None  # a labelled TSV to calibrate on, in place of the model's own statistics
    calibration_method: str | None = None  # percentile, minmax, mse or kl
    rounding: str | None = None  # of weights of fewer than 8 bits: gptq or nearest
    weights: str = LINKED  # where they lie: constants of the firmware, or a blob apart from it
    prefix: str = DEFAULT_PREFIX  # what every name of the C begins with
    tokenizer: bool = True  # whether the model's tokenizer, if it has one, goes with it
    tuning: bool = True  # whether the tuned schedules of the target are used
    prune_vocabulary: Path | None = None  # a corpus: the tokens that it needs, no others
    vocabulary_size: int | None = None  # for prune_vocabulary: how many tokens there may be
    experimental: bool = False  # whether precisions are taken that only answer a question of the paper
    row_block: int | None = None  # rows that read each weight together, 4 or 8; None: as the forms have it
    forms: KernelForms | None = None  # of the kernels; None: those of the tuned log, or those made by hand
    dump_ir: Path | None = None  # a folder for the module after each phase

    @property
    def kernel_forms(self) -> KernelForms:
        """The forms of the kernels, with the height of blocks that is requested."""
        forms = self.forms or DEFAULT_FORMS
        return forms if self.row_block is None else replace(forms, row_block=self.row_block)


DEFAULTS = CompileOptions()
