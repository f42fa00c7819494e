"""README and docs: links lead somewhere, commands are taken as they stand, README is short."""

from __future__ import annotations

import importlib
import re
import shlex
import sys
from pathlib import Path
from textwrap import indent

import click
import pytest

from embbert_tvm.cli import COMMANDS, group

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "docs"))

import site_hooks  # noqa: E402

PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("models/*/README.md")])
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def headings(text: str) -> set[str]:
    """The anchors of a page, as GitHub and mkdocs make them."""
    lines = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", line.lower()).strip().replace(" ", "-") for line in lines}


def commands(text: str) -> list[str]:
    """The lines of code that call embbert-tvm, comments left out, lines that go on joined."""
    plain = re.sub(r"```\w*\n(.*?)```", lambda block: indent(block[1], "    "), text, flags=re.DOTALL)
    joined = re.sub(r"\\\n\s*", " ", plain)
    found = re.findall(r"^ {4}(?:\S*/)?embbert-tvm (\S.*)$", joined, re.MULTILINE)
    return [re.sub(r"\s+#.*$", "", line) for line in found]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for link in _LINK.findall(page.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", link):
            continue
        place, _, anchor = link.partition("#")
        target = page if not place else page.parent / place
        assert target.exists() or target.relative_to(ROOT / "docs").as_posix() in site_hooks.PAGES, link
        if anchor and target.suffix == ".md":
            assert anchor in headings(target.read_text(encoding="utf-8")), link


def test_commands_are_taken_as_they_stand():
    """Every option of every command line on the pages is one that the command has."""
    count, wrong = 0, []
    for page in PAGES:
        for line in commands(page.read_text(encoding="utf-8")):
            if re.search(r"\.\.\.|[|<>$`]", line):  # a sketch, or more of a shell than one call
                continue
            count += 1
            try:
                name, *arguments = shlex.split(line)
                command = group.get_command(click.Context(group), name)
                context = command.make_context(name, list(arguments))
                if isinstance(command, click.Group):
                    inner, found, rest = command.resolve_command(context, list(arguments))
                    found.make_context(inner, rest)
            except (click.ClickException, ValueError, AttributeError) as error:
                wrong.append(f"{page.relative_to(ROOT)}: {line}: {getattr(error, 'message', error)}")
    assert not wrong, "\n".join(wrong)
    assert count > 50


def test_the_site_has_a_page_of_every_command_and_names_every_page():
    text = site_hooks.commands_page()
    assert [name for name in COMMANDS if f"\n## {name}\n" not in text] == []
    assert "### targets list" in text
    named = set(re.findall(r"[\w/-]+\.md", (ROOT / "mkdocs.yml").read_text(encoding="utf-8")))
    there = {str(path.relative_to(ROOT / "docs")) for path in ROOT.glob("docs/**/*.md")}
    assert named == there | set(site_hooks.PAGES)


def test_formats_stand_with_the_versions_that_the_code_has():
    """A version that is raised is told where users look it up."""
    from embbert_tvm.codegen import blob, package
    from embbert_tvm.device import examples, protocol
    from embbert_tvm.graph import calibrate, precision
    from embbert_tvm.tuning import logs

    api = re.search(r"#define @UPPER@_API (\d+)", (ROOT / "embbert_tvm/codegen/templates/api.h.in").read_text())[1]
    versions = {
        "a package's `metadata.json`": f"`{package.FORMAT}`; {package.MLF_VERSION}",
        "`plan.json`": f"`{precision.FORMAT}`",
        "`calibration.json`": f"{calibrate.VERSION}",
        "`weights.bin`": f"{blob.VERSION}",
        "intents by example, a blob": f"{examples._VERSION}",
        "a tuning log's `manifest.json`": f"{logs.FORMAT}",
        "frames of the [protocol](protocol.md)": f"{protocol.VERSION}",
        "`embbert.h`": api,
    }
    rows = re.findall(r"^\| (.*?) \| .*? \| (.*?) \|", (ROOT / "docs/formats.md").read_text(), re.MULTILINE)
    assert dict(rows[1:]) == versions


def test_tests_that_pages_name_are_there():
    for page in PAGES:
        for name in re.findall(r"`(tests/[\w/.]+)`", page.read_text(encoding="utf-8")):
            assert (ROOT / name).exists(), f"{page.relative_to(ROOT)}: {name}"


def test_the_page_of_c_has_every_function_of_the_header():
    text = site_hooks.c_page(
        "typedef enum {\n    EMBBERT_OK = 0 /* done */\n} embbert_status_t;\n\n"
        "/* A model. */\ntypedef struct {\n    int32_t n; /* as embbert_run() takes it */\n} embbert_t;\n\n"
        "/* Run it\n * on ids. */\nembbert_status_t embbert_run(embbert_t *model,\n              size_t n);\n"
        "embbert_status_t embbert_again(embbert_t *model);\n"
    )
    assert "## `embbert_status_t`\n\nWhat every call returns." in text
    assert "## `embbert_t`\n\nA model." in text
    assert "## `embbert_run`, `embbert_again`\n\nRun it on ids.\n\n```c\nembbert_status_t embbert_run(" in text


def test_the_page_of_python_has_every_public_name():
    import embbert_tvm

    text = site_hooks.python_page()
    for path in re.findall(r"^::: (\S+)$", text, re.MULTILINE):
        module, _, name = path.rpartition(".")
        assert hasattr(importlib.import_module(module), name), path
    assert [name for name in embbert_tvm.__all__ if f".{name}\n" not in text] == ["__version__"]


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 120
