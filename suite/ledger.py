"""What an arm costs: seconds times GPUs per phase, from a monotonic clock, restart-proof.

Only the phases that produce the policy are charged: generation, reward, experience, update and
weight sync (an algorithm's extra rollouts have a phase of their own). Start-up, evaluation and
checkpoints are recorded aside and never mixed in. `state` goes into every checkpoint, so the cost
of a resumed run is that of the steps that made its policy.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

SECONDS_PER_HOUR = 3600.0


@dataclass(frozen=True)
class Budget:
    """How much each arm may spend: a limit in one unit."""

    unit: str  # "gpu_hours", "tokens" (generated in training) or "steps" (rollout batches)
    limit: float


@dataclass
class Ledger:
    """Charged and uncharged seconds by phase, and what was produced with them."""

    budget: Budget
    gpus: int
    clock: Callable[[], float] = time.monotonic
    charged: dict[str, float] = field(default_factory=dict)
    uncharged: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Charge the wall time of the block to `name`."""
        yield from self._timed(self.charged, name)

    @contextmanager
    def aside(self, name: str) -> Iterator[None]:
        """Record the wall time of the block under `name` without charging it."""
        yield from self._timed(self.uncharged, name)

    def _timed(self, account: dict[str, float], name: str) -> Iterator[None]:
        start = self.clock()
        try:
            yield
        finally:
            account[name] = account.get(name, 0.0) + self.clock() - start

    def count(self, **produced: int) -> None:
        """Add what a step produced: steps, samples, tokens."""
        for name, number in produced.items():
            self.counts[name] = self.counts.get(name, 0) + number

    def gpu_hours(self) -> float:
        """Charged seconds * GPUs held / 3600."""
        return sum(self.charged.values()) * self.gpus / SECONDS_PER_HOUR

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
        """Cumulative numbers for a trace row."""
        return {
            "gpu_hours": self.gpu_hours(),
            "budget_fraction": self.fraction(),
            "tokens": self.counts.get("tokens", 0),
            "samples": self.counts.get("samples", 0),
        }

    def state(self) -> dict[str, Any]:
        """Plain data for the checkpoint."""
        return {
            "charged": dict(self.charged),
            "uncharged": dict(self.uncharged),
            "counts": dict(self.counts),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from `state` as a checkpoint kept it."""
        self.charged = dict(state["charged"])
        self.uncharged = dict(state["uncharged"])
        self.counts = dict(state["counts"])
