"""Which loop of a kernel an inference can stop in, to go on later."""

from __future__ import annotations

import math
from collections.abc import Callable

from tvm import tirx
from tvm.ir import Var

# Of a loop whose extent follows from the number of tokens: only the order of magnitude matters.
_TYPICAL_EXTENT = 128
_MICRO_KERNEL = 64  # what a call of one does, in statements
_LEAST_SHARE = 0.8  # of a kernel's work that its main loop does


def main_loop(func: tirx.PrimFunc, is_local: Callable[[Var], bool]) -> tirx.For | None:
    """The loop at the top of a lowered PrimFunc that does nearly all of its work, None where there is none.

    Everything that its iterations hand on to each other lies in memory that outlives a call: `is_local(buffer)` says of
    an allocated buffer whether it is a local variable.
    """
    parts = top_statements(func)
    if any(isinstance(s, tirx.Bind) or (isinstance(s, tirx.AllocBuffer) and is_local(s.buffer)) for s in parts):
        return None
    loops = [s for s in parts if isinstance(s, tirx.For) and isinstance(s.min, tirx.IntImm) and int(s.min) == 0]
    if not loops:
        return None
    main = max(loops, key=_work)
    return main if _work(main) >= _LEAST_SHARE * sum(map(_work, parts)) else None


def top_statements(func: tirx.PrimFunc) -> list[tirx.Stmt]:
    """The statements of a body, one after the other."""
    return list(_flat(func.body))


def _flat(stmt: tirx.Stmt) -> list[tirx.Stmt]:
    if isinstance(stmt, tirx.SeqStmt):
        return [part for one in stmt.seq for part in _flat(one)]
    if isinstance(stmt, tirx.AttrStmt):
        return _flat(stmt.body)
    return [stmt]


def _work(stmt: tirx.Stmt) -> float:
    """About how many statements are done."""
    if isinstance(stmt, tirx.For):
        extent = int(stmt.extent) if isinstance(stmt.extent, tirx.IntImm) else _TYPICAL_EXTENT
        return extent * _work(stmt.body)
    if isinstance(stmt, tirx.IfThenElse):
        return max(_work(stmt.then_case), 0 if stmt.else_case is None else _work(stmt.else_case))
    if isinstance(stmt, (tirx.SeqStmt, tirx.AttrStmt)):
        return math.fsum(_work(s) for s in _flat(stmt))
    return _MICRO_KERNEL if isinstance(stmt, tirx.Evaluate) else 1
