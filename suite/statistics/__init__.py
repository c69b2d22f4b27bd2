"""The parts of suite.stats: estimates, intervals, comparisons, curves."""
