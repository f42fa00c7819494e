"""Names from outside as names of C: whatever they are, a compiler takes them and means nothing else by them."""

from __future__ import annotations

import re
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embbert_tvm.c_names import c_name, check_prefix
from embbert_tvm.errors import InputError

# What a header, a compiler or the language has already.
WORDS = """
    NULL INT32_MAX INT8_MIN UINT32_C SIZE_MAX INFINITY NAN HUGE_VAL EOF EMBBERT_OK M_PI B1 __LINE__ __FILE__ __GNUC__
    _Bool _Complex __asm__ __attribute__ __builtin_expect unix linux i386 int8_t uint32_t size_t ptrdiff_t wchar_t
    memcpy memset expf sqrtf fmaxf lrintf isnan signbit round log y0 j1 gamma main errno assert offsetof bool true
    false class new delete this template namespace operator and or not xor typename virtual auto register inline
    restrict typeof asm alignas nullptr static_assert int char float double void struct union enum goto switch
""".split()  # noqa: SIM905


@given(st.text(max_size=20), st.sets(st.sampled_from(["a", "a_2", "_", "x"])))
def test_any_text_is_an_identifier(text, taken):
    name = c_name(text, taken)
    assert re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name)
    assert not re.match(r"_[A-Z_]", name)
    assert name not in taken
    assert c_name(name) == name or name.endswith(("_t_", "_"))


def test_what_means_something_is_renamed():
    """Declared together with everything that C's headers have, for C and for C++."""
    headers = "assert complex ctype errno fenv float inttypes limits math setjmp signal stdarg stdbool stddef stdint"
    lines = [f"#include <{name}.h>" for name in [*headers.split(), "stdio", "stdlib", "string", "time", "wchar"]]
    names = {c_name(word) for word in WORDS}
    assert len(names) == len(WORDS)
    lines += ["int f(void);", "int f(void)", "{", "    int sum = 0;"]
    lines += [f"    int {name} = 1; sum += {name};" for name in sorted(names)]
    lines += ["    return sum;", "}"]
    for compiler, language, standard in (("gcc", "c", "gnu99"), ("g++", "c++", "gnu++17"), ("clang", "c", "gnu11")):
        command = [compiler, "-x", language, f"-std={standard}", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", "-"]
        done = subprocess.run(command, input="\n".join(lines), capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("prefix", "what"),
    [
        ("uint8", "a type of C"), ("int32", "a type of C"), ("size", "a type of C"), ("div", "a type of C"),
        ("math", "a header"), ("stdint", "a header"), ("string", "a header"), ("arduino", "a header"),
        ("frames", "a file of the firmware"), ("model", "a file of the firmware"), ("port", "a file of the firmware"),
        ("port_host", "a file of the firmware"), ("start", "a file of the firmware"), ("main", "a keyword or function"),
        ("int", "a keyword"), ("memcpy", "a keyword or function"), ("exp", "a keyword or function"),
        ("class", "a keyword"), ("x_t", "a type"), ("embbert_x", "must not begin"), ("x_", "must not begin"),
        ("X", "use up to 31"), ("", "use up to 31"), ("a" * 32, "use up to 31"), ("a\n", "use up to 31"),
    ],
)  # fmt: skip
def test_prefixes_that_mean_something_are_refused(prefix, what):
    with pytest.raises(InputError, match=f"--prefix .*{what}"):
        check_prefix(prefix)


@pytest.mark.parametrize("prefix", ["embbert", "mine", "intent", "first", "a", "my_port", "wake_word2"])
def test_prefixes_that_are_free(prefix):
    assert check_prefix(prefix) == prefix
