"""TIR to plain C: lowering, printing, the memory plan, the entry point, the package on disk."""
