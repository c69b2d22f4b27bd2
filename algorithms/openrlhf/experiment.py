"""What the trainer is given besides OpenRLHF's flags."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from algorithms import Algorithm


@dataclass
class Experiment:
    """What the trainer is given besides OpenRLHF's flags. Everything here must be picklable.

    Attributes:
        algorithm: the settings object whose methods the trainer calls.
        folder: of the cell: checkpoints, policies and the final policy go below it.
        make_recorder: opens the trace file (`write`, `starting`, `begin`, `check_lease`, `fail`)
            and the `ledger` in the controller's process; see suite.worker.Recorder.
        make_grader: makes the grader there: a context manager with `.start()` and
            `.grade([(gold, response), ...])` -> verdicts; see benchmarks.grading.Grader.
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
    make_recorder: Callable[[], Any]
    make_grader: Callable[[], Any]
    evaluate: Callable[..., Any]
    benchmarks: dict[str, str] = field(default_factory=dict)
    seed: int = 0
    checkpoint_every: int = 10
    keep_checkpoints: bool = True
    evaluate_at: tuple[float, ...] = (0.0, 1.0)
    reward: str | dict[str, float] = "verified"
    diagnosed_states: int = 0
    probe_prompts: int = 0
    probe: Path = Path("probe.jsonl")
