"""DCPO: AEPO's tempered samples without sampling them, by importance weights.

Li et al. (2601.12730): A_t <- (1 - alpha) A_t + alpha 1[correct] exp(l^T_t - l_t), with l and l^T
the log-probs of pi_old at temperatures 1 and T; the weight turns a sample of pi_old into one of
pi_old^T, token by token. T is T_high while the entropy of pi_old is below the target H*, else
T_low. With `alpha: 0` it is GRPO, bit for bit. The value of alpha is ours: the rule as we have it
states none.
Left out: the training recipe, which is the matrix's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from algorithms.base import Tokens, finite, require
from algorithms.grpo import GRPO

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class DCPO(GRPO):
    """Settings of DCPO; see the module docstring."""

    target: float = 0.5  # H*, nats
    alpha: float = 0.1
    temperature_high: float = 1.2
    temperature_low: float = 0.8

    def __post_init__(self) -> None:
        super().__post_init__()
        require(finite(self.target) and self.target >= 0.0, "target", self.target, "nats, >= 0")
        require(0.0 <= self.alpha <= 1.0, "alpha", self.alpha, "in [0, 1]")
        ordered = 0.0 < self.temperature_low <= self.temperature_high
        require(ordered, "temperature_low", self.temperature_low, "in (0, temperature_high]")

    @property
    def temperatures(self) -> tuple[float, ...]:
        """Both, since entropy is known only with the log-probs."""
        return (self.temperature_low, self.temperature_high) if self.alpha else ()

    def credit(self, tokens: Tokens, state: dict[str, Any]) -> Tensor:
        """(1 - alpha) A + alpha 1[correct] exp(l^T - l)."""
        if self.alpha == 0.0:
            return tokens.advantages
        rise = state["entropy"] < self.target
        tempered_N = tokens.tempered[self.temperature_high if rise else self.temperature_low]
        weight_N = (tempered_N - tokens.log_probs).exp() * (tokens.rewards > 0.5)
        return (1.0 - self.alpha) * tokens.advantages + self.alpha * weight_N

    def initial_state(self) -> dict[str, Any]:
        """No entropy has been seen: as if it were at the target."""
        return {"entropy": self.target}

    def observe(self, state: dict[str, Any], measured: dict[str, float]) -> dict[str, Any]:
        """H(pi_old) of this step."""
        return {**state, "entropy": measured["entropy"]}

    def next_state(self, state: dict[str, Any], measured: dict[str, float]) -> dict[str, Any]:
        """The last entropy seen."""
        return self.observe(state, measured)
