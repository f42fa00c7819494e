"""What every test needs before anything else is imported."""

import os

# On two cores PyTorch is twenty times faster with one thread, and pytest-xdist uses the other.
os.environ.setdefault("OMP_NUM_THREADS", "1")
