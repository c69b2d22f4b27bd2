"""The picture of RESULTS.md: late entropy against pass@1 and pass@k of the largest k, as SVG.

The file carries a digest of the numbers it was drawn from, so that a check needs no second drawing:
the same numbers drawn by another version of matplotlib are other bytes.
"""

from __future__ import annotations

import hashlib
import json
from io import StringIO
from typing import Any

import numpy as np

from suite.report.differences import GRPO
from suite.report.scores import Scores

SIZE = (11.0, 5.6)  # inches
COLUMN = 1.03  # where the names stand, in widths of the axes
LABEL = 6.5  # points
LEADER = {
    **{"arrowstyle": "-", "color": "lightgrey", "linewidth": 0.5, "zorder": 0},
    **{"relpos": (0.0, 0.5), "shrinkA": 1.0},
}


def _numbers(scores: Scores, entropy: dict[str, float]) -> dict[int, dict[str, list[float]]]:
    """k -> arm -> [entropy, pass@k], of the smallest and the largest k."""
    ks = sorted({scores.ks[0], scores.ks[-1]})
    return {
        k: {arm: [nats, float(scores.values(arm, k).mean())] for arm, nats in entropy.items()}
        for k in ks
    }


def digest(scores: Scores, entropy: dict[str, float]) -> str:
    """Of what `draw` draws, rounded to what can be seen."""
    seen = {
        str(k): {arm: [f"{x:.4f}" for x in pair] for arm, pair in sorted(of_k.items())}
        for k, of_k in _numbers(scores, entropy).items()
    }
    return hashlib.sha256(json.dumps(seen, sort_keys=True).encode()).hexdigest()


def draw(scores: Scores, entropy: dict[str, float]) -> str:
    """SVG; entropy: the late entropy of each arm, nats."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    numbers = _numbers(scores, entropy)
    with matplotlib.rc_context({"svg.hashsalt": scores.matrix, "svg.fonttype": "none"}):
        figure, panels = plt.subplots(
            1, len(numbers), figsize=SIZE, layout="constrained", squeeze=False
        )
        for axes, (k, points) in zip(panels[0], numbers.items(), strict=True):
            _panel(axes, points)
            if scores.base:
                base = float(scores.values(None, k).mean())
                axes.axhline(base, color="grey", linestyle=":", linewidth=1)
            axes.set_xlabel("entropy, late (nats a token)")
            axes.set_ylabel(f"pass@{k}")
        out = StringIO()
        about = f"{scores.title}; dotted: the base model; numbers {digest(scores, entropy)}"
        figure.savefig(out, format="svg", metadata={"Date": None, "Description": about})
        plt.close(figure)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


def _panel(axes: Any, points: dict[str, list[float]]) -> None:
    """A dot an arm, its name in a column to the right in the same order from top to bottom."""
    names = sorted(points, key=lambda arm: -points[arm][1])
    for place, arm in zip(np.linspace(0.99, 0.01, len(names)), names, strict=True):
        axes.plot(*points[arm], "o", markersize=4, color="C3" if arm == GRPO else "C0")
        axes.annotate(
            arm,
            points[arm],
            xytext=(COLUMN, place),
            textcoords="axes fraction",
            fontsize=LABEL,
            verticalalignment="center",
            color="C3" if arm == GRPO else "black",
            arrowprops=LEADER,
        )
    axes.grid(alpha=0.3)
