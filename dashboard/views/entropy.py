"""Entropy: what each arm did to it, to length and clipping, and how that went with the score."""

from __future__ import annotations

import streamlit as st

from dashboard import charts, queries, scores, state
from dashboard.state import Choice
from suite.metrics import ENTROPY_VIEW, drawn_by, heading
from suite.report.alarms import COLLAPSE, EXPLOSION, TRUNCATION


def show() -> None:
    """Draw it."""
    state.page(_body)


def _body(choice: Choice) -> None:
    state.alarms(choice)
    st.caption(
        f"Alarms: entropy of the last quarter of the steps below {COLLAPSE:.0%} of the "
        f"first step's (collapse) or above {EXPLOSION:.0%} (explosion); more than "
        f"{TRUNCATION:.0%} of the responses truncated; a gradient that is plain GRPO's."
    )
    arms = list(dict.fromkeys(queries.runs(choice.snapshot, choice.matrix).arm))
    for_axis, for_arms = st.columns([2, 3])
    axis = state.select(for_axis, "Against", queries.AXES, "axis")
    shown = state.choose_arms(for_arms, arms, "traced")
    look = charts.Look(queries.arms(choice.snapshot))
    _traces(choice, axis, shown, look)
    if choice.benchmark:
        _against_score(choice, shown, look)


def _traces(choice: Choice, axis: str, shown: list[str], look: charts.Look) -> None:
    names = drawn_by(ENTROPY_VIEW, queries.metrics(choice.snapshot, choice.matrix))
    data = queries.traces(choice.snapshot, choice.matrix, tuple(names), axis, choice.model)
    data = data[data.arm.isin(shown)]
    if data.empty:
        st.info("No step has been trained yet.")
        return
    look.legend(shown)
    columns = st.columns(2)
    for place, name in enumerate(names):
        of_metric = data[data.metric == name]
        if of_metric.empty:
            continue
        title = heading(name)
        with columns[place % 2]:
            charts.show(
                charts.traces(of_metric, look, shown, queries.AXES[axis], title),
                of_metric,
                f"{choice.matrix}-{name.replace('/', '-')}",
                f"{title} of each arm over {queries.AXES[axis]}",
            )
    st.caption("Lines: means over seeds, each seed fainter; long runs in intervals of steps.")


def _against_score(choice: Choice, shown: list[str], look: charts.Look) -> None:
    st.subheader("Entropy against score")
    for_k, for_source = st.columns([2, 3])
    ks = scores.ks(choice.subject)
    k = for_k.selectbox("k of pass@k", ks, key="k", bind="query-params") or ks[0]
    sources = {"rollouts": "the policy's own rollouts", "probe": "the fixed probe"}
    source = state.select(for_source, "Entropy on", sources, "source")
    data = scores.entropy_and_score(choice.subject, choice.snapshot, k, source)
    data = data[data.arm.isin(shown)]
    if data.empty:
        st.info("No evaluation has an entropy of this kind.")
        return
    look.legend(shown)
    charts.show(
        charts.paths(data, look, shown, "entropy, nats a token", f"pass@{k}"),
        data,
        f"{choice.matrix}-entropy-against-pass-at-{k}",
        f"entropy against pass@{k} at each evaluation of each arm",
    )
    st.caption("A point an evaluation, larger as the budget is spent; means over seeds.")
