"""What the two sides of the clip do to entropy, state by state: CLIP's Theorems 1 and 2 as numbers.

CLIP (2509.26114) section 2. pi is the current policy, r = pi / pi_old, H the entropy of pi, and

    Q(a) = pi(a) (log pi(a) + H)     X = {a: r < 1 - eps_low}     Y = {a: r > 1 + eps_high}

p = P_pi(X), q = P_pi(Y). Under rewards that do not depend on the action, a step changes entropy by

    policy gradient    d mu nu eta (p (E[Q] - E[Q|X])       - q (E[Q] - E[Q|Y]))         Theorem 1
    natural gradient   d mu nu eta (p (E[-log pi|X] - H)    - q (E[-log pi|Y] - H))      Theorem 2

to first order in the step size eta, all expectations under pi: clip-low raises entropy and
clip-high lowers it wherever the four differences are positive. They are what is returned.
"""

from __future__ import annotations

import torch
from torch import Tensor

from algorithms.entropy import token_entropy


@torch.no_grad()
def clip_diagnostics(
    logits_NV: Tensor, old_logits_NV: Tensor, eps_low: float, eps_high: float
) -> dict[str, Tensor]:
    """The terms of Theorems 1 and 2 at each of N states.

    Args:
        logits_NV: of pi, at temperature 1; -inf marks an impossible action.
        old_logits_NV: of the policy that sampled.
        eps_low: the clip range below 1; 1.0 leaves X empty.
        eps_high: above 1; `inf` leaves Y empty.

    Returns:
        [N] each, nats where there is a unit, fp32 (fp64 for fp64 logits):
        "entropy" H; "p", "q"; "q_gap_low" E[Q] - E[Q|X]; "q_gap_high" E[Q] - E[Q|Y];
        "surprisal_gap_low" E[-log pi|X] - H; "surprisal_gap_high" E[-log pi|Y] - H.
        A difference is NaN where its X or Y has no probability. Beside the input, a handful of
        buffers of its size are held: pass few states at a time where V is large.

    Raises:
        ValueError: the two tensors have different shapes.
    """
    if logits_NV.shape != old_logits_NV.shape:
        shapes = f"{tuple(logits_NV.shape)} and {tuple(old_logits_NV.shape)}"
        raise ValueError(f"both policies need the same states and vocabulary, got {shapes}")
    log_pi, old = (_log_softmax(x) for x in (logits_NV, old_logits_NV))
    entropy_N = token_entropy(logits_NV)
    pi = log_pi.exp()
    log_pi = log_pi.masked_fill(pi == 0, 0.0)  # an impossible action weighs nothing below
    value = pi * (log_pi + entropy_N.unsqueeze(-1))
    ratio = (log_pi - old).exp()
    mean_value_N = (pi * value).sum(-1)
    result = {"entropy": entropy_N}
    for mass, side, clipped in (
        ("p", "low", ratio < 1.0 - eps_low),
        ("q", "high", ratio > 1.0 + eps_high),
    ):
        weight = pi * clipped
        mass_N = weight.sum(-1)
        result[mass] = mass_N
        result[f"q_gap_{side}"] = mean_value_N - (weight * value).sum(-1) / mass_N
        result[f"surprisal_gap_{side}"] = -(weight * log_pi).sum(-1) / mass_N - entropy_N
    return result


def entropy_change(diagnostics: dict[str, Tensor], kind: str) -> Tensor:
    """p (...) - q (...) of Theorem 1 (kind "q") or 2 ("surprisal"), [N]; an empty set adds 0."""
    low, high = (
        torch.nan_to_num(diagnostics[mass] * diagnostics[f"{kind}_gap_{side}"], nan=0.0)
        for mass, side in (("p", "low"), ("q", "high"))
    )
    return low - high


def _log_softmax(logits: Tensor) -> Tensor:
    dtype = torch.float64 if logits.dtype == torch.float64 else torch.float32
    return torch.log_softmax(logits.to(dtype), -1)
