"""The inert-arm detector: where an algorithm's gradient is not plain GRPO's.

An arm whose rollouts serve one optimizer step has r = 1 throughout: no clip can act, and what is
called a clip variant trains exactly as GRPO does. The detector compares d J / d log pi, token by
token, with that of GRPO (2510.08141 eq. 1; eps 0.2 / 0.2, the arm's own choice of `std`) at the
same log-probs and rewards. An arm in which no token ever differed is inert.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from algorithms.base import Algorithm, Batch
from algorithms.grpo import GRPO

TOLERANCE = 1e-5  # relative: the same formula in another order of operations is not a difference


def reference(algorithm: Algorithm) -> GRPO:
    """The plain GRPO that an algorithm is compared with."""
    return GRPO(std=getattr(algorithm, "std", True))


def differs_from_grpo(
    algorithm: Algorithm, log_probs_BT: Tensor, batch: Batch, reference_BT: Tensor
) -> Tensor:
    """True for each response token whose weight in the policy gradient is not GRPO's, [B, T].

    `reference_BT` are GRPO's advantages of the same rewards. Bonuses and extra samples are not
    looked at: a coefficient other than 0 or a sample with an advantage is a difference in itself.
    """
    slope_BT = _slope(algorithm, log_probs_BT, batch)
    as_grpo = replace(batch, advantages=reference_BT, marks=None)
    grpo_BT = _slope(reference(algorithm), log_probs_BT, as_grpo)
    scale_BT = slope_BT.abs() + grpo_BT.abs()
    return ((slope_BT - grpo_BT).abs() > TOLERANCE * scale_BT) & batch.inside


def _slope(algorithm: Algorithm, log_probs_BT: Tensor, batch: Batch) -> Tensor:
    """d (sum of the objective over response tokens) / d log pi, [B, T]."""
    with torch.enable_grad():
        leaf_BT = log_probs_BT.detach().requires_grad_()
        objective_BT = algorithm.objective(leaf_BT, batch)
        total = torch.where(batch.inside, objective_BT, torch.zeros_like(objective_BT)).sum()
        return torch.autograd.grad(total, leaf_BT)[0]
