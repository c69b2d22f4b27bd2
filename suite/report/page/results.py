"""RESULTS.md: a whole comparison in one page, every number of it from one database or export.

`suite results` writes it, and with --check says whether a page is still what the data says. The
prose that data cannot know (what it is, which settings were changed, what it cannot say) stands
beside the claims in their file. Nothing on the page depends on the machine or the day that wrote
it.
"""

from __future__ import annotations

import difflib
import os
from pathlib import Path

import numpy as np

from suite.report.page.figure import digest, draw
from suite.report.page.results_page import page
from suite.report.page.study import Study

# Writing and checking ---------------------------------------------------------------------------


def write(study: Study, out: Path, figure: Path) -> None:
    """The page and its picture."""
    for path in (out, figure):
        path.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(page(study, _link(out, figure)), encoding="utf-8")
    figure.write_text(draw(study.scores, _points(study)), encoding="utf-8")


def check(study: Study, out: Path, figure: Path) -> list[str]:
    """What of the page or the picture is not what the data says; nothing when all is."""
    wrong = []
    new = page(study, _link(out, figure)).splitlines()
    old = out.read_text(encoding="utf-8").splitlines() if out.exists() else []
    changed = [
        line
        for line in difflib.unified_diff(old, new, lineterm="", n=0)
        if line[:1] in "+-" and line[:3] not in ("+++", "---")
    ]
    wrong += [f"{out}: {line}" for line in changed]
    drawn = figure.read_text(encoding="utf-8") if figure.exists() else ""
    if digest(study.scores, _points(study)) not in drawn:
        wrong.append(f"{figure}: was drawn from other numbers")
    return wrong


def _points(study: Study) -> dict[str, float]:
    return {arm: float(np.mean(study.entropy(arm))) for arm in study.scores.names()}


def _link(out: Path, figure: Path) -> str:
    return Path(os.path.relpath(figure.resolve(), out.resolve().parent)).as_posix()
