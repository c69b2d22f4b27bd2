"""Majority votes: what the samples of each problem answered, read back from runs.db."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from suite import stats

DRAWS = 120_000  # of k samples, shared by the problems of a benchmark; see `majority`


class Vote(NamedTuple):
    """A problem's samples: how many gave each distinct answer, which are right, how many none."""

    counts: list[int]
    correct: list[bool]
    silent: int


def read(connection: Any, run: str, benchmark: str, step: int, fraction: float) -> dict[str, Vote]:
    """problem -> vote, of one evaluation; problems whose answers were not kept are left out."""
    rows = connection.execute(
        """WITH votes AS (
               SELECT problem, unnest(answers) AS answer,
                      unnest(string_split(verdicts, '')) AS verdict
                 FROM batches
                WHERE run = ? AND benchmark = ? AND step = ? AND fraction = ?
                  AND answers IS NOT NULL)
           SELECT problem, answer, count(*), bool_or(verdict = 'c')
             FROM votes GROUP BY ALL ORDER BY ALL""",
        [run, benchmark, step, fraction],
    ).fetchall()
    by_problem: dict[str, Vote] = {}
    for problem, answer, count, correct in rows:
        vote = by_problem.setdefault(problem, Vote([], [], 0))
        if answer is None:
            by_problem[problem] = vote._replace(silent=count)
        else:
            vote.counts.append(count)
            vote.correct.append(correct)
    return by_problem


def majority(votes: list[Vote], k: int | None, rng: np.random.Generator) -> NDArray[np.float64]:
    """maj@k of each problem; k None: all of its samples vote.

    The mean over problems has a standard error of at most 1 / (2 √DRAWS), 0.0015, from drawing.
    """
    draws = max(100, DRAWS // max(len(votes), 1))
    return np.array(
        [
            stats.majority_at_k(
                vote.counts,
                vote.correct,
                k or vote.silent + sum(vote.counts),
                rng=rng,
                silent=vote.silent,
                draws=draws,
            )
            for vote in votes
        ]
    )
