"""Which runs go next: a fair order, shares of a session, retries with back-off. No processes.

Runs wait in matrix order, seeds outermost, so a half-finished matrix already compares all arms.
A run that does not fit now lets later ones pass, but not for ever: after `PASSES` of them nothing
behind it is admitted until it has started. A run whose attempt was lost to the infrastructure goes
back to its place and waits a while, longer each time; it is given up after `LOSSES` attempts in a
row that brought it no step further.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from suite.matrix.cell import Cell

PASSES = 8
LOSSES = 4
BACKOFF_SECONDS = (2.0, 10.0, 60.0)  # before the second, third, fourth attempt without progress


@dataclass
class _Waiting:
    cell: Cell
    position: int
    not_before: float = 0.0
    passed: int = 0


class Queue:
    """The runs that wait for their turn.

    Args:
        cells: in matrix order.
        share: runs of one key can go through one start of the stack; None: alone.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        cells: list[Cell],
        share: Callable[[Cell], str | None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._clock = clock
        self._waiting = [_Waiting(cell, position) for position, cell in enumerate(cells)]
        self._position = {cell.id: position for position, cell in enumerate(cells)}
        self._key = {cell.id: share(cell) for cell in cells}
        self._losses: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def take(
        self, fits: Callable[[Cell], bool], slots: Callable[[Cell], int] = lambda _: 1
    ) -> list[Cell]:
        """The runs of the next session, the first one first; [] when none can start now.

        Args:
            fits: whether a run's resources are free now.
            slots: how many sessions of a run's size all resources together hold: the waiting runs
                that could share a session are dealt out over so many.
        """
        now = self._clock()
        blocked: list[_Waiting] = []
        for waiting in self._waiting:
            if waiting.not_before > now:
                continue
            if fits(waiting.cell):
                for passed in blocked:
                    passed.passed += 1
                return self._session(waiting, max(slots(waiting.cell), 1), now)
            if waiting.passed >= PASSES:
                return []
            blocked.append(waiting)
        return []

    def _session(self, head: _Waiting, slots: int, now: float) -> list[Cell]:
        key = self._key[head.cell.id]
        ready = [w for w in self._waiting if w is head or w.not_before <= now]
        same = [w for w in ready if w is head or (key and self._key[w.cell.id] == key)]
        session = same[same.index(head) :: slots]
        self._waiting = [w for w in self._waiting if w not in session]
        return [w.cell for w in session]

    def again(self, cell: Cell) -> None:
        """Back to its place: its turn had not come when its session ended."""
        self._put(cell, 0.0)

    def lost(self, cell: Cell, progressed: bool) -> float | None:
        """Back to its place after an attempt that the infrastructure ended.

        Returns the seconds until its next attempt; None: it is given up and is not in the queue.
        """
        losses = 1 if progressed else self._losses.get(cell.id, 0) + 1
        self._losses[cell.id] = losses
        if losses >= LOSSES:
            return None
        wait = BACKOFF_SECONDS[losses - 1]
        self._put(cell, self._clock() + wait)
        return wait

    def _put(self, cell: Cell, not_before: float) -> None:
        self._waiting.append(_Waiting(cell, self._position[cell.id], not_before))
        self._waiting.sort(key=lambda waiting: waiting.position)

    def drop(self, reason: Callable[[Cell], str | None]) -> list[tuple[Cell, str]]:
        """Take out the runs that can never start, with why."""
        dropped = [(w.cell, why) for w in self._waiting if (why := reason(w.cell))]
        gone = {cell.id for cell, _ in dropped}
        self._waiting = [w for w in self._waiting if w.cell.id not in gone]
        return dropped
