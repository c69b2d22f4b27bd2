"""Run: how one run differs from another, what happened to it, and what it said."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from dashboard import queries, records, state
from dashboard.maths import as_markdown
from dashboard.state import Choice
from dashboard.text import as_code, as_written, show_table

SHOWN = 40  # responses
_COLOURS = {"c": "green", "w": "red", "u": "orange", "t": "orange"}


def show() -> None:
    """Draw it."""
    state.page(_body)


def _body(choice: Choice) -> None:
    runs = queries.runs(choice.snapshot, choice.matrix)
    names = {row.run: f"{row.arm} (seed {row.seed})" for row in runs.itertuples()}
    if runs.model.nunique() > 1:
        names = {row.run: f"{names[row.run]} · {row.model}" for row in runs.itertuples()}
    left, right = st.columns(2)
    runs = list(names)
    run = left.selectbox("Run", runs, format_func=names.get, key="run", bind="query-params")
    other = right.selectbox(
        "Against", runs, index=min(1, len(runs) - 1), format_func=names.get, key="against",
        bind="query-params",
    )  # fmt: skip
    run, other = run or runs[0], other or runs[0]
    row = runs.set_index("run").loc[run]
    st.markdown(
        f"**{as_written(names[run])}** · {as_written(row.status)} · step {row.steps} · "
        f"{row.gpu_hours:.4g} GPU-hours · attempt {row.attempts} · {as_code(run)}"
    )
    differences, happened, said, ran = st.tabs(["Differences", "Events", "Responses", "Command"])
    with differences:
        _differences(choice, run, other, names)
    with happened:
        st.dataframe(records.events(choice.snapshot, run), hide_index=True)
    with said:
        _responses(choice, run)
    with ran:
        st.code(records.command(choice.snapshot, run) or "not started yet", wrap_lines=True)


def _differences(choice: Choice, run: str, other: str, names: dict[str, str]) -> None:
    if run == other:
        st.info("Choose another run to compare with.")
        return
    ours, theirs = (records.configuration(choice.snapshot, one) for one in (run, other))
    rows = [
        {"setting": name, names[run]: ours.get(name, "–"), names[other]: theirs.get(name, "–")}
        for name in dict.fromkeys([*ours, *theirs])
        if ours.get(name) != theirs.get(name)
    ]
    st.markdown(f"{len(rows)} of {len({*ours, *theirs})} settings differ.")
    if rows:
        show_table(pd.DataFrame(rows))


def _responses(choice: Choice, run: str) -> None:
    points = records.points(choice.snapshot, run)
    if points.empty:
        st.info("This run has not been evaluated yet.")
        return
    left, middle, right = st.columns(3)
    benchmarks = list(dict.fromkeys(points.benchmark))
    benchmark = left.selectbox("Benchmark", benchmarks, key="of", bind="query-params")
    fractions = list(points[points.benchmark == (benchmark or benchmarks[0])].fraction)
    fraction = middle.selectbox(
        "At", fractions, index=len(fractions) - 1, format_func="{:.0%} of the budget".format,
        key="at", bind="query-params",
    )  # fmt: skip
    verdict = right.selectbox(
        "Verdict", ["", *records.VERDICTS], format_func=lambda v: records.VERDICTS.get(v, "any"),
        key="verdict", bind="query-params",
    )  # fmt: skip
    fraction = fractions[-1] if fraction is None else fraction
    found = records.samples(
        choice.snapshot, run, benchmark or benchmarks[0], fraction, verdict or "", SHOWN
    )
    st.caption(f"{len(found)} responses; a few of each problem are kept in the database.")
    for sample in found:
        with st.container(border=True):
            colour, word = _COLOURS[sample.verdict], records.VERDICTS[sample.verdict]
            gold = f" · expected {as_markdown(sample.gold)}" if sample.gold else ""
            st.markdown(f":{colour}[**{word}**] · {as_written(sample.problem)}{gold}")
            if sample.asked:
                st.markdown(as_markdown(sample.asked))
            st.markdown(as_markdown(sample.response))
