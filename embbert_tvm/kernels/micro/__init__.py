"""C that kernels call: arithmetic, and one header of micro-kernels for each instruction set."""
