"""Resolves the `#if` of a package's C that only ever go one way: by what its CPU has, and by the macros it defines."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from embbert_tvm.target import Cpu

_DIRECTIVE = re.compile(r"^[ \t]*#[ \t]*(ifdef|ifndef|if|elif|else|endif)\b([^\n]*)")
_DIRECTIVES = re.compile(r"^[ \t]*#[^\n]*", re.MULTILINE)
_CONDITIONS = re.compile(r"^[ \t]*#[ \t]*(?:if|el|endif)[^\n]*\n", re.MULTILINE)
_DEFINE = re.compile(r"^[ \t]*#[ \t]*define[ \t]+(\w+)(\(|[ \t]+([^\n]*))?")
_COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*")
_NUMBER = re.compile(r"(\d+)[uU]?")
# What compilers define for Arm's cores, by the feature of a CPU that kernels ask for; none: by the core.
_ARM = {
    "__ARM_FEATURE_DSP": "dsp", "__ARM_FEATURE_MVE": "mve", "__ARM_FP": "fpu", "__ARM_FEATURE_SAT": None,
    "__ARM_ARCH_7EM__": None, "__thumb2__": None,
}  # fmt: skip
_BASELINE = ("thumbv6m", "thumbv8m.base")  # cores without Thumb-2

# Values of macros, 0 for those that are not defined, where a package's C is compiled: for its CPU, and for the machine
# that it was made on, which runs its plain C.
Builds = Sequence[Mapping[str, int]]


def builds_of(cpu: Cpu) -> Builds:
    """What is known of the compilers' macros in each build of a package. Features that a CPU lacks are not used."""
    core = cpu.llvm.mtriple.partition("-")[0]
    none = dict.fromkeys(_ARM, 0)
    if not core.startswith("thumb"):
        return (none,)
    own = {name: 0 for name, feature in _ARM.items() if feature is not None and feature not in cpu.features}
    own |= {name: 1 for name, feature in _ARM.items() if feature in ("dsp", "mve") and feature in cpu.features}
    own |= {"__ARM_ARCH_7EM__": int(core == "thumbv7em"), "__thumb2__": int(core not in _BASELINE)}
    return (own | {"__ARM_FEATURE_SAT": own["__thumb2__"]}, none)


def resolved(texts: Mapping[str, str], builds: Builds) -> dict[str, str]:
    """C by the names of its files, without the branches that no build takes, nor the conditions that all agree on.

    What the texts themselves define once and for all is known too.
    """
    found, before = dict(texts), None
    while found != before:
        before = found
        own = _defined(found.values())
        values = [{**own, **build} for build in builds]
        found = {name: _resolved(text, values) for name, text in found.items()}
    return found


def _defined(texts: Iterable[str]) -> dict[str, int]:
    """Macros of one integer: those that are defined unconditionally, and those that are 0 wherever they are defined.

    None that `#ifndef` lets a build define.
    """
    found: dict[str, set[str]] = {}
    everywhere, may_be_given = set(), set()
    for text in texts:
        depth = 0
        for line in _DIRECTIVES.findall(text):
            if (directive := _DIRECTIVE.match(line)) is not None:
                word, rest = directive[1], directive[2].strip()
                depth += word.startswith("if") - (word == "endif")
                if word in ("ifdef", "ifndef"):
                    # The guard of a header holds all of it.
                    depth -= rest.endswith("_H")
                    may_be_given.add(rest)
            elif (define := _DEFINE.match(line)) is not None and define[2] != "(":
                found.setdefault(define[1], set()).add(_COMMENT.sub("", define[3] or "").strip())
                if depth <= 0:
                    everywhere.add(define[1])
            elif (undefined := re.match(r"[ \t]*#[ \t]*undef[ \t]+(\w+)", line)) is not None:
                may_be_given.add(undefined[1])
    numbers = {
        name: int(match[1])
        for name, values in found.items()
        if name not in may_be_given and len(values) == 1 and (match := _NUMBER.fullmatch(next(iter(values))))
    }
    return {name: value for name, value in numbers.items() if value == 0 or name in everywhere}


@dataclass
class _Branches:
    """State of an `#if`.

    Args:
        left: the builds that may have taken no branch yet.
        inside: those that may be in the branch that is open; none where its lines are left out.
        written: whether its `#if` was.
    """

    left: Builds
    inside: Builds = ()
    written: bool = False


def _resolved(text: str, builds: Builds) -> str:
    """A text with the conditions resolved that are known."""
    parts: list[str] = []
    open_ = [_Branches((), builds)]
    at = 0
    for found in _CONDITIONS.finditer(text):
        if open_[-1].inside:
            parts.append(text[at : found.start()])
        at, line = found.end(), found[0]
        directive = _DIRECTIVE.match(line)
        assert directive is not None
        word, condition = directive[1], _COMMENT.sub("", directive[2]).strip()
        if word == "endif":
            parts += [line] * open_.pop().written
        elif word.startswith("if"):
            condition = {"if": condition, "ifdef": f"defined({condition})", "ifndef": f"!defined({condition})"}[word]
            open_.append(_Branches(open_[-1].inside))
            parts += _enter(open_[-1], condition, line)
        else:
            parts += _enter(open_[-1], "1" if word == "else" else condition, line)
    left = "".join([*parts, text[at:]])
    return left if left == text else re.sub(r"\n{3,}", "\n\n", left)


def _enter(branches: _Branches, condition: str, line: str) -> list[str]:
    """The lines of a directive that begins a branch, the next of its `#if`."""
    values = [_evaluate(_parsed(condition), build) for build in branches.left]
    tried, certain = branches.left, all(values)
    branches.inside = [build for build, value in zip(tried, values, strict=True) if value != 0]
    branches.left = [build for build, value in zip(tried, values, strict=True) if not value]
    if not branches.inside:
        return []
    if certain:
        return [re.sub(r"#[ \t]*\w+[^\n]*", "#else", line, count=1)] if branches.written else []
    written, branches.written = branches.written, True
    return [line if written else re.sub(r"\belif\b", "if", line, count=1)]


@functools.cache
def _parsed(condition: str) -> ast.expr | None:
    text = re.sub(r"defined\s*\(?\s*(\w+)\s*\)?", r"(defined_\1)", condition)
    text = re.sub(r"!(?!=)", " not ", text.replace("&&", " and ").replace("||", " or "))
    text = re.sub(r"\b(\d+)[uU]\b", r"\1", text)
    try:
        return ast.parse(text.strip(), mode="eval").body
    except SyntaxError:
        return None


def _evaluate(node: ast.expr | None, values: Mapping[str, int]) -> int | None:
    if isinstance(node, ast.Constant) and isinstance(node.value, int):
        return int(node.value)
    if isinstance(node, ast.Name):
        if node.id.startswith("defined_"):  # known of compilers' macros alone: those of a package may be 0
            name = node.id.removeprefix("defined_")
            return values.get(name) if name.startswith("__") else None
        return values.get(node.id)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        inner = _evaluate(node.operand, values)
        return None if inner is None else int(not inner)
    if isinstance(node, ast.BoolOp):
        parts = [_evaluate(part, values) for part in node.values]
        decides = isinstance(node.op, ast.Or)
        if any(part is not None and bool(part) == decides for part in parts):
            return int(decides)
        return None if None in parts else int(not decides)
    if isinstance(node, ast.Compare) and len(node.ops) == 1:
        left, right = _evaluate(node.left, values), _evaluate(node.comparators[0], values)
        compare = _COMPARE.get(type(node.ops[0]))
        return None if left is None or right is None or compare is None else int(compare(left, right))
    return None


_COMPARE = {
    ast.Eq: int.__eq__, ast.NotEq: int.__ne__, ast.Lt: int.__lt__, ast.LtE: int.__le__, ast.Gt: int.__gt__,
    ast.GtE: int.__ge__,
}  # fmt: skip
