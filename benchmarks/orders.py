"""Orders of the instructions of the SMLAD tile, and the header that they are written to.

    python benchmarks/orders.py                     write kernels/micro/embbert_dsp_orders.h
    python benchmarks/orders.py --check             say what each order takes, clean and scheduled, by every model
    python benchmarks/orders.py --search dot --target cortex-m7 [--rounds 20000] [--seed 0]

A form below is the clean text: what an inner loop computes for one or two pairs of columns, one value a line. An order
says in which sequence, and what of the next is begun meanwhile (`+`). The search moves instructions, keeps every value
in its register until it has been used, and takes what the worst of the CPU's rules (cycles/rules.py) makes fastest. It
stands for SLOTHY, whose models have no SXTB16.
"""

from __future__ import annotations

import argparse
import math
import random
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from embbert_tvm.cycles import pipeline
from embbert_tvm.cycles.instruction import parse
from embbert_tvm.cycles.model import model_of, rules_of
from embbert_tvm.errors import EmbbertError
from embbert_tvm.kernels import micro
from embbert_tvm.table import table
from embbert_tvm.target import load_board, load_cpu

HEADER = Path(micro.__file__).with_name("embbert_dsp_orders.h")
SUMS = (("r0", "r1"), ("r2", "r3"), ("r4", "r5"), ("r6", "r8"))
PAIRS = 8  # of a loop that is weighed


@dataclass(frozen=True)
class Form:
    """values: how each is made, %x being another's register; {b} and {b1} are the places of weights, {a} and a number
    that of the operand so many bytes on. pairs: of columns. rows: of a tile. by_rows: whether weights lie a stride
    apart, not side by side. left, right: bytes from a pair of the operand, at LR, to the next, and of the weights, at
    R12, which starts `early` bytes before them. temporaries: the registers that values may take, where sums and
    pointers do not leave just those that a tile's do."""

    values: dict[str, str]
    pairs: int = 1
    rows: int = 4
    by_rows: bool = False
    left: int = 16
    right: int = 4
    early: int = 4
    temporaries: tuple[str, ...] = ()

    @property
    def temporary(self) -> tuple[str, ...]:
        """The registers that sums leave: of two rows those that the others' would need."""
        if self.temporaries:
            return self.temporaries
        return ("r7", "r9", "r10", "r11") if self.rows == 4 else tuple(f"r{i}" for i in range(4, 12))

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
        return f"[r12, {self.step}*(N)+{4 * which + self.early}]"


def _tile(low: str, high: str, rows: int = 4, first: int = 0, name: str = "") -> dict[str, str]:
    """Rows of the operand from byte `first` on, each with its products by two columns."""
    found = {}
    for r in range(rows):
        found[f"a{name}{r}"] = f"ldr %a{name}{r}, {{a{first + 4 * r}}}"
        for c, column in enumerate((low, high)):
            found[f"m{name}{r}{c}"] = f"smlad {SUMS[r][c]}, %a{name}{r}, %{column}, {SUMS[r][c]}"
    return found


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


FORMS: Mapping[str, Form] = {
    # Two columns that lie in one word, both widened.
    "dot": Form({**_APART, **_tile("l", "h")}),
    # The same where the halfwords of the word are 256 times the second and the first: only one is widened.
    "raw": Form({**_RAW, **_tile("l", "b")}),
    # Of two rows, which leave so many registers that every SMLAD has a load or an SXTB16 beside it.
    "raw two": Form(_RAW_TWO, pairs=2, rows=2),
    # Where the first has no sign.
    "keys": Form(_unsigned({**_RAW, **_tile("l", "b")})),
    "keys two": Form(_unsigned(_RAW_TWO), pairs=2, rows=2),
    # Two rows of two columns: pairs of rows are made of pairs of columns.
    "context": Form(
        {
            **_APART,
            "u": "pkhbt %u, %l, %h, lsl #16",
            "v": "pkhtb %v, %h, %l, asr #16",
            **_tile("u", "v"),
        },
        by_rows=True,
    ),
    "softmax": Form(_softmax(), left=64, right=32, early=0, temporaries=("r5", "r6", "r8", "r9", "r10", "r11")),
    "values": Form({**_FOURS, **_tile("u", "v"), **_LOW, **_tile("x", "y", 4, 16, "x")}, pairs=2, by_rows=True),
    "values two": Form(
        {**_FOURS, **_tile("u", "v", 2), **_LOW, **_tile("x", "y", 2, 16, "x")}, pairs=2, rows=2, by_rows=True
    ),
}


@dataclass(frozen=True)
class Order:
    """name: of its macros. registers: of values, in the order of the form's. sequence: values; + begins the next."""

    name: str
    form: str
    cpu: str
    registers: str
    sequence: str

    @property
    def steps(self) -> list[tuple[str, int]]:
        return [(word.lstrip("+"), word.startswith("+")) for word in self.sequence.split()]

    @property
    def where(self) -> dict[str, str]:
        return dict(zip(FORMS[self.form].held, self.registers.split(), strict=True))


ORDERS = (
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
        "VALUES_TWO", "values two", "cortex-m7", "r5 r8 r8 r9 r11 r4 r10 r6 r4 r7",
        "u m11 x m10 ax0 m00 y m01 +c mx01 +b mx00 +a1 mx11 +a0 mx10 +v +ax1",
    ),
    Order(
        "VALUES_GROUPED", "values", "cortex-m4", "r7 r9 r10 r9 r7 r11 r7 r11 r10 r9 r7 r11 r7 r11",
        "b u v a0 a1 m01 m00 m10 m11 a2 a3 m21 m20 m30 x m31 "
        "ax0 ax1 mx00 y mx01 mx11 mx10 ax3 ax2 mx20 mx31 mx21 mx30 +c",
    ),
)  # fmt: skip
ORDERS = (
    *ORDERS,
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
_BY_NAME = {order.name: order for order in ORDERS}
ORDERS = (
    *ORDERS,
    replace(_BY_NAME["DOT_RAW_TWO"], name="DOT_KEYS_TWO", form="keys two"),
    replace(_BY_NAME["DOT_RAW_GROUPED"], name="DOT_KEYS_GROUPED", form="keys"),
)


_NAMED = re.compile(r"%([a-z]+\d?)")


def text_of(form: str, where: Mapping[str, str], value: str, n: str) -> str:
    """An instruction for pair `n`, whose places are written as the macros have them."""
    line = _NAMED.sub(lambda m: where[m[1]], FORMS[form].values[value])
    line = re.sub(r"\{a(\d+)\}", lambda m: f"[lr, #{FORMS[form].left * FORMS[form].pairs}*({n})+{m[1]}]", line)
    return re.sub(r"\{b(\d?)\}", lambda m: FORMS[form].place(int(m[1] or 0)).replace("N", n), line)


def keeps_values(form: str, where: Mapping[str, str], steps: Sequence[tuple[str, int]], rounds: int = 3) -> bool:
    """Whether every instruction finds the values that it reads, of its own pair, in their registers."""
    held: dict[str, tuple[str, int]] = {}

    def runs(value: str, n: int) -> bool:
        read = _NAMED.findall(FORMS[form].values[value])
        if value[0] != "m":
            read.remove(value)
        if any(held.get(where[name]) != (name, n) for name in read):
            return False
        if value[0] != "m":
            held[where[value]] = (value, n)
        return True

    before = all(runs(value, 0) for value, ahead in steps if ahead)
    return before and all(runs(value, n + ahead) for n in range(rounds) for value, ahead in steps)


def block(form: str, where: Mapping[str, str], steps: Sequence[tuple[str, int]], pairs: int = PAIRS) -> list[str]:
    """So many pairs as a loop's body with numbers for its places."""
    turns = range(pairs // FORMS[form].pairs)
    lines = [text_of(form, where, value, str(n + ahead)) for n in turns for value, ahead in steps]
    lines = [line.replace("%[stride]", "#256").replace("%c[stride]", "256") for line in lines]
    return [re.sub(r"#([\d*()+]+)", lambda m: f"#{_sum_of_products(m[1])}", line) for line in lines]


def _sum_of_products(text: str) -> int:
    return sum(math.prod(int(word.strip("()")) for word in part.split("*")) for part in text.split("+"))


def _quoted(lines: Sequence[str]) -> str:
    """Lines as a C string whose numbers are macro arguments: `n` is spelled #n."""
    spelled = " ".join(f"{line}\\n" for line in lines)
    return '"' + spelled.replace("@n", '" #n "').replace("@steps", '" #steps "').replace('"" ', "") + '"'


def tail(order: Order) -> list[str]:
    """The last pair between two branches: nothing is begun, the pointers move on, and R12 meets the end."""
    now = [value for value, ahead in order.steps if not ahead]
    lines = [text_of(order.form, order.where, value, "@steps-1") for value in now]
    form = FORMS[order.form]
    loads = [i for i, value in enumerate(now) if "{" in form.values[value]]
    # A register that nothing reads any more holds the end.
    last_use = {
        r: max((i for i, line in enumerate(lines) if re.search(rf"\b{r}\b", line)), default=0) for r in form.temporary
    }
    free = min(form.temporary, key=lambda r: (max(last_use[r], loads[-1] if loads else 0), r))
    moves = [
        f"add r12, r12, {form.step}*@steps",
        f"add lr, lr, #{form.left * form.pairs}*@steps",
    ]
    at = (loads[-1] if loads else 0) + 2
    for offset, move in enumerate(moves):
        lines.insert(min(len(lines), at + 2 * offset), move)
    end = max(i for i, line in enumerate(lines) if re.search(rf"\b{free}\b", line)) + 1
    lines.insert(end, f"ldr {free}, END")
    return [*lines, f"cmp r12, {free}"]


def macros(order: Order) -> str:
    begun = [text_of(order.form, order.where, value, "0") for value, ahead in order.steps if ahead]
    step = [text_of(order.form, order.where, value, "@n+1" if ahead else "@n") for value, ahead in order.steps]
    last = _quoted(tail(order)).replace("END", '" end "')
    return "\n".join(
        [
            f"#define EMBBERT_{order.name}_START {_quoted(begun) if begun else chr(34) * 2}",
            f"#define EMBBERT_{order.name}_STEP(n) {_quoted(step)}",
            f"#define EMBBERT_{order.name}_LAST(steps, end) {last}",
        ]
    )


def wrapped(text: str, width: int = 118) -> str:
    """Lines of C no longer than that, broken between instructions."""
    found = []
    for line in text.split("\n"):
        while len(line) > width:
            at = line.rfind("\\n ", 0, width - 4) + 2
            found.append(line[:at].rstrip() + '" \\')
            line = '    "' + line[at:].lstrip()
        found.append(line)
    return "\n".join(found)


def header() -> str:
    parts = [
        "/* Orders of the SMLAD tile's instructions (embbert_dsp.h), written by benchmarks/orders.py, which has the\n"
        " * clean form of each. START loads what the first pair needs; STEP(n) is pair n of a round and begins the\n"
        " * next; LAST ends a round of `steps` pairs, moves R12 and LR on and compares R12 with what lies at `end`. */",
        "#ifndef EMBBERT_DSP_ORDERS_H\n#define EMBBERT_DSP_ORDERS_H",
        "/* clang-format off */",
        *(wrapped(macros(order)) for order in ORDERS),
        "/* clang-format on */\n#endif\n",
    ]
    return "\n\n".join(parts)


def costs(order: Order, clean: bool) -> dict[str, float]:
    """Cycles of a pair by each model. clean: of the form as it is written, each value in the same register."""
    form = FORMS[order.form]
    if clean:
        steps, where = [(value, 0) for value in form.values], dict(order.where)
        if not keeps_values(order.form, where, steps):
            where = dict(zip(form.held, INITIAL[order.form].split(), strict=True))
    else:
        steps, where = order.steps, order.where
    cpu = load_cpu(order.cpu)
    assert cpu.emulation_board
    body = tuple((4, line) for line in block(order.form, where, steps))
    return {
        name: cycles / PAIRS
        for name, cycles in model_of(cpu, load_board(cpu.emulation_board)).each([body])[body].items()
    }


INITIAL = {
    "dot": "r9 r10 r9 r11 r7 r11 r7",
    "raw": "r9 r10 r11 r7 r11 r7",
    "raw two": "r4 r6 r7 r9 r5 r11 r8 r10",
    "keys": "r9 r10 r11 r7 r11 r7",
    "keys two": "r4 r6 r7 r9 r5 r11 r8 r10",
    "context": "r7 r9 r7 r10 r9 r7 r11 r7 r11",
    "softmax": "r5 r5 r5 r5 r5 r6 r6 r6 r6 r6 r8 r8 r8 r8 r8 r9 r9 r9 r9 r9 r5 r8 r8 r8",
    "values": "r7 r9 r10 r9 r7 r11 r7 r11 r10 r9 r7 r11 r7 r11",
    "values two": "r4 r5 r6 r5 r7 r8 r6 r5 r9 r10",
}


def search(form: str, cpu: str, rounds: int, seed: int) -> tuple[list[float], Order]:
    """An order by annealing: cycles a pair by each of the CPU's rules."""
    rng, rules = random.Random(seed), rules_of(load_cpu(cpu))
    values = FORMS[form].held
    where = dict(zip(values, INITIAL[form].split(), strict=True))
    steps = [(value, 0) for value in FORMS[form].values]

    def taken(steps, where) -> list[float]:
        body = [parse(line) for line in block(form, where, steps, 4)]
        return [pipeline.cycles(rule, body) / 4 for rule in rules]

    def score(taken: list[float]) -> float:
        return max(taken) + 0.1 * sum(taken)

    now = taken(steps, where)
    best, best_taken, best_order = score(now), now, (list(steps), dict(where))
    current, heat = best, 0.6
    for _ in range(rounds):
        trial, places = list(steps), dict(where)
        for _ in range(rng.choice((1, 1, 2, 3))):
            value, ahead = trial.pop(rng.randrange(len(trial)))
            if value[0] != "m" and rng.random() < 0.25:
                ahead = 1 - ahead
            trial.insert(rng.randrange(len(trial) + 1), (value, ahead))
        if rng.random() < 0.25:
            places[rng.choice(values)] = rng.choice(FORMS[form].temporary)
        heat = max(0.03, heat * 0.99985)
        if not keeps_values(form, places, trial):
            continue
        now = taken(trial, places)
        if score(now) <= current or rng.random() < math.exp((current - score(now)) / heat):
            steps, where, current = trial, places, score(now)
            if current < best - 1e-6:
                best, best_taken, best_order = current, now, (list(steps), dict(where))
    steps, where = best_order
    sequence = " ".join(f"{'+' * ahead}{value}" for value, ahead in steps)
    return best_taken, Order("FOUND", form, cpu, " ".join(where[v] for v in values), sequence)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="print cycles a pair of columns by each model")
    parser.add_argument("--search", choices=FORMS, metavar="FORM", help=f"of {', '.join(FORMS)}")
    parser.add_argument("--target", default="cortex-m7", metavar="CPU", help="to search for; default: cortex-m7")
    parser.add_argument("--rounds", type=int, default=20000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--output", type=Path, default=HEADER, help="the header to write")
    options = parser.parse_args()
    if options.search:
        taken, order = search(options.search, options.target, options.rounds, options.seed)
        print(taken, f"{order.registers!r},\n{order.sequence!r}")
    elif options.check:
        lines = [("order", "CPU", "", "instructions", "models", "worst")]
        for order in ORDERS:
            for clean in (True, False):
                found = costs(order, clean)
                shown = "  ".join(f"{name} {cycles:.2f}" for name, cycles in sorted(found.items()))
                kind = "clean" if clean else "scheduled"
                worst = f"{max(found.values()):.2f}"
                instructions = f"{len(order.steps) / FORMS[order.form].pairs:g}"
                lines.append((order.name, order.cpu, kind, instructions, shown, worst))
        print(table(lines, right=(3, 5)))
    else:
        options.output.write_text(header())


if __name__ == "__main__":
    try:
        main()
    except EmbbertError as error:
        print(f"orders: {error}", file=sys.stderr)
        sys.exit(error.exit_status)
