"""The one look of what commands show of their progress: a line on stderr, where that is a terminal."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from embbert_tvm.progress import Bar

if TYPE_CHECKING:
    from tqdm import tqdm

_COUNTED = "{desc} {percentage:3.0f} % |{bar:20}| {n_fmt} of {total_fmt} {unit}, {remaining} left{postfix}"
_SHARE = "{desc} {percentage:3.0f} % |{bar:20}| {remaining} left{postfix}"
_OPEN = "{desc} ..."  # how much there is to do is not known


class Display:
    """Shows tasks on stderr while they last, and lines for good.

    Args:
        quiet: show nothing. Tasks are not shown either where stderr is no terminal.
    """

    def __init__(self, quiet: bool = False) -> None:
        self._quiet = quiet
        self._draws = not quiet and sys.stderr.isatty()

    def begin(self, what: str, unit: str, total: int | None) -> Bar:
        return _Line(what, unit, total) if self._draws else _Nothing()

    def note(self, text: str) -> None:
        if self._draws:
            from tqdm import tqdm

            tqdm.write(text, file=sys.stderr)
        elif not self._quiet:
            click.echo(text, err=True)


class _Nothing:
    def reach(self, done: int, total: int, note: str = "") -> None:
        pass

    def close(self) -> None:
        pass


class _Line:
    """A task's line: what is done, how far it is, how long it takes still."""

    def __init__(self, what: str, unit: str, total: int | None) -> None:
        from tqdm import tqdm

        tqdm.monitor_interval = 0  # no thread that looks after slow bars
        self._note = ""
        self._counted = _SHARE if unit == "%" else _COUNTED
        self._line: tqdm = tqdm(
            total=total,
            desc=what,
            unit=unit,
            bar_format=_OPEN if total is None else self._counted,
            file=sys.stderr,
            leave=False,
            dynamic_ncols=True,
            smoothing=0,
            miniters=1,
        )

    def reach(self, done: int, total: int, note: str = "") -> None:
        line = self._line
        if done < line.n:  # begun anew, as another model's training
            line.reset(total)
        if line.bar_format == _OPEN or line.total != total:
            line.total, line.bar_format = total, self._counted
        if note == self._note:
            line.update(done - line.n)
        else:
            self._note, line.n = note, done
            line.set_postfix_str(note)

    def close(self) -> None:
        self._line.close()
