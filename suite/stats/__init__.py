"""The statistics behind every reported number, under one roof.

Small pure functions on arrays, numpy and scipy only, the random generator always passed in; each
cites its source and says where it departs from it. They live in the files beside this one: what n
samples say of k (`passk`), intervals (`intervals`), arms against each other (`comparison`), and
pass@k beyond the samples drawn, an estimate (`prediction`). Left out: rliable (its 1.2 ignores the
random state it is given).
"""

from suite.stats.comparison import (
    Comparison,
    compare_arms,
    holm,
    interquartile_interval,
    interquartile_mean,
    minimum_detectable_effect,
    probability_of_improvement,
)
from suite.stats.intervals import (
    Difference,
    Interval,
    hierarchical_interval,
    mean_interval,
    paired_bootstrap,
    sampling_interval,
)
from suite.stats.passk import majority_at_k, mean_at_n, pass_at_k, pass_curve, pass_hat_k
from suite.stats.prediction import Estimated, predict_pass_at_k

__all__ = [
    "Comparison",
    "Difference",
    "Estimated",
    "Interval",
    "compare_arms",
    "hierarchical_interval",
    "holm",
    "interquartile_interval",
    "interquartile_mean",
    "majority_at_k",
    "mean_at_n",
    "mean_interval",
    "minimum_detectable_effect",
    "paired_bootstrap",
    "pass_at_k",
    "pass_curve",
    "pass_hat_k",
    "predict_pass_at_k",
    "probability_of_improvement",
    "sampling_interval",
]
