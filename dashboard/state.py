"""What every view starts from: the database, the matrix and the benchmark that were chosen.

The choice lives in widgets that are bound to the address, so that a link leads to the same view.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from dashboard import queries, scores
from dashboard.queries import Snapshot
from dashboard.text import as_written, show_notes

REFRESH_SECONDS, RESTING_SECONDS = 1.0, 5.0  # between two drawings of a view
RESTS_AFTER = 30.0  # seconds without a new snapshot
ALARMS = 3  # that are seen at once


@dataclass(frozen=True)
class Choice:
    """The snapshot as it is now, and what is looked at; benchmark "" before the first score."""

    snapshot: Snapshot
    matrix: str
    benchmark: str
    model: str

    @property
    def subject(self) -> scores.Subject:
        """What scores are of, as the queries want it."""
        evaluated = scores.evaluated(self.snapshot, self.matrix)
        return scores.Subject(
            self.snapshot.path, self.matrix, self.benchmark, self.model, evaluated
        )


def database() -> Path:
    """The database that the command line named: `streamlit run dashboard/app.py -- --db PATH`."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--db", type=Path, default=Path("runs.db"))
    return parser.parse_args(sys.argv[1:]).db.absolute()


def choose() -> None:
    """The sidebar: which matrix, benchmark and model the views show."""
    snapshot = queries.snapshot(database())
    names = queries.matrices(snapshot) if snapshot else []
    if snapshot is None or not names:
        return
    with st.sidebar:
        matrix = st.selectbox("Matrix", names, key="matrix", bind="query-params")
        subjects = queries.subjects(snapshot, matrix or names[0])
        if len(subjects) > 1:
            labels = [f"{benchmark} · {model}" for benchmark, model in subjects]
            st.selectbox("Benchmark", labels, key="benchmark", bind="query-params")


def choice(snapshot: Snapshot | None) -> Choice | None:
    """What is chosen, of a snapshot; None while there is nothing to show."""
    names = queries.matrices(snapshot) if snapshot else []
    if snapshot is None or not names:
        return None
    matrix = st.session_state.get("matrix")
    matrix = matrix if matrix in names else names[0]
    subjects = queries.subjects(snapshot, matrix)
    label = st.session_state.get("benchmark")
    benchmark, model = next(
        (pair for pair in subjects if " · ".join(pair) == label),
        subjects[0] if subjects else ("", ""),
    )
    return Choice(snapshot, matrix, benchmark, model)


def page(body: Callable[[Choice], None], needs_scores: bool = False) -> None:
    """Draw a view and keep it up to date; without data, say what to do instead."""
    resting = _resting(queries.snapshot(database()))

    @st.fragment(run_every=RESTING_SECONDS if resting else REFRESH_SECONDS)
    def draw() -> None:
        snapshot = queries.snapshot(database())
        now = choice(snapshot)
        if _appeared(now) or _resting(snapshot) != resting:
            st.rerun()
        if now is None:
            nothing_yet()
        elif needs_scores and not now.benchmark:
            st.info("No arm has been scored yet. The first evaluation of a run shows here.")
        else:
            body(now)

    draw()


def choose_arms(place: DeltaGenerator, names: list[str], key: str) -> list[str]:
    """Which of the arms are shown: all at first, and while all are, one that comes later too."""
    before: list[str] = st.session_state.get(f"_{key}") or []
    selected: list[str] = st.session_state.get(key) or []
    follows = bool(before) and before != names and set(before) <= set(selected)
    if follows:
        st.session_state[key] = names
    st.session_state[f"_{key}"] = names
    default = None if follows else names  # the state says it
    shown = place.multiselect("Arms", names, default=default, key=key, bind="query-params")
    return [name for name in names if name in shown]


def select(
    place: DeltaGenerator, label: str, titles: Mapping[str, str], key: str, index: int = 0
) -> str:
    """One of some names, each shown by its title, and bound to the address."""
    names = list(titles)
    name = place.selectbox(
        label, names, index=index, format_func=lambda name: titles.get(name, name), key=key,
        bind="query-params",
    )  # fmt: skip
    return name or names[0]


def _resting(snapshot: Snapshot | None) -> bool:
    """Whether nothing has been published for a while: to draw is work, for both sides."""
    return snapshot is not None and time.time() - snapshot.modified / 1e9 > RESTS_AFTER


def alarms(choice: Choice) -> None:
    """What looks wrong with the matrix; behind a fold what would push the view off the screen."""
    texts = queries.alarms(choice.snapshot, choice.matrix)
    for text in texts[:ALARMS]:
        st.warning(as_written(text))
    if more := texts[ALARMS:]:
        with st.expander(f"{len(more)} more alarms"):
            show_notes(more)


def nothing_yet() -> None:
    """What to do about a database that is missing or empty."""
    path = database()
    snapshot = queries.snapshot(path)
    if snapshot and queries.outdated(snapshot):
        st.info(
            f"`{path.name}` was written by an earlier version. This brings it up to date:\n\n"
            f"```\nsuite db compact --db {path}\n```"
        )
        return
    state = "has no runs of a matrix yet" if snapshot else "does not exist yet"
    st.info(
        f"`{path.name}` {state}. Start some and they show here while they train:\n\n"
        f"```\nsuite run matrix.yaml --db {path}\n```\n\n"
        "`suite plan matrix.yaml` says beforehand what that will cost."
    )


def _appeared(now: Choice | None) -> bool:
    """Whether the sidebar does not know a matrix or a benchmark that is there."""
    seen = now and (
        now.matrix,
        *queries.matrices(now.snapshot),
        *queries.subjects(now.snapshot, now.matrix),
    )
    before = st.session_state.get("_seen", seen)
    st.session_state["_seen"] = seen
    return before != seen
