"""The inner loops of DSP, and the orders of their instructions that orders.py found and writes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

SUMS = (("r0", "r1"), ("r2", "r3"), ("r4", "r5"), ("r6", "r8"))
# Of two rows by four columns, whose second pair of columns lies %[next] bytes further on.
WIDE_SUMS = (("r0", "r1", "r2", "r3"), ("r4", "r5", "r6", "r8"))


@dataclass(frozen=True)
class InnerLoop:
    """values: how each is made, %x being another's register; {b} and {b1} are the places of weights, {a} and a number
    that of the operand so many bytes on. pairs: of columns. rows, columns: of a tile; of four columns two lie %[next]
    bytes after the others. by_rows: whether weights lie a stride
    apart, not side by side. left, right: bytes from a pair of the operand, at LR, to the next, and of the weights, at
    R12, which starts `early` bytes before them. temporaries: the registers that values may take, where sums and
    pointers do not leave just those that a tile's do. on_stack: whether the operand lies at SP, so that LR is free and
    a round moves no pointers."""

    values: dict[str, str]
    pairs: int = 1
    rows: int = 4
    columns: int = 2
    by_rows: bool = False
    left: int = 16
    right: int = 4
    early: int = 4
    temporaries: tuple[str, ...] = ()
    on_stack: bool = False

    @property
    def temporary(self) -> tuple[str, ...]:
        """The registers that sums leave: of two rows those that the others' would need."""
        if self.temporaries:
            return self.temporaries
        return ("r7", "r9", "r10", "r11") if self.rows * self.columns == 8 else tuple(f"r{i}" for i in range(4, 12))

    @property
    def held(self) -> list[str]:
        """The values that need a register of their own: all but products, which go to sums."""
        return [value for value in self.values if value[0] != "m"]

    @property
    def step(self) -> str:
        """From some pairs' weights to the next."""
        one = "%[stride]" if self.by_rows else f"#{self.right * self.pairs}"
        return f"{one}*{self.pairs}" if self.by_rows and self.pairs > 1 else one

    def place(self, which: int) -> str:
        """Where weights `which` of pairs N lie."""
        if self.by_rows:
            return f"[r12, {self.step}*(N){'+%c[stride]' * which}]"
        if self.columns == 4:
            return f"[r12, {self.step}*(N)+{self.early}{'+%c[next]' * which}]"
        return f"[r12, {self.step}*(N)+{4 * which + self.early}]"


def _tile(low: str, high: str, rows: int = 4, first: int = 0, name: str = "") -> dict[str, str]:
    """Rows of the operand from byte `first` on, each with its products by two columns."""
    found = {}
    for r in range(rows):
        found[f"a{name}{r}"] = f"ldr %a{name}{r}, {{a{first + 4 * r}}}"
        for c, column in enumerate((low, high)):
            found[f"m{name}{r}{c}"] = f"smlad {SUMS[r][c]}, %a{name}{r}, %{column}, {SUMS[r][c]}"
    return found


def _two_by_four(widen: str) -> dict[str, str]:
    """Two rows of the operand, each with its products by two raw words, as they are and widened."""
    found: dict[str, str] = {}
    for place, (raw, low) in enumerate((("b", "l"), ("c", "k"))):
        found[raw] = f"ldr %{raw}, {{b{place or ''}}}"
        for c, column in ((1, raw), (0, low)):
            if column == low:
                found[low] = f"{widen} %{low}, %{raw}"
            for r, sums in enumerate(WIDE_SUMS):
                found.setdefault(f"a{r}", f"ldr %a{r}, {{a{4 * r}}}")
                found[f"m{r}{2 * place + c}"] = f"smlad {sums[2 * place + c]}, %a{r}, %{column}, {sums[2 * place + c]}"
    return found


def _codes(bits: int) -> dict[str, str]:
    """Two rows of the operand by four columns of codes: of all four together, then without the last, two, three."""
    found = {"b": "ldr %b, {b}"}
    if bits == 4:
        parts = [(0, "", ("b", "x", "y", "z"), ("", "bic %x, %b, #0xF000F000", *_masks("yz", "b", (255, 15))))]
    else:
        low, high = _masks("pqst", "b", (255, 63, 15, 3)), _masks("fgh", "e", (63, 15, 3))
        parts = [(0, "", "pqst", low), (16, "x", "efgh", ("uxtb16 %e, %b, ror #8", *high))]
    for first, name, columns, texts in parts:
        for c, (column, text) in enumerate(zip(columns, texts, strict=True)):
            if text:
                found[column] = text
            for r, sums in enumerate(WIDE_SUMS):
                found.setdefault(f"a{name}{r}", f"ldr %a{name}{r}, {{a{first + 4 * r}}}")
                found[f"m{name}{r}{3 - c}"] = f"smlad {sums[3 - c]}, %a{name}{r}, %{column}, {sums[3 - c]}"
    return found


def _masks(names: str, source: str, masks: tuple[int, ...]) -> tuple[str, ...]:
    return tuple(f"and %{n}, %{source}, #0x{m:04X}{m:04X}" for n, m in zip(names, masks, strict=True))


_APART = {"b": "ldr %b, {b}", "h": "sxtb16 %h, %b, ror #8", "l": "sxtb16 %l, %b"}
_RAW = {"b": "ldr %b, {b}", "l": "sxtb16 %l, %b"}
_RAW_TWO = {
    **_RAW, **_tile("l", "b", 2),
    "c": "ldr %c, {b1}", "k": "sxtb16 %k, %c", **_tile("k", "c", 2, 16, "x"),
}  # fmt: skip
# Of two pairs of rows one column each, as raw words: the odd rows first, then by the low bytes the even.
_FOURS = {
    "b": "ldr %b, {b}",
    "c": "ldr %c, {b1}",
    "u": "pkhbt %u, %b, %c, lsl #16",
    "v": "pkhtb %v, %c, %b, asr #16",
}
_LOW = {"x": "uxtb16 %x, %u", "y": "uxtb16 %y, %v"}


def _softmax() -> dict[str, str]:
    """A row's next four scores to weights: the odd ones, then 256 times the even ones less those."""
    found = {}
    for j, at in enumerate((4, 36, 0, 32)):
        found |= {
            f"s{j}": f"ldr %s{j}, {{a{at}}}",
            f"d{j}": f"sub %d{j}, r1, %s{j}",
            f"i{j}": f"smmulr %i{j}, %d{j}, r2",
            f"x{j}": f"usat %x{j}, #8, %i{j}",
            f"w{j}": f"ldrsb %w{j}, [r0, %x{j}]",
        }
    return found | {
        "o": "pkhbt %o, %w0, %w1, lsl #16",
        "e": "pkhbt %e, %w2, %w3, lsl #16",
        "mo": "str %o, {b}",
        "mso": "add r3, r3, %o",
        "mse": "add r4, r4, %e",
        "f": "lsl %f, %e, #8",
        "g": "ssub16 %g, %f, %o",
        "mg": "str %g, {b4}",
    }


def _unsigned(values: dict[str, str]) -> dict[str, str]:
    return {value: text.replace("sxtb16", "uxtb16") for value, text in values.items()}


INNER_LOOPS: Mapping[str, InnerLoop] = {
    # Two columns that lie in one word, both widened.
    "dot": InnerLoop({**_APART, **_tile("l", "h")}),
    # The same where the halfwords of the word are 256 times the second and the first: only one is widened.
    "raw": InnerLoop({**_RAW, **_tile("l", "b")}),
    # Of two rows, which leave so many registers that every SMLAD has a load or an SXTB16 beside it.
    "raw two": InnerLoop(_RAW_TWO, pairs=2, rows=2),
    # Of two rows by four columns: four loads in a group, not five in two.
    "raw 2x4": InnerLoop(_two_by_four("sxtb16"), rows=2, columns=4),
    # Of two rows by four columns of codes, four of a column in a halfword or in a byte.
    "codes 4": InnerLoop(_codes(4), rows=2, columns=4),
    # The same of an operand at SP: a fifth register for values, without which a pair of columns takes a cycle more.
    "codes 4 stack": InnerLoop(
        _codes(4), rows=2, columns=4, left=8, early=0, temporaries=("r7", "r9", "r10", "r11", "lr"), on_stack=True
    ),
    "codes 2": InnerLoop(_codes(2), pairs=2, rows=2, columns=4, right=2),
    # Where the first has no sign.
    "keys": InnerLoop(_unsigned({**_RAW, **_tile("l", "b")})),
    "keys 2x4": InnerLoop(_two_by_four("uxtb16"), rows=2, columns=4),
    "keys two": InnerLoop(_unsigned(_RAW_TWO), pairs=2, rows=2),
    # Two rows of two columns: pairs of rows are made of pairs of columns.
    "context": InnerLoop(
        {
            **_APART,
            "u": "pkhbt %u, %l, %h, lsl #16",
            "v": "pkhtb %v, %h, %l, asr #16",
            **_tile("u", "v"),
        },
        by_rows=True,
    ),
    "softmax": InnerLoop(_softmax(), left=64, right=32, early=0, temporaries=("r5", "r6", "r8", "r9", "r10", "r11")),
    "values": InnerLoop({**_FOURS, **_tile("u", "v"), **_LOW, **_tile("x", "y", 4, 16, "x")}, pairs=2, by_rows=True),
    "values two": InnerLoop(
        {**_FOURS, **_tile("u", "v", 2), **_LOW, **_tile("x", "y", 2, 16, "x")}, pairs=2, rows=2, by_rows=True
    ),
}


@dataclass(frozen=True)
class Order:
    """name: of its macros. registers: of values, in the order of the loop's. sequence: values; + begins the next."""

    name: str
    loop: str
    cpu: str
    registers: str
    sequence: str

    @property
    def steps(self) -> list[tuple[str, int]]:
        return [(word.lstrip("+"), word.startswith("+")) for word in self.sequence.split()]

    @property
    def where(self) -> dict[str, str]:
        return dict(zip(INNER_LOOPS[self.loop].held, self.registers.split(), strict=True))


_FOUND = (
    Order(
        "DOT_SINGLE", "dot", "cortex-m7", "r9 r10 r9 r7 r11 r11 r7",
        "l m01 m00 a3 m21 m20 a1 m30 m31 +a0 m10 +b m11 +h +a2",
    ),
    Order(
        "DOT_RAW_SINGLE", "raw", "cortex-m7", "r9 r10 r11 r7 r11 r7",
        "l m01 m00 a2 m11 m10 a3 m20 m21 +a0 m31 +b m30 +a1",
    ),
    Order(
        "DOT_RAW_TWO", "raw two", "cortex-m7", "r4 r6 r7 r9 r5 r11 r8 r10",
        "c m01 ax0 m00 ax1 m11 k m10 +b mx01 +a0 mx00 +a1 mx11 +l mx10",
    ),
    Order(
        "CONTEXT_SINGLE", "context", "cortex-m7", "r7 r9 r11 r10 r9 r7 r11 r7 r11",
        "u a0 v a1 m01 m00 a2 m11 m10 m21 a3 m20 +b m31 +h m30 +l",
    ),
    Order(
        "DOT_GROUPED", "dot", "cortex-m4", "r9 r10 r9 r11 r7 r11 r7",
        "m11 m00 m10 m01 a2 a3 m21 m20 m31 m30 +a0 +b +a1 +h +l",
    ),
    Order(
        "DOT_RAW_GROUPED", "raw", "cortex-m4", "r9 r10 r11 r7 r11 r7",
        "b a1 a0 l m11 m10 m00 m01 a2 a3 m21 m31 m30 m20",
    ),
    Order(
        "DOT_RAW_2X4", "raw 2x4", "cortex-m4", "r10 r7 r9 r10 r11 r11",
        "a0 a1 b c m01 m11 l m00 m10 m03 m13 k m02 m12",
    ),
    Order(
        "DOT_CODES_4_GROUPED", "codes 4", "cortex-m4", "r10 r7 r9 r11 r11 r11",
        "b a1 a0 x m12 m02 y m03 m01 m11 z m13 m00 m10",
    ),
    Order(
        "DOT_CODES_4_STACK", "codes 4 stack", "cortex-m7", "r10 r7 r9 r11 lr r11",
        "a1 m03 m02 y m13 m12 z m01 +b m00 +a0 m10 +x m11",
    ),
    Order(
        "DOT_CODES_2_GROUPED", "codes 2", "cortex-m4", "r10 r11 r7 r9 r11 r11 r11 r10 r7 r9 r11 r11 r11",
        "b a0 a1 p m03 m13 q m02 m12 s m01 m11 t m00 m10 ax0 ax1 e f mx03 mx12 mx02 g mx11 mx01 h mx00 mx10 mx13",
    ),
    Order(
        "DOT_CODES_2_SINGLE", "codes 2", "cortex-m7", "r10 r11 r7 r9 r11 r11 r11 r10 r7 r9 r11 r11 r11",
        "a1 p m03 m13 q m12 m02 s m11 m01 t e m10 ax1 m00 ax0 f mx12 mx02 g mx03 mx11 mx01 h mx13 +b mx00 +a0 mx10",
    ),
    Order(
        "VALUES_TWO", "values two", "cortex-m7", "r5 r8 r8 r9 r11 r4 r10 r6 r4 r7",
        "u m11 x m10 ax0 m00 y m01 +c mx01 +b mx00 +a1 mx11 +a0 mx10 +v +ax1",
    ),
    Order(
        "VALUES_GROUPED", "values", "cortex-m4", "r7 r9 r10 r9 r7 r11 r7 r11 r10 r9 r7 r11 r7 r11",
        "b u v a0 a1 m01 m00 m10 m11 a2 a3 m21 m20 m30 x m31 "
        "ax0 ax1 mx00 y mx01 mx11 mx10 ax3 ax2 mx20 mx31 mx21 mx30 +c",
    ),
    Order(
        "SOFTMAX_SINGLE", "softmax", "cortex-m7",
        "r10 r5 r8 r6 r5 r9 r10 r10 r11 r6 r8 r9 r10 r8 r11 r9 r11 r11 r9 r9 r5 r11 r9 r9",
        "d1 i0 i1 x0 x1 s2 d2 w0 w1 i2 s3 x2 d3 i3 x3 +s0 o w2 mo w3 e mso f mse g +d0 mg +s1",
    ),
    Order(
        "SOFTMAX_GROUPED", "softmax", "cortex-m4",
        "r5 r5 r11 r5 r11 r9 r6 r6 r9 r6 r8 r8 r10 r8 r8 r9 r9 r10 r9 r9 r5 r8 r11 r8",
        "s2 s1 d2 d1 d0 i0 i2 x2 i1 x1 x0 w1 s3 w0 w2 d3 i3 x3 o w3 e mso mo f mse g mg +s0",
    ),
)  # fmt: skip
_BY_NAME = {order.name: order for order in _FOUND}
ORDERS = (
    *_FOUND,
    replace(_BY_NAME["DOT_RAW_TWO"], name="DOT_KEYS_TWO", loop="keys two"),
    replace(_BY_NAME["DOT_RAW_GROUPED"], name="DOT_KEYS_GROUPED", loop="keys"),
    replace(_BY_NAME["DOT_RAW_2X4"], name="DOT_KEYS_2X4", loop="keys 2x4"),
)

# The registers of a loop as it is written, where an order's do not keep its values.
INITIAL = {
    "dot": "r9 r10 r9 r11 r7 r11 r7",
    "raw": "r9 r10 r11 r7 r11 r7",
    "raw two": "r4 r6 r7 r9 r5 r11 r8 r10",
    "codes 4": "r10 r7 r9 r11 r11 r11",
    "codes 4 stack": "r10 r7 r9 r11 r11 r11",
    "codes 2": "r10 r11 r7 r9 r11 r11 r11 r10 r7 r9 r11 r11 r11",
    "raw 2x4": "r10 r7 r9 r10 r11 r11",
    "keys 2x4": "r10 r7 r9 r10 r11 r11",
    "keys": "r9 r10 r11 r7 r11 r7",
    "keys two": "r4 r6 r7 r9 r5 r11 r8 r10",
    "context": "r7 r9 r7 r10 r9 r7 r11 r7 r11",
    "softmax": "r5 r5 r5 r5 r5 r6 r6 r6 r6 r6 r8 r8 r8 r8 r8 r9 r9 r9 r9 r9 r5 r8 r8 r8",
    "values": "r7 r9 r10 r9 r7 r11 r7 r11 r10 r9 r7 r11 r7 r11",
    "values two": "r4 r5 r6 r5 r7 r8 r6 r5 r9 r10",
}
