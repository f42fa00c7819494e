"""Why an operator runs by the kernel that it has: what the compiler writes into a package and a report reads there."""

REQUESTED = "requested"
ROW_BY_ROW = "a row at a time"  # begins a reason; what stands in the way follows
