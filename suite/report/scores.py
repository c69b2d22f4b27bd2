"""What a matrix was scored: counts of each problem, and the numbers of each run."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from suite import stats
from suite.matrix.cell import EVALUATION, EXTERNAL
from suite.store import connect


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
