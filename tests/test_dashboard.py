"""The dashboard in a real browser, on a matrix that trains while it is watched.

One run of the real stack serves every test here: the dashboard is opened before there is a
database, `suite run` starts, and the page is watched, never reloaded, until the matrix is finished.
Then every view is opened and what it claims is worked out again in SQL. What was seen is kept as
pictures in report/dashboard.
"""

import io
import json
import math
import os
import re
import struct
import time
from dataclasses import dataclass, field
from math import comb
from pathlib import Path
from statistics import mean

import pandas as pd
import pytest

from suite.store import Store, connect
from suite.workspace import Workspace
from tests.browsing import READY, VIEWS, Visitor, dashboard
from tests.hostile_sql import HEAVY, REFUSED, typeable
from tests.running import suite

pytestmark = pytest.mark.stack

STEPS, PROBLEMS, SAMPLES = 6, 24, 16
ARMS = ("grpo", "entreg", "clip-low")
MATRIX = f"""\
name: watched
model: arithmetic-tiny
train:
  dataset: arithmetic
  prompts_per_step: 8
  samples_per_prompt: 4
  optimizer_steps_per_rollout: 4
  max_prompt_tokens: 48
  max_new_tokens: 40
  lr: 3.0e-4
budget: {{steps: {STEPS}}}
seeds: [0, 1]
arms:
  grpo: {{}}
  entreg: {{coefficient: 0.02}}
  clip-low: {{algorithm: clip, eps_low: 0.15, eps_high: .inf}}
evaluate:
  benchmarks: [arithmetic]
  at: [0, 0.5, 1.0]
  samples: {SAMPLES}
  pass_at: [1, 8]
  problems: {PROBLEMS}
"""
_WATCH = """() => {  // frames without the table of runs, and frames in which it is faded
  const cells = () => [...document.querySelectorAll('table')].at(-1) ?? null;
  window.seen = {frames: 0, gone: 0, faded: 0, table: cells()};
  const look = () => {
    const table = cells();
    let opacity = 1;
    for (let e = table; e; e = e.parentElement) opacity *= parseFloat(getComputedStyle(e).opacity);
    window.seen.frames += 1;
    window.seen.gone += table === null;
    window.seen.faded += opacity < 0.95;
    requestAnimationFrame(look);
  };
  look();
}"""


@dataclass
class Watched:
    """A matrix that was watched from nothing to its end, and where to look at it now."""

    db: Path
    address: str
    before: str = ""
    states: list = field(default_factory=list)
    at_the_end: str = ""
    tables: dict = field(default_factory=dict)  # of the other views that were watched
    flicker: dict = field(default_factory=dict)
    complaints: list = field(default_factory=list)
    output: str = ""


@pytest.fixture(scope="module")
def pictures(repo):
    folder = repo / "report" / "dashboard"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="module")
def watched(arithmetic_model, model_cache, tmp_path_factory, repo, browser, pictures):
    folder = tmp_path_factory.mktemp("watched")
    (folder / "m.yaml").write_text(MATRIX)
    env = os.environ | {"SUITE_CACHE": str(model_cache), "PYTHONPATH": str(repo)}
    with dashboard(folder / "runs.db", folder / "dashboard.log") as address:
        story = Watched(folder / "runs.db", address)
        visitor = Visitor(browser, address).open()
        story.before = visitor.text()
        visitor.page.screenshot(path=pictures / "missing.png")
        others = {view: Visitor(browser, address).open(view) for view in ("compare", "cost")}
        conductor = suite(["run", "m.yaml"], folder, env)
        _watch(visitor, conductor, story, pictures)
        story.output, _ = conductor.communicate(timeout=60)
        assert conductor.returncode == 0, story.output
        visitor.page.wait_for_function("document.body.innerText.includes('6 of 6')", timeout=20_000)
        visitor.page.wait_for_timeout(3000)  # one refresh more
        visitor.settle()
        story.at_the_end = visitor.text()
        visitor.page.screenshot(path=pictures / "watched-to-the-end.png", full_page=True)
        story.complaints = visitor.complaints + visitor.exceptions()
        visitor.close()
        for view, other in others.items():
            story.tables[view] = at_rest(other)
            story.complaints += other.complaints + other.exceptions()
            other.close()
        yield story
        assert "Traceback" not in (folder / "dashboard.log").read_text()


def at_rest(visitor):
    """The tables of a view that has stopped changing; one redraw can take seconds."""
    before, now = None, visitor.settle().tables()
    deadline = time.monotonic() + 180
    while now != before:
        assert time.monotonic() < deadline
        visitor.page.wait_for_timeout(4000)
        before, now = now, visitor.settle().tables()
    return now


def _watch(visitor, conductor, story, pictures):
    """Note each state that the page shows until the conductor ends."""
    page = visitor.page
    page.wait_for_selector("table", timeout=120_000)
    page.evaluate(_WATCH)
    deadline = time.monotonic() + 500
    while conductor.poll() is None:
        assert time.monotonic() < deadline, story.states
        text = page.inner_text("[data-testid=stMainBlockContainer]")
        if not story.states or story.states[-1] != text:
            story.states.append(text)
        if " left" in text and len(story.states) < 12:
            page.screenshot(path=pictures / "training.png")
        page.wait_for_timeout(500)
    seen = "({...window.seen, table: window.seen.table.isConnected})"
    story.flicker = page.evaluate(seen)


@pytest.fixture
def visitor(browser, watched):
    """Somebody who opens the finished matrix; nothing may complain."""
    one = Visitor(browser, watched.address)
    yield one
    assert one.complaints == [] and one.exceptions() == []
    one.close()


def query(watched, sql):
    with connect(watched.db) as connection:
        return connection.execute(sql).fetchall()


def counted(watched):
    """name -> (samples, correct ones) of each problem and seed: arms at the end, and the base."""
    rows = query(
        watched,
        """SELECT CASE fraction WHEN 0 THEN 'base model' ELSE arm END, n, correct FROM evals
            WHERE fraction IN (0, 1)""",
    )
    return {name: [tuple(counts) for who, *counts in rows if who == name] for name, *_ in rows}


def estimates(table, column):
    """name -> the number before the bracket; rows of arms, of all seeds where there is a choice."""
    at = table[0].index(column)
    rows = [row for row in table[1:] if "seed" not in table[0] or not row[1].isdigit()]
    assert len({row[0] for row in rows}) == len(rows)
    return {row[0]: float(row[at].split()[0]) for row in rows}


# While it trains ----------------------------------------------------------------------------------


def test_without_a_database_it_says_what_to_do(watched):
    assert "runs.db does not exist yet" in watched.before
    assert f"suite run matrix.yaml --db {watched.db}" in watched.before


def test_a_matrix_is_watched_from_its_first_step_to_its_end(watched):
    """The same page, never reloaded: queued, running with progress and time left, done."""
    everything = "\n".join(watched.states)
    assert "queued" in watched.states[0] and "0 of 6" in watched.states[0]
    assert "▶" in everything and " left" in everything and "Preliminary" in everything
    done = [int(text.split("Runs finished")[1].split(" of ")[0]) for text in watched.states]
    assert done == sorted(done) and len(set(done)) >= 4
    assert watched.at_the_end.count("✓ finished") == 6 and "queued" not in watched.at_the_end
    assert watched.complaints == []


@pytest.mark.parametrize("view", ["compare", "cost"])
def test_a_view_that_was_open_all_the_time_shows_the_end(watched, visitor, view):
    """Opened before there was a database and never touched, it has what a new visitor sees."""
    now = visitor.open(view).tables()
    assert len(now) >= 2 and watched.tables[view] == now


def test_it_does_not_flicker(watched):
    assert watched.flicker["frames"] > 100
    assert watched.flicker["gone"] == 0 and watched.flicker["table"]
    assert watched.flicker["faded"] == 0


# Each view's claim --------------------------------------------------------------------------------


def test_overview_shows_every_cell_with_its_cost(watched, visitor, pictures):
    visitor.open()
    visitor.page.screenshot(path=pictures / "overview.png", full_page=True)
    grid = visitor.tables()[-1]
    assert grid[0] == ["arm", "seed 0", "seed 1"] and [row[0] for row in grid[1:]] == list(ARMS)
    cells = query(watched, "SELECT arm, seed, steps, gpu_hours FROM runs")
    for arm, seed, steps, hours in cells:
        text = grid[1 + ARMS.index(arm)][1 + seed]
        assert text.startswith("✓ finished") and f"step {steps}" in text
        assert float(text.split(" GPU-h")[0].split()[-1]) == pytest.approx(hours, rel=0.01)
    spent = float(visitor.text().split("GPU-hours spent")[1].split()[0])
    assert spent == pytest.approx(sum(cell[3] for cell in cells), rel=0.01)


def test_the_headline_agrees_with_the_verdicts_below_it(watched, visitor):
    table = visitor.open().tables()[0]
    better = [row[0] for row in table[1:] if any(cell.endswith("above") for cell in row[1:])]
    if better:
        assert visitor.heading().split(":")[0] in [f"Use {arm}" for arm in better]
    else:
        assert visitor.heading() == "Stay with grpo: no arm is shown to be better."


def test_compare_shows_scores_and_paired_differences(watched, visitor, pictures):
    visitor.open("compare")
    visitor.page.screenshot(path=pictures / "compare.png", full_page=True)
    verdicts, board = visitor.tables()
    scores = dict(
        query(watched, "SELECT arm, avg(score) FROM leaderboard WHERE k = 1 GROUP BY arm")
    )
    assert estimates(board, "pass@1") == pytest.approx(
        scores | {"base model": estimates(board, "pass@1")["base model"]}, abs=6e-4
    )
    for arm, difference in estimates(verdicts, "pass@1").items():
        assert difference == pytest.approx(scores[arm] - scores["grpo"], abs=6e-4)
    for row in verdicts[1:]:
        for cell in row[1:]:
            low, high = (float(end) for end in cell.split("[")[1].split("]")[0].split(","))
            said = cell.split("] ")[1]
            assert said in ("above", "below", "no difference shown")
            assert said == "no difference shown" or (low >= 0 if said == "above" else high <= 0)
            assert not low < 0 < high or said == "no difference shown"


def test_another_baseline_and_fewer_arms_are_a_link_that_reopens(watched, visitor, browser):
    visitor.open("compare").choose("Baseline", "entreg").choose("Against", "tokens")
    visitor.drop("clip-low")
    table = visitor.tables()[0]
    assert [row[0] for row in table[1:]] == ["grpo"]
    scores = dict(
        query(watched, "SELECT arm, avg(score) FROM leaderboard WHERE k = 1 GROUP BY arm")
    )
    difference = scores["grpo"] - scores["entreg"]
    assert estimates(table, "pass@1")["grpo"] == pytest.approx(difference, abs=6e-4)
    link = visitor.page.url.removeprefix(watched.address + "/")
    assert "baseline=entreg" in link and "unit=tokens" in link and "clip-low" not in link
    other = Visitor(browser, watched.address).open(link)
    assert other.tables()[0] == table
    assert other.page.get_by_role("combobox", name="Against").input_value() == "tokens"
    other.close()


def test_figures_and_their_data_can_be_saved(watched, visitor):
    visitor.open("compare")
    assert visitor.download("SVG").lstrip().startswith(b"<svg")
    png = visitor.download("PNG")
    assert png[:8] == b"\x89PNG\r\n\x1a\n" and struct.unpack(">I", png[16:20])[0] > 1000
    data = pd.read_csv(io.BytesIO(visitor.download("CSV")))
    stored = query(
        watched,
        """SELECT arm, fraction, avg(score), avg(gpu_hours) FROM pass_at_k WHERE k = 1
            GROUP BY ALL ORDER BY ALL""",
    )
    drawn = sorted(zip(data.arm, data.cost, data.score, strict=True))
    assert drawn == [
        (arm, pytest.approx(cost), pytest.approx(score)) for arm, _, score, cost in stored
    ]
    assert (data.low <= data.score).all() and (data.score <= data.high).all()


def test_entropy_is_drawn_as_it_was_traced(watched, visitor, pictures):
    visitor.open("entropy")
    visitor.page.screenshot(path=pictures / "entropy.png", full_page=True)
    data = pd.read_csv(io.BytesIO(visitor.download("CSV")))
    stored = query(
        watched,
        """SELECT arm, seed, step, value FROM traces WHERE metric = 'entropy'
            ORDER BY arm, seed, step""",
    )
    assert len(stored) == 6 * STEPS
    assert sorted(zip(data.arm, data.seed, data.x, data.value, strict=True)) == [
        (arm, seed, step, pytest.approx(value)) for arm, seed, step, value in stored
    ]
    visitor.choose("Against", "GPU-hours").drop("grpo")
    less = pd.read_csv(io.BytesIO(visitor.download("CSV")))
    assert set(less.arm) == {"entreg", "clip-low"} and less.x.max() < 1
    assert "axis=GPU-hours" in visitor.page.url


def test_entropy_against_score_takes_the_fixed_probe_too(watched, visitor):
    visitor.open("entropy?source=the+fixed+probe&k=8")
    figures = visitor.page.get_by_role("button", name="CSV", exact=True).count()
    data = pd.read_csv(io.BytesIO(visitor.download("CSV", figures - 1)))
    stored = query(
        watched,
        """SELECT p.arm, p.fraction, avg(e.value), avg(p.score)
             FROM pass_at_k p JOIN probes e USING (run, step, fraction)
            WHERE k = 8 AND estimator = 'full' GROUP BY ALL ORDER BY ALL""",
    )
    drawn = sorted(zip(data.arm, data.fraction, data.entropy, data.score, strict=True))
    assert drawn == [(a, f, pytest.approx(e), pytest.approx(s)) for a, f, e, s in stored]


def test_pass_at_k_is_the_unbiased_estimate_of_every_k(watched, visitor, pictures):
    visitor.open("pass-at-k")
    visitor.page.screenshot(path=pictures / "pass-at-k.png", full_page=True)
    (table,) = visitor.tables()
    assert table[0] == ["arm", *(f"pass@{k}" for k in (1, 2, 4, 8, 16))]
    stored = dict(
        query(
            watched,
            """SELECT arm, avg(1 - (n - correct) * (n - correct - 1) / (n * (n - 1)))
                 FROM evals WHERE fraction = 1 GROUP BY arm""",
        )
    )
    shown = estimates(table, "pass@2")
    assert {arm: shown[arm] for arm in ARMS} == pytest.approx(stored, abs=6e-4)
    assert set(shown) == {*ARMS, "base model"}
    curves = {
        arm: [mean(1 - comb(n - c, k) / comb(n, k) for n, c in counts) for k in (1, 2, 4, 8)]
        for arm, counts in counted(watched).items()
    }
    text = visitor.text()
    for arm in ARMS:
        gaps = [ours - base for ours, base in zip(curves[arm], curves["base model"], strict=True)]
        signs = [gap > 0 for gap in gaps if abs(gap) > 1e-9]
        if all(signs) or not any(signs):
            said = "stays above" if any(signs) else "stays below" if signs else "equals"
        else:
            said = "falls below" if signs[0] else "rises above"
        assert f"{arm} {said} the base model" in text


def test_cost_names_the_phase_that_took_the_most(watched, visitor, pictures):
    visitor.open("cost")
    visitor.page.screenshot(path=pictures / "cost.png", full_page=True)
    ((phase, arm, share),) = query(
        watched,
        """WITH spent AS (SELECT arm, metric, sum(value) AS seconds FROM traces
                           WHERE metric LIKE 'seconds/%' GROUP BY ALL)
           SELECT replace(metric, 'seconds/', ''), arm,
                  seconds / sum(seconds) OVER (PARTITION BY arm) AS share
             FROM spent ORDER BY share DESC LIMIT 1""",
    )
    assert f"Most went into {phase}: {share:.0%} of {arm}'s." in visitor.text()
    visitor.choose("Cost in", "steps")
    matched = next(table for table in visitor.tables() if "steps to own best" in table[0])
    assert len(matched) == 1 + 2 * len(ARMS) and f"at {STEPS} steps" in matched[0]


def test_a_run_shows_what_differs_what_happened_and_what_it_said(watched, visitor, pictures):
    visitor.open("run").choose("Against", "entreg (seed 0)")
    (table,) = visitor.tables()
    assert {row[0] for row in table[1:]} == {"algorithm", "settings.coefficient"}
    ((settings,),) = query(watched, "SELECT settings FROM runs WHERE arm = 'entreg' AND seed = 0")
    shown = next(row for row in table if row[0] == "settings.coefficient")
    assert float(shown[2]) == json.loads(settings)["coefficient"]
    visitor.page.get_by_role("tab", name="Events").click()
    ((last,),) = query(
        watched,
        """SELECT arg_max(e.kind, e.time) FROM data.events e JOIN runs USING (run)
            WHERE arm = 'grpo' AND seed = 0""",
    )
    grid = visitor.page.locator("[data-testid=stDataFrame]:visible canvas")
    for kind in (last, "evaluated"):  # the last come first
        grid.locator("td", has_text=re.compile(f"^{kind}$")).first.wait_for(state="attached")
    visitor.page.get_by_role("tab", name="Command").click()
    assert "suite.worker.by_hand" in visitor.page.locator("pre:visible").inner_text()
    visitor.page.get_by_role("tab", name="Responses").click()
    visitor.choose("Verdict", "correct")
    visitor.page.wait_for_selector(".katex", timeout=10_000)
    visitor.page.screenshot(path=pictures / "run.png", full_page=True)
    assert "wrong ·" not in visitor.text() and "correct ·" in visitor.text()
    ((stored,),) = query(
        watched,
        """SELECT sum(len(list_filter(range(len(e.examples)), lambda i: e.verdicts[i + 1] = 'c')))
             FROM evals e WHERE arm = 'grpo' AND seed = 0 AND fraction = 1""",
    )
    assert f"{min(40, int(stored))} responses" in visitor.text()
    assert "verdict=correct" in visitor.page.url


def test_a_question_in_sql_is_answered_and_a_link(watched, visitor, browser, pictures):
    visitor.open("sql")
    box = visitor.page.get_by_role("textbox", name="One statement")
    box.fill("SELECT arm, count(*) AS steps FROM traces WHERE metric = 'reward' GROUP BY ALL")
    visitor.page.get_by_role("button", name="Run", exact=True).click()
    visitor.page.wait_for_selector("text=3 rows", timeout=30_000)
    answer = pd.read_csv(io.BytesIO(visitor.download("CSV")))
    assert dict(zip(answer.arm, answer.steps, strict=True)) == dict.fromkeys(ARMS, 2 * STEPS)
    visitor.settle().page.screenshot(path=pictures / "sql.png", full_page=True)
    other = Visitor(browser, watched.address)
    other.open(visitor.page.url.removeprefix(watched.address + "/"))
    other.page.wait_for_selector("text=3 rows", timeout=30_000)
    other.close()


def test_a_stranger_at_the_page_is_refused_or_stopped_each_time(watched, visitor):
    """Every hostile statement in one visit; of those that are stopped some, for they take 10 s."""
    folder = watched.db.parent
    before = watched.db.read_bytes(), sorted(folder.iterdir())
    visitor.open("sql")
    statements = [sql for sql in typeable(REFUSED) if len(sql) < 50_000]  # the page's address
    heavy = [HEAVY[0], next(sql for sql in HEAVY if sql.startswith("SELECT repeat"))]
    for sql in [*statements, *heavy]:
        said = visitor.ask(sql.replace("runs.db", str(watched.db)))
        assert len(said) == 1 and said[0] and "\n" not in said[0], (sql[:80], said)
    (said,) = visitor.ask("SELECT CAST('![x](http://127.0.0.1:9/?' || version() || ')' AS INT)")
    assert "![x](http://127.0.0.1:9/?" in said, "it is quoted; as an image it would be asked for"
    assert visitor.page.locator("[data-testid=stAlert] img").count() == 0
    assert visitor.tables() == [] and not visitor.page.query_selector("[data-testid=stDataFrame]")
    assert visitor.ask("SELECT 40 + 2") == []
    assert visitor.page.wait_for_selector("[data-testid=stDataFrame]", timeout=10_000)
    assert (watched.db.read_bytes(), sorted(folder.iterdir())) == before


# For every view -----------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_view_fits_a_laptop_in_light_and_dark(watched, browser, scheme, pictures):
    visitor = Visitor(browser, watched.address, color_scheme=scheme)
    for view in VIEWS:
        visitor.open(view)
        wide = visitor.page.evaluate(
            "document.querySelector('[data-testid=stMain]').scrollWidth - window.innerWidth"
        )
        assert wide <= 0, view
        red = visitor.page.evaluate(
            "parseInt(getComputedStyle(document.querySelector('[data-testid=stApp]'))"
            ".backgroundColor.match(/\\d+/)[0])"
        )
        assert (red < 60) == (scheme == "dark")
        visitor.page.screenshot(path=pictures / f"{scheme}-{view or 'overview'}.png")
    assert visitor.complaints == [] and visitor.exceptions() == []
    visitor.close()


def test_views_are_reached_and_changed_by_keyboard(watched, visitor):
    visitor.open("compare")
    box = visitor.page.get_by_role("combobox", name="Against")
    box.focus()
    visitor.page.keyboard.press("ArrowDown")
    visitor.page.keyboard.press("ArrowDown")
    visitor.page.keyboard.press("Enter")
    visitor.settle()
    visitor.page.wait_for_url(re.compile("unit="))
    reached = set()
    for _ in range(40):
        visitor.page.keyboard.press("Tab")
        reached.add(visitor.page.evaluate("document.activeElement.innerText"))
    assert {"SVG", "PNG", "CSV"} <= reached


def test_the_first_paint_comes_within_three_seconds(watched, browser):
    """With every cell in its table. Of a warm server, the best of six: others use this machine."""
    seconds = [math.inf]
    while min(seconds) > 3 and len(seconds) <= 6:
        visitor = Visitor(browser, watched.address)
        start = time.monotonic()
        visitor.page.goto(watched.address)
        visitor.page.wait_for_selector("td:has-text('✓ finished')", timeout=60_000)
        seconds.append(time.monotonic() - start)
        visitor.page.wait_for_selector(READY)
        visitor.close()
    assert min(seconds) <= 3


def test_a_database_without_runs_says_what_to_do(browser, tmp_path, pictures):
    workspace = Workspace(tmp_path / "empty.db")
    Store(workspace).close()
    with dashboard(workspace.db, tmp_path / "log") as address:
        visitor = Visitor(browser, address)
        for view in VIEWS[:-1]:
            visitor.open(view)
            assert "empty.db has no runs of a matrix yet" in visitor.text()
        visitor.page.screenshot(path=pictures / "empty.png")
        visitor.open("sql")
        visitor.page.get_by_role("textbox", name="One statement").fill("SELECT count(*) FROM runs")
        visitor.page.get_by_role("button", name="Run", exact=True).click()
        visitor.page.wait_for_selector("text=1 row", timeout=30_000)
        assert visitor.complaints == [] and visitor.exceptions() == []
        visitor.close()


def test_a_database_of_an_earlier_version_says_how_to_go_on(browser, tmp_path):
    workspace = Workspace(tmp_path / "old.db")
    Store(workspace).close()
    with connect(workspace.db, read_only=False) as connection:
        connection.execute("DELETE FROM data.migrations")
    with dashboard(workspace.db, tmp_path / "log") as address:
        visitor = Visitor(browser, address).open("compare")
        assert "old.db was written by an earlier version" in visitor.text()
        assert f"suite db compact --db {workspace.db}" in visitor.text()
        assert visitor.complaints == [] and visitor.exceptions() == []
        visitor.close()


def test_only_this_machine_is_listened_to(watched):
    import psutil

    port = int(watched.address.rsplit(":", 1)[1])
    listening = [c.laddr.ip for c in psutil.net_connections() if c.status == "LISTEN" and c.laddr]
    ours = {
        c.laddr.ip
        for c in psutil.net_connections()
        if c.status == "LISTEN" and c.laddr.port == port
    }
    assert listening and ours == {"127.0.0.1"}
