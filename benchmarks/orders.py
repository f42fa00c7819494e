"""Orders of the instructions of the SMLAD tile, and the header that they are written to.

    python benchmarks/orders.py                     write kernels/micro/embbert_dsp_orders.h
    python benchmarks/orders.py --check             say what each order takes, clean and scheduled, by every model
    python benchmarks/orders.py --search dot --target cortex-m7 [--rounds 20000] [--seed 0]

inner_loops.py has the clean text of each loop: what it computes for one or two pairs of columns, a value a line.
An order says in which sequence, and what of the next is begun meanwhile (`+`). The search moves instructions, keeps
every value in its register until it has been used, and takes what the worst of the CPU's rules (cycles/rules.py) makes
fastest. It stands for SLOTHY, whose models have no SXTB16.
"""

from __future__ import annotations

import argparse
import math
import random
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from inner_loops import INITIAL, INNER_LOOPS, ORDERS, Order

from embbert_tvm.cycles import pipeline
from embbert_tvm.cycles.instruction import parse
from embbert_tvm.cycles.model import model_of, rules_of
from embbert_tvm.errors import EmbbertError
from embbert_tvm.kernels import micro
from embbert_tvm.table import table
from embbert_tvm.target import load_board, load_cpu

HEADER = Path(micro.__file__).with_name("embbert_dsp_orders.h")
PAIRS = 8  # of a loop that is weighed

_NAMED = re.compile(r"%([a-z]+\d?)")


def text_of(loop: str, where: Mapping[str, str], value: str, n: str) -> str:
    """An instruction for pair `n`, whose places are written as the macros have them."""
    line = _NAMED.sub(lambda m: where[m[1]], INNER_LOOPS[loop].values[value])
    base = "sp" if INNER_LOOPS[loop].on_stack else "lr"
    line = re.sub(
        r"\{a(\d+)\}", lambda m: f"[{base}, #{INNER_LOOPS[loop].left * INNER_LOOPS[loop].pairs}*({n})+{m[1]}]", line
    )
    return re.sub(r"\{b(\d?)\}", lambda m: INNER_LOOPS[loop].place(int(m[1] or 0)).replace("N", n), line)


def keeps_values(loop: str, where: Mapping[str, str], steps: Sequence[tuple[str, int]], rounds: int = 3) -> bool:
    """Whether every instruction finds the values that it reads, of its own pair, in their registers."""
    held: dict[str, tuple[str, int]] = {}

    def runs(value: str, n: int) -> bool:
        read = _NAMED.findall(INNER_LOOPS[loop].values[value])
        if value[0] != "m":
            read.remove(value)
        if any(held.get(where[name]) != (name, n) for name in read):
            return False
        if value[0] != "m":
            held[where[value]] = (value, n)
        return True

    before = all(runs(value, 0) for value, ahead in steps if ahead)
    return before and all(runs(value, n + ahead) for n in range(rounds) for value, ahead in steps)


def block(loop: str, where: Mapping[str, str], steps: Sequence[tuple[str, int]], pairs: int = PAIRS) -> list[str]:
    """So many pairs as a loop's body with numbers for its places."""
    turns = range(pairs // INNER_LOOPS[loop].pairs)
    lines = [text_of(loop, where, value, str(n + ahead)) for n in turns for value, ahead in steps]
    lines = [
        line.replace("%[stride]", "#256").replace("%c[stride]", "256").replace("%c[next]", "256") for line in lines
    ]
    return [re.sub(r"#([\d*()+]+)", lambda m: f"#{_sum_of_products(m[1])}", line) for line in lines]


def _sum_of_products(text: str) -> int:
    return sum(math.prod(int(word.strip("()")) for word in part.split("*")) for part in text.split("+"))


def _quoted(lines: Sequence[str]) -> str:
    """Lines as a C string whose numbers are macro arguments: `n` is spelled #n."""
    spelled = " ".join(f"{line}\\n" for line in lines)
    return '"' + spelled.replace("@n", '" #n "').replace("@steps", '" #steps "').replace('"" ', "") + '"'


def tail(order: Order) -> list[str]:
    """The last pair between two branches: nothing is begun, the pointers move on, if any, and R12 meets the end."""
    now = [value for value, ahead in order.steps if not ahead]
    lines = [text_of(order.loop, order.where, value, "@steps-1") for value in now]
    loop = INNER_LOOPS[order.loop]
    if loop.on_stack:
        return lines
    loads = [i for i, value in enumerate(now) if "{" in loop.values[value]]
    # A register that nothing reads any more holds the end.
    last_use = {
        r: max((i for i, line in enumerate(lines) if re.search(rf"\b{r}\b", line)), default=0) for r in loop.temporary
    }
    free = min(loop.temporary, key=lambda r: (max(last_use[r], loads[-1] if loads else 0), r))
    moves = [
        f"add r12, r12, {loop.step}*@steps",
        f"add lr, lr, #{loop.left * loop.pairs}*@steps",
    ]
    at = (loads[-1] if loads else 0) + 2
    for offset, move in enumerate(moves):
        lines.insert(min(len(lines), at + 2 * offset), move)
    end = max(i for i, line in enumerate(lines) if re.search(rf"\b{free}\b", line)) + 1
    lines.insert(end, f"ldr {free}, END")
    return [*lines, f"cmp r12, {free}"]


def macros(order: Order) -> str:
    begun = [text_of(order.loop, order.where, value, "0") for value, ahead in order.steps if ahead]
    step = [text_of(order.loop, order.where, value, "@n+1" if ahead else "@n") for value, ahead in order.steps]
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
        " * clean text of each. START loads what the first pair needs; STEP(n) is pair n of a round and begins the\n"
        " * next; LAST ends a round of `steps` pairs, moves R12 and LR on and compares R12 with what lies at `end`. */",
        "#ifndef EMBBERT_DSP_ORDERS_H\n#define EMBBERT_DSP_ORDERS_H",
        "/* clang-format off */",
        *(wrapped(macros(order)) for order in ORDERS),
        "/* clang-format on */\n#endif\n",
    ]
    return "\n\n".join(parts)


def costs(order: Order, clean: bool) -> dict[str, float]:
    """Cycles of a pair by each model. clean: of the loop as it is written, each value in the same register."""
    loop = INNER_LOOPS[order.loop]
    if clean:
        steps, where = [(value, 0) for value in loop.values], dict(order.where)
        if not keeps_values(order.loop, where, steps):
            where = dict(zip(loop.held, INITIAL[order.loop].split(), strict=True))
    else:
        steps, where = order.steps, order.where
    cpu = load_cpu(order.cpu)
    assert cpu.emulation_board
    body = tuple((4, line) for line in block(order.loop, where, steps))
    return {
        name: cycles / PAIRS
        for name, cycles in model_of(cpu, load_board(cpu.emulation_board)).each([body])[body].items()
    }


def search(loop: str, cpu: str, rounds: int, seed: int) -> tuple[list[float], Order]:
    """An order by annealing: cycles a pair by each of the CPU's rules."""
    rng, rules = random.Random(seed), rules_of(load_cpu(cpu))
    values = INNER_LOOPS[loop].held
    where = dict(zip(values, INITIAL[loop].split(), strict=True))
    steps = [(value, 0) for value in INNER_LOOPS[loop].values]

    def taken(steps, where) -> list[float]:
        body = [parse(line) for line in block(loop, where, steps, 4)]
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
            places[rng.choice(values)] = rng.choice(INNER_LOOPS[loop].temporary)
        heat = max(0.03, heat * 0.99985)
        if not keeps_values(loop, places, trial):
            continue
        now = taken(trial, places)
        if score(now) <= current or rng.random() < math.exp((current - score(now)) / heat):
            steps, where, current = trial, places, score(now)
            if current < best - 1e-6:
                best, best_taken, best_order = current, now, (list(steps), dict(where))
    steps, where = best_order
    sequence = " ".join(f"{'+' * ahead}{value}" for value, ahead in steps)
    return best_taken, Order("FOUND", loop, cpu, " ".join(where[v] for v in values), sequence)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="print cycles a pair of columns by each model")
    parser.add_argument("--search", choices=INNER_LOOPS, metavar="LOOP", help=f"of {', '.join(INNER_LOOPS)}")
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
                instructions = f"{len(order.steps) / INNER_LOOPS[order.loop].pairs:g}"
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
