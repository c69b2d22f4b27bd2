"""Credit: the algorithm's advantages and marks of every response token, once a step."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from algorithms import inert
from algorithms.base import Algorithm, Tokens
from algorithms.openrlhf.rollouts import Row


def give_credit(
    algorithm: Algorithm, rows: list[Row], state: dict[str, Any], group_size: int, seed: int
) -> None:
    """Set advantages, reference and marks of the rows, over the whole global batch at once.

    Args:
        rows: of all P * G rollouts of a step, prompt-major, as they were measured.
        state: the algorithm's, which has observed them.
        group_size: G.
        seed: of an algorithm that draws tokens at random.
    """
    rewards_PG = torch.tensor([r.rollout.reward for r in rows]).view(-1, group_size)
    lengths = [len(row.log_probs) for row in rows]
    count_B = torch.tensor(lengths)

    def spread(values_PG: Tensor) -> Tensor:
        return values_PG.reshape(-1).repeat_interleave(count_B)

    tokens = Tokens(
        advantages=spread(algorithm.advantages(rewards_PG)),
        entropy=torch.cat([row.entropy for row in rows]),
        log_probs=torch.cat([row.log_probs for row in rows]),
        rewards=spread(rewards_PG),
        tempered={t: torch.cat([row.tempered[t] for row in rows]) for t in algorithm.temperatures},
        seed=seed,
    )
    credit_N = algorithm.credit(tokens, state)
    marks_N = algorithm.marks(tokens)
    if marks_N is None:
        marks_N = torch.zeros_like(credit_N)
    reference_N = spread(inert.reference(algorithm).advantages(rewards_PG))
    columns = (x.split(lengths) for x in (credit_N, reference_N, marks_N))
    for row, *values in zip(rows, *columns, strict=True):
        row.advantages, row.reference, row.marks = values
