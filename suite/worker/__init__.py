"""One process, one attempt at a run or at several that share a start of the stack."""
