"""The tables themselves: initial logits and rewards of each run, and sampling from a softmax.

Every run is a function of its own seed alone: it draws from generators of its own, so it does not
matter which runs are trained beside it, and two arms with the same seed start from the same table
and see the same random numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from algorithms.lab.settings import Environment

AHEAD = 64  # iterations whose random numbers are drawn at once
TABLE, ROLLOUTS, REWARDS, EXTRA, EXTRA_REWARDS = range(5)  # what a generator is for


def generator(seed: int, purpose: int) -> torch.Generator:
    """The source of randomness of one run for one purpose."""
    return torch.Generator().manual_seed(seed * 16 + purpose)


@dataclass(frozen=True)
class Tables:
    """logits_RSV before training; rewards_RSV of each action (correct: 1)."""

    logits_RSV: Tensor
    rewards_RSV: Tensor


def make_tables(environment: Environment, seeds: list[int]) -> Tables:
    """The initial policy and the rewards of each run."""
    pairs = [_table(environment, generator(seed, TABLE)) for seed in seeds]
    logits, rewards = zip(*pairs, strict=True)
    return Tables(torch.stack(logits), torch.stack(rewards))


def _table(environment: Environment, source: torch.Generator) -> tuple[Tensor, Tensor]:
    """logits_SV and rewards_SV of one run."""
    shape = (environment.states, environment.actions)
    logits = environment.logits_std * torch.randn(shape, generator=source)
    rewards = torch.zeros(shape)
    order = torch.rand(shape, generator=source).argsort(-1)
    correct, others = order[:, : environment.correct], order[:, environment.correct :]
    rewards.scatter_(1, others[:, : environment.partial], environment.partial_reward)
    rewards.scatter_(1, correct, 1.0)
    shuffled = torch.rand(others.shape, generator=source).argsort(-1)[:, : environment.raised]
    raised = others.gather(1, shuffled)
    if environment.raise_correct:
        raised = torch.cat([raised, correct], 1)
    lift = torch.full(raised.shape, float(environment.raise_by))
    return logits.scatter_add_(1, raised, lift), rewards


class Stream:
    """Uniform or normal numbers of one shape for each run, [R, *shape], one draw an iteration."""

    def __init__(
        self, seeds: list[int], purpose: int, shape: tuple[int, ...], normal: bool = False
    ):
        self._sources = [generator(seed, purpose) for seed in seeds]
        self._shape = (AHEAD, *shape)
        self._draw = torch.randn if normal else torch.rand
        self._used, self._drawn = AHEAD, torch.empty(0)

    def next(self) -> Tensor:
        """The numbers of the next iteration."""
        if self._used == AHEAD:
            drawn = [self._draw(self._shape, generator=source) for source in self._sources]
            self._drawn, self._used = torch.stack(drawn, 1), 0
        self._used += 1
        return self._drawn[self._used - 1]


def sample(probabilities_RSV: Tensor, uniform_RSG: Tensor) -> Tensor:
    """Actions [R, S, G] by inversion of the cumulative distribution."""
    cumulative = probabilities_RSV.cumsum(-1)
    actions = torch.searchsorted(cumulative, uniform_RSG * cumulative[..., -1:], right=True)
    return actions.clamp_(max=probabilities_RSV.shape[-1] - 1)


class Rewarder:
    """The rewards of sampled actions: looked up in the table, or random."""

    def __init__(self, environment: Environment, seeds: list[int], shape: tuple[int, int]):
        self._kind, self._mean = environment.rewards, environment.reward_mean
        normal = self._kind == "gaussian"
        self._streams = {
            purpose: Stream(seeds, purpose, shape, normal) for purpose in (REWARDS, EXTRA_REWARDS)
        }

    def __call__(self, rewards_RSV: Tensor, actions_RSG: Tensor, purpose: int = REWARDS) -> Tensor:
        """[R, S, G]."""
        if self._kind == "verifiable":
            return rewards_RSV.gather(-1, actions_RSG)
        drawn = self._streams[purpose].next()
        return self._mean + drawn if self._kind == "gaussian" else (drawn < self._mean).float()
