"""What the trainer is given besides OpenRLHF's flags, and what it expects of what it is given."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from algorithms.base import Algorithm


class Ledger(Protocol):
    """Says what a run has cost and when its budget is spent; see suite.worker.ledger.Ledger."""

    @property
    def charged(self) -> dict[str, float]:
        """Seconds of each phase that counts against the budget."""

    def phase(self, name: str) -> AbstractContextManager[None]:
        """Charge the wall time of the block to a phase."""

    def aside(self, name: str) -> AbstractContextManager[None]:
        """Note the wall time of the block without charging it."""

    def count(self, **produced: int) -> None:
        """Add what a step produced."""

    def fraction(self) -> float:
        """Of the budget that is spent."""

    def exhausted(self) -> bool:
        """Whether all of it is."""

    def seconds(self) -> dict[str, float]:
        """By account."""

    def totals(self) -> dict[str, float]:
        """Cumulative numbers for a trace."""

    def state(self) -> dict[str, Any]:
        """Plain data for a checkpoint."""


class Recorder(Protocol):
    """Writes down what happens in a run; see suite.worker.recorder.Recorder."""

    @property
    def ledger(self) -> Ledger:
        """Of this run."""

    def starting(self) -> None:
        """The run's turn has come."""

    def begin(self, *, from_step: int, ledger: dict[str, Any] | None) -> None:
        """It trains on from a step, with the ledger's `state` of that step's checkpoint."""

    def write(self, kind: str, **fields: Any) -> None:
        """One record."""

    def check_lease(self) -> None:
        """Raises when another attempt at the run has begun."""

    def fail(self, error: BaseException) -> None:
        """The run has ended by an error."""


class Verdict(Protocol):
    """What a grader says of a response."""

    @property
    def status(self) -> str:
        """What it comes to: "correct", or anything else."""


class Grader(Protocol):
    """Grades responses, in processes of its own; see benchmarks.grading.Grader."""

    def start(self) -> None:
        """Bring the processes up before they are needed."""

    def grade(self, pairs: Iterable[tuple[str, str]]) -> Sequence[Verdict]:
        """A verdict for each (gold answer, response)."""


@dataclass
class Experiment:
    """What the trainer is given besides OpenRLHF's flags. Everything here must be picklable.

    Attributes:
        algorithm: the settings object whose methods the trainer calls.
        folder: of the cell: checkpoints, policies and the final policy go below it.
        make_recorder: opens the trace file in the controller's process.
        make_grader: makes the grader there, which ends with the context.
        evaluate: called as evaluate(generate, grader, name, path, step), yields records.
        benchmarks: name -> path of a JSON-lines file with id, problem, answer.
        seed: of prompt order and sampling.
        checkpoint_every: rollout steps between checkpoints.
        keep_checkpoints: whether those of the evaluated steps stay; else the last one alone does.
        evaluate_at: increasing fractions of the budget at which to evaluate.
        reward: the rule that turns verdicts into rewards; see rollouts.rewarded.
        diagnosed_states: states a worker on which the clip's diagnostics are taken each step.
        probe_prompts, probe: how many fixed base-model responses carry the entropy probe, and the
            file that keeps them, shared by the arms.
    """

    algorithm: Algorithm
    folder: Path
    make_recorder: Callable[[], Recorder]
    make_grader: Callable[[], AbstractContextManager[Grader]]
    evaluate: Callable[..., Iterable[dict[str, Any]]]
    benchmarks: dict[str, str] = field(default_factory=dict)
    seed: int = 0
    checkpoint_every: int = 10
    keep_checkpoints: bool = True
    evaluate_at: tuple[float, ...] = (0.0, 1.0)
    reward: str | dict[str, float] = "verified"
    diagnosed_states: int = 0
    probe_prompts: int = 0
    probe: Path = Path("probe.jsonl")
