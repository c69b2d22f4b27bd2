"""What a trainer asks of an algorithm: the methods that a paper may change, with neutral defaults.

The OpenRLHF trainer and the lab call exactly these and know no algorithm by name. One step is

    rollouts -> advantages -> credit (per token), marks -> observe -> extra_rollouts
             -> objective + bonus, several optimizer steps -> next_state

Shapes are those of algorithms.objective; _N counts all response tokens of the global batch. `state`
is plain data (numbers, strings, booleans): it is saved in the checkpoint and the same on all ranks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Tokens:
    """All response tokens of a step's rollouts, over the whole global batch, in one dimension [N].

    Attributes:
        advantages: of the response each token belongs to, as `advantages` gave it.
        entropy: H_t of the policy that sampled, nats.
        log_probs: log pi_old(a_t) at temperature 1.
        rewards: R of the response.
        tempered: T -> log pi_old^T(a_t) for each of the algorithm's `temperatures`.
        seed: for an algorithm that draws tokens at random; a function of the run's seed and step.
    """

    advantages: Tensor
    entropy: Tensor
    log_probs: Tensor
    rewards: Tensor
    tempered: dict[float, Tensor] = field(default_factory=dict)
    seed: int = 0


@dataclass(frozen=True)
class Batch:
    """What an objective sees of a micro-batch besides the log-probs that it is differentiated in.

    Attributes:
        old_log_probs: log pi_old(a_t) at temperature 1, [B, T].
        advantages: of each token, as `credit` gave them, [B, T].
        mask: 1 on response tokens, [B, T]; None: every token is one.
        marks: what `marks` gave each token, [B, T]; None: nothing.
    """

    old_log_probs: Tensor
    advantages: Tensor
    mask: Tensor | None = None
    marks: Tensor | None = None

    @property
    def inside(self) -> Tensor:
        """Whether a token belongs to a response, [B, T] of booleans."""
        if self.mask is None:
            return self.advantages.new_ones(self.advantages.shape).bool()
        return self.mask.bool()


@dataclass(frozen=True)
class ExtraRollouts:
    """What an algorithm samples besides the step's rollouts, from the same prompts.

    Attributes:
        temperature: of the sampling.
        positives: samples with a reward above 1/2 after which drawing ends.
        prompts: the largest share of the step's prompts to draw again, in (0, 1].
        coefficient: the weight of their objective.
        inject: "append" (the mean over all samples drawn is added to the objective) or "replace"
            (they take the places of the batch's first rows).
    """

    temperature: float
    positives: int
    prompts: float = 1.0
    coefficient: float = 1.0
    inject: str = "append"

    def __getitem__(self, name: str) -> Any:
        """The attribute of that name: notebooks read `extra_rollouts(state)["temperature"]`.

        Raises:
            KeyError: there is none.
        """
        try:
            return vars(self)[name]
        except KeyError:
            raise KeyError(f"no {name!r} among {', '.join(vars(self))}") from None


@dataclass(frozen=True, kw_only=True)
class Algorithm:
    """The hooks; a subclass is a frozen, validated settings object that overrides a few."""

    only_ratio: ClassVar[bool] = False  # whether it is GRPO wherever r is 1
    unused: ClassVar[tuple[str, ...]] = ()  # inherited settings that have no effect

    def group_problem(self, group: int) -> str | None:
        """Why groups of this many responses give no signal, or None."""
        return None

    # Credit: before the update, once a step

    def advantages(self, rewards_PG: Tensor) -> Tensor:
        """The advantage of each response, [P, G], from the rewards of its group."""
        raise NotImplementedError

    def shape(self, advantages_BT: Tensor, entropy_BT: Tensor) -> Tensor:
        """Per-token advantages; by default every token of a response has the same one."""
        return advantages_BT

    def credit(self, tokens: Tokens, state: dict[str, Any]) -> Tensor:
        """`shape` for algorithms that need more than the entropy: advantages [N]."""
        return self.shape(tokens.advantages, tokens.entropy)

    def marks(self, tokens: Tokens) -> Tensor | None:
        """A number for each token, [N], that comes back to `objective` as batch.marks; or None."""
        return None

    @property
    def temperatures(self) -> tuple[float, ...]:
        """Temperatures other than 1 at which `credit` needs the old log-probs."""
        return ()

    # Objective: in every optimizer step

    def objective(self, log_probs_BT: Tensor, batch: Batch) -> Tensor:
        """The objective of each token, [B, T], to be maximised, differentiable in log_probs_BT."""
        raise NotImplementedError

    def clipped(self, log_probs_BT: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Which tokens the clip silenced, [B, T] each: "clip_low" and "clip_high", apart."""
        raise NotImplementedError

    def surrogate(
        self,
        log_probs_BT: Tensor,
        old_log_probs_BT: Tensor,
        advantages_BT: Tensor,
        mask_BT: Tensor | None = None,
        marks_BT: Tensor | None = None,
    ) -> Tensor:
        """`objective` of loose tensors, for notebooks and checks; override that, not this."""
        batch = Batch(old_log_probs_BT, advantages_BT, mask_BT, marks_BT)
        return self.objective(log_probs_BT, batch)

    def clip_events(
        self,
        log_probs_BT: Tensor,
        old_log_probs_BT: Tensor,
        advantages_BT: Tensor,
        mask_BT: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """`clipped` of loose tensors, for notebooks and checks; override that, not this."""
        return self.clipped(log_probs_BT, Batch(old_log_probs_BT, advantages_BT, mask_BT))

    @property
    def has_bonus(self) -> bool:
        """Whether this algorithm defines a statistic to measure and reward."""
        return type(self).bonus_statistic is not Algorithm.bonus_statistic

    def bonus_statistic(self, logits: Tensor) -> Tensor:
        """The statistic of each token that a bonus rewards, [...] of logits [..., V] at T = 1."""
        raise NotImplementedError

    def bonus_coefficient(self, state: dict[str, Any]) -> float:
        """lambda, the weight of the bonus at this state; 0 without a bonus."""
        return 0.0

    def bonus(self, logits: Tensor, state: dict[str, Any] | None = None) -> Tensor | None:
        """lambda * statistic, [...]: what is added to the objective of each token, or None."""
        coefficient = self.bonus_coefficient(self.initial_state() if state is None else state)
        return coefficient * self.bonus_statistic(logits) if coefficient else None

    # A second rollout

    def extra_rollouts(self, state: dict[str, Any]) -> ExtraRollouts | None:
        """What to sample besides, given the observed state; None for nothing."""
        return None

    def extra_advantages(self, rewards_PG: Tensor) -> Tensor:
        """The advantage of each extra sample, [P, G]; those of 0 are not trained on."""
        raise NotImplementedError

    # The controller

    def initial_state(self) -> dict[str, Any]:
        """The state before the first step."""
        return {}

    def observe(self, state: dict[str, Any], measured: dict[str, float]) -> dict[str, Any]:
        """The state once this step's rollouts are measured, before the update.

        `measured` has "entropy" and "entropy_sampled" (of pi_old in nats, exact and by the
        log-probs of its samples), "reward" (their mean) and "epoch" (from 1).
        """
        return state

    def next_state(self, state: dict[str, Any], measured: dict[str, float]) -> dict[str, Any]:
        """The state after a step in which `measured` was seen over the whole global batch.

        Besides what `observe` has, that is "bonus_statistic", the mean over the step's objective.
        """
        return state


def finite(value: float) -> bool:
    """Whether it is a number, and neither nan nor an infinity."""
    return isinstance(value, int | float) and math.isfinite(value)


def require(condition: bool, name: str, value: object, expected: str) -> None:
    """ValueError "NAME must be EXPECTED, got VALUE" unless the condition holds."""
    if not condition:
        raise ValueError(f"{name} must be {expected}, got {value!r}")
