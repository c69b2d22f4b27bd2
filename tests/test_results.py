"""RESULTS.md: what the generator says of a database, and whether the committed page is what its
data says. Every number is taken from the text and worked out again from the Parquet files.

The same tests run on two cases: a small history made here as workers spool one, and the committed
one in `results/miniature/` as soon as there is one.
"""

import itertools
import math
import re
from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np
import pytest
from scipy import stats as scipy_stats
from typer.testing import CliRunner

from suite.cli.app import app
from suite.matrix.expand import load_cells
from suite.matrix.yaml_file import MatrixError
from suite.report.leaderboard import leaderboard
from suite.report.page import claims, results
from suite.report.page.study import study
from suite.spool import spool
from suite.stats import association
from suite.store import Store, history
from suite.workspace import Workspace

pytestmark = pytest.mark.slow  # a page of many intervals, made several times

REPO = Path(__file__).resolve().parent.parent
DATA = REPO / "results" / "miniature"
CLAIMS = REPO / "matrices" / "claims" / "miniature.yaml"
SEEDS, PROBLEMS, SAMPLES, STEPS = (1, 2, 3), 40, 16, 12
# arm -> share of samples right, entropy at the end (it is 0.7 at first)
ARMS = {
    "grpo": (0.70, 0.40),
    "clip": (0.68, 0.41),
    "clip-higher": (0.70, 0.55),
    "entreg": (0.90, 0.60),
    "skywork": (0.75, 0.50),
    "qae": (0.30, 0.20),
}
MATRIX = f"""\
name: small
model: arithmetic-tiny
budget: {{gpu_hours: 0.01}}
seeds: {list(SEEDS)}
arms: {{{", ".join(f"{arm}: {{}}" for arm in ARMS)}}}
evaluate: {{samples: {SAMPLES}, pass_at: [1, 4, {SAMPLES}], at: [0, 1.0]}}
"""
SMALL_CLAIMS = """\
matrix: small
title: "Results: small"
command: make small
about: [Made by a test.]
limits: [It was made up.]
claims:
  - {claim: Higher., source: here, measure: "entropy, late", arm: clip-higher, against: clip,
     expect: above}
  - {claim: Falls., source: here, measure: "entropy, change", arm: entreg, expect: below}
  - {claim: Rises., source: here, measure: "entropy, change", arm: qae, expect: above, note: No.}
  - {claim: Better., source: here, measure: pass@1, arm: entreg, against: grpo, expect: above}
  - {claim: Also., source: here, measure: pass@1, arm: skywork, against: grpo, expect: below}
  - {claim: Falls below., source: here, measure: pass@4, arm: qae, against: the base model,
     expect: above}
  - {claim: Held., source: here, measure: "entropy, late", arm: skywork, value: 0.5, expect: near,
     within: 0.1}
"""


def run_of(cell, write, rng):
    """The lines of a worker: four phases a step, two evaluations, a probe."""
    right, last = ARMS[cell.arm]
    write("preparing", attempt=1)
    place = {"gpus": [], "cores": 2, "memory_gib": 8.0, "system": "Linux"}
    command = ["python", "--model", "/home/somebody/models/tiny", "--lr", "0.1"]
    write(
        *("start",),
        **{"attempt": 1, "command": command, "git_commit": "0123abc"},
        **{"versions": {"python": "3.11.7", "torch": "2.13.0"}, "hardware": place},
    )
    write("training", attempt=1, from_step=0)
    base = np.random.default_rng(cell.seed).beta(2, 4, PROBLEMS)
    evaluated(write, 0, 0.0, base, np.random.default_rng(cell.seed))
    seconds = {"generation": 0.5, "experience": 0.2, "update": 0.3}
    drift = 0.01 * rng.standard_normal()
    for step in range(1, STEPS + 1):
        share = (step - 1) / (STEPS - 1)
        write(
            *("trace",),
            **{"attempt": 1, "step": step, "entropy": 0.7 + (last + drift - 0.7) * share},
            **{"response_length": 12.0 + step / 7, "differs_from_grpo": float(cell.arm != "clip")},
            **{"gpu_hours": 0.00085 * step, "budget_fraction": 0.085 * step, "kl_old": 1.0},
            **{f"seconds/{name}": value for name, value in seconds.items()},
        )
    skill = np.clip(right + 0.15 * rng.standard_normal(PROBLEMS), 0, 1)
    evaluated(write, STEPS, 1.0, skill, rng)
    write("probe", attempt=1, step=STEPS, fraction=1.0, values={"full": last + 0.1})
    held = {**{name: value * STEPS for name, value in seconds.items()}, "evaluation": 5.0}
    write("finished", attempt=1, step=STEPS, seconds=held, overshoot=0.02)


def evaluated(write, step, fraction, skill, rng):
    where = {"attempt": 1, "step": step, "fraction": fraction}
    for number, chance in enumerate(skill):
        hits = rng.random(SAMPLES) < chance
        for first in (0, SAMPLES // 2):  # two batches of each problem
            half = hits[first : first + SAMPLES // 2]
            n = len(half)
            write(
                *("eval",),
                **{**where, "benchmark": "arithmetic", "problem": f"p{number:02}", "first": first},
                **{"n": n, "seed": first, "verdicts": "".join("wc"[int(hit)] for hit in half)},
                **{"stops": "s" * n, "lengths": [9] * n, "digests": list(range(n))},
                **{"answers": ["7"] * n, "examples": ["so \\boxed{7}"]},
            )
    write("evaluated", **where, gpu_hours=0.0102 * fraction, tokens=1, samples=1)


@dataclass
class Case:
    """A page with the data and the claims that it was made of."""

    data: Path
    claims: Path
    page: Path
    figure: Path

    @property
    def text(self):
        return self.page.read_text(encoding="utf-8")

    def table(self, heading, number=0):
        """The rows of a table below a heading, as columns -> text."""
        part = self.text.split(f"\n## {heading}\n")[1].split("\n## ")[0]
        tables = [
            list(group)
            for table, group in itertools.groupby(part.splitlines(), lambda x: x.startswith("|"))
            if table
        ]
        columns, _, *rows = [
            [cell.strip() for cell in line.strip("|").split("|")] for line in tables[number]
        ]
        return [dict(zip(columns, row, strict=True)) for row in rows]

    def sql(self, query):
        """Asked of the Parquet files alone, {table} in braces."""
        paths = {path.stem: f"read_parquet('{path}')" for path in self.data.glob("*.parquet")}
        return duckdb.connect().execute(query.format(**paths)).fetchall()

    def counts(self):
        """(arm or "the base model", seed) -> [problems] of (n, correct), in the problems' order."""
        rows = self.sql(
            """WITH last AS (SELECT run, max(step) AS step FROM {points} GROUP BY run)
               SELECT CASE b.step WHEN 0 THEN 'the base model' ELSE c.arm END, c.seed, b.problem,
                      max(b.n), max(length(b.verdicts) - length(replace(b.verdicts, 'c', '')))
                 FROM {batches} b JOIN {cells} c USING (run) JOIN last l USING (run)
                WHERE b.step IN (0, l.step) GROUP BY ALL ORDER BY ALL"""
        )
        found = {}
        for arm, seed, _, n, correct in rows:
            found.setdefault((arm, seed), []).append((n, correct))
        return found

    def scores(self, k):
        """arm -> pass@k, [seeds, problems], by its definition."""
        found = {}
        for (arm, _), pairs in self.counts().items():
            row = [1 - math.comb(n - c, k) / math.comb(n, k) for n, c in pairs]
            found.setdefault(arm, []).append(row)
        return {arm: np.array(rows) for arm, rows in found.items()}

    def entropy(self, change=False):
        """arm -> late entropy of each seed, less the first step's with `change`."""
        found = {}
        rows = self.sql(
            """SELECT c.arm, c.seed, list(t.value ORDER BY t.step) FROM {traces} t
                 JOIN {cells} c USING (run) WHERE metric = 'entropy' GROUP BY ALL ORDER BY ALL"""
        )
        for arm, _, values in rows:
            late = values[math.floor(len(values) * 0.75) :]
            found.setdefault(arm, []).append(np.mean(late) - change * values[0])
        return {arm: np.array(values) for arm, values in found.items()}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The small history: its workspace, and the page made of its export."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "m.yaml").write_text(MATRIX)
    (folder / "claims.yaml").write_text(SMALL_CLAIMS)
    cells, workspace = load_cells(folder / "m.yaml"), Workspace(folder / "runs.db")
    store = Store(workspace)
    store.register(cells)
    for number, cell in enumerate(cells):
        write = spool.Spool(spool.path_of(workspace.cell(cell.id), 1)).write
        run_of(cell, write, np.random.default_rng(number))
        store.ingest(cell.id)
        store.set_status(cell.id, "finished")
    store.close()
    history.export(workspace.db, folder / "slim", only_counts=True)
    case = Case(folder / "slim", folder / "claims.yaml", folder / "RESULTS.md", folder / "e.svg")
    ran = suite_results(case, case.data)
    assert ran.exit_code == 0, ran.output
    return workspace, case


@pytest.fixture(params=["made", "committed"])
def case(request):
    if request.param == "made":
        return request.getfixturevalue("made")[1]
    return Case(DATA, CLAIMS, REPO / "RESULTS.md", DATA / "entropy.svg")


def suite_results(case, source, *more):
    paths = ["--claims", case.claims, "--out", case.page, "--figure", case.figure]
    return CliRunner().invoke(app, ["results", str(source), *map(str, paths), *more])


def number(text):
    return float(re.search(r"[-+]?\d[\d.]*", text)[0])


def numbers(text):
    """ "+0.041 [+0.006, +0.078] above" -> three."""
    return [float(x) for x in re.findall(r"[-+]?\d+\.\d+", text)[:3]]


def carried(x_P):
    """How many problems carry an outcome: (Σx)² / Σx²."""
    return x_P.sum() ** 2 / (x_P**2).sum() if x_P.any() else 0.0


def interval(x_SP, level):
    """Mean, low, high: a crossed bootstrap stretched to Student's t, as suite.stats has it.

    The error is that of two-way random effects, t is Cochran's. Own draws, so ends agree roughly.
    """
    seeds, problems = x_SP.shape
    row, column, mean = x_SP.mean(1), x_SP.mean(0), x_SP.mean()
    of_seeds, of_problems = row.var(ddof=1) / seeds, column.var(ddof=1) / problems
    rest = x_SP - row[:, None] - column[None] + mean
    shared = (rest**2).sum() / ((seeds - 1) * (problems - 1) * seeds * problems)
    if of_seeds + of_problems == 0:
        return mean, mean, mean
    error = np.sqrt(max(of_seeds, of_problems, of_seeds + of_problems - shared))
    t = [scipy_stats.t.ppf((1 + level) / 2, n - 1) for n in (seeds, problems)]
    half = error * np.average(t, weights=[of_seeds, of_problems])
    rng = np.random.default_rng(7)
    drawn_S = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=20_000) / seeds
    drawn_P = rng.multinomial(problems, np.full(problems, 1 / problems), size=20_000) / problems
    means = ((drawn_S @ x_SP) * drawn_P).sum(1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    stretch = half / (means.std() * scipy_stats.norm.ppf((1 + level) / 2))
    ends = np.clip([mean + (low - mean) * stretch, mean + (high - mean) * stretch], -1, 1)
    return mean, min(ends[0], mean), max(ends[1], mean)


def agree(shown, wanted):
    """The mean to its last digit, the ends as well as two bootstraps do."""
    rough = 0.3 * (wanted[2] - wanted[1]) / 2 + 3e-3
    return shown[0] == pytest.approx(wanted[0], abs=5.1e-4) and shown[1:] == pytest.approx(
        wanted[1:], abs=rough
    )


# The page and its data ------------------------------------------------------------------------


def test_the_page_is_what_its_data_says(case):
    ran = suite_results(case, case.data, "--check")
    assert ran.exit_code == 0, ran.output


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (r"(\| grpo \| 0\.\d\d)(\d)", lambda m: m[1] + str((int(m[2]) + 1) % 10)),
        (r"\*\*not shown\*\*|\*\*shown\*\*", lambda m: "**opposite shown**"),
        (r"\n[^\n]*Inert: [^\n]*", lambda m: ""),
    ],
)
def test_a_page_that_was_touched_is_noticed(made, tmp_path, old, new):
    _, case = made
    page = tmp_path / case.page.name
    figure = tmp_path / case.figure.relative_to(case.page.parent)
    figure.parent.mkdir(exist_ok=True)
    figure.write_text(case.figure.read_text())
    touched = re.sub(old, new, case.text, count=1)
    assert touched != case.text
    page.write_text(touched)
    ran = suite_results(Case(case.data, case.claims, page, figure), case.data, "--check")
    assert ran.exit_code == 1
    page.write_text(case.text)
    assert suite_results(Case(case.data, case.claims, page, figure), case.data, "--check"
                         ).exit_code == 0  # fmt: skip


def test_a_picture_of_other_numbers_is_noticed(made, tmp_path):
    _, case = made
    figure = tmp_path / "e.svg"
    figure.write_text(re.sub("numbers [0-9a-f]", "numbers x", case.figure.read_text()))
    of = study(case.data, case.claims)
    link = results.page(of, "e.svg")
    (tmp_path / "RESULTS.md").write_text(link)
    (line,) = results.check(of, tmp_path / "RESULTS.md", figure)
    assert "drawn from other numbers" in line


def test_leaderboard(case):
    rows = case.table("Leaderboard")
    assert rows[0]["arm"] == "base model"
    rows[0]["arm"] = "the base model"  # as `counts` has it
    ks = [
        int(column.removeprefix("pass@")) for column in rows[0] if re.fullmatch(r"pass@\d+", column)
    ]
    assert len(ks) >= 3
    first = case.scores(ks[0])
    assert {row["arm"] for row in rows} == set(first)
    order = [number(row[f"pass@{ks[0]}"]) for row in rows[1:]]
    assert order == sorted(order, reverse=True)
    for k in ks:
        scores = case.scores(k)
        for row in rows:
            mean, low, high = numbers(row[f"pass@{k}"])
            own = scores[row["arm"]]
            assert mean == pytest.approx(own.mean(), abs=5.1e-4) and low <= mean <= high
            rare = min(carried(own.mean(0)), carried(1 - own.mean(0)))
            if rare > 16 and low > 0 and high < 1:  # no guard near 0 and 1: the bootstrap alone
                assert agree([mean, low, high], interval(own, 0.95))
    for row in rows:
        each = [float(x) for x in row[f"pass@{ks[0]} of each seed"].split()]
        assert each == pytest.approx(list(first[row["arm"]].mean(1)), abs=5.1e-4)


def test_what_stands_beside_the_scores(case):
    rows = case.table("Leaderboard")
    late = case.entropy()
    last = case.sql(
        """SELECT arm, avg(length), avg(steps), avg(hours), avg(spent) - 1, max(differs) FROM (
             SELECT c.arm, run, arg_max(value, step) FILTER (metric = 'response_length') AS length,
                    max(step) AS steps, max(value) FILTER (metric = 'gpu_hours') AS hours,
                    max(value) FILTER (metric = 'budget_fraction') AS spent,
                    max(value) FILTER (metric = 'differs_from_grpo') AS differs
               FROM {traces} JOIN {cells} c USING (run) GROUP BY ALL) GROUP BY arm"""
    )
    by_arm = {arm: values for arm, *values in last}
    for row in rows[1:]:
        length, steps, hours, over, differs = by_arm[row["arm"]]
        assert number(row["entropy"]) == pytest.approx(late[row["arm"]].mean(), abs=5.1e-4)
        assert number(row["length"]) == pytest.approx(length, abs=0.051)
        assert number(row["steps"]) == pytest.approx(steps, abs=0.051)
        assert number(row["GPU-hours"]) == pytest.approx(hours, abs=5.1e-5)
        assert number(row["overshoot"]) == pytest.approx(100 * over, abs=0.051)
        assert (row["inert"] == "inert") == (differs == 0 and row["arm"] != "grpo")


def test_differences_from_grpo(case):
    rows = case.table("Against GRPO")
    for column in [name for name in rows[0] if name != "arm"]:
        scores = case.scores(int(column.removeprefix("pass@")))
        assert {row["arm"] for row in rows} == set(scores) - {"grpo", "the base model"}
        for row in rows:
            mean, low, high = numbers(row[column])
            wanted = interval(scores[row["arm"]] - scores["grpo"], 1 - 0.05 / len(rows))
            assert mean == pytest.approx(wanted[0], abs=5.1e-4)
            # So far out a bootstrap is rough; without the correction it would be a fifth as wide.
            widths = [wanted[2] - wanted[1] - 0.01, high - low, wanted[2] - wanted[1] + 0.01]
            assert widths[0] / 2 <= widths[1] <= widths[2] * 2, (row["arm"], column, wanted)
            if "not shown" not in row[column]:
                assert row[column].endswith("above" if mean > 0 else "below")
                assert low > -5e-4 if mean > 0 else high < 5e-4


def test_claims(case):
    rows, late, change = case.table("What the papers claim"), case.entropy(), case.entropy(True)
    asked = claims.read(case.claims).claims
    assert [row["claim"] for row in rows] == [claim.claim for claim in asked]
    for row, claim in zip(rows, asked, strict=True):
        mean, low, high = numbers(row["difference"])
        if claim.measure.startswith("entropy"):
            of = late if claim.measure == "entropy, late" else change
            difference = of[claim.arm] - (of[claim.against] if claim.against else claim.value)
            error = difference.std(ddof=1) / np.sqrt(len(difference))
            half = scipy_stats.t.ppf(0.975, len(difference) - 1) * error
            wanted = [difference.mean(), difference.mean() - half, difference.mean() + half]
            assert [mean, low, high] == pytest.approx(wanted, abs=5.1e-4)
        else:
            scores = case.scores(claim.k)
            wanted = interval(scores[claim.arm] - scores[claim.against], 0.95)
            assert agree([mean, low, high], wanted), (claim.claim, wanted)
        verdict = row["verdict"].replace("*", "").strip()
        if claim.expect == "near":
            inside = -claim.within <= low and high <= claim.within
            outside = low > claim.within or high < -claim.within
            assert verdict == ("shown" if inside else "opposite shown" if outside else "not shown")
        elif verdict != "not shown":
            assert (verdict == "shown") == ((mean > 0) == (claim.expect == "above"))
            assert low > -5e-4 or high < 5e-4
        elif claim.k is None:
            assert low <= 5e-4 and high >= -5e-4


def test_claims_in_words_are_those_of_the_table(case):
    part = case.text.split("## What the papers claim")[1].split("\n## ")[0]
    rows = case.table("What the papers claim")
    counted = re.search(r"(\d+) of (\d+) claims are shown .* opposite of (\d+) is", case.text)
    verdicts = [row["verdict"].replace("*", "").strip() for row in rows]
    assert [int(x) for x in counted.groups()] == [
        *(verdicts.count("shown"), len(rows), verdicts.count("opposite shown"))
    ]
    for row in rows:
        assert f"- {row['claim']} ({row['difference']})" in part


def test_correlations(case):
    late = {arm: values.mean() for arm, values in case.entropy().items()}
    arms = sorted(late)
    rows = case.table("Entropy and pass@k", 1)
    first = None
    for row in rows:
        scores = case.scores(int(row["score"].removeprefix("pass@")))
        x, y = [late[arm] for arm in arms], [scores[arm].mean() for arm in arms]
        wanted = scipy_stats.spearmanr(x, y).statistic
        mean, low, high = numbers(row["with entropy"])
        assert mean == pytest.approx(wanted, abs=5.1e-3) and -1 <= low <= high <= 1
        if first is None:
            first = y
            continue
        ranks = [scipy_stats.rankdata(v) for v in (x, y, first)]
        line = np.vstack([ranks[2], np.ones(len(arms))]).T
        rests = [r - line @ np.linalg.lstsq(line, r, rcond=None)[0] for r in ranks[:2]]
        partial = np.corrcoef(*rests)[0, 1]
        (column,) = [name for name in row if "at equal" in name]
        assert numbers(row[column])[0] == pytest.approx(partial, abs=5.1e-3)


def test_entropy_table_is_sorted_and_right(case):
    rows, late, change = case.table("Entropy and pass@k"), case.entropy(), case.entropy(True)
    values = [number(row["entropy, late"]) for row in rows]
    assert values == sorted(values, reverse=True) and len(rows) == len(late)
    for row in rows:
        low, high = numbers(row["lowest and highest seed"])
        assert [low, high] == pytest.approx(
            [late[row["arm"]].min(), late[row["arm"]].max()], abs=5.1e-4
        )
        assert number(row["change"]) == pytest.approx(change[row["arm"]].mean(), abs=5.1e-4)


def test_spent_and_phases(case):
    top = case.text.split("## In short")[0]
    facts = dict(re.findall(r"^\| ([a-z]+) \| (.*) \|$", top, re.MULTILINE))
    ((charged, runs),) = case.sql(
        """SELECT sum(hours), count(*) FROM (SELECT run, max(value) AS hours FROM {traces}
            WHERE metric = 'gpu_hours' GROUP BY run)"""
    )
    assert number(facts["spent"]) == pytest.approx(charged, abs=5.1e-4)
    assert facts["runs"].startswith(f"{runs}: ")
    commits = {commit for (commit,) in case.sql("SELECT DISTINCT git_commit FROM {runs}")}
    assert all(commit in facts["commit"] for commit in commits)
    assert claims.read(case.claims).command in facts["regenerate"]
    shares = case.sql(
        """WITH spent AS (SELECT c.arm, metric, sum(value) AS seconds
                            FROM {traces} JOIN {cells} c USING (run)
                           WHERE metric LIKE 'seconds/%' GROUP BY ALL)
           SELECT arm, metric, seconds / sum(seconds) OVER (PARTITION BY arm) FROM spent"""
    )
    rows = {row["arm"]: row for row in case.table("Where the GPU-hours went")}
    for arm, metric, share in shares:
        shown = rows[arm][metric.removeprefix("seconds/")]
        assert number(shown) == pytest.approx(100 * share, abs=0.051)


# What goes in -------------------------------------------------------------------------------------


def test_the_database_its_exports_and_an_import_give_one_page(made, tmp_path):
    workspace, case = made
    history.export(workspace.db, tmp_path / "whole")
    other = Workspace(tmp_path / "runs.db")
    history.merge(other, case.data)
    assert history.check(other) == []
    for source in (workspace.db, tmp_path / "whole", other.db):
        of = study(source, case.claims)
        assert results.page(of, "e.svg") == case.text, source
    reported = [
        [one.markdown() for one in leaderboard(db, "small")] for db in (workspace.db, other.db)
    ]
    assert reported[0] == reported[1] and len(reported[0]) == 2


def test_a_slim_export_says_nothing_about_samples_or_folders(made, tmp_path):
    workspace, case = made
    assert case.sql("SELECT count(*) FROM {batches}") == [(len(SEEDS) * len(ARMS) * 2 * PROBLEMS,)]
    assert case.sql(
        """SELECT DISTINCT n, len(lengths), digests, answers, examples, seed FROM {batches}"""
    ) == [(SAMPLES, 1, None, None, None, None)]
    assert case.sql("SELECT DISTINCT command FROM {runs}") == [("python --model tiny --lr 0.1",)]
    assert case.sql("SELECT count(*) FROM {events} WHERE detail::VARCHAR LIKE '%somebody%'") == [
        (0,)
    ]
    assert case.sql("SELECT count(*) FROM {traces} WHERE metric = 'kl_old'") == [(0,)]
    ran = CliRunner().invoke(
        app, ["db", "export", str(tmp_path / "slim"), "--slim", "--db", str(workspace.db)]
    )
    assert ran.exit_code == 0, ran.output
    for path in case.data.glob("*.parquet"):
        assert (tmp_path / "slim" / path.name).read_bytes() == path.read_bytes()


def test_the_committed_data_is_small():
    assert sum(path.stat().st_size for path in DATA.iterdir()) < 3e6


# The claims of the miniature ------------------------------------------------------------------


def test_every_claim_names_arms_of_the_matrix_and_what_it_scores():
    cells = load_cells(REPO / "matrices" / "miniature.yaml")
    arms, ks = {cell.arm for cell in cells}, cells[0].evaluate["pass_at"]
    file = claims.read(CLAIMS)
    assert file.matrix == cells[0].matrix and len(file.claims) >= 15
    for claim in file.claims:
        assert claim.arm in arms and claim.against in {*arms, "the base model", None}
        assert claim.k is None or claim.k in ks


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("expect: below}", "expect: lower}", "claims.1.expect"),
        ("within: 0.1}", "with: 0.1}", "did you mean 'within'"),
        ("value: 0.5, expect: near", "value: 0.5, expect: above", "near and within go together"),
        ('"entropy, change", arm: qae', '"entropy, change", arm: qae, against: the base model',
         "has scores alone"),
        ("pass@1, arm: entreg", "maj@1, arm: entreg", "claims.3.measure"),
        ("limits:", "limit:", "did you mean 'limits'"),
    ],
)  # fmt: skip
def test_a_bad_file_of_claims_is_one_line_each(tmp_path, old, new, says):
    assert old in SMALL_CLAIMS
    (tmp_path / "c.yaml").write_text(SMALL_CLAIMS.replace(old, new, 1))
    with pytest.raises(MatrixError, match=re.escape(says)):
        claims.read(tmp_path / "c.yaml")


def test_an_arm_that_is_not_there_and_a_matrix_that_is_not_there(made, tmp_path):
    _, case = made
    for old, new, says in (
        ("against: clip,", "against: clib,", "no arm 'clib': did you mean 'clip'"),
        ("matrix: small", "matrix: large", "one benchmark of 'large' is needed"),
    ):
        (tmp_path / "c.yaml").write_text(SMALL_CLAIMS.replace(old, new, 1))
        with pytest.raises(ValueError, match=says):
            study(case.data, tmp_path / "c.yaml")


def test_verdicts_of_the_made_history(made):
    """Effects of 0.14 nats and 0.2 of a score are shown, 0.05 of a score is not certain."""
    _, case = made
    verdicts = [row["verdict"] for row in case.table("What the papers claim")]
    plain = [text.replace("*", "").strip() for text in verdicts]
    assert plain[:4] == ["shown", "shown", "opposite shown", "shown"]
    assert plain[6] == "shown"


@pytest.mark.parametrize(
    ("expect", "low", "high", "p", "text"),
    [
        ("above", 0.1, 0.3, 0.01, "shown"),
        ("below", 0.1, 0.3, 0.01, "opposite shown"),
        ("below", -0.3, -0.1, 0.01, "shown"),
        ("above", -0.1, 0.3, 0.20, "not shown"),
        ("above", 0.1, 0.3, 0.07, "not shown"),  # a second test that does not agree
        ("near", -0.04, 0.05, math.nan, "shown"),
        ("near", 0.06, 0.09, math.nan, "opposite shown"),
        ("near", 0.01, 0.09, math.nan, "not shown"),
    ],
)
def test_what_an_interval_says_of_a_claim(expect, low, high, p, text):
    within = 0.05 if expect == "near" else None
    claim = claims.Claim(
        claim="x", source="y", measure="pass@1", arm="a", against="b", expect=expect, within=within
    )
    verdict = claims.ClaimVerdict(claim, 3, (low + high) / 2, low, high, p)
    assert verdict.text == text
    assert claims.ClaimVerdict(claim).text == "not measured"
    many = [verdict, *[claims.ClaimVerdict(claim, 3, 0.0, -1.0, 1.0, 0.9)] * 9]
    assert claims.together(many) == []  # ten times 0.01 is more than 0.05


def test_rank_correlation_by_hand():
    """1 - 6 Σd² / (n(n² - 1)): d = 0, 0, 1, 1, 0 gives 1 - 12 / 120."""
    assert association.spearman([1, 2, 3, 4, 5], [10, 20, 40, 30, 50]) == pytest.approx(0.9)
    assert math.isnan(association.spearman([1, 2, 3], [5, 5, 5]))
    assert math.isnan(association.spearman([1, 2, 3], [1, 3, 2], [1, 2, 3]))
    with pytest.raises(ValueError, match="at least 5"):
        association.spearman_interval([1, 2], [1, 2], rng=np.random.default_rng(0))
