"""SQL: a question of one's own, in a process that can read this snapshot and do nothing else."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from dashboard import state
from dashboard.text import as_written
from suite.store import NoDatabase
from suite.store.sandbox import DRAWN, MEMORY, ROWS, SECONDS, QueryError, Result, query
from suite.store.views import VIEWS

EXAMPLES = {
    "score at equal cost": """SELECT arm, seed, k, round(score, 3) AS score,
       round(low, 3) AS low, round(high, 3) AS high
  FROM leaderboard ORDER BY k, score DESC""",
    "entropy along one arm": """SELECT step, arm, seed, value AS entropy
  FROM traces WHERE metric = 'entropy' ORDER BY arm, seed, step""",
    "where the GPU-hours went": """SELECT t.arm, metric,
       round(sum(value * gpus) / 3600, 4) AS gpu_hours
  FROM traces t JOIN runs USING (run) WHERE metric LIKE 'seconds/%'
 GROUP BY ALL ORDER BY t.arm, gpu_hours DESC""",
    "what failed, and why": """SELECT run, time, detail->>'error' AS error
  FROM events WHERE kind = 'failed' ORDER BY time DESC""",
}


def show() -> None:
    """Draw it. Asked on demand, not refreshed."""
    if not state.database().exists():
        state.nothing_yet()
        return
    st.selectbox("Example", list(EXAMPLES), key="example", on_change=_use_example)
    with st.form("ask", border=False):
        text = st.text_area(
            "One statement", next(iter(EXAMPLES.values())), height=160, key="sql",
            bind="query-params",
        )  # fmt: skip
        asked = st.form_submit_button("Run", type="primary")
    st.caption(
        f"Read-only, in a process of its own: at most {ROWS} rows of {DRAWN >> 20} MiB in all, "
        f"{SECONDS:g} s and {MEMORY >> 30} GiB. Views: {', '.join(VIEWS)}."
    )
    if asked or st.query_params.get("sql"):
        _answer(text or "")


def _use_example() -> None:
    example = st.session_state.get("example")
    if example:
        st.session_state["sql"] = EXAMPLES[example]


def _answer(text: str) -> None:
    try:
        result = query(state.database(), text)
    except (QueryError, NoDatabase) as error:
        st.error(as_written(str(error)))  # it may quote what the database holds
        return
    count = len(result.table)
    more = f", the first {ROWS} of more" if result.truncated else ""
    st.markdown(f"**{count} row{'' if count == 1 else 's'}**{more}")
    frame = _frame(result)
    st.dataframe(frame, hide_index=True)
    st.download_button(
        "CSV", frame.to_csv(index=False), file_name="query.csv", mime="text/csv", key="csv-query",
        on_click="ignore", type="tertiary",
    )  # fmt: skip


def _frame(result: Result) -> pd.DataFrame:
    """As pandas; a name that occurs twice is numbered."""
    seen: dict[str, int] = {}
    names = []
    for name in result.columns:
        seen[name] = seen.get(name, 0) + 1
        names.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return result.table.rename_columns(names).to_pandas()
