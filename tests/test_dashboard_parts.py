"""Parts of the dashboard that need no browser: responses as maths, looks of arms, long curves."""

import itertools
import json
import math
import sys
import time
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from benchmarks.catalogue import content_digest
from dashboard import charts, queries, records
from dashboard.maths import as_markdown
from dashboard.views.pass_at_k import crossings
from suite.cli import viewer
from suite.matrix.expand import load_cells
from suite.matrix.shrink import shrunk
from suite.report.papers.published import PUBLISHED
from suite.spool.spool import Spool
from suite.store import Store, connect, outside
from suite.workspace import Workspace
from tests.test_against import database


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (r"so \boxed{12}", r"so $\boxed{12}$"),
        (r"\boxed{\frac{1}{2}} it is", r"$\boxed{\frac{1}{2}}$ it is"),
        (r"we get $x_1 = 2$ and \(y\)", r"we get $x_1 = 2$ and $y$"),
        ("\\[\na + b\n\\]", "$$a + b$$"),
        (r"cut off: \boxed{12", r"cut off\: \\boxed\{12"),
        ("costs $5", r"costs \$5"),
        ("$5 and $7 is $12, not $3/$4", r"\$5 and \$7 is \$12, not \$3\/\$4"),
        (r"it is $7$.", r"it is $7$\."),
        ("![x](http://evil/x.png)", r"\!\[x\]\(http\:\/\/evil\/x\.png\)"),
        ("# no heading\n<b>", "\\# no heading  \n\\<b\\>"),
    ],
)
def test_maths_is_maths_and_the_rest_is_text(said, shown):
    assert as_markdown(said) == shown


@pytest.mark.alone
def test_what_is_never_closed_is_not_looked_through_again_and_again():
    began = time.monotonic()
    for opened in (r"\[ ", r"\boxed{", r"\( ", "$x"):
        as_markdown(opened * 4000)
    assert time.monotonic() - began < 5


def _linear(colour):
    rgb = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


# Machado, Oliveira and Fernandes 2009, severity 1.0: linear RGB as protanopes, deuteranopes and
# tritanopes see it.
BLINDNESS = {
    "protan": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
    "deutan": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
    "tritan": [[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]],
    "none": np.eye(3).tolist(),
}


def _lab(linear):
    to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    xyz = np.array(to_xyz) @ np.clip(linear, 0, 1) / [0.9505, 1.0, 1.089]
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("eyes", BLINDNESS)
def test_the_colours_differ_for_all_eyes(eyes):
    """In CIE Lab; 2.3 is a just noticeable difference (Mahy et al. 1994), here four of them."""
    seen = [_lab(np.array(BLINDNESS[eyes]) @ _linear(c)) for c in (*charts.HUES, charts.GREY)]
    assert min(math.dist(a, b) for a, b in itertools.combinations(seen, 2)) > 10


def test_an_arm_keeps_its_look_whatever_is_shown_beside_it():
    arms = ["grpo", *(f"arm{i}" for i in range(36))]
    look = charts.Look(arms)
    for of in (look.dash, look.shape):  # of lines, and of points
        assert len({(look.colour(arm), str(of(arm))) for arm in arms}) == len(arms)
    assert look.colour("grpo") == look.colour("base model") == charts.GREY
    later = charts.Look([*arms, "newer"])
    assert [later.colour(arm) for arm in arms] == [look.colour(arm) for arm in arms]


def test_where_curves_cross_is_told_in_k():
    """One falls from 0.5 to 0.5 over the base's 0.4 to 0.6: half way between 2 and 4 in log k."""
    data = pd.DataFrame(
        {
            "arm": np.repeat(["base model", "flat", "high", "touching", "same"], 4),
            "k": [1, 2, 4, 8] * 5,
            "score": [
                *(0.3, 0.4, 0.6, 0.9),
                *(0.5, 0.5, 0.5, 0.5),
                *(0.7, 0.7, 0.7, 0.7),
                *(0.4, 0.4, 0.5, 0.5),
                *(0.3, 0.4, 0.6, 0.8),
            ],
        }
    )
    assert crossings(data) == {
        "touching": "touching falls below the base model at k ≈ 2",
        "same": "same equals the base model up to k = 4",
        "flat": "flat falls below the base model at k ≈ 3",
        "high": "high stays above the base model up to k = 4",
    }


@pytest.fixture
def long_run(tmp_path):
    """3000 steps of two metrics, taken in by the store."""
    (tmp_path / "m.yaml").write_text(
        "name: m\nmodel: arithmetic-tiny\nbudget: {steps: 3000}\narms: {grpo: {}}\n"
    )
    workspace = Workspace(tmp_path / "runs.db")
    (cell,) = load_cells(tmp_path / "m.yaml")
    store = Store(workspace)
    store.register([cell])
    writer = Spool(workspace.cell(cell.id) / "attempt-001.jsonl")
    for step in range(1, 3001):
        collapsing = max(1.0 - step / 1500, 0.01)
        writer.write(
            "trace", attempt=1, step=step, entropy=collapsing, tokens=10 * step, truncated=0.5
        )
    store.ingest(cell.id)
    store.close()
    return queries.snapshot(workspace.db)


def test_time_left_counts_the_evaluation_after_the_last_step(tmp_path):
    """A second a step of ten; the cell that has finished took 7.5 s after its last."""
    (tmp_path / "m.yaml").write_text(
        "name: m\nmodel: arithmetic-tiny\nbudget: {steps: 10}\nseeds: [0, 1, 2]\narms: {grpo: {}}\n"
    )
    workspace = Workspace(tmp_path / "runs.db")
    cells = load_cells(tmp_path / "m.yaml")
    store = Store(workspace)
    store.register(cells)
    rows = []
    for cell, steps in zip(cells, (10, 4, 0), strict=True):
        for step in range(1, steps + 1):
            numbers = {"time": 100.0 + step, "attempt_seconds": 5.0 + step}
            rows.append({"kind": "trace", "step": step, "budget_fraction": step / 10, **numbers})
        if steps == 10:
            rows.append({"kind": "finished", "time": 117.5, "attempt_seconds": 22.5})
        store._intake.take(cell.id, 1, rows)
        store._db.execute("UPDATE data.runs SET attempts = 1 WHERE run = ?", [cell.id])
        rows = []
    store.close()
    found = queries.recorded(queries.snapshot(workspace.db), "m")
    assert list(found.seconds[:2]) == pytest.approx([17.5, 17.5]) and np.isnan(found.seconds[2])
    assert list(found.seconds_left[:2]) == pytest.approx([7.5, 13.5])


def test_responses_stand_beside_the_problems_that_were_asked(tmp_path):
    """Not beside those of another edition under the same name, nor of a file of other columns."""
    ours, theirs = ([{"id": "p0", "problem": f"{n}+1=", "answer": str(n + 1)}] for n in (1, 2))
    workspace = Workspace(tmp_path / "runs.db")
    store = Store(workspace)
    store._db.execute("""INSERT INTO data.runs (run, identity) VALUES ('r1', '{"b": "abc"}')""")
    store._intake.take(
        "r1",
        1,
        [
            {"kind": "benchmark", "benchmark": "b", "origin": str(tmp_path / "b.jsonl"),
             "sha256": content_digest(ours), "problems": 1, "prompt": "", "prompt_digest": "",
             "overlapping": None},
        ],
    )  # fmt: skip
    store.close()
    seen = queries.snapshot(workspace.db)
    workspace.data.mkdir(parents=True)
    (workspace.data / "b-0.jsonl").write_text(json.dumps(theirs[0]) + "\n")
    (tmp_path / "b.jsonl").write_text('{"question": "1+1="}\n')
    assert records._problems(seen, "r1", "b") == {}
    (workspace.data / "b-1.jsonl").write_text(json.dumps(ours[0] | {"id": "q7"}) + "\n")
    (workspace.data / "b-abc.jsonl").write_text(json.dumps(ours[0]) + "\n")  # the run's own
    assert records._problems(seen, "r1", "b") == {"p0": ("1+1=", "2")}
    assert records._problems(seen, "r1", "another") == {}


def test_a_long_curve_is_drawn_with_few_points_and_the_same_mean(long_run):
    drawn = queries.traces(long_run, "m", ("entropy",), "step")
    assert len(drawn) == queries.POINTS and drawn.x.iloc[-1] == 3000
    exact = np.maximum(1.0 - np.arange(1, 3001) / 1500, 0.01).mean()
    assert drawn.value.mean() == pytest.approx(exact, rel=1e-6)
    by_tokens = queries.traces(long_run, "m", ("entropy",), "tokens")
    assert by_tokens.x.iloc[-1] == 30_000 and len(by_tokens) == queries.POINTS


def test_collapse_and_truncation_ring_the_alarm(long_run):
    collapse, truncation = queries.alarms(long_run, "m")
    assert collapse == "Collapse: entropy of grpo (seed 0) fell from 0.999 to 0.010."
    assert truncation == "Truncation: 50% of the last responses of grpo (seed 0) were cut off."


def test_explosion_and_an_arm_without_effect_ring_the_alarm(tmp_path):
    (tmp_path / "m.yaml").write_text(
        "name: m\nmodel: arithmetic-tiny\nbudget: {steps: 8}\narms: {grpo: {}, clip-low: {}}\n"
    )
    workspace = Workspace(tmp_path / "runs.db")
    store = Store(workspace)
    cells = load_cells(tmp_path / "m.yaml")
    store.register(cells)
    for cell, slope in zip(cells, (0.2, 0.0), strict=True):
        rows = [
            {"kind": "trace", "step": s, "entropy": 0.3 + slope * (s - 1), "differs_from_grpo": 0.0}
            for s in range(1, 9)
        ]
        store._intake.take(cell.id, 1, rows)
    store.close()
    assert queries.alarms(queries.snapshot(workspace.db), "m") == [
        "Explosion: entropy of grpo (seed 0) rose from 0.300 to 1.600.",
        "Inert: the gradient of clip-low (seed 0) never differed from plain GRPO's.",
    ]


def test_the_alarm_tells_collapsed_runs_of_public_logs_from_the_others(repo, tmp_path):
    """Those that end below 0.08 nats from 0.5 to 0.6 collapsed; the next one keeps 0.14 of 0.30."""
    logs = repo.parent / "shared" / "data" / "training_logs"
    if not logs.is_dir():
        pytest.skip(f"no logs of other trainers at {logs}")
    workspace = Workspace(tmp_path / "runs.db")
    cells = outside.take_in(workspace, sorted(logs.glob("*.csv")) + sorted(logs.glob("*.txt")))
    assert len(cells) == 11
    said = queries.alarms(queries.snapshot(workspace.db), "external")
    assert sorted(text.split("of ")[1].split(" (")[0] for text in said) == [
        "off_policy_full_e1_tb128_ga32",
        "off_policy_full_e1_tb256_ga64",
        "off_policy_full_e2_tb256_ga64",
        "ppo_verl_qwen25_0.5b_gsm8k",
    ]
    assert all(text.startswith("Collapse: entropy") for text in said)


def test_it_is_served_to_this_machine_unless_it_is_exposed_on_purpose(tmp_path):
    line = viewer.command(tmp_path / "runs.db", "127.0.0.1", 8501)
    assert "--server.address=127.0.0.1" in line and "--browser.gatherUsageStats=false" in line
    assert {"--server.allowedHosts=localhost", "--server.allowedHosts=127.0.0.1"} <= set(line)
    exposed = viewer.command(tmp_path / "runs.db", "0.0.0.0", 80)
    assert "--server.address=0.0.0.0" in exposed
    assert not any("allowedHosts" in option for option in exposed)


def _drawn(name, db, monkeypatch):
    """A view as it is drawn, without a browser."""
    monkeypatch.setattr(sys, "argv", ["app.py", "--db", str(db)])
    script = f"from dashboard.views import {name}\n{name}.show()"
    view = AppTest.from_string(script, default_timeout=60).run()
    assert not view.exception
    return view


def _compared(db, monkeypatch):
    return _drawn("compare", db, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["overview", "compare", "entropy", "pass_at_k", "cost", "run"])
def test_what_a_database_says_is_text_on_every_view(tmp_path, monkeypatch, name):
    """An image in the name of an arm would be fetched by whoever opens somebody's database."""
    image = "![arm](https://example.org/x.png)"
    cells = load_cells(PUBLISHED.parent / "aepo-embedded.yaml")[:3]
    cells = [replace(cell, arm=f"{image} {number}") for number, cell in enumerate(cells)]
    solved = {cell.arm: [4, 20 + 8 * number] for number, cell in enumerate(cells)}
    db = database(tmp_path, cells, solved, samples=64)
    with connect(db, read_only=False) as writing:
        writing.execute("UPDATE data.runs SET status = ? WHERE seed = 1", [image + "{0}"])
        writing.execute("INSERT INTO data.events SELECT run, 1, now(), 'failed', ? FROM data.runs",
                        [json.dumps({"error": image})])  # fmt: skip
        writing.execute("UPDATE data.runs SET status = 'failed' WHERE seed <> 1")
    view = _drawn(name, db, monkeypatch)
    texts = [one.value for kind in ("markdown", "caption", "warning", "error", "info", "subheader")
             for one in view.get(kind)]  # fmt: skip
    for table in view.table:
        texts += [str(part) for part in (*table.value.columns, *table.value.index)]
        texts += [str(cell) for row in table.value.itertuples(index=False) for cell in row]
    assert not [text for text in texts if "![" in text]
    assert name == "entropy" or [text for text in texts if r"\!\[arm\]" in text]


def _cells(view, column):
    """The one table with that column, as people read it: without Markdown's escapes."""
    (found,) = [one.value for one in view.table if column in one.value.columns]
    return found.replace(r"\\(.)", r"\1", regex=True)


def test_a_papers_matrix_is_compared_with_the_paper(tmp_path, monkeypatch):
    """grpo solves half of seven benchmarks where the paper reports .6777."""
    cells = load_cells(PUBLISHED.parent / "aepo" / "table1-qwen3-4b.yaml")
    correct = {"grpo": [4, 12, 20], "aepo": [4, 20, 24]}
    view = _compared(database(tmp_path, cells, correct, samples=32), monkeypatch)
    assert "Beside what the paper reports" in [one.value for one in view.subheader]
    row = _cells(view, "theirs").set_index("arm").loc["grpo"]
    assert row["ours"].startswith("0.499 [") and row["theirs"] == "0.6777"
    assert row["on"] == "average of 7" and row["theirs within ours"] == "no"
    assert view.expander[0].label == "Settings that differ: 0"


def test_a_rehearsal_is_marked_on_the_page(tmp_path, monkeypatch):
    cells = shrunk(load_cells(PUBLISHED.parent / "aepo" / "table2.yaml"))
    db = database(tmp_path, cells, {"grpo": [4, 20], "aepo": [4, 30]}, samples=8)
    view = _compared(db, monkeypatch)
    assert any(one.value.startswith("NOT COMPARABLE") for one in view.caption)
    assert "train.lr" in list(_cells(view, "there").setting)


def test_a_matrix_of_ones_own_has_no_such_table(tmp_path, monkeypatch):
    cells = load_cells(PUBLISHED.parent / "aepo-embedded.yaml")
    correct = {cell.arm: [4, 20] for cell in cells}
    view = _compared(database(tmp_path, cells, correct, samples=64), monkeypatch)
    assert "Beside what the paper reports" not in [one.value for one in view.subheader]
    assert len(view.table) > 0
