"""What an arm costs: seconds times GPUs, from a monotonic clock, restart-proof.

Every second between the beginning of an attempt and its last line is in one account, and in one
alone. Charged are the phases that produce the policy: generation, reward, experience, update and
weight sync (an algorithm's extra rollouts have a phase of their own). Beside them stand evaluation,
checkpoints and the like, "start_up" (held until the first charged phase) and "idle" (held in none).

`state` goes into every checkpoint. The budget counts the steps that made the policy, which
accidents do not make dearer; what earlier attempts held and no checkpoint knows of is "lost".
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from suite.metrics import SECONDS_PER_HOUR


@dataclass(frozen=True)
class Budget:
    """How much each arm may spend: a limit in one unit."""

    unit: str  # "gpu_hours", "tokens" (generated in training) or "steps" (rollout batches)
    limit: float


@dataclass
class Ledger:
    """Seconds by account, and what was produced with them.

    Attributes:
        gpus: held from the beginning of the attempt to its end.
        already: seconds that the attempt had held them when the ledger was opened.
        charged, uncharged: seconds by phase, of all attempts that the policy goes back to.
        lost: seconds of earlier attempts that it does not go back to.
        counts: steps, optimizer_steps, samples and tokens that made the policy.
    """

    budget: Budget
    gpus: int
    clock: Callable[[], float] = time.monotonic
    already: float = 0.0
    charged: dict[str, float] = field(default_factory=dict)
    uncharged: dict[str, float] = field(default_factory=dict)
    lost: float = 0.0
    counts: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._since = self.clock()  # the seconds before are in their account
        self._opened = self._since - self.already
        self._into: tuple[dict[str, float], str] | None = None
        self._started = False
        self.uncharged["start_up"] = self.uncharged.get("start_up", 0.0) + self.already

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Charge the wall time of the block to `name`."""
        self._settle()
        self._started = True
        yield from self._timed(self.charged, name)

    @contextmanager
    def aside(self, name: str) -> Iterator[None]:
        """Record the wall time of the block under `name` without charging it."""
        yield from self._timed(self.uncharged, name)

    def _timed(self, account: dict[str, float], name: str) -> Iterator[None]:
        """A block within another one is taken out of it."""
        self._settle()
        outer, self._into = self._into, (account, name)
        try:
            yield
        finally:
            self._settle()
            self._into = outer

    def _settle(self) -> None:
        """Put the seconds since the last time into the account they belong to."""
        now = self.clock()
        account, name = self._into or (self.uncharged, "idle" if self._started else "start_up")
        account[name] = account.get(name, 0.0) + now - self._since
        self._since = now

    def count(self, **produced: int) -> None:
        """Add what a step produced: steps, optimizer_steps, samples, tokens."""
        for name, number in produced.items():
            self.counts[name] = self.counts.get(name, 0) + number

    def attempt_seconds(self) -> float:
        """Since the beginning of this attempt."""
        return self.clock() - self._opened

    def seconds(self) -> dict[str, float]:
        """By account, "lost" included: together, all that was held for this policy."""
        self._settle()
        return {**self.charged, **self.uncharged, "lost": self.lost}

    def gpu_hours(self) -> float:
        """Charged seconds * GPUs held / 3600."""
        return self._hours(sum(self.charged.values()))

    def _hours(self, seconds: float) -> float:
        return seconds * self.gpus / SECONDS_PER_HOUR

    def spent(self) -> float:
        """In the budget's unit."""
        if self.budget.unit == "gpu_hours":
            return self.gpu_hours()
        return float(self.counts.get(self.budget.unit, 0))

    def fraction(self) -> float:
        """Of the budget; above 1 by the last step's overshoot."""
        return self.spent() / self.budget.limit

    def exhausted(self) -> bool:
        """True at the first step boundary at or past the budget."""
        return self.spent() >= self.budget.limit

    def totals(self) -> dict[str, float]:
        """Cumulative numbers for a trace row; `held_gpu_hours` is the sum of all accounts."""
        return {
            "gpu_hours": self.gpu_hours(),
            "held_gpu_hours": self._hours(sum(self.seconds().values())),
            "lost_gpu_hours": self._hours(self.lost),
            "budget_fraction": self.fraction(),
            **{n: self.counts.get(n, 0) for n in ("tokens", "samples", "optimizer_steps")},
        }

    def state(self) -> dict[str, Any]:
        """Plain data for the checkpoint."""
        self._settle()
        return {
            "charged": dict(self.charged),
            "uncharged": dict(self.uncharged),
            "lost": self.lost,
            "counts": dict(self.counts),
        }

    def restore(self, state: dict[str, Any] | None, held: float) -> float:
        """Continue from `state` as a checkpoint kept it; None is the beginning.

        This attempt's own seconds stay. `held` are those of all earlier ones: what the checkpoint
        does not know of is lost.

        Returns:
            The GPU-hours that were lost since the checkpoint.
        """
        state = state or {"charged": {}, "uncharged": {}, "lost": 0.0, "counts": {}}
        for account in ("charged", "uncharged"):
            ours = getattr(self, account)
            for name, seconds in state[account].items():
                ours[name] = ours.get(name, 0.0) + seconds
        self.count(**state["counts"])
        counted = sum(state["charged"].values()) + sum(state["uncharged"].values()) + state["lost"]
        lost = max(held - counted, 0.0)
        self.lost += state["lost"] + lost
        return self._hours(lost)
