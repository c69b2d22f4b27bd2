"""The lab's pictures: a metric along training, or a measure of each arm, as PNG and SVG."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from suite.lab.outcome import LabOutcome, mean_and_error
from suite.lab.report import measure_text
from suite.lab.schema import Measure, Plot

SIZE = (7.0, 4.2)  # inches
DPI = 150


def draw(outcome: LabOutcome, folder: Path) -> list[Path]:
    """Every plot of the experiment below `folder`; the files that were written."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    folder.mkdir(parents=True, exist_ok=True)
    written = []
    with matplotlib.rc_context({"svg.hashsalt": outcome.experiment.name}):
        for plot in outcome.experiment.file.plots:
            figure, axes = plt.subplots(figsize=SIZE, layout="constrained")
            (_curves if plot.kind == "curves" else _points)(axes, outcome, plot)
            axes.set_title(f"{plot.title}\n{outcome.experiment.seeds} seeds, band: ± s.e.", size=10)
            slug = re.sub(r"[^a-z0-9]+", "-", plot.title.lower()).strip("-")
            for kind in ("png", "svg"):
                path = folder / f"{outcome.experiment.name}-{slug}.{kind}"
                figure.savefig(path, dpi=DPI, metadata={"Date": None} if kind == "svg" else None)
                written.append(path)
            plt.close(figure)
    return written


def _names(outcome: LabOutcome, plot: Plot) -> list[str]:
    return plot.arms or [arm.name for arm in outcome.experiment.arms]


def _curves(axes: Any, outcome: LabOutcome, plot: Plot) -> None:
    """The mean over seeds of a metric at each traced iteration, with a band of one s.e."""
    for name in _names(outcome, plot):
        curve = outcome.curves.get(name, {}).get(plot.metric)
        if curve is None:
            continue
        steps, values = curve
        mean, count = np.nanmean(values, 0), np.sum(~np.isnan(values), 0)
        variance = np.nansum((values - mean) ** 2, 0) / np.maximum(count - 1, 1)
        error = np.sqrt(variance / count)
        (line,) = axes.plot(steps, mean, label=name, linewidth=1.4)
        axes.fill_between(steps, mean - error, mean + error, color=line.get_color(), alpha=0.25)
    axes.set_xlabel("iteration")
    axes.set_ylabel(plot.metric)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7, framealpha=0.6)


def _points(axes: Any, outcome: LabOutcome, plot: Plot) -> None:
    """The measure of each arm with a bar of one s.e."""
    by_arm = {
        name: mean_and_error(values)
        for name in _names(outcome, plot)
        if (values := outcome.values(name, plot)) is not None
    }
    places = np.arange(len(by_arm))
    means, errors = np.array(list(by_arm.values())).reshape(-1, 2).T
    axes.errorbar(means, places, xerr=errors, fmt="o", capsize=3)
    axes.set_yticks(places, list(by_arm), fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel(measure_text(Measure(metric=plot.metric, at=plot.at)))
    axes.grid(alpha=0.3, axis="x")
