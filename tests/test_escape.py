"""Text from outside in every language that files are written in: nothing of it is more than text there."""

from __future__ import annotations

import ctypes
import html.parser
import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from embbert_tvm import escape
from embbert_tvm.escape import of_file

TEXT = st.text(st.sampled_from("$`\"'\\#;:!*?/@(){}[]<>&|%~^-, \n\r\t\0\u2028\x85\u202e\udcffaZ09_é☃="), max_size=12)
WORDS = "a-b_c.d,e=f/g+h:i 9"
EXPLOITS = (
    "x\n$(shell touch PWNED)\n#",
    'x"\nexecute_process(COMMAND touch PWNED)\n#',
    "x */ int y; /*",
    "x\\",
    "x??/",
    "${ENV} $(touch PWNED) `touch PWNED` ; touch PWNED",
    "<script>alert(1)</script>",
    "- x: [y]",
    "@MODEL@",
)
LANGUAGES = ("x.c", "x.ld", "Makefile", "CMakeLists.txt", "x.yaml", "x.json", "x.ini", "x.md", "x.html")


@pytest.mark.parametrize("name", LANGUAGES)
@given(text=TEXT)
def test_what_is_written_is_one_line_of_plain_characters(name, text):
    written = of_file(name)(text)
    assert written.isprintable() or written == ""
    assert "\0" not in written.encode().decode()


@pytest.mark.parametrize("name", LANGUAGES)
def test_flags_and_names_pass_as_they_are(name):
    flags = WORDS.replace("_", "") if name == "x.md" else WORDS
    assert of_file(name)(flags) == flags


def test_a_file_of_an_unknown_language_is_not_written():
    with pytest.raises(KeyError):
        of_file("x.unknown")


def made(text: str, folder: Path) -> str:
    """What a Makefile with the text in a comment, a variable and a recipe prints."""
    written = escape.make(text)
    lines = [f"# {written}", f"X = {written}", "all:", f"\t@echo 'begin'{written}'end'", "\t@echo $(words x $(X))"]
    (folder / "Makefile").write_text("\n".join(lines) + "\n")
    done = subprocess.run(["make", "-s", "-C", str(folder)], capture_output=True, text=True, timeout=20)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("text", EXPLOITS)
def test_nothing_runs_in_a_makefile(text, tmp_path):
    first, _ = made(text, tmp_path).splitlines()
    assert first.startswith("begin")
    assert first.endswith("end")
    assert [x.name for x in tmp_path.iterdir()] == ["Makefile"]


@pytest.mark.parametrize("text", EXPLOITS)
def test_nothing_runs_in_cmake(text, tmp_path):
    written = escape.cmake(text)
    script = f'# {written}\nset(X "{written}")\nset(Y {written or "-"})\nmessage(STATUS "done ${{X}}")\n'
    (tmp_path / "x.cmake").write_text(script)
    done = subprocess.run(["cmake", "-P", "x.cmake"], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"-- done {written}\n"
    assert [x.name for x in tmp_path.iterdir()] == ["x.cmake"]


@given(text=TEXT)
def test_a_makefile_has_no_way_out(text):
    written = escape.make(text)
    assert not re.search(r"(?<!\$)(?:\$\$)*\$(?!\$)", written)
    assert not set(written) & set("`\"'|&;<>(){}\\#")


@given(text=TEXT)
@example("a: b")
@example("- x")
@example("")
@example("=")
@example("<<")
@example("2026-02-30")
@example("+0x_")
def test_a_scalar_of_yaml_is_a_scalar(text):
    written = escape.yaml(text)
    for document in (f"key: {written}", f"key: '{written}'", f'key: "{written}"', f"# {written}\nkey: x"):
        assert not isinstance(yaml.safe_load(document)["key"], (list, dict))


@given(text=TEXT)
def test_a_string_of_json_is_a_string(text):
    assert json.loads(f'"{escape.json(text)}"') == escape.json(text)


@given(text=TEXT)
def test_a_comment_of_c_ends_where_it_should(text):
    for write in (escape.c_comment, escape.c_formula, escape.c_source):
        written = write(text)
        assert f"/* {written} */".index("*/") == len(f"/* {written} ")
        assert "\\" not in written
        assert "??/" not in written


class Reader(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""

    def handle_starttag(self, tag, attributes) -> None:
        self.tags.append(tag)
        self.text = dict(attributes).get("title", self.text)


@given(text=TEXT)
def test_html_has_no_more_tags_than_were_written(text):
    reader = Reader()
    reader.feed(f'<p title="{escape.html(text)}">{escape.html(text)}</p>')
    assert reader.tags == ["p"]
    assert reader.text == escape.plain(text)


def test_strings_of_c_are_what_they_were(tmp_path):
    """All at once, as C has them."""
    texts = [*EXPLOITS, *(chr(c) * 2 + "1" for c in range(1, 256)), "☃", "?" * 4, "\\u0041", "%s"]
    rows = ",\n".join(escape.c_string(text) for text in texts)
    (tmp_path / "x.c").write_text(f"const char *const texts[] = {{\n{rows}\n}};\n")
    library = tmp_path / "x.so"
    command = ["gcc", "-std=c99", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", str(tmp_path / "x.c")]
    subprocess.run([*command, "-o", str(library)], check=True)
    found = (ctypes.c_char_p * len(texts)).in_dll(ctypes.CDLL(str(library)), "texts")
    assert [word.decode() for word in found] == texts


@settings(max_examples=300)
@given(text=TEXT)
def test_a_line_of_markdown_has_no_html_or_link(text):
    written = escape.markdown(text)
    assert not re.search(r"(?<!\\)(?:\\\\)*[<>\[\]`]", written)
