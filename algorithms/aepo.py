"""AEPO: entropy steered by REINFORCE on correct samples drawn hotter or colder than the policy.

AEPO (2510.08141) eq. 1:

    J = J_GRPO + alpha E[ min(r R, clip(r, 1 - eps, 1 + eps) R) ],   samples from pi_old^T

R in the place of the advantage lets only correct samples count: no group normalisation, no
negatives. r is at temperature 1 on both sides. T = T_high while the entropy of pi_old is below the
target (Lemma B.5: hot samples raise entropy), else T_low. Drawing ends at 60 positive samples when
entropy must rise, 30 when it must fall; the mean is over all samples drawn. Without a positive
sample the term is 0 and the step is plain GRPO. With `coefficient: 0` it is GRPO, bit for bit.

`inject: replace` is the reference code instead of the equation: positives take the places of the
batch's first rows. `entropy_estimator: sampled` is its entropy, -mean log pi(sampled token).
Ablations (Table 3): eq. 2 draws at T = 1; eq. 3 keeps negatives, group-normalised. Fig. 2 has the
REINFORCE term alone. alpha is not given in the paper, and its code has none: there a positive
weighs as much as a row of the batch. 1 is ours. Left out: the code's fixed quarter of the batch's
prompts; here drawing ends with the quota.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from algorithms.base import ExtraRollouts, finite, require
from algorithms.grpo import GRPO

if TYPE_CHECKING:
    from torch import Tensor

ESTIMATORS = {"exact": "entropy", "sampled": "entropy_sampled"}  # setting -> measured quantity


@dataclass(frozen=True, kw_only=True)
class AEPO(GRPO):
    """Settings of AEPO; see the module docstring."""

    target: float = 0.5  # nats; the paper's sweep is 0.25, 0.5, 0.75, 1.0
    coefficient: float = 1.0  # alpha
    temperature_high: float = 1.2  # T while entropy is below the target
    temperature_low: float = 0.8  # T otherwise
    positives_up: int = 60  # positive samples a step when entropy must rise
    positives_down: int = 30  # when it must fall
    prompts: float = 1.0  # largest share of the step's prompts to draw again
    inject: str = "append"
    entropy_estimator: str = "exact"

    def __post_init__(self) -> None:
        super().__post_init__()
        reachable = finite(self.target) and self.target >= 0.0
        require(reachable, "target", self.target, "nats, >= 0")
        weight = finite(self.coefficient) and self.coefficient >= 0.0
        require(weight, "coefficient", self.coefficient, ">= 0 and finite")
        ordered = 0.0 < self.temperature_low <= self.temperature_high
        require(ordered, "temperature_low", self.temperature_low, "in (0, temperature_high]")
        hottest = self.temperature_high <= 2.0
        require(hottest, "temperature_high", self.temperature_high, "<= 2 (vLLM samples no hotter)")
        for name in ("positives_up", "positives_down"):
            quota = getattr(self, name)
            require(isinstance(quota, int) and quota >= 1, name, quota, "a whole number >= 1")
        require(0.0 < self.prompts <= 1.0, "prompts", self.prompts, "in (0, 1]")
        choices = ("append", "replace")
        require(self.inject in choices, "inject", self.inject, " or ".join(choices))
        estimator = self.entropy_estimator
        require(estimator in ESTIMATORS, "entropy_estimator", estimator, " or ".join(ESTIMATORS))

    def extra_rollouts(self, state: dict[str, Any]) -> ExtraRollouts | None:
        """T and the quota of positives for `state["entropy"]`; None while alpha is 0."""
        if self.coefficient == 0.0:
            return None
        rise = state["entropy"] < self.target
        return ExtraRollouts(
            temperature=self.temperature_high if rise else self.temperature_low,
            positives=self.positives_up if rise else self.positives_down,
            prompts=self.prompts,
            coefficient=self.coefficient,
            inject=self.inject,
        )

    def extra_advantages(self, rewards_PG: Tensor) -> Tensor:
        """R itself: 1 for a correct sample, 0 for the others."""
        return (rewards_PG > 0.5).to(rewards_PG.dtype)

    def initial_state(self) -> dict[str, Any]:
        """No entropy has been seen: as if it were at the target."""
        return {"entropy": self.target}

    def observe(self, state: dict[str, Any], measured: dict[str, float]) -> dict[str, Any]:
        """H(pi_old) of this step, by the chosen estimator."""
        return {**state, "entropy": measured[ESTIMATORS[self.entropy_estimator]]}

    def next_state(self, state: dict[str, Any], measured: dict[str, float]) -> dict[str, Any]:
        """The last entropy seen."""
        return self.observe(state, measured)


@dataclass(frozen=True, kw_only=True)
class AEPOEq2(AEPO):
    """Ablation eq. 2 (Table 3): the REINFORCE term from samples at temperature 1."""

    temperature_high: float = 1.0
    temperature_low: float = 1.0


@dataclass(frozen=True, kw_only=True)
class AEPOEq3(AEPO):
    """Ablation eq. 3 (Table 3): group-normalised advantages of all tempered samples."""

    def extra_advantages(self, rewards_PG: Tensor) -> Tensor:
        """The advantages of GRPO, negatives kept."""
        return self.advantages(rewards_PG)


@dataclass(frozen=True, kw_only=True)
class AEPOReinforce(AEPO):
    """The REINFORCE term alone (Fig. 2): J without J_GRPO."""

    def advantages(self, rewards_PG: Tensor) -> Tensor:
        """No advantage: ordinary rollouts are measured and not trained on."""
        return rewards_PG.new_zeros(rewards_PG.shape)
