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
    for_run, for_other = st.columns(2)
    run = state.select(for_run, "Run", names, "run")
    other = state.select(for_other, "Against", names, "against", index=min(1, len(names) - 1))
    row = runs.set_index("run").loc[run]
    st.markdown(
        f"**{as_written(names[run])}** · {as_written(row.status)} · step {row.steps} · "
        f"{row.gpu_hours:.4g} GPU-hours · attempt {row.attempts} · {as_code(run)}"
    )
    differences, events, responses, command = st.tabs(
        ["Differences", "Events", "Responses", "Command"]
    )
    with differences:
        _differences(choice, run, other, names)
    with events:
        st.dataframe(records.events(choice.snapshot, run), hide_index=True)
    with responses:
        _responses(choice, run)
    with command:
        st.code(records.command(choice.snapshot, run) or "not started yet", wrap_lines=True)


def _differences(choice: Choice, run: str, other: str, names: dict[str, str]) -> None:
    if run == other:
        st.info("Choose another run to compare with.")
        return
    ours, theirs = (records.configuration(choice.snapshot, side) for side in (run, other))
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
    for_benchmark, for_fraction, for_verdict = st.columns(3)
    benchmarks = list(dict.fromkeys(points.benchmark))
    benchmark = for_benchmark.selectbox("Benchmark", benchmarks, key="of", bind="query-params")
    fractions = list(points[points.benchmark == (benchmark or benchmarks[0])].fraction)
    fraction = for_fraction.selectbox(
        "At", fractions, index=len(fractions) - 1, format_func="{:.0%} of the budget".format,
        key="at", bind="query-params",
    )  # fmt: skip
    verdict = state.select(for_verdict, "Verdict", {"": "any", **records.VERDICTS}, "verdict")
    fraction = fractions[-1] if fraction is None else fraction
    samples = records.samples(
        choice.snapshot, run, benchmark or benchmarks[0], fraction, verdict, SHOWN
    )
    st.caption(f"{len(samples)} responses; a few of each problem are kept in the database.")
    for sample in samples:
        with st.container(border=True):
            colour, word = _COLOURS[sample.verdict], records.VERDICTS[sample.verdict]
            gold = f" · expected {as_markdown(sample.gold)}" if sample.gold else ""
            st.markdown(f":{colour}[**{word}**] · {as_written(sample.problem)}{gold}")
            if sample.asked:
                st.markdown(as_markdown(sample.asked))
            st.markdown(as_markdown(sample.response))
