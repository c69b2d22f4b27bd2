"""Cost: what a score cost each arm, and where its GPU-hours went."""

from __future__ import annotations

import streamlit as st

from dashboard import charts, queries, scores, state
from dashboard.state import Choice
from dashboard.text import as_written, refuse_cost, show_notes, show_table
from suite.report.spending import UNITS
from suite.report.table import Report


def show() -> None:
    """Draw it."""
    state.page(_body)


def _body(choice: Choice) -> None:
    _phases(choice)
    if not choice.benchmark:
        st.info("What a score cost shows here once arms have been scored.")
        return
    unit = state.select(st.container(), "Cost in", UNITS, "cost")
    try:
        reports = scores.costs(choice.subject, unit)
    except ValueError as error:
        refuse_cost(error)
        return
    for number, report in enumerate(reports):
        _table(report, number)


def _phases(choice: Choice) -> None:
    data = queries.phases(choice.snapshot, choice.matrix, choice.model)
    if data.empty:
        st.info("No step has been trained yet.")
        return
    total = data.groupby("arm").gpu_hours.transform("sum")
    place = data.phase.map({name: i for i, name in enumerate(dict.fromkeys(data.phase))})
    data = data.assign(share=data.gpu_hours / total, place=place)
    st.subheader("Where the GPU-hours went")
    most = data.sort_values("share").iloc[-1]
    phase, arm = as_written(most.phase), as_written(most.arm)
    st.markdown(f"Most went into **{phase}**: {most.share:.0%} of {arm}'s.")
    charts.show(
        charts.shares(data),
        data.drop(columns="place"),
        f"{choice.matrix}-phases",
        "share of each phase in the charged GPU-hours of each arm",
        legend=True,
    )


def _table(report: Report, number: int) -> None:
    st.subheader(as_written(report.title))
    show_table(report)
    st.download_button(
        "CSV",
        report.csv(),
        file_name=f"{report.title}.csv",
        mime="text/csv",
        key=f"cost-{number}",
        on_click="ignore",
        type="tertiary",
    )
    with st.expander("Notes"):
        show_notes(report.notes)
