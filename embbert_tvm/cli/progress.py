"""What commands show of their progress."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tqdm import tqdm


def steps_in(bar: tqdm) -> Callable[[int, int], None]:
    """What shows in a bar how many of all steps are done."""

    def on_step(done: int, total: int) -> None:
        bar.total = total
        bar.update(done - bar.n)

    return on_step
