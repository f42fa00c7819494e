"""`python -m embbert_tvm`, which `torchrun -m` needs."""

from embbert_tvm.cli import main

main()
