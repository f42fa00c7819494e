"""Where the data that ships with the package lies: beside it in a checkout, inside it in a wheel."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def resource(*parts: str) -> Path:
    """The path of a shipped file or folder, `resource("targets", "cpus")` for one."""
    inside = _PACKAGE / "_data"
    return (inside if inside.is_dir() else _PACKAGE.parent).joinpath(*parts)


def firmware(*parts: str) -> Path:
    """The path of C that ships as it is, `firmware("src", "main.c")` for one."""
    return _PACKAGE.joinpath("firmware", *parts)
