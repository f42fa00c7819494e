"""Tiny language models as plain C on microcontrollers.

The library is embbert_tvm/api.py, whose names are here too and imported when one is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from embbert_tvm.version import __version__

if TYPE_CHECKING:
    from embbert_tvm.api import (
        Answer,
        CompileOptions,
        CompileReport,
        Device,
        Package,
        compile,
        load_model,
        load_package,
    )

__all__ = [
    "Answer",
    "CompileOptions",
    "CompileReport",
    "Device",
    "Package",
    "__version__",
    "compile",
    "load_model",
    "load_package",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from embbert_tvm import api

    return getattr(api, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
