"""The comparison of a matrix: scores, and paired differences, for terminal, Markdown and CSV."""

from __future__ import annotations

import csv
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.markup import escape
from rich.table import Table

from suite import stats
from suite.cell import EVALUATION, EXTERNAL
from suite.reporting import caveats
from suite.store import connect

BASE = "the base model"  # as comparisons name it


@dataclass(frozen=True)
class Report:
    """Columns and rows of one matrix, and what is to be said about them."""

    title: str
    columns: list[str]
    rows: list[list[str]]
    notes: list[str]

    def table(self) -> Table:
        """For the terminal."""
        notes = escape("\n".join(self.notes))
        table = Table(title=escape(self.title), caption=notes, caption_justify="left")
        for number, column in enumerate(self.columns):
            table.add_column(escape(column), justify="left" if number < 2 else "right")
        for row in self.rows:
            table.add_row(*map(escape, row))
        return table

    def markdown(self) -> str:
        """A Markdown table with its title and notes."""
        lines = [f"## {self.title}", "", *markdown_table(self.columns, self.rows)]
        return "\n".join([*lines, "", *(f"- {note}" for note in self.notes), ""])

    def csv(self) -> str:
        """The same numbers for other programs."""
        out = StringIO()
        writer = csv.writer(out)
        writer.writerow(self.columns)
        writer.writerows(self.rows)
        return out.getvalue()


def markdown_table(columns: list[str], rows: list[list[str]]) -> list[str]:
    """The lines of a table."""
    lines = ["| " + " | ".join(row) + " |" for row in [columns, *rows]]
    return [lines[0], "|" + "---|" * len(columns), *lines[1:]]


def matrices(db: Path) -> tuple[list[str], list[str]]:
    """Names of the matrices in the database, and of those that are logs of other trainers alone.

    The last that moved comes first.
    """
    with connect(db) as connection:
        rows = connection.execute(
            """SELECT matrix, bool_and(algorithm = ?) FROM runs
                WHERE matrix IS NOT NULL AND algorithm <> ?
                GROUP BY matrix ORDER BY max(updated) DESC""",
            [EXTERNAL, EVALUATION],
        ).fetchall()
    return [name for name, outside in rows if not outside], [name for name, out in rows if out]


def leaderboard(db: Path, matrix: str) -> list[Report]:
    """Two reports a benchmark and model: the scores, and the arms against the baseline."""
    with connect(db) as connection:
        reports = []
        for scores in scored(connection, matrix):
            reports.append(table(connection, scores))
            reports += differences(scores, comparisons(scores))
        return reports


def scored(connection: Any, matrix: str) -> list[Scores]:
    """The counts of each benchmark and model that a matrix has been evaluated on."""
    found = connection.execute(
        "SELECT DISTINCT benchmark, model FROM pass_at_k WHERE matrix = ? ORDER BY ALL", [matrix]
    ).fetchall()
    return [Scores.read(connection, matrix, benchmark, model) for benchmark, model in found]


@dataclass(frozen=True)
class Scores:
    """Counts of a benchmark: (arm, seed) -> problem -> (n, correct); `base` has the seeds alone."""

    matrix: str
    benchmark: str
    model: str
    ks: list[int]
    arms: dict[tuple[str, int], dict[str, tuple[int, int]]]
    base: dict[int, dict[str, tuple[int, int]]]

    @classmethod
    def read(cls, connection: Any, matrix: str, benchmark: str, model: str) -> Scores:
        """The last complete evaluation of each run, and the base model's."""
        rows = connection.execute(
            """SELECT c.arm, c.seed, b.step, b.fraction, b.problem, sum(b.n)::INTEGER,
                      sum(count_of(b.verdicts, 'c'))::INTEGER
                 FROM data.cells c JOIN data.batches b USING (run)
                 JOIN data.points p USING (run, step, fraction)
                WHERE c.matrix = ? AND c.model = ? AND b.benchmark = ?
                GROUP BY c.arm, c.seed, c.position, b.step, b.fraction, b.problem
                ORDER BY c.position, b.fraction, b.problem""",
            [matrix, model, benchmark],
        ).fetchall()
        points: dict[tuple[str, int], dict[float, dict[str, tuple[int, int]]]] = {}
        base: dict[int, dict[str, tuple[int, int]]] = {}
        for arm, seed, step, fraction, problem, n, correct in rows:
            if step == 0:
                base.setdefault(seed, {})[problem] = (n, correct)
            else:
                at = points.setdefault((arm, seed), {}).setdefault(fraction, {})
                at[problem] = (n, correct)
        ks = connection.execute(
            """SELECT DISTINCT k FROM pass_at_k
                WHERE matrix = ? AND benchmark = ? AND model = ? ORDER BY k""",
            [matrix, benchmark, model],
        ).fetchall()
        last = {run: by_fraction[max(by_fraction)] for run, by_fraction in points.items()}
        return cls(matrix, benchmark, model, [k for (k,) in ks], last, base)

    def seeds(self, arm: str) -> list[int]:
        """The seeds with which an arm has been scored."""
        return sorted(seed for name, seed in self.arms if name == arm)

    def names(self) -> list[str]:
        """The arms, best pass@k first for the smallest k."""
        names = list(dict.fromkeys(arm for arm, _ in self.arms))
        return sorted(names, key=lambda arm: -self.of(arm, self.ks[0]).mean())

    @property
    def title(self) -> str:
        """ "quickstart: arithmetic, arithmetic-tiny"."""
        return f"{self.matrix}: {self.benchmark}, {Path(self.model).name}"

    def of(
        self,
        arm: str | None,
        k: int,
        seeds: list[int] | None = None,
        of: Callable[..., NDArray[np.float64]] = stats.pass_at_k,
    ) -> NDArray[np.float64]:
        """pass@k, or what `of` gives, of an arm (None: the base model), [seeds, problems]."""
        if arm is None:
            counts = [self.base[seed] for seed in seeds or sorted(self.base)]
        else:
            counts = [self.arms[arm, seed] for seed in seeds or self.seeds(arm)]
        problems = sorted(set.intersection(*(set(one) for one in counts)))
        tables = [np.array([one[problem] for problem in problems]) for one in counts]
        return np.array([of(table[:, 0], table[:, 1], k) for table in tables])

    def compared(self, k: int, against: str, seeds: list[int]) -> list[stats.Comparison]:
        """Each other arm with `against` at pass@k, on the same problems and seeds."""
        tables = {arm: self.of(arm, k, seeds) for arm in self.names()}
        return stats.compare_arms(tables, against, rng=self.rng(k, "baseline"))

    def rng(self, *names: object) -> np.random.Generator:
        """The same numbers give the same intervals."""
        text = f"{self.matrix} {self.benchmark} {self.model} {names}"
        return np.random.default_rng(zlib.crc32(text.encode()))

    def cell(self, arm: str | None, k: int, seeds: list[int] | None = None) -> str:
        """What `with_interval` says of an arm at k."""
        return with_interval(self.of(arm, k, seeds), self.rng(arm, k, seeds))


def with_interval(values_SP: NDArray[np.float64], rng: np.random.Generator) -> str:
    """ "0.829 [0.794, 0.861]", the interval over seeds and problems; values: in [0, 1]."""
    found = stats.hierarchical_interval(values_SP, rng=rng)
    return f"{found.estimate:.3f} [{found.low:.3f}, {found.high:.3f}]"


def table(connection: Any, scores: Scores) -> Report:
    """The leaderboard: the base model, the arms by pass@1, and their seeds where there are more."""
    numbers = {
        who: found
        for who, found in run_numbers(connection, scores.matrix, scores.model).items()
        if who in scores.arms
    }
    rows = []
    if scores.base:
        cells = [scores.cell(None, k) for k in scores.ks]
        first = [n["first"] for n in numbers.values() if n["first"][0] is not None]
        rows.append(["base model", "", *cells, *_texts(_means(first)), "", "", ""])
    for arm in scores.names():
        seeds = scores.seeds(arm)
        groups = [seeds] if len(seeds) == 1 else [seeds, *([seed] for seed in seeds)]
        for group in groups:
            label = str(group[0]) if len(group) == 1 else f"all {len(group)}"
            cells = [scores.cell(arm, k, group) for k in scores.ks]
            entropy, length, hours, overshoot, steps = _means(
                [numbers[arm, seed]["last"] for seed in group]
            )
            cost = [f"{hours:.4f}", f"{overshoot:+.1%}", f"{steps:g}"]
            rows.append([arm, label, *cells, *_texts((entropy, length)), *cost])
    columns = ["arm", "seed", *(f"pass@{k}" for k in scores.ks)]
    columns += ["entropy", "length", "GPU-hours", "overshoot", "steps"]
    return Report(scores.title, columns, rows, _notes(connection, scores))


def run_numbers(
    connection: Any, matrix: str, model: str
) -> dict[tuple[str, int], dict[str, tuple]]:
    """(arm, seed) -> (entropy, length) at the first step, and the numbers of the last one."""
    found = connection.execute(
        """WITH own AS (SELECT arm, seed, run FROM data.cells WHERE matrix = ? AND model = ?),
           first AS (
               SELECT run, arg_min(value, step) FILTER (metric = 'entropy') AS entropy,
                      arg_min(value, step) FILTER (metric = 'response_length') AS length
                 FROM data.traces SEMI JOIN own USING (run)
                WHERE metric IN ('entropy', 'response_length') GROUP BY run),
           last AS (
               SELECT run, any_value(value) FILTER (metric = 'entropy') AS entropy,
                      any_value(value) FILTER (metric = 'response_length') AS length,
                      max(highest) FILTER (metric = 'gpu_hours') AS hours,
                      max(highest) FILTER (metric = 'budget_fraction') AS spent, max(step) AS steps
                 FROM data.latest GROUP BY run)
           SELECT c.arm, c.seed, f.entropy, f.length, l.entropy, l.length, hours, spent - 1, steps
             FROM own c JOIN last l USING (run) LEFT JOIN first f USING (run)""",
        [matrix, model],
    ).fetchall()
    return {(arm, seed): {"first": of[:2], "last": of[2:]} for arm, seed, *of in found}


def _means(rows: list[tuple]) -> tuple:
    """Column by column; None where there is nothing."""
    if not rows:
        return (None, None)
    return tuple(
        None if any(v is None for v in column) else float(np.mean(column))
        for column in zip(*rows, strict=True)
    )


def _texts(pair: tuple[float | None, float | None]) -> list[str]:
    entropy, length = pair
    return [
        "" if entropy is None else f"{entropy:.3f}",
        "" if length is None else f"{length:.1f}",
    ]


def _notes(connection: Any, scores: Scores) -> list[str]:
    notes = ["Brackets: 95 % interval over problems. Entropy: nats a token, policy, T = 1."]
    if any(len(scores.seeds(arm)) > 1 for arm in scores.names()):
        notes[0] = notes[0].replace("problems", "problems and seeds where there are more", 1)
    counts = [n for one in [*scores.base.values(), *scores.arms.values()] for n, _ in one.values()]
    if counts:
        problems = len(next(iter([*scores.arms.values(), *scores.base.values()])))
        notes.append(f"{problems} problems, {max(counts)} samples each.")
        if max(counts) in scores.ks:
            notes.append(f"pass@{max(counts)} is k = n: a coin flip per problem at the margin.")
    notes += _comparisons_with_base(scores)
    notes += _floor(scores)
    notes += _overlap(connection, scores)
    for arm, seed, status, steps, inert in connection.execute(
        """SELECT arm, seed, status, coalesce(steps, 0), coalesce(inert, false) FROM runs
            WHERE matrix = ? AND model = ? ORDER BY position""",
        [scores.matrix, scores.model],
    ).fetchall():
        if inert:
            notes.append(
                f"{arm} (seed {seed}): inert arm, its gradient never differed from plain GRPO's."
            )
        if status != "finished":
            notes.append(
                f"{arm} (seed {seed}): {status} after {steps} steps; what is shown of it is not "
                "its last."
            )
    return notes


def _floor(scores: Scores) -> list[str]:
    """What guessing scores, where the answers are few enough to guess."""
    floor = caveats.guessing(scores.benchmark, scores.ks)
    if floor is None:
        return []
    guessed = ", ".join(f"pass@{k} {share:.3f}" for k, share in zip(scores.ks, floor, strict=True))
    return [f"Guessing among all possible answers scores {guessed}."]


def _overlap(connection: Any, scores: Scores) -> list[str]:
    """How many problems occur in the training prompts, said once for arms that agree."""
    found = connection.execute(
        """SELECT overlapping, problems, any_value(overlapping_ids),
                  string_agg(DISTINCT arm, ', ' ORDER BY arm)
             FROM benchmarks WHERE matrix = ? AND benchmark = ? AND model = ?
              AND overlapping IS NOT NULL
            GROUP BY overlapping, problems, overlapping_ids ORDER BY ALL""",
        [scores.matrix, scores.benchmark, scores.model],
    ).fetchall()
    notes = []
    for *what, arms in found:
        whose = "the training prompts" if len(found) == 1 else f"the training prompts of {arms}"
        notes.append(caveats.overlap(scores.benchmark, *what, whose))
    return notes


def above_base(scores: Scores, k: int) -> dict[str, stats.Comparison]:
    """Each arm against the base model, on the seeds with which both have been scored."""
    found = {}
    for arm in scores.names():
        seeds = [seed for seed in scores.seeds(arm) if seed in scores.base]
        if seeds:
            both = {arm: scores.of(arm, k, seeds), BASE: scores.of(None, k, seeds)}
            (found[arm],) = stats.compare_arms(both, BASE, rng=scores.rng(arm, k, "base"))
    return found


def _comparisons_with_base(scores: Scores) -> list[str]:
    """A line an arm: whether it is above the base model at the smallest k."""
    k = scores.ks[0]
    return [
        f"{arm}: pass@{k} {scores.of(arm, k).mean():.3f}, {found.verdict}."
        for arm, found in above_base(scores, k).items()
    ]


def baseline(scores: Scores) -> tuple[str, list[int]]:
    """What arms are compared with, GRPO or the first arm, and the seeds that all of them have.

    No seeds without an arm to compare.
    """
    arms = scores.names()
    against = "grpo" if "grpo" in arms else next(iter(scores.arms), ("", 0))[0]
    if len(arms) < 2:
        return against, []
    return against, sorted(set.intersection(*(set(scores.seeds(arm)) for arm in arms)))


def comparisons(scores: Scores, against: str = "") -> dict[int, list[stats.Comparison]]:
    """For each k the other arms against one, by default the baseline; {} without a shared seed.

    Raises ValueError when that arm has no scores.
    """
    usual, shared = baseline(scores)
    if not shared:
        return {}
    return {k: scores.compared(k, against or usual, shared) for k in scores.ks}


def differences(scores: Scores, found: dict[int, list[stats.Comparison]]) -> list[Report]:
    """What `comparisons` found as a table with its notes; nothing when it found nothing."""
    if not found:
        return []
    first = next(iter(found.values()))
    rows = [
        [one.arm, *(_difference(of_k[place]) for of_k in found.values())]
        for place, one in enumerate(first)
    ]
    smallest = {k: max(one.detectable for one in of_k) for k, of_k in found.items()}
    against, (_, shared) = first[0].reference, baseline(scores)
    together = " together" if len(rows) > 1 else ""
    sizes = ", ".join(
        f"{f'±{size:.3f}' if size < 1 else 'no difference at all'} at pass@{k}"
        for k, size in smallest.items()
    )
    notes = [
        f"Difference from {against} on the same problems{_seeds_text(shared)}; the intervals hold "
        f"at 95 %{together} (Bonferroni), and Holm's test agrees where a winner is named.",
        f"What a comparison as noisy as these would show in four of five repetitions: {sizes}.",
    ]
    if len(shared) == 1:
        notes.append("One seed: nothing here says that another seed would agree.")
    columns = ["arm", *(f"pass@{k}" for k in found)]
    return [Report(f"{scores.title}: against {against}", columns, rows, notes)]


def _difference(found: stats.Comparison) -> str:
    """ "+0.041 [+0.006, +0.078] above"."""
    said = found.verdict.split()[0] if found.shown else "not shown"
    return f"{found.estimate:+.3f} [{found.low:+.3f}, {found.high:+.3f}] {said}"


def _seeds_text(seeds: list[int]) -> str:
    return "" if len(seeds) == 1 else f" and the {len(seeds)} seeds that all arms have"
