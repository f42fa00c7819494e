"""Whether blocks of other than four rows, or columns outside of rows, would make the int8 kernels for the DSP extension
faster: instructions and llvm-mca's cycles of each inner loop.

    python benchmarks/row_blocks.py [--target CPU ...] [--json]

A step multiplies `rows` rows of 16-bit pairs by `columns` columns of weights, two of a row at a time. Weights come as
four int8 in a word, which two SXTB16 widen; or, with columns outside, were widened into RAM once for some rows.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass

from embbert_tvm.cycles.llvm_mca import Mca
from embbert_tvm.cycles.tool import find_mca
from embbert_tvm.errors import EmbbertError
from embbert_tvm.table import table
from embbert_tvm.target import load_cpu

CPUS = ("cortex-m4", "cortex-m7", "cortex-m33")
MACS = 16  # that figures are of: four rows, two columns, a pair
STEPS = 16  # between two branches
# Of two columns: LDR, two SXTB16 and STRD widen a word of weights.
WIDENING = ("ldr r9, [r12, #4]", "sxtb16 r10, r9, ror #8", "sxtb16 r9, r9", "strd r9, r10, [r11, #8]")
_SUMS = ("r0", "r1", "r2", "r3", "r4", "r5", "r6", "r8")


@dataclass(frozen=True)
class Tile:
    """rows by columns sums in registers. blocks: of rows for which weights are widened once; 0: in every step."""

    name: str
    rows: int
    columns: int
    blocks: int = 0

    def step(self, n: int, ldrd: bool) -> list[str]:
        """Its instructions in the order that embbert_dsp.h has them in: rows by LDRD, or words of rows and of weights
        in turns, which issue together with what lies between."""
        sums = iter(_SUMS)
        rows = ("r11", "r7")[: min(2, self.rows)]
        found: list[str] = []
        for column in range(0, self.columns, 2):
            weights = self._weights(self.columns // 2 * n + column // 2, ldrd)
            loads = _load(rows, "lr", 4 * self.rows * n, ldrd) if column == 0 else []
            for i in range(max(len(weights), len(loads))):
                found += weights[i : i + 1] + loads[i : i + 1]
            for row in range(self.rows):
                for by in ("r9", "r10"):
                    found.append("smlad {0}, {1}, {2}, {0}".format(next(sums), rows[row % len(rows)], by))
                offset = 4 * self.rows * n + 4 * (row + 2)
                if self.rows == 4 and ldrd and row == 1:
                    found += _load(rows, "lr", offset - 4, ldrd)
                elif self.rows == 4 and not ldrd and row < 2:
                    found += _load(rows[row : row + 1], "lr", offset, ldrd)
        return found

    def _weights(self, word: int, ldrd: bool) -> list[str]:
        """Weights of two columns, in R9 and R10."""
        if not self.blocks:
            return [f"ldr r9, [r12, #{4 * word}]", "sxtb16 r10, r9, ror #8", "sxtb16 r9, r9"]
        return _load(("r9", "r10"), "r12", 8 * word, ldrd)


def _load(to: tuple[str, ...], base: str, offset: int, ldrd: bool) -> list[str]:
    if ldrd and len(to) == 2:
        return [f"ldrd {to[0]}, {to[1]}, [{base}, #{offset}]"]
    return [f"ldr {register}, [{base}, #{offset + 4 * i}]" for i, register in enumerate(to)]


TILES = (
    Tile("four rows by two columns, as they are", 4, 2),
    Tile("two rows by four columns", 2, 4),
    Tile("two rows by two columns", 2, 2),
    Tile("one row by four columns", 1, 4),
    Tile("columns outside: widened once for 16 rows", 4, 2, 4),
    Tile("columns outside: widened once for the text", 4, 2, 16),
)


def measure(tile: Tile, target: str, mca: Mca) -> dict:
    """Instructions and cycles a MACS products, by the loads that take fewer cycles."""
    best = []
    for ldrd in (True, False):
        body = [line for n in range(STEPS) for line in tile.step(n, ldrd)]
        lines = [*body, "subs lr, lr, #1", "bne 1f", "1:"]
        share = MACS / (2 * tile.rows * tile.columns * STEPS)
        count, cycles = (len(lines) - 1) * share, _cycles(mca, lines[:-2]) * share
        if tile.blocks:
            once = [line for _ in range(STEPS) for line in WIDENING]
            count += len(WIDENING) / tile.blocks
            cycles += _cycles(mca, once) / STEPS / tile.blocks
        best.append((cycles, count, ldrd))
    cycles, count, ldrd = min(best)
    return {"target": target, "tile": tile.name, "ldrd": ldrd, "instructions": count, "cycles": cycles}


def _cycles(mca: Mca, lines: list[str]) -> float:
    block = tuple((4, line) for line in lines)
    return mca.cycles([block])[block]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--target", nargs="+", default=CPUS, metavar="CPU", help=f"default: {' '.join(CPUS)}")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    rows = []
    for target in options.target:
        cpu = load_cpu(target)
        mca = Mca(cpu, find_mca())
        rows += [measure(tile, target, mca) for tile in TILES]
        if mca.assumed:
            print(f"{target}: llvm-mca cannot be asked of {len(mca.assumed)} blocks", file=sys.stderr)
    if options.json:
        print(json.dumps({"macs": MACS, "rows": rows}))
        return
    heads = [f"{target} {what}" for target in options.target for what in ("instructions", "cycles")]
    lines = [(f"of {MACS} products", *heads)]
    for tile in TILES:
        found = [row for row in rows if row["tile"] == tile.name]
        lines.append((tile.name, *(f"{row[what]:.2f}" for row in found for what in ("instructions", "cycles"))))
    print(table(lines, right=tuple(range(1, len(heads) + 1))))


if __name__ == "__main__":
    try:
        main()
    except EmbbertError as error:
        print(f"row_blocks: {error}", file=sys.stderr)
        sys.exit(error.exit_status)
