"""Brings the runs of a matrix to their end: sessions, spools, statuses, retries.

The conductor never trains: it gives runs their GPUs (suite.run.places), takes in what their
workers spool, publishes, and shows progress. It can be killed at any point; the same command
continues. One conductor works on a database at a time.

An error in a run's own code ends that run; what the infrastructure takes away (a killed process,
a dead node, no memory) is tried again, from the last checkpoint. Attempts are fenced: a run's
`lease` names the attempt that may write, so a worker that is believed dead and is not stops itself.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from suite.matrix.cell import EVALUATION, Cell
from suite.matrix.command import stack_key
from suite.run.faults import fault
from suite.run.places import Held, Place
from suite.run.processes import Lost, Start
from suite.run.queue import Queue
from suite.spool.lock import only_conductor
from suite.spool.spool import path_of, write_lease
from suite.store import BadSpool, Store
from suite.workspace import Workspace

POLL_SECONDS = 0.5


class Display(Protocol):
    """What watches a run: see suite.run.progress."""

    def cell(self, cell: Cell, status: str) -> None:
        """A run's status changed."""

    def line(self, cell: Cell, row: dict[str, Any]) -> None:
        """A run's worker wrote a line."""


@dataclass(frozen=True)
class Outcome:
    """How a run ended: its status, and the message and log of a failure."""

    cell: Cell
    status: str
    error: str = ""
    log: Path | None = None


def run(
    cells: list[Cell],
    workspace: Workspace,
    display: Display,
    place: Place,
    reuse: bool | None = None,
) -> list[Outcome]:
    """Bring every run to "finished", or to "failed" with its reason; the rest goes on.

    The runs may be those of several matrices; one that is in two of them is trained once.
    `reuse` says whether runs share starts of the stack; by default the place decides. On
    KeyboardInterrupt the workers are stopped, what they wrote is published, and the interrupt is
    raised again.
    """
    with only_conductor(workspace):
        store = Store(workspace)
        try:
            return _Conductor(cells, workspace, store, display, place, reuse).to_the_end()
        finally:
            store.close()


class _Conductor:
    """The runs of one command: those that wait, and the sessions that are on."""

    def __init__(
        self,
        cells: list[Cell],
        workspace: Workspace,
        store: Store,
        display: Display,
        place: Place,
        reuse: bool | None,
    ):
        for matrix in dict.fromkeys(cell.matrix for cell in cells):
            store.register([cell for cell in cells if cell.matrix == matrix])
        cells = list({cell.id: cell for cell in cells}.values())
        self._cells, self._workspace, self._place = cells, workspace, place
        self._store, self._display = store, display
        shutil.rmtree(workspace.root / "sessions", ignore_errors=True)  # of killed workers
        self._ended: dict[str, Outcome] = {}
        for cell in cells:
            self._look(cell)
        store.publish()
        share = place.reuse if reuse is None else reuse
        self._queue = Queue(
            [cell for cell in cells if cell.id not in self._ended],
            (lambda cell: stack_key(cell, workspace)) if share else (lambda _: None),
        )
        self._sessions: list[_Session] = []

    def _look(self, cell: Cell) -> None:
        """How far earlier commands have brought a cell."""
        try:
            for row in self._store.ingest(cell.id):
                if row["kind"] == "done" and cell.algorithm != EVALUATION:  # that can be extended
                    self._store.set_status(cell.id, "finished")  # its conductor died before it
        except BadSpool as error:
            self._end(cell, "failed", str(error))
            return
        if self._store.status(cell.id) == "finished":
            self._ended[cell.id] = Outcome(cell, "finished")
        self._display.cell(cell, self._store.status(cell.id))

    def to_the_end(self) -> list[Outcome]:
        """Start what fits, follow what runs, until nothing is left."""
        try:
            while self._queue or self._sessions:
                self._admit()
                news = sum(self._follow(session) for session in list(self._sessions))
                if not news:
                    time.sleep(POLL_SECONDS)
                self._store.publish_when_due()
        except BaseException:
            with ThreadPoolExecutor(len(self._sessions) or 1) as stopping:  # each has its patience
                list(stopping.map(_Session.stop, self._sessions))
            for session in self._sessions:
                session.interrupted()
            raise
        return [self._ended[cell.id] for cell in self._cells]

    def _admit(self) -> None:
        """Sessions for the runs whose GPUs are free."""
        for cell, why in self._queue.drop(self._place.impossible):  # a node is gone for good
            self._end(cell, "failed", why)
        while cells := self._queue.take(self._place.fits, self._place.slots):
            session = _Session(
                cells, self._workspace, self._store, self._display, self._set, self._end
            )
            held = self._place.start(cells[0], session.prepare())
            if held is None:
                for cell in cells:
                    self._queue.again(cell)
                return
            session.held = held
            self._sessions.append(session)  # from now on an interrupt stops it
            session.begin()

    def _follow(self, session: _Session) -> bool:
        """Take in what a session wrote; whether there was anything. One that ended is settled."""
        code, lost = None, None
        try:
            code = session.held.poll()
        except Lost as error:
            lost = error
        taken = session.take()
        if code is None and lost is None:
            return taken > 0
        session.held.release()
        self._sessions.remove(session)
        self._settle(session, session.lost or lost, code)
        return True

    def _settle(self, session: _Session, lost: Lost | None, code: int | None) -> None:
        """After a session: the run whose turn it was is lost, the others wait again."""
        for cell in session.unfinished:
            if cell is session.running:
                self._again(session, cell, lost or _silent(code))
            else:
                self._queue.again(cell)

    def _again(self, session: _Session, cell: Cell, lost: Lost) -> None:
        attempt = session.attempts[cell.id]
        wait = self._queue.lost(cell, session.progressed)
        self._store.event(cell.id, attempt, "lost", fault=lost.kind, text=str(lost), retry_in=wait)
        if wait is None:
            self._end(cell, "failed", f"{lost}, several times without a step", session.log)
            return
        text = f"{lost.kind}: {lost}; trying again in {wait:.0f} s"
        self._display.line(cell, {"kind": "warning", "text": text})
        self._set(cell, "interrupted")

    def _end(self, cell: Cell, status: str, error: str = "", log: Path | None = None) -> None:
        self._ended[cell.id] = Outcome(cell, status, error, log)
        self._set(cell, status)

    def _set(self, cell: Cell, status: str) -> None:
        self._store.set_status(cell.id, status)
        self._store.publish()
        self._display.cell(cell, status)


def _silent(code: int | None) -> Lost:
    """An error of the run's own leaves a line; Ray ends its processes so when a raylet dies."""
    return Lost("worker lost", f"the worker ended with exit status {code} and no message")


class _Session:
    """One worker from its start to its end: its runs' attempts, spools and turns."""

    held: Held

    def __init__(
        self,
        cells: list[Cell],
        workspace: Workspace,
        store: Store,
        display: Display,
        tell: Callable[[Cell, str], None],
        end: Callable[..., None],
    ):
        """`tell` is told a run's new status, `end` how a run has ended."""
        self.unfinished = list(cells)
        self.running: Cell | None = cells[0]
        self.attempts = {cell.id: store.next_attempt(cell.id) for cell in cells}
        self.progressed = False  # the run whose turn it is has made a step
        self.lost: Lost | None = None  # what the worker itself said before it ended
        self._cells, self._workspace, self._store = cells, workspace, store
        self._display, self._tell, self._end = display, tell, end
        self.log = self._log_of(cells[0])

    def _log_of(self, cell: Cell) -> Path:
        return self._workspace.cell(cell.id) / f"attempt-{self.attempts[cell.id]:03d}.log"

    def prepare(self) -> Start:
        """The files that the worker reads, and what to start it with."""
        folders = [self._workspace.cell(cell.id) for cell in self._cells]
        self.log.unlink(missing_ok=True)  # it may be a link to that of another session
        for cell, folder in zip(self._cells, folders, strict=True):
            folder.mkdir(parents=True, exist_ok=True)
            cell.save(folder / "cell.json")
            write_lease(folder, self.attempts[cell.id])
            log = self._log_of(cell)
            if log != self.log:
                log.unlink(missing_ok=True)
                log.symlink_to(os.path.relpath(self.log, folder))
        return Start(
            [str(self._workspace.db.resolve()), *(f"{c}:{a}" for c, a in self.attempts.items())],
            os.pathsep.join(map(str, folders)),
            self.log,
        )

    def begin(self) -> None:
        """The worker has been started: its attempt's number is taken, whether it writes or not."""
        cell = self._cells[0]
        path_of(self._workspace.cell(cell.id), self.attempts[cell.id]).touch()
        self._tell(cell, "running")

    def take(self) -> int:
        """What the runs' spools have new."""
        taken = 0
        for cell in list(self.unfinished):
            try:
                rows = self._store.ingest(cell.id)
            except BadSpool as error:
                self._close(cell, "failed", str(error))
                continue
            for row in rows:
                taken += 1
                if row.get("attempt") == self.attempts[cell.id]:
                    self._line(cell, row)
        return taken

    def _line(self, cell: Cell, row: dict[str, Any]) -> None:
        if row["kind"] == "start" and cell is not self.running:
            self.running, self.progressed = cell, False
            self._tell(cell, "running")
        self.progressed |= row["kind"] in ("trace", "eval", "done")
        lost = fault(row) if row["kind"] == "failed" else None
        if lost:
            self.lost = lost
            return
        self._display.line(cell, row)
        if row["kind"] == "done":
            self._close(cell, "finished")
        elif row["kind"] == "failed":
            self._close(cell, "failed", row["error"])

    def _close(self, cell: Cell, status: str, error: str = "") -> None:
        self.unfinished.remove(cell)
        if cell is self.running:
            self.running = None
        self._end(cell, status, error, self.log if error else None)

    def stop(self) -> None:
        """End the worker, and everything of it."""
        self.held.stop()
        self.held.release()

    def interrupted(self) -> None:
        """The worker was stopped on the user's word; what it wrote is taken in."""
        for cell in list(self.unfinished):
            for row in self._store.ingest(cell.id):
                ours = row.get("attempt") == self.attempts[cell.id]
                if ours and row["kind"] in ("start", "trace", "done"):  # it "failed" by our word
                    self._line(cell, row)
        if self.running:
            self._tell(self.running, "interrupted")
