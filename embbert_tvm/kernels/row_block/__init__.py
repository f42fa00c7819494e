"""Kernels that work on a block of four rows at a time: a loop around a list of stages."""
