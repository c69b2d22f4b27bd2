"""pass@k: reach over k, and where an arm falls below the model that it started from."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pandas as pd
import streamlit as st

from dashboard import charts, queries, scores, state
from dashboard.state import Choice
from dashboard.text import show_notes, show_table

BASE = "base model"


def show() -> None:
    """Draw it."""
    state.page(_body, needs_scores=True)


def _body(choice: Choice) -> None:
    data = scores.pass_curves(choice.subject)
    names = list(dict.fromkeys(data.arm))
    shown = state.choose_arms(st.container(), names, "curves")
    samples = int(data.k.max())
    far = max((k for k in data.k if 4 * k <= samples), default=1)
    curves = data[data.arm.isin(shown)]
    if not curves.empty:
        look = charts.Look(queries.arms(choice.snapshot))
        look.legend(shown)
        charts.show(
            charts.pass_curves(curves, look, shown),
            curves,
            f"{choice.matrix}-pass-at-k",
            "pass@k of each arm and of the base model over k",
        )
    _against_base(data, shown, scores.base_verdicts(choice.subject, far), far)
    st.caption(
        f"At the last evaluation, {samples} samples a problem. Bands: 95 % intervals. Crossings "
        f"are those of the mean curves below k = n; the paired comparison says what is shown. "
        f"pass@{samples} is k = n: a coin flip per problem at the margin."
    )
    wide = curves.pivot(index="arm", columns="k", values="score").reindex(shown)
    wide.columns = [f"pass@{k}" for k in wide.columns]
    show_table(wide.map("{:.3f}".format), index=True)


def _against_base(data: pd.DataFrame, shown: list[str], verdicts: dict[str, str], far: int) -> None:
    """A line an arm that is shown: where its curve meets the base model's."""
    lines = [
        f"{text}; at pass@{far}: {verdicts.get(arm, 'not compared')}."
        for arm, text in crossings(data).items()
        if arm in shown
    ]
    if lines:
        show_notes(lines)
    elif BASE not in set(data.arm):
        st.info(
            "The base model was not scored: put 0 into `evaluate.at` to see where arms cross it."
        )
    elif data.arm.nunique() == 1:
        st.info("Only the base model has been scored so far.")


def crossings(data: pd.DataFrame) -> dict[str, str]:
    """Where the mean curve of each arm meets the base model's; data: arm, k, score.

    k = n is left out, where a curve is a coin flip per problem.
    """
    inside = data[data.k < data.k.max()]
    base = inside[inside.arm == BASE].set_index("k").score
    if base.empty:
        return {}
    return {
        arm: f"{arm} {_crossing(curve.set_index('k').score - base)}"
        for arm, curve in inside[inside.arm != BASE].groupby("arm", sort=False)
    }


def _crossing(difference: pd.Series) -> str:
    """In words: the first k at which the difference changes sign, interpolated in log k."""
    gap, k = difference.to_numpy(), difference.index.to_numpy(dtype=float)
    apart = np.flatnonzero(gap)
    turns = [(i, j) for i, j in pairwise(apart) if (gap[i] > 0) != (gap[j] > 0)]
    if not turns:
        side = "equals" if not len(apart) else "stays above" if gap[apart[0]] > 0 else "stays below"
        return f"{side} the base model up to k = {k[-1]:.0f}"
    i, j = turns[0]
    share = gap[i] / (gap[i] - gap[j])
    crossing = k[i] * (k[j] / k[i]) ** share
    way = "falls below" if gap[i] > 0 else "rises above"
    return f"{way} the base model at k ≈ {crossing:.0f}"
