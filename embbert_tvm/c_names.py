"""The one door through which a name from outside becomes one of C: an identifier, or the prefix of a package's names.

Names of layers, parameters and dimensions come from a model, a prefix from a user. What passes is no keyword, type,
macro or function of C, C++, their headers or a firmware's, whatever these headers define in capitals.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Container

from embbert_tvm.errors import InputError

DEFAULT_PREFIX = "embbert"


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_KEYWORDS = frozenset(keyword.kwlist) | _words(
    """
    alignas alignof and_eq asm auto bitand bitor bool case catch char char8_t compl const const_cast constexpr
    decltype default delete do double dynamic_cast enum explicit export extern false far float friend goto inline
    int interrupt long mutable namespace near new noexcept not_eq nullptr operator or_eq private protected public
    register reinterpret_cast restrict short signed sizeof static static_assert static_cast struct switch template
    this thread_local throw true typedef typeid typename typeof union unsigned using virtual void volatile wchar_t
    xor xor_eq
    """
)
# Of the headers that a package includes, what GNU C defines besides, and what a kernel calls.
_MATH = _words(
    """
    acos acosh asin asinh atan atan2 atanh cbrt ceil copysign cos cosh erf erfc exp exp2 expm1 fabs fdim floor fma
    fmax fmin fmod frexp hypot ilogb ldexp lgamma llrint llround log log10 log1p log2 logb lrint lround modf nan
    nearbyint nextafter nexttoward pow remainder remquo rint round scalbln scalbn sin sinh sqrt tan tanh tgamma
    trunc
    """
)
_FUNCTIONS = frozenset(name + kind for name in _MATH for kind in ("", "f", "l")) | _words(
    """
    abs arena arm assert errno fpclassify gamma i386 infer isfinite isgreater isinf isless isnan isnormal j0 j1 jn
    labels labs linux main memchr memcmp memcpy memmove memset multiply_high offsetof saturate signbit signgam
    stderr stdin stdout strlen thumb unix y0 y1 yn
    """
)
C_RESERVED = _KEYWORDS | _FUNCTIONS
# Of a package's functions, types and files: what may not follow its prefix once more.
API_NAMES = _words(
    """
    begin begin_ids blob blob_end blob_size check check_blob check_t classify classify_pair complete continue embed h
    init known_answer label label_tokens model_hash result_t run status_t status_text step t token_t tokenize tokenizer
    tokenizer_part trace
    """
)
_MACRO = re.compile(r"[A-Z][A-Z0-9_]+")

# Headers that <prefix>.h would hide, or that hide it.
_HEADERS = _words(
    """
    algorithm alloca arduino array assert atomic bitset byteswap cctype cerrno cfloat chrono climits cmath complex
    cstddef cstdint cstdio cstdlib cstring ctime ctype deque dirent dlfcn elf endian errno exception fcntl features
    fenv float fstream functional getopt glob grp iconv inttypes iomanip ios iostream iso646 iterator kernel limits
    link list locale malloc map math memory mutex netdb new numeric poll pthread pwd queue ratio reent regex sched
    search semaphore set setjmp signal spawn sstream stack stdalign stdarg stdatomic stdbool stddef stdexcept stdint
    stdio stdlib stdnoreturn streambuf string strings syslog tar termios tgmath thread threads time tuple typeinfo
    uchar unistd utility utime valarray vector wchar wctype zephyr
    """
)
# <prefix>_t must be no type of C, POSIX or a small operating system.
_TYPES = _words(
    """
    blkcnt blksize bool byte char16 char32 char8 clock clockid cookie_io_functions dev div double fenv fexcept float
    float16 float32 float64 fpos fsblkcnt fsfilcnt gid iconv id imaxdiv ino int int16 int32 int64 int8 int_fast16
    int_fast32 int_fast64 int_fast8 int_least16 int_least32 int_least64 int_least8 intmax intptr k_timeout key ldiv
    lldiv locale max_align mbstate mode mve_pred16 nlink nullptr off once_flag pid poly16 poly64 poly8 pthread
    ptrdiff reg regex regmatch regoff rsize rune sem sig_atomic siginfo sigset size socklen ssize stack suseconds
    tid time timer uid uint uint16 uint32 uint64 uint8 uint_fast16 uint_fast32 uint_fast64 uint_fast8 uint_least16
    uint_least32 uint_least64 uint_least8 uintmax uintptr useconds va_list wchar wctrans wctype wint word
    """
)
# Files and names of the firmware and of the projects that a package goes into.
_OURS = _words("app build firmware frames image link main model package port semihosting server start tuning")
_NUMBERED = re.compile(r"(lv|gv)\d*")  # names that Relax makes up
_PREFIX = re.compile(r"[a-z][a-z0-9_]{0,30}")


def c_name(name: str, taken: Container[str] = ()) -> str:
    """`name` as a C identifier that means nothing to C, its headers or a package's own, and is not in `taken`."""
    base = re.sub(r"[^A-Za-z0-9_]", "_", name) or "_"
    if base[0].isdigit():
        base = f"_{base}"
    if re.match(r"_([A-Z_]|$)", base):
        base = f"n{base}"
    if base in C_RESERVED or _MACRO.fullmatch(base) or base.endswith("_t"):
        base = f"{base}_"
    free, count = base, 2
    while free in taken:
        free, count = f"{base}_{count}", count + 1
    return free


def check_prefix(prefix: str) -> str:
    """`prefix`, which begins every name and file of a package; InputError where C or the firmware forbids it."""
    if not isinstance(prefix, str) or not _PREFIX.fullmatch(prefix):
        raise InputError(
            f"--prefix {prefix!r}: names of C begin with it: use up to 31 lower-case letters, digits and _, "
            "beginning with a letter"
        )
    if prefix.startswith("embbert_") or prefix.endswith("_"):
        raise InputError(
            f"--prefix {prefix!r}: must not begin with embbert_ nor end with _: shared parts have such names"
        )
    if (taken := _taken(prefix)) is not None:
        raise InputError(f"--prefix {prefix!r}: is {taken}: choose another, as my_{prefix}")
    return prefix


def _taken(prefix: str) -> str | None:
    """What a prefix means already, None where it is free."""
    if prefix in C_RESERVED:
        return "a keyword or function of C"
    if prefix in _TYPES or prefix.endswith("_t"):
        return "a type of C"
    if prefix in _HEADERS:
        return "a header of C or of a library"
    if prefix in _OURS or prefix.split("_")[0] in ("port", "start", "cortex"):
        return "a file of the firmware"
    return None


def name_of_call(name: str, kernel: str, taken: Container[str]) -> str:
    """What a call makes is called: its own name, or the kernel's where Relax has but numbered it."""
    return c_name(kernel.removeprefix("fused_"), taken) if _NUMBERED.fullmatch(name) else name
