"""What a run traces is named in one place, and a slim export keeps what anything draws of it."""

import re

import duckdb
import pytest

from suite.metrics import ENTROPY_VIEW, FAMILIES, METRICS, drawn_by, heading, metric
from suite.spool import spool
from suite.store import Store, history
from suite.store.outside import NAMES
from suite.workspace import Workspace

STATE = "state/coefficient"  # AEnt's λ


@pytest.fixture
def slim(cells, tmp_path):
    """The metrics in the traces and the last values of a slim export of a run that traced all."""
    names = [*METRICS, *(f"{prefix}x" for prefix in FAMILIES), STATE, "another/trainer's"]
    workspace = Workspace(tmp_path / "runs.db")
    cell, *_ = cells()
    store = Store(workspace)
    store.register([cell])
    writer = spool.Spool(spool.path_of(workspace.cell(cell.id), 1))
    writer.write("trace", attempt=1, step=1, **dict.fromkeys(names, 0.5))
    writer.close()
    store.ingest(cell.id)
    store.close()
    history.export(workspace.db, tmp_path / "slim", only_counts=True)
    files = [tmp_path / "slim" / f"{table}.parquet" for table in ("traces", "latest")]
    tables = [duckdb.sql(f"SELECT metric FROM '{file}'").fetchall() for file in files]
    return [{name for (name,) in rows} for rows in tables]


def test_slim_keeps_exactly_what_is_drawn(slim):
    drawn = {name for name, m in METRICS.items() if m.drawn_by}
    drawn |= {f"{prefix}x" for prefix, family in FAMILIES.items() if family.drawn_by} | {STATE}
    assert slim == [drawn, drawn]


def test_what_queries_of_reports_and_pages_ask_for_is_there_and_kept(repo):
    """Metrics are named in SQL: each is one of METRICS, and a slim export has it."""
    asked = set()
    for folder in ("suite/report", "dashboard"):
        for path in (repo / folder).rglob("*.py"):
            text = path.read_text()
            asked |= set(re.findall(r"metric = '([\w/]+)'", text))
            for several in re.findall(r"metric IN \(([^)]*)\)", text):
                asked |= set(re.findall(r"'([\w/]+)'", several))
            asked |= {f"{prefix}x" for prefix in re.findall(r"metric LIKE '([\w/]+)%'", text)}
    assert {"entropy", "response_length", "budget_fraction", "seconds/x"} <= asked
    for name in asked:
        declared = metric(name)
        assert declared and declared.slim, name


def test_a_controllers_state_is_drawn_under_its_own_name():
    there = ["entropy", "kl_old", STATE, "reward", "seconds/update", "theirs"]
    assert drawn_by(ENTROPY_VIEW, there) == ["entropy", "reward", STATE]
    assert heading(STATE) == "controller: coefficient"
    assert heading("entropy") == "entropy, nats a token" and heading("theirs") == "theirs"


def test_logs_of_other_trainers_are_translated_to_names_that_there_are():
    assert set(NAMES.values()) <= METRICS.keys()
