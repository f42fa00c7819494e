"""Cycles of a whole inference, by models of the pipelines: what QEMU counts, times what each basic block takes."""
