"""CPUs and boards: what targets/cpus/*.yaml and targets/boards/*.yaml say, checked.

Everything known of a CPU or a board is data there. Code asks for features and figures, never for a name.
"""

from embbert_tvm.target.board import Board, BoardCaches, Power, Qemu, Region, RegisterStep, Uart, Watchdog
from embbert_tvm.target.cpu import ARCHS, FEATURES, HOST, Cpu, Feature, Llvm, Toolchain, with_implied
from embbert_tvm.target.load import board_of, known_boards, known_cpus, load_board, load_cpu

__all__ = [
    "ARCHS",
    "FEATURES",
    "HOST",
    "Board",
    "BoardCaches",
    "Cpu",
    "Feature",
    "Llvm",
    "Power",
    "Qemu",
    "Region",
    "RegisterStep",
    "Toolchain",
    "Uart",
    "Watchdog",
    "board_of",
    "known_boards",
    "known_cpus",
    "load_board",
    "load_cpu",
    "with_implied",
]
