"""Compiling a C file, once: objects are kept in the user's cache folder (embbert_tvm/cache.py).

An object is taken from there where the compiler, the flags that decide it, the file, and every header are what they
were: headers that lie in the folders of `-I` or beside the file by their content, the toolchain's own by their size and
time. A macro of ours decides only what names it, and a comment nothing: a model that is trained anew has the object of
its tokenizer already.
"""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Container, Iterator, Sequence
from pathlib import Path

from embbert_tvm.cache import cache_folder, digest, keep, load
from embbert_tvm.device.toolchain import call, find_tool
from embbert_tvm.errors import WorkError
from embbert_tvm.target import Cpu

_INCLUDE = re.compile(rb'^[ \t]*#[ \t]*include[ \t]+(?:[<"]([^>"\n]+)[>"]|\w)', re.MULTILINE)
# What GCC reads besides its command.
_VARIABLES = ("CPATH", "C_INCLUDE_PATH", "COMPILER_PATH", "GCC_EXEC_PREFIX", "SOURCE_DATE_EPOCH")
_TOLD = "-fcallgraph-info"  # by which GCC tells of an object, beside it: no bit of the object is another
_HEADERS = "headers"
_LONG = 2**20  # bytes of C in which comments are not looked for
# Macros that a build or a package gives, of which no header of a toolchain knows.
_MACRO, _WORD = re.compile(r"-D((?:EMBBERT|embbert|SERVER)_\w+)"), re.compile(rb"\b(?:EMBBERT|embbert|SERVER)_\w+|##")
_DEFINITION = re.compile(
    rb"^[ \t]*#[ \t]*define[ \t]+((?:EMBBERT|embbert|SERVER)_\w+)[ \t][^\n]*(?<!\\)$", re.MULTILINE
)
_TEXT_OR_COMMENT = re.compile(rb"\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'|/\*.*?\*/|//[^\n]*", re.DOTALL)


def compile_object(cpu: Cpu, flags: Sequence[str], folders: Sequence[Path], source: Path, output: Path) -> None:
    """Compile a C file to an object. WorkError with the compiler's first error line where that fails.

    Args:
        flags: the compiler's, but for folders of headers.
        folders: those, first to last.
        output: the object; what else the flags ask for lies beside it.
    """
    made = {suffix: output.with_suffix(suffix) for suffix in _suffixes(flags)}
    key = _key(cpu, flags, folders, source)
    found = None if key is None else load(key)
    if found is not None and made.keys() <= found.keys() and _unchanged(found.get(_HEADERS, b"")):
        for suffix, path in made.items():
            path.write_bytes(found[suffix])
        return
    listed = output.with_suffix(".d")
    include = [f"-I{path}" for path in folders]
    call(cpu, "gcc", [*flags, *include, "-c", source, "-o", output, "-MD", "-MF", listed], source.name)
    if key is not None:
        parts = {suffix: path.read_bytes() for suffix, path in made.items()}
        keep(key, parts | {_HEADERS: _states(listed.read_text(), [*folders, source.parent])})
    listed.unlink()


def _suffixes(flags: Sequence[str]) -> tuple[str, ...]:
    """The files to keep: the object, and what GCC tells of it where that is asked."""
    return (".o", ".ci") if any(flag.startswith(_TOLD) for flag in flags) else (".o",)


def _key(cpu: Cpu, flags: Sequence[str], folders: Sequence[Path], source: Path) -> str | None:
    """The hash under which an object is kept, None where nothing is."""
    if cache_folder() is None:
        return None
    compiler = _compiler(cpu)
    if compiler is None:
        return None
    content = source.read_bytes()
    headers = list(_headers(content, [source.parent, *folders]))
    texts, words = _decisive([content, *(path.read_bytes() for path in headers)], " ".join(flags).encode())
    variables = (f"{name}={os.environ.get(name, '')}" for name in _VARIABLES)
    decisive = (flag for flag in flags if not flag.startswith(_TOLD) and not _is_unused(flag, words))
    names = (path.name for path in headers)
    return digest([compiler, *variables, *decisive, "|", source.name, *names, "|", *texts])


def _decisive(texts: list[bytes], flags: bytes) -> tuple[list[bytes], set[bytes]]:
    """C texts without comments and without macros of ours that neither they nor flags name, and what they name of ours.

    Lines stay what they are. So do texts where a trigraph may hide a quote or a name may be put together, and long
    ones, those of weights, which each model has of its own.
    """
    together = b"\n".join(texts)
    if len(together) > _LONG or b"??/" in together or b"##" in together:
        return texts, set(_WORD.findall(together))
    plain = [_TEXT_OR_COMMENT.sub(_without_comment, text) for text in texts]
    named = Counter(word for text in plain for word in _WORD.findall(text))
    defined = Counter(word for text in plain for word in _DEFINITION.findall(text))
    unread = {name for name, times in defined.items() if named[name] == times} - set(_WORD.findall(flags))
    found = [_DEFINITION.sub(lambda line: b"" if line[1] in unread else line[0], text) for text in plain]
    return found, named.keys() - unread


def _without_comment(found: re.Match[bytes]) -> bytes:
    return found[0] if found[0][:1] in (b'"', b"'") else b" " + b"\n" * found[0].count(b"\n")


def _is_unused(flag: str, words: Container[bytes]) -> bool:
    """Whether a flag defines a macro of ours that a file and its headers don't name, nor can put together."""
    macro = _MACRO.match(flag)
    return macro is not None and macro[1].encode() not in words and b"##" not in words


def _headers(content: bytes, folders: Sequence[Path]) -> Iterator[Path]:
    """The headers in the folders that C may include, and those that they do: all, where a macro names one."""
    waiting, seen = [content], set[str]()
    while waiting:
        for found in _INCLUDE.finditer(waiting.pop(0)):
            if found[1] is None:
                names = sorted({path.name for folder in folders for path in folder.glob("*.h")})
            else:
                names = [os.fsdecode(found[1])]
            for name in names:
                paths = [path for path in (folder / name for folder in folders) if path.is_file()]
                if name not in seen and paths:
                    seen.add(name)
                    waiting.append(paths[0].read_bytes())
                    yield paths[0]


def _compiler(cpu: Cpu) -> str | None:
    """What tells a compiler from others and from itself after an upgrade; None where it does not say."""
    path = Path(find_tool(cpu, "gcc")).resolve()
    return _programs(cpu, path, _state(path))


@functools.lru_cache(maxsize=32)
def _programs(cpu: Cpu, path: Path, state: str) -> str | None:
    """The states of a compiler and of the programs that it calls. state: of the compiler itself."""
    try:
        named = [call(cpu, "gcc", [f"-print-prog-name={name}"], "its programs").strip() for name in ("cc1", "as")]
        programs = [Path(shutil.which(name) or name).resolve() for name in named]
        return " ".join([f"{path}", state, *(f"{program} {_state(program)}" for program in programs)])
    except (OSError, WorkError):
        return None


def _state(path: Path) -> str:
    status = path.stat()
    return f"{status.st_size} {status.st_mtime_ns}"


def _states(rule: str, folders: Sequence[Path]) -> bytes:
    """The states of the headers that a file of -MD lists, but for those in folders, which are in the object's key."""
    _, _, listed = rule.replace("\\\n", " ").partition(": ")
    paths = [Path(name.replace("\\ ", " ")) for name in re.split(r"(?<!\\)\s+", listed.strip())]
    return json.dumps({str(path): _state(path) for path in paths if path.parent not in folders}).encode()


def _unchanged(states: bytes) -> bool:
    try:
        return all(_state(Path(path)) == state for path, state in json.loads(states).items())
    except (OSError, ValueError):
        return False
