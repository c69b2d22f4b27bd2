"""AEnt's Propositions 1(I) and 2 in a bandit (horizon 1): what low and what rewarded entropy cost.

AEnt (2509.03493). Proposition 1(I): the gradient of the expected reward is at most 2 H(pi), so
learning stalls where entropy is gone. Proposition 2: the policy that maximises reward + lambda *
entropy misses the best reward by at most lambda log(V / |A*|); with the entropy clamped to a set of
k actions it is log(k / |A*|) instead of log(V / |A*|). A* are the actions of the highest reward.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from algorithms.base import require

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class GradientBound:
    """Proposition 1(I) on random policies from flat to peaked, rewards in [0, 1]."""

    policies: int = 2000
    actions: int = 50

    def __post_init__(self) -> None:
        require(self.policies >= 1, "policies", self.policies, ">= 1")
        require(self.actions >= 2, "actions", self.actions, ">= 2")

    def measure(self, seed: int) -> dict[str, float]:
        """The largest |grad V| / 2H in the Euclidean norm and the 1-norm; violations of either.

        dV/dz_a = pi_a (r_a - V).
        """
        import torch

        from algorithms.entropy import token_entropy

        source = torch.Generator().manual_seed(seed)
        scale = 10 ** (2 * torch.rand(self.policies, 1, generator=source).double() - 1)
        z = scale * torch.randn(self.policies, self.actions, generator=source).double()
        rewards = torch.rand(z.shape, generator=source).double()
        rewards[::2] = rewards[::2].round()  # half of them verifiable, 0 or 1
        pi = z.softmax(-1)
        gradient = pi * (rewards - (pi * rewards).sum(-1, keepdim=True))
        bound = 2 * token_entropy(z)
        ratio_2, ratio_1 = gradient.norm(dim=-1) / bound, gradient.abs().sum(-1) / bound
        return {
            "largest_ratio": float(ratio_2.max()),
            "largest_ratio_1norm": float(ratio_1.max()),
            "violations": float((torch.maximum(ratio_1, ratio_2) > 1).double().mean()),
        }


@dataclass(frozen=True, kw_only=True)
class BonusBias:
    """Proposition 2: the regularised optimum, pi ~ exp(r / lambda), in closed form."""

    problems: int = 500
    actions: int = 1000
    clamp_size: int = 20  # of the clamped set, which holds the best actions
    correct: int = 5
    coefficient_low: float = 0.01  # lambda is drawn between these, uniformly in its logarithm
    coefficient_high: float = 1.0

    def __post_init__(self) -> None:
        require(0 < self.correct <= self.clamp_size, "correct", self.correct, "in (0, clamp_size]")
        require(self.clamp_size <= self.actions, "clamp_size", self.clamp_size, "at most actions")
        ordered = 0 < self.coefficient_low <= self.coefficient_high
        require(ordered, "coefficient_low", self.coefficient_low, "in (0, coefficient_high]")

    def measure(self, seed: int) -> dict[str, float]:
        """Mean bias and bound of both bonuses, and the share of problems beyond their bound."""
        import torch

        source = torch.Generator().manual_seed(seed)
        drawn = torch.rand(self.problems, self.actions, generator=source).double()
        rewards = torch.where(torch.rand(self.problems, 1, generator=source) < 0.5, drawn, 0.0)
        rewards[:, : self.correct] = 1.0
        low, high = (torch.tensor(x).log() for x in (self.coefficient_low, self.coefficient_high))
        coefficient = (low + (high - low) * torch.rand(self.problems, 1, generator=source)).exp()
        result = {}
        for name, size in (("full", self.actions), ("clamped", self.clamp_size)):
            bias = _bias(rewards.topk(size, -1).values, coefficient)
            bound = coefficient[:, 0] * torch.tensor(size / self.correct).log()
            result[f"bias_{name}"] = float(bias.mean())
            result[f"bound_{name}"] = float(bound.mean())
            result[f"violations_{name}"] = float((bias > bound + 1e-9).double().mean())
        return result


def _bias(rewards_NV: Tensor, coefficient_N1: Tensor) -> Tensor:
    """The best reward minus that of softmax(r / lambda), [N]."""
    pi = (rewards_NV / coefficient_N1).softmax(-1)
    return rewards_NV.amax(-1) - (pi * rewards_NV).sum(-1)
