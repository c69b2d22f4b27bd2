"""Our scores beside the ones that papers report."""
