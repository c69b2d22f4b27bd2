"""Compare: scores at equal cost, and which differences are shown."""

from __future__ import annotations

import streamlit as st

from dashboard import charts, queries, scores, state
from dashboard.state import Choice
from dashboard.text import as_written, refuse_cost, show_notes, show_table
from suite.report.differences import baseline_of
from suite.report.spending import UNITS
from suite.report.table import Report


def show() -> None:
    """Draw it."""
    state.page(_body, needs_scores=True)


def _body(choice: Choice) -> None:
    ks = scores.ks(choice.subject)
    arms = scores.scored_arms(choice.subject)
    for_baseline, for_unit, for_arms = st.columns([2, 2, 3])
    default = arms.index(baseline_of(arms)) if arms else 0
    baseline = for_baseline.selectbox(
        "Baseline", arms, index=default, key="baseline", bind="query-params"
    )
    unit = state.select(for_unit, "Against", UNITS, "unit")
    shown = state.choose_arms(for_arms, arms, "arms")
    # A part that grows moves no other.
    verdicts, papers, curves, end = (st.container() for _ in range(4))
    with verdicts:
        _verdicts(choice, baseline, shown)
    with papers:
        _published(scores.beside_published(choice.subject))
    with curves:
        _curves(choice, unit, tuple(ks), shown)
    with end:
        _board(scores.leaderboard(choice.subject))


def _verdicts(choice: Choice, baseline: str, shown: list[str]) -> None:
    advice, table, notes = scores.advice(choice.subject, baseline)
    st.markdown(f"### {as_written(advice[0])}")
    st.markdown(as_written(" ".join(advice[1:])))
    if not table.empty:
        st.subheader(as_written(f"Less {baseline}'s score, on the same problems"))
        show_table(table[table.arm.isin(shown)])
        st.caption(as_written(" ".join(notes)))


def _published(reports: list[Report]) -> None:
    """Nothing for a matrix that repeats no table of a paper."""
    if not reports:
        return
    beside, settings = reports
    st.subheader("Beside what the paper reports")
    show_table(beside)
    st.caption(as_written(" ".join(beside.notes)))
    with st.expander(f"Settings that differ: {len(settings.texts())}"):
        if settings.texts():
            show_table(settings)
        show_notes(settings.notes)


def _board(board: Report) -> None:
    st.subheader("Scores at the end of the budget")
    show_table(board)
    with st.expander("Notes"):
        show_notes(board.notes)


def _curves(choice: Choice, unit: str, ks: tuple[int, ...], shown: list[str]) -> None:
    try:
        data = scores.score_curves(choice.subject, unit, ks)
    except ValueError as error:
        refuse_cost(error)
        return
    data = data[data.arm.isin(shown)]
    if data.empty:
        st.info("A curve needs two evaluations of an arm; the table above needs one.")
        return
    look = charts.Look(queries.arms(choice.snapshot))
    look.legend(shown)
    columns = st.columns(min(3, len(ks)))
    for place, k in enumerate(ks):
        with columns[place % len(columns)]:
            st.markdown(f"**pass@{k}**")
            at_k = data[data.k == k]
            charts.show(
                charts.score_curves(at_k, look, shown, UNITS[unit]),
                at_k,
                f"{choice.matrix}-pass-at-{k}-{unit}",
                f"pass@{k} of each arm over {UNITS[unit]}",
            )
    seeds = int(data.seeds.max())
    over = "problems" if seeds == 1 else f"problems and {seeds} seeds"
    st.caption(f"Lines: mean. Bands: 95 % interval over {over}.")
