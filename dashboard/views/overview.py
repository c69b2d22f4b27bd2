"""Overview: what to use, and how far every run is."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from dashboard import queries, scores, state
from dashboard.state import Choice
from dashboard.text import as_code, as_written, show_table
from suite.report.progress import seconds_left
from suite.text import compact, duration

_STATES = {
    "finished": ":green[✓ finished]",
    "running": ":blue[▶ {progress:.0%}]",
    "queued": "· queued",
    "interrupted": ":orange[‖ interrupted at {progress:.0%}]",
    "failed": ":red[✗ failed at {progress:.0%}]",
}


def show() -> None:
    """Draw it."""
    state.page(_body)


def _body(choice: Choice) -> None:
    runs = queries.runs(choice.snapshot, choice.matrix)
    top = st.container()  # filled last: its comparison takes seconds when a score is new
    _numbers(runs)
    st.subheader("Runs")
    st.table(grid(runs))
    st.caption(
        "A row an arm, a column a seed. Time left: at the pace so far, evaluations included; the "
        "last one as in the runs that have finished. "
        "GPU-hours: what was charged to the budget."
    )
    for row in runs[runs.status == "failed"].itertuples():
        why = as_written(f"{row.arm} (seed {row.seed}): {row.error or 'failed'}")
        st.error(f"{why} · {as_code(f'suite logs {row.run}')}")
    state.alarms(choice)
    with top:
        _headline(choice, runs)


def _headline(choice: Choice, runs: pd.DataFrame) -> None:
    if not choice.benchmark:
        st.info("Nothing has been scored yet: the advice comes with the first evaluations.")
        return
    advice, table, _ = scores.advice(choice.subject, "")
    st.markdown(f"### {as_written(advice[0])}")
    unfinished = int((runs.status != "finished").sum())
    early = f"Preliminary: {unfinished} of {len(runs)} runs are not finished. "
    st.markdown(as_written((early if unfinished else "") + " ".join(advice[1:])))
    if not table.empty:
        show_table(table)


def _numbers(runs: pd.DataFrame) -> None:
    done, running = ((runs.status == state).sum() for state in ("finished", "running"))
    columns = st.columns(4)
    columns[0].metric("Runs finished", f"{done} of {len(runs)}")
    columns[1].metric("Running", str(running))
    columns[2].metric("GPU-hours spent", compact(runs.gpu_hours.sum()))
    columns[3].metric("Time left, about", _left(runs))


def _left(runs: pd.DataFrame) -> str:
    rows = runs.astype(object).where(runs.notna(), None).to_dict("records")
    seconds = seconds_left(rows)
    if seconds is None:
        return "not yet"
    return duration(seconds) if seconds else "–"


def grid(runs: pd.DataFrame) -> pd.DataFrame:
    """Arms by seeds (and models where there are several), each run in a few words."""
    one_model = runs.model.nunique() == 1
    names = (runs.arm if one_model else runs.arm + " · " + runs.model).map(as_written)
    texts = pd.Series([_text(row) for row in runs.itertuples()], index=runs.index, dtype=str)
    table = pd.DataFrame({"arm": names, "seed": "seed " + runs.seed.astype(str), "text": texts})
    wide = table.pivot_table(
        index="arm", columns="seed", values="text", aggfunc="first", sort=False
    )
    wide.columns.name = None
    return wide.fillna("")


def _text(row: Any) -> str:
    """Of a named tuple as `runs.itertuples` gives it."""
    state = _STATES.get(row.status)
    words = [state.format(progress=row.progress) if state else as_written(row.status)]
    if row.status == "running" and not pd.isna(row.seconds_left):
        words.append(f"{duration(row.seconds_left)} left")
    if row.steps:
        words.append(f"step {row.steps}")
        words.append(f"{compact(row.gpu_hours)} GPU-h")
    return " · ".join(words)
