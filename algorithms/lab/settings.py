"""What a lab experiment may set: the table with its rewards, and how it is trained. No torch."""

from __future__ import annotations

from dataclasses import dataclass

from algorithms.base import require

REWARDS = ("verifiable", "bernoulli", "gaussian")
OPTIMIZERS = ("sgd", "adam")


@dataclass(frozen=True, kw_only=True)
class Environment:
    """States, each with a softmax over actions and a reward for every action.

    Logits start as N(0, logits_std^2), plus `raise_by` on `raised` random incorrect actions of each
    state (and on the correct ones, if asked for). Which actions are correct is drawn for each state
    and seed. "bernoulli" and "gaussian" rewards (CLIP's random-reward mode) ignore the action.
    """

    states: int = 16
    actions: int = 20
    rewards: str = "verifiable"  # 1 on correct actions; or bernoulli, gaussian
    correct: int = 1  # actions of reward 1 in each state
    partial: int = 0  # further actions of reward `partial_reward`
    partial_reward: float = 0.2
    reward_mean: float = 0.5  # of the random rewards; the gaussian has variance 1
    logits_std: float = 1.0
    raised: int = 0  # incorrect actions whose logits are raised
    raise_by: float = 0.0
    raise_correct: bool = False

    def __post_init__(self) -> None:
        require(self.states >= 1, "states", self.states, ">= 1")
        require(self.actions >= 2, "actions", self.actions, ">= 2")
        require(self.rewards in REWARDS, "rewards", self.rewards, " or ".join(REWARDS))
        least = 1 if self.rewards == "verifiable" else 0
        within = least <= self.correct < self.actions
        require(within, "correct", self.correct, f"in [{least}, {self.actions - 1}]")
        for name in ("partial", "raised"):
            require(getattr(self, name) >= 0, name, getattr(self, name), ">= 0")
        for name in ("partial", "raised"):
            most = self.actions - self.correct
            require(getattr(self, name) <= most, name, getattr(self, name), f"<= {most}")
        require(self.logits_std >= 0.0, "logits_std", self.logits_std, ">= 0")
        if self.rewards == "bernoulli":
            require(0.0 <= self.reward_mean <= 1.0, "reward_mean", self.reward_mean, "in [0, 1]")


@dataclass(frozen=True, kw_only=True)
class Training:
    """How a table is trained: every iteration samples each state and takes a few full-batch steps.

    The objective is the sum over states of the mean over a state's samples: states share no
    parameters, so `lr` means the same whatever their number.
    """

    iterations: int = 100
    samples: int = 8  # G, in each state
    optimizer: str = "sgd"
    lr: float = 0.1
    optimizer_steps: int = 1  # on one batch of rollouts
    trace_every: int = 10  # iterations
    clip_range: float = 0.0  # traces the terms of CLIP's theorems at 1 +- this; 0 does not

    def __post_init__(self) -> None:
        for name in ("iterations", "optimizer_steps", "trace_every"):
            require(getattr(self, name) >= 1, name, getattr(self, name), ">= 1")
        require(self.samples >= 2, "samples", self.samples, ">= 2")
        require(self.optimizer in OPTIMIZERS, "optimizer", self.optimizer, " or ".join(OPTIMIZERS))
        require(self.lr > 0.0, "lr", self.lr, "> 0")
        require(0.0 <= self.clip_range < 1.0, "clip_range", self.clip_range, "in [0, 1)")
