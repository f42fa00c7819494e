"""Checks of what a YAML file of targets/ says; each failure names its key."""

from __future__ import annotations

import re

from embbert_tvm.errors import InputError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
C_FILE = re.compile(r"[a-z0-9_]+\.c")
TOOL_PREFIX = re.compile(r"([A-Za-z0-9_.]+-)*")
QEMU = re.compile(r"qemu-system-[a-z0-9_]+")
# Flags that tell a compiler or linker how to translate, and never what to run, read or write.
FLAG = re.compile(
    r"-m[a-z][a-z0-9-]*(=[A-Za-z0-9+_.,-]+)?|-O([0-3sgz]|fast)?|-g[0-3]?|-std=[a-z0-9+:]+|-pedantic"
    r"|-f(?!plugin|dump|profile|save|auto-profile|test|coverage|compare)[a-z0-9-]+(=[A-Za-z0-9_-]+)?"
    r"|-W(?!p,|a,|l,)[a-z][a-z0-9+-]*(=[0-9]+)?|-D[A-Za-z_][A-Za-z0-9_]*(=[A-Za-z0-9_]*)?"
    r"|--?specs=[a-z0-9_-]+\.specs|--oslib=[a-z0-9_-]+|-static|-nostdlib|-nostartfiles|-nodefaultlibs|-nolibc|-l[a-z]+"
    r"|-Wl,--(?!plugin|dynamic-linker|rpath|wrap|script|just-symbols|version)[a-z][a-z0-9-]*(=[A-Za-z0-9_]+){0,2}"
    r"|-Wl,-z,[a-z0-9=-]+|-Wl,-u,[A-Za-z0-9_]+"
)


def require(condition: bool, key: str, what: str) -> None:
    """InputError about `key` unless the condition holds."""
    if not condition:
        raise InputError(f"{key}: {what}")


def require_strings(value: object, key: str) -> None:
    """InputError unless the value is a tuple of strings that are not empty."""
    require(
        isinstance(value, tuple) and all(isinstance(v, str) and v for v in value),
        key,
        "must be a list of strings",
    )


def require_name(value: object, key: str) -> None:
    """InputError unless the value is a name without blanks and separators."""
    require(isinstance(value, str) and bool(NAME.fullmatch(value)), key, "must be a plain name")


def is_count(value: object, least: int = 1) -> bool:
    """Whether the value is an integer of at least `least`."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def is_word(value: object) -> bool:
    """Whether the value is an unsigned 32-bit integer."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**32
