"""What workers write and the store reads: append-only lines, fenced by a lease."""
