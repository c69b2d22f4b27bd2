"""What a worker writes of an attempt: the ledger's sums and lines of its spool."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from suite import machine
from suite.matrix.cell import Cell
from suite.spool.responses import Responses
from suite.spool.spool import Spool, attempts, check_lease, largest
from suite.worker.benchmarks import describe
from suite.worker.ledger import Budget, Ledger
from suite.workspace import Workspace

EXAMPLES, EXAMPLE_CHARACTERS = 2, 4000  # of each batch, kept in the database


class Recorder:
    """What the controller records with: the ledger, and lines of this attempt's spool."""

    def __init__(
        self,
        spool: Path,
        attempt: int,
        budget: Budget,
        gpus: int,
        cell: Cell | None = None,
        workspace: Workspace | None = None,
        began: float | None = None,
        **start: Any,
    ):
        """`start` are the fields of the line that says that the turn of `cell` has come.

        `began` is the time (unix seconds) from which the attempt held its GPUs, if not from now:
        another process than this one may have begun it.
        """
        self._cell, self._workspace = cell, workspace
        self._folder, self._spool = spool.parent, Spool(spool)
        self._responses = Responses(spool.parent, attempt)
        self._attempt = attempt
        self._start = start
        already = max(time.time() - began, 0.0) if began else 0.0
        self.ledger = Ledger(budget, gpus, already=already)

    def starting(self) -> None:
        """The run's turn has come: how it is run, on what, by which versions."""
        self.write(
            "start",
            **self._start,
            versions=machine.versions(),
            hardware=machine.hardware(),
            git_commit=machine.git_commit(),
        )
        if self._cell and self._workspace and self._cell.evaluate:
            record_benchmarks(self._cell, self._workspace, self.write)

    def fail(self, error: BaseException) -> None:
        """The run has ended by an error."""
        trace = "".join(traceback.format_exception(error))
        self.write("failed", error=reason(error), types=names(error), trace=trace)

    def begin(self, *, from_step: int, ledger: dict[str, Any] | None) -> None:
        """The first line after start-up: rows of earlier attempts after `from_step` are void."""
        lost = self.ledger.restore(ledger, self._held_before())
        kind = "resumed" if from_step else "training"
        self.write(kind, from_step=from_step, lost_gpu_hours=lost)

    def _held_before(self) -> float:
        """Seconds that earlier attempts held their GPUs, each to its last line."""
        earlier = [path for n, path in attempts(self._folder) if n < self._attempt]
        return sum(largest(path, "attempt_seconds") for path in earlier)

    def check_lease(self) -> None:
        """Raises suite.spool.spool.Fenced when a later attempt at the run has begun."""
        check_lease(self._folder, self._attempt)

    def write(self, kind: str, **fields: Any) -> None:
        """Append a line to the spool; the texts of evaluations go to a file of their own."""
        self.check_lease()
        if kind == "eval":
            texts = fields.pop("texts")
            self._responses.write(fields, texts)
            fields["examples"] = [text[:EXAMPLE_CHARACTERS] for text in texts[:EXAMPLES]]
        held = self.ledger.attempt_seconds()
        self._spool.write(kind, attempt=self._attempt, attempt_seconds=held, **fields)


def record_benchmarks(cell: Cell, workspace: Workspace, write: Callable[..., None]) -> None:
    """What the run is measured on, and a warning where that is not what its name promises."""
    for record in describe(cell, workspace):
        warning, overlap = record.pop("warning"), len(record["overlapping"] or ())
        write("benchmark", **record)
        if warning:
            write("warning", text=warning)
        if overlap:
            text = f"{overlap} of {record['problems']} problems of {record['benchmark']}"
            write("warning", text=f"{text} occur in the training prompts")


def reason(error: BaseException) -> str:
    """The last line that says something: what a person needs of a nested remote traceback."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[-1] if lines else "no message"
    name = type(error).__name__
    return text if isinstance(error, FileNotFoundError) or len(lines) > 1 else f"{name}: {text}"


def names(error: BaseException) -> list[str]:
    """Qualified names of an error's classes and of those that caused it, nearest first.

    An actor that died by an error of its own constructor was not lost: it adds nothing.
    """
    classes: list[str] = []
    link: BaseException | None = error
    while link is not None and len(classes) < 100:
        if not getattr(link, "actor_init_failed", False):
            kinds = type(link).__mro__[:-3]  # without Exception, BaseException, object
            classes += [f"{kind.__module__}.{kind.__qualname__}" for kind in kinds]
        link = getattr(link, "cause", None) or link.__cause__ or link.__context__
    return list(dict.fromkeys(classes))
