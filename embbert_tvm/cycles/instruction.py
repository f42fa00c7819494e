"""Arm Thumb instructions as a pipeline's rules see them: kind, registers read and written, address."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

_CONDITIONS = "eq|ne|cs|hs|cc|lo|mi|pl|vs|vc|hi|ls|ge|lt|gt|le"
_REGISTER = re.compile(r"\b(?:r\d+|sp|lr|pc|sl|fp|ip|[sdq]\d+|p0|vpr)\b", re.IGNORECASE)
_ALIAS = {"r10": "sl", "r11": "fp", "r12": "ip", "r13": "sp", "r14": "lr", "r15": "pc"}
_BRANCH = re.compile(rf"b(?:{_CONDITIONS})?|cbn?z|le|letp|bx|tb[bh]|wls\w*|blx?|bxns|dls\w*|svc|udf|bkpt")
_FLAGS = "flags"
FLAG_SETTERS = ("cmp", "cmn", "tst", "teq", "vcmp", "vcmpe")


class Kinds:
    """Kinds of instructions by their mnemonics: of rows (pattern, kind) that of the first pattern that matches."""

    def __init__(self, *rows: tuple[str, str]) -> None:
        self._rows = tuple((re.compile(pattern), kind) for pattern, kind in rows)

    def of(self, name: str) -> str | None:
        return next((kind for pattern, kind in self._rows if pattern.fullmatch(name)), None)


# Vector kinds come before those of the scalar FPU, which share names.
_KINDS = Kinds(
    (r"nop|it[te]{0,3}|\.\w+", "nop"),
    (r"ldrd|ldm\w*|pop|vldm\w*|vpop", "load_many"),
    (r"strd|stm\w*|push|vstm\w*|vpush", "store_many"),
    (r"ldr(?:s?[bh]t?|ex\w*)", "load_part"),
    (r"ldr\w*|vldr|pld", "load"),
    (r"str\w*|vstr", "store"),
    (r"[su]div", "divide"),
    # 16-bit multiplications (one or two at once), and all others.
    (r"sm(?:la|ul)(?:[bt][bt]|w[bt])|smlal[bt][bt]|sm(?:la|ls|ua|us|lal|lsl)dx?", "multiply_half"),
    (r"mul\w*|ml[as]|[su]mull|[su]mlal|umaal|smm\w+", "multiply"),
    (r"[su]xt\w+|[su]bfx|bf[ic]|pkh[bt][bt]|clz|rev\w*|rbit|sel|[su]sat\w*|usada?8", "bits"),
    (r"[usq][uh]?(?:add|sub|asx|sax)(?:8|16)|[us]asx|[us]sax|q(?:d?add|d?sub)", "bits"),
    (r"vsqrt", "root"),
    (r"vdiv", "float_divide"),
)
# Of MVE: instructions with a Q register.
_VECTOR_KINDS = Kinds(
    (r"vld[24]\d", "vector_load_apart"),
    (r"vst[24]\d", "vector_store_apart"),
    (r"vldr[bhwd]", "vector_load"),
    (r"vstr[bhwd]", "vector_store"),
    (r"vr?mla?l?d?av\w*|v(?:rml|ml)[as]\w*|vmlas?|vaddl?va?|vmaxn?m?a?v|vminn?m?a?v|vabav", "vector_sum"),
    (r"vq?r?d?mul\w*|vr?mulh|vfm[as]\w*|vcm(?:ul|la)|vq?r?dml\w+", "vector_multiply"),
    (r"vadd|vsub|vmul|vcadd", "vector_add"),
    (r"vq?r?sh\w+|vq?mov[nu]n?\w*|vmovl\w|vsli|vsri|vcvt\w*", "vector_shift"),
    (r"vmov", "vector_move"),
)
_TWO_WRITTEN = re.compile(r"[su]mull|[su]mlal\w*|smls?ald\w*|smlald?x?|umaal|v(?:rml|ml)[as]ldav\w*|vaddlva?")
_ADDS_TO_WRITTEN = re.compile(
    r"[su]mlal\w*|smls?ald\w*|umaal|movt|bf[ic]|vr?ml[as]\w*?vh?ax?|vaddl?va|vmlas?|vfm[as]\w*|vq?movn?\w*[bt]"
    r"|vq?movun[bt]|vq?r?shrn\w*|vsli|vsri|vld[24][123]|vmls|vfnm[as]|vmaxa?v|vmina?v|vabav"
)
_ACCUMULATES = re.compile(
    r"ml[as]|sm[lm]\w*[as]\w*|sml[as]\w*|[su]mlal\w*|vml[as]|vfm[as]|vr?ml[as]\w*?vh?ax?|vaddl?va"
)
_WRITES_NONE = re.compile(r"str\w*|stm\w*|vst\w*|vstm\w*|push|vpush|cmp|cmn|tst|teq|pld|vcmpe?|nop|vpst\w*|vpt|it[te]*")


@dataclass(frozen=True)
class Instruction:
    """What a rule may ask. bytes: of its encoding; early: registers that the first stages read, of an address or for a
    shift; added: registers that an accumulation adds to; shifted: whether it shifts an operand; base, offset: of an
    address in a register and a number; moves_base: whether the register follows; many: registers loaded or stored;
    element: bytes of an element of a vector; gathers: whether a vector holds the addresses."""

    text: str
    name: str
    kind: str
    bytes: int
    reads: frozenset[str]
    writes: frozenset[str]
    early: frozenset[str] = frozenset()
    added: frozenset[str] = frozenset()
    shifted: bool = False
    base: str | None = None
    offset: int | None = None
    moves_base: bool = False
    many: int = 1
    element: int = 0
    gathers: bool = False

    @property
    def branch(self) -> bool:
        return self.kind in ("branch", "call")

    @property
    def vector(self) -> bool:
        return self.kind.startswith("vector")

    @property
    def memory(self) -> bool:
        return self.kind in ("load", "load_part", "load_many", "store", "store_many")


def _plain(register: str) -> str:
    register = register.lower()
    return _ALIAS.get(register, register)


def _registers(text: str) -> list[str]:
    """Registers in order; a range of a list, as in {r4-r6}, is written out."""
    whole = re.sub(
        r"\b([rsdq])(\d+)\s*-\s*[rsdq](\d+)\b",
        lambda m: ", ".join(f"{m[1]}{i}" for i in range(int(m[2]), int(m[3]) + 1)),
        text,
    )
    return [_plain(name) for name in _REGISTER.findall(whole)]


def _operands(text: str) -> list[str]:
    """Split at commas outside brackets and braces."""
    return [part.strip() for part in re.split(r",(?![^\[{]*[\]}])", text) if part.strip()]


def _kind(name: str, operands: list[str], registers: list[str]) -> str:
    if re.fullmatch(r"bl|blx", name):
        return "call"
    if _BRANCH.fullmatch(name) or (not name.startswith("v") and operands[:1] == ["pc"]):
        return "branch"
    if name.startswith("v") and any(r.startswith("q") for r in registers):
        # What VPST predicates ends in T or E.
        return _VECTOR_KINDS.of(name) or _VECTOR_KINDS.of(re.sub(r"[te]$", "", name)) or "vector_alu"
    if re.fullmatch(r"vpst\w*|vpt\w*|vpnot|vctp", name):
        return "nop" if name.startswith("vpst") else "alu"
    if kind := _KINDS.of(name):
        return kind
    if name.startswith("v"):
        return "float_move" if name.startswith(("vmov", "vmrs", "vmsr")) else "float"
    return "alu"


@functools.lru_cache(maxsize=65536)
def parse(text: str, size: int = 4) -> Instruction:
    """An instruction as objdump prints it, without comments; size: of its encoding in bytes."""
    head, _, rest = text.strip().partition(" ")
    name, *types = head.lower().split(".")
    types = [t for t in types if t not in ("n", "w")]
    rest = rest.strip()
    conditional = re.fullmatch(rf"([a-z][a-z0-9]+?)({_CONDITIONS})", name)
    condition = False
    if conditional and _is_conditional(conditional[1]):
        name, condition = conditional[1], True
    operands, registers = _operands(rest), _registers(rest)
    kind = _kind(name, operands, registers)
    sets_flags = name in FLAG_SETTERS
    if name not in FLAG_SETTERS and kind in ("alu", "multiply") and re.fullmatch(r"[a-z]+s", name) and name != "mls":
        sets_flags, name = True, name[:-1]
    reads, writes, early, added = _register_use(name, kind, operands)
    if condition or re.fullmatch(rf"b(?:{_CONDITIONS})", name):
        reads |= {_FLAGS}
    if condition:
        reads |= writes
    if sets_flags:
        writes |= {_FLAGS}
    memory = re.search(r"\[(\w+)(?:,\s*#(-?\w+))?\](!?)(?:,\s*(#?-?\w+))?", rest)
    base = _plain(memory[1]) if memory else None
    moves = bool(memory and (memory[3] or memory[4])) or (kind in ("load_many", "store_many") and "!" in rest)
    if moves and base:
        writes |= {base}
    shift = (
        re.search(r"\b(lsl|lsr|asr|ror)\b", rest) is not None and kind == "alu" and name not in ("lsl", "lsr", "asr")
    )
    if shift or name in ("pkhbt", "pkhtb", "bfi"):
        early |= {_plain(r) for r in _REGISTER.findall(operands[-2] if shift else operands[2 if name[0] == "p" else 1])}
    listed = re.search(r"\{([^}]*)\}", rest)
    many = len(_registers(listed[1])) if listed else 2 if name in ("ldrd", "strd") else 1
    return Instruction(
        text, name, kind, size, frozenset(reads), frozenset(writes), frozenset(early), frozenset(added), shift,
        base, int(memory[2] or "0", 0) if memory and not re.search(r"\[\w+,\s*[a-z]", rest) else None, moves, many,
        _element(name, types), bool(re.search(r"\[(?:\w+|q\d+),\s*q\d+|\[q\d+", rest)),
    )  # fmt: skip


def _is_conditional(stem: str) -> bool:
    """Whether what stands before a condition is an instruction, so that `vmul` or `smlal` is not read as one."""
    known = r"mov|movw|movt|mvn|add|sub|rsb|and|orr|eor|bic|lsl|lsr|asr|ror|ldr[bh]?|ldrs[bh]|str[bh]?|cmp|cmn|tst|mul"
    known += (
        r"|mla|neg|adc|sbc|[us]div|movs|adds|subs|bx|ldrd|strd|pop|ldmia|vmov|vldr|vstr|vadd|vsub|vneg|uxt[bh]|sxt[bh]"
    )
    return re.fullmatch(known, stem) is not None


def _register_use(name: str, kind: str, operands: list[str]) -> tuple[set[str], set[str], set[str], set[str]]:
    """(read, written, read early, added to)."""
    every = [_registers(operand) for operand in operands]
    early = {r for operand, found in zip(operands, every, strict=True) if "[" in operand for r in found}
    if name in ("push", "vpush", "pop", "vpop"):
        listed = set(every[0]) if every else set()
        return ({"sp"} | listed, {"sp"}, {"sp"}, set()) if "push" in name else ({"sp"}, {"sp"} | listed, {"sp"}, set())
    if kind == "branch" or kind == "call":
        written = {"lr"} if name in ("bl", "blx", "le", "letp", "dls", "wls", "dlstp", "wlstp") else set()
        return set().union(*every) if every else set(), written, set(), set()
    if kind == "load_many" and name not in ("ldrd",):
        return set(every[0]), set(every[1]), set(every[0]), set()
    if kind == "store_many" and name not in ("strd",):
        return set(every[0]) | set(every[1]), set(), set(every[0]), set()
    if _WRITES_NONE.fullmatch(name):
        return set().union(*every) if every else set(), set(), early, set()
    written_count = 2 if _TWO_WRITTEN.fullmatch(name) or name == "ldrd" else 1
    if name == "vmov" and len(operands) >= 3:
        written_count = 2 if every[0] and every[0][0][0] in "rsl" and len(operands) == 3 else 1
    written = set().union(*every[:written_count]) if every else set()
    read = set().union(*every[written_count:]) if len(every) > written_count else set()
    adds = _ADDS_TO_WRITTEN.fullmatch(name) is not None
    # Two operands, as in `adds r0, #4`: the first is read too. A move is none of those.
    if adds or (
        len(operands) == 2
        and kind in ("alu", "multiply")
        and not re.match(r"mov|mvn|adr|neg|vctp|rsb|cpy|dup|vmrs", name)
    ):
        read |= written
    added: set[str] = set()
    if _ACCUMULATES.fullmatch(name):
        added = written if adds else set(every[-1]) if len(operands) == 4 else set()
    return read, written, early, added


def _element(name: str, types: list[str]) -> int:
    """Bytes of an element in memory or in a register of a vector instruction."""
    memory = re.fullmatch(r"v(?:ldr|str)([bhwd])[te]?", name)
    if memory:
        return {"b": 1, "h": 2, "w": 4, "d": 8}[memory[1]]
    width = re.search(r"(8|16|32|64)$", types[-1]) if types else None
    return int(width[1]) // 8 if width else 0
