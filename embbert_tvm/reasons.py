"""Why an operator runs by the kernel that it has: what the compiler writes into a package and a report reads there."""

REQUESTED = "requested"
MOVED = "moves what a kernel gives in float32"
IN_FLOAT_BY_RIGHT = (REQUESTED, MOVED)
ROW_BY_ROW = "a row at a time"  # begins a reason; what stands in the way follows
