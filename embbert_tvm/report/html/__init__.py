"""One self-contained HTML page of a package, or of several: what it is, what it takes, how it answers."""
