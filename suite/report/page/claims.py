"""Claims of papers as data, and what the runs of a matrix say about each of them.

A claim names a measure of an arm, what it is compared with (another arm, the base model, or a
number), and the relation that its source expects. It is judged over the seeds that both have, seed
by seed: `shown` when the 95 % interval of the difference lies wholly where the claim has it,
`opposite shown` when it lies wholly elsewhere, else `not shown`, which is no evidence against it.

With the few seeds of a matrix that is a wide interval. The lab (suite/lab/) asks the same papers
over many seeds, of tables.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError, model_validator
from scipy import special

from algorithms import nearest
from suite import stats
from suite.matrix.expand import explain, yaml_location
from suite.matrix.schema import Section
from suite.matrix.yaml_file import MatrixFile
from suite.metrics import LATE
from suite.report.differences import BASE
from suite.report.scores import Scores

LEVEL = 0.95
SHOWN, NOT_SHOWN, OPPOSITE = "shown", "not shown", "opposite shown"
NOT_MEASURED = "not measured"
ENTROPIES = ("entropy, late", "entropy, change")  # of the trace, in nats


class Claim(Section):
    """One claim: `arm`'s measure is above, below or (`within`) near what it is compared with.

    measure: "entropy, late" (mean over the last quarter of the steps), "entropy, change" (that less
    the first step's), or "pass@K" at the end of the budget. Compared with the arm `against` ("the
    base model" for scores), or with the number `value`, or, when neither is given, with 0.
    """

    claim: str
    source: str
    measure: Annotated[str, Field(pattern=r"^(entropy, late|entropy, change|pass@[1-9]\d*)$")]
    arm: str
    against: str | None = None
    value: float = 0.0
    expect: Literal["above", "below", "near"]
    within: Annotated[float, Field(gt=0)] | None = None
    note: str = ""

    @model_validator(mode="after")
    def _makes_sense(self) -> Claim:
        if (self.expect == "near") != (self.within is not None):
            raise ValueError("near and within go together")
        if self.against is not None and self.value:
            raise ValueError("give one of against and value")
        if self.against == BASE and self.measure in ENTROPIES:
            raise ValueError(f"{BASE} has scores alone: use 'entropy, change'")
        return self

    @property
    def k(self) -> int | None:
        """Of pass@k; None for an entropy."""
        return int(self.measure.removeprefix("pass@")) if "@" in self.measure else None


class File(Section):
    """The file as written: prose that the data cannot know, and the claims."""

    matrix: str
    title: str
    command: str
    about: list[str]
    settings: Annotated[list[str], Field(default_factory=list)]
    claims: Annotated[list[Claim], Field(min_length=1)]
    limits: list[str]


@dataclass(frozen=True)
class ClaimVerdict:
    """A claim with the mean difference over seeds (and problems), its 95 % interval and p-value.

    p_value: two-sided, of no difference; NaN for "near" and for what was not measured.
    """

    claim: Claim
    seeds: int = 0
    estimate: float = float("nan")
    low: float = float("nan")
    high: float = float("nan")
    p_value: float = float("nan")

    @property
    def text(self) -> str:
        """In two words."""
        if not self.seeds:
            return NOT_MEASURED
        if self.claim.expect == "near":
            return _near(self)
        above, below = self.low > 0, self.high < 0
        if not (above or below) or self.p_value > 1 - LEVEL:
            return NOT_SHOWN
        return SHOWN if above == (self.claim.expect == "above") else OPPOSITE


def _near(verdict: ClaimVerdict) -> str:
    """Whether the interval of the distance to `value` lies in the tolerance, or outside it."""
    within = verdict.claim.within or 0.0
    if -within <= verdict.low and verdict.high <= within:
        return SHOWN
    return OPPOSITE if verdict.low > within or verdict.high < -within else NOT_SHOWN


def read(path: Path) -> File:
    """The claims at `path`.

    Raises:
        MatrixError: what is wrong with the file, a line for each problem.
    """
    file = MatrixFile(path)
    content = file.read()
    try:
        return File.model_validate(content)
    except ValidationError as error:
        for item in error.errors():
            schema = Claim if item["loc"][:1] == ("claims",) and len(item["loc"]) > 1 else File
            file.problem(yaml_location(item["loc"]), explain(item, schema))
        file.stop_on_problems()
        raise


Entropies = dict[tuple[str, int], dict[str, float]]  # (arm, seed) -> measure -> nats
AT_EQUAL_STEPS = "entropy, at equal steps"  # late, if all had ended with the one of fewest steps


def entropies(connection: Any, matrix: str) -> tuple[Entropies, int]:
    """The measures of ENTROPIES and AT_EQUAL_STEPS of each run, and the fewest steps of a run."""
    rows = connection.execute(
        """WITH traced AS (SELECT arm, seed, step, value FROM matrix_runs JOIN steps USING (run)
                            WHERE matrix = ? AND metric = 'entropy'),
                ends AS (SELECT arm, seed, max(step) AS steps FROM traced GROUP BY ALL),
                fewest AS (SELECT min(steps) AS fewest FROM ends)
           SELECT arm, seed, fewest, arg_min(value, step),
                  favg(value) FILTER (step > steps * (1 - ?)),
                  favg(value) FILTER (step > fewest * (1 - ?) AND step <= fewest)
             FROM traced JOIN ends USING (arm, seed), fewest GROUP BY ALL ORDER BY ALL""",
        [matrix, LATE, LATE],
    ).fetchall()
    names = (*ENTROPIES, AT_EQUAL_STEPS)
    measures = {
        (arm, seed): dict(zip(names, (late, late - begin, equal), strict=True))
        for arm, seed, _, begin, late, equal in rows
    }
    return measures, rows[0][2] if rows else 0


def judged(claims: Sequence[Claim], scores: Scores, measures: Entropies) -> list[ClaimVerdict]:
    """A verdict for each claim.

    Raises ValueError when one names an arm that the matrix does not have.
    """
    arms = sorted({arm for arm, _ in measures} | set(scores.names()))
    for claim in claims:
        for name in (claim.arm, claim.against):
            if name not in (*arms, BASE, None):
                raise ValueError(f"no arm {name!r}: {nearest(name or '', arms)}")
    return [
        _of_entropy(claim, measures) if claim.k is None else _of_scores(claim, scores, claim.k)
        for claim in claims
    ]


def _of_entropy(claim: Claim, measures: Entropies) -> ClaimVerdict:
    """Paired by seed, Student's t over seeds."""
    by_arm = {
        arm: {
            seed: values[claim.measure] for (name, seed), values in measures.items() if name == arm
        }
        for arm in (claim.arm, claim.against)
    }
    seeds = sorted(by_arm[claim.arm])
    if claim.against is not None:
        seeds = [seed for seed in seeds if seed in by_arm[claim.against]]
    difference_S = np.array(
        [
            by_arm[claim.arm][seed]
            - (by_arm[claim.against][seed] if claim.against else claim.value)
            for seed in seeds
        ]
    )
    return _student(claim, difference_S)


def _student(claim: Claim, difference_S: NDArray[np.float64]) -> ClaimVerdict:
    """The mean over seeds with Student's interval; one seed has none."""
    seeds = len(difference_S)
    if seeds < 2:
        return ClaimVerdict(claim)
    mean, error = difference_S.mean(), difference_S.std(ddof=1) / np.sqrt(seeds)
    half = special.stdtrit(seeds - 1, (1 + LEVEL) / 2) * error
    t = abs(mean) / error if error else np.inf * bool(mean)
    p_value = np.nan if claim.expect == "near" else 2 * special.stdtr(seeds - 1, -t)
    numbers = (mean, mean - half, mean + half, p_value)
    return ClaimVerdict(claim, seeds, *map(float, numbers))


def _of_scores(claim: Claim, scores: Scores, k: int) -> ClaimVerdict:
    """Paired by seed and problem, as the differences of `suite report` but for one claim alone."""
    if k not in scores.ks or not scores.seeds(claim.arm):
        return ClaimVerdict(claim)
    seeds = scores.seeds(claim.arm)
    if claim.against is None:
        return _student(claim, scores.values(claim.arm, k).mean(axis=1) - claim.value)
    base = claim.against == BASE
    having = sorted(scores.base) if base else scores.seeds(claim.against)
    seeds = [seed for seed in seeds if seed in having]
    if len(seeds) < 2:
        return ClaimVerdict(claim)
    pair = {
        claim.arm: scores.values(claim.arm, k, seeds),
        claim.against: scores.values(None if base else claim.against, k, seeds),
    }
    rng = scores.rng(claim.arm, claim.against, k, "claim")
    (compared,) = stats.compare_arms(pair, claim.against, rng=rng, level=LEVEL)
    numbers = (compared.estimate, compared.low, compared.high, compared.p_value)
    return ClaimVerdict(claim, len(seeds), *numbers)


def together(verdicts: Sequence[ClaimVerdict]) -> list[ClaimVerdict]:
    """Those whose difference from zero holds for all claims at once, by Holm's correction."""
    tested = [v for v in verdicts if np.isfinite(v.p_value)]
    if not tested:
        return []
    adjusted = stats.holm([v.p_value for v in tested])
    return [v for v, p in zip(tested, adjusted, strict=True) if p <= 1 - LEVEL]
