"""What a matrix was scored: counts of each problem, and the numbers of each run."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from suite import stats
from suite.matrix.cell import EVALUATION, EXTERNAL
from suite.store import connect

Counts = dict[str, tuple[int, int]]  # problem -> (samples, right ones)
Estimator = Callable[..., NDArray[np.float64]]  # (n, correct, k) -> a value a problem


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


def scored(connection: Any, matrix: str) -> list[Scores]:
    """The counts of each benchmark and model that a matrix has been evaluated on."""
    subjects = connection.execute(
        "SELECT DISTINCT benchmark, model FROM pass_at_k WHERE matrix = ? ORDER BY ALL", [matrix]
    ).fetchall()
    return [Scores.read(connection, matrix, benchmark, model) for benchmark, model in subjects]


@dataclass(frozen=True)
class Scores:
    """Counts of a benchmark: of each (arm, seed), and of the base model with each seed."""

    matrix: str
    benchmark: str
    model: str
    ks: list[int]
    arms: dict[tuple[str, int], Counts]
    base: dict[int, Counts]

    @classmethod
    def read(cls, connection: Any, matrix: str, benchmark: str, model: str) -> Scores:
        """The last complete evaluation of each run, and the base model's."""
        rows = connection.execute(
            """SELECT arm, seed, step, fraction, problem, n, correct FROM counts
                WHERE matrix = ? AND model = ? AND benchmark = ?
                ORDER BY position, fraction, problem""",
            [matrix, model, benchmark],
        ).fetchall()
        points: dict[tuple[str, int], dict[float, Counts]] = {}
        base: dict[int, Counts] = {}
        for arm, seed, step, fraction, problem, n, correct in rows:
            if step == 0:
                base.setdefault(seed, {})[problem] = (n, correct)
            else:
                counts = points.setdefault((arm, seed), {}).setdefault(fraction, {})
                counts[problem] = (n, correct)
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
        return sorted(names, key=lambda arm: -self.values(arm, self.ks[0]).mean())

    @property
    def title(self) -> str:
        """ "quickstart: arithmetic, arithmetic-tiny"."""
        return f"{self.matrix}: {self.benchmark}, {Path(self.model).name}"

    @property
    def about(self) -> dict[str, str]:
        """What these are scores of, as fields of a table."""
        return {"matrix": self.matrix, "benchmark": self.benchmark, "model": self.model}

    @property
    def problems(self) -> int:
        """How many the first run was scored on."""
        return len(next(iter([*self.arms.values(), *self.base.values()]), {}))

    @property
    def samples(self) -> int:
        """The most that a problem has."""
        runs = [*self.arms.values(), *self.base.values()]
        return max((n for counts in runs for n, _ in counts.values()), default=0)

    def values(
        self,
        arm: str | None,
        k: int,
        seeds: list[int] | None = None,
        estimator: Estimator = stats.pass_at_k,
    ) -> NDArray[np.float64]:
        """pass@k, or another estimator, of an arm (None: the base model), [seeds, problems]."""
        if arm is None:
            counts = [self.base[seed] for seed in seeds or sorted(self.base)]
        else:
            counts = [self.arms[arm, seed] for seed in seeds or self.seeds(arm)]
        problems = sorted(set.intersection(*map(set, counts)))
        tables = [np.array([by_problem[p] for p in problems]) for by_problem in counts]
        return np.array([estimator(table[:, 0], table[:, 1], k) for table in tables])

    def interval(self, arm: str | None, k: int, seeds: list[int] | None = None) -> stats.Interval:
        """pass@k of an arm over its seeds and problems."""
        rng = self.rng(arm, k, seeds)
        return stats.hierarchical_interval(self.values(arm, k, seeds), rng=rng)

    def compared(self, k: int, against: str, seeds: list[int]) -> list[stats.Comparison]:
        """Each other arm with `against` at pass@k, on the same problems and seeds."""
        tables = {arm: self.values(arm, k, seeds) for arm in self.names()}
        return stats.compare_arms(tables, against, rng=self.rng(k, "baseline"))

    def rng(self, *names: object) -> np.random.Generator:
        """The same numbers give the same intervals."""
        text = f"{self.matrix} {self.benchmark} {self.model} {names}"
        return np.random.default_rng(zlib.crc32(text.encode()))


class RunNumbers(NamedTuple):
    """A run at its last score: columns of the view `leaderboard`; entropy in nats, late mean."""

    entropy: float | None = None
    response_length: float | None = None
    gpu_hours: float | None = None
    overshoot: float | None = None
    steps: float | None = None


def run_numbers(connection: Any, scores: Scores) -> dict[tuple[str, int], RunNumbers]:
    """(arm, seed) -> its numbers, of every run with a score."""
    rows = connection.execute(
        f"""SELECT DISTINCT arm, seed, {", ".join(RunNumbers._fields)} FROM leaderboard
             WHERE matrix = ? AND benchmark = ? AND model = ?""",
        [scores.matrix, scores.benchmark, scores.model],
    ).fetchall()
    numbers = {(arm, seed): RunNumbers(*values) for arm, seed, *values in rows}
    return {run: numbers[run] for run in scores.arms if run in numbers}


def base_numbers(connection: Any, scores: Scores) -> tuple[float | None, float | None]:
    """Entropy and length of the base model: the mean of the runs' first steps."""
    return connection.execute(
        """WITH firsts AS (
               SELECT run, arg_min(value, step) FILTER (metric = 'entropy') AS entropy,
                      arg_min(value, step) FILTER (metric = 'response_length') AS length
                 FROM steps SEMI JOIN (SELECT run FROM matrix_runs WHERE matrix = ? AND model = ?)
                      USING (run)
                WHERE metric IN ('entropy', 'response_length') GROUP BY run)
           SELECT favg(entropy), favg(length) FROM firsts""",
        [scores.matrix, scores.model],
    ).fetchone()
