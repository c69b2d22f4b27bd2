"""Which cells go next: a fair order, shares of a session, retries with back-off. No processes.

Cells wait in matrix order, seeds outermost, so a half-finished matrix already compares all arms.
A cell that does not fit now lets later ones pass, but not for ever: after `PASSES` of them nothing
behind it is admitted until it has run. A cell whose attempt was lost to the infrastructure goes
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
    """The cells that still have to run.

    Args:
        cells: in matrix order.
        share: cells of one key can go through one start of the stack; None: alone.
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
        """The cells of the next session, the first one first; [] when none can start now.

        Args:
            fits: whether a cell's resources are free now.
            slots: how many sessions of a cell's size all resources together hold: the waiting cells
                that could share a session are dealt out over so many.
        """
        now = self._clock()
        blocked: list[_Waiting] = []
        for first in self._waiting:
            if first.not_before > now:
                continue
            if fits(first.cell):
                for passed in blocked:
                    passed.passed += 1
                return self._session(first, max(slots(first.cell), 1), now)
            if first.passed >= PASSES:
                return []
            blocked.append(first)
        return []

    def _session(self, first: _Waiting, slots: int, now: float) -> list[Cell]:
        key = self._key[first.cell.id]
        ready = [w for w in self._waiting if w is first or w.not_before <= now]
        same = [w for w in ready if w is first or (key and self._key[w.cell.id] == key)]
        same = same[same.index(first) :]
        chosen = same[::slots]
        self._waiting = [w for w in self._waiting if w not in chosen]
        return [w.cell for w in chosen]

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
        """Take out the cells that can never run, with why."""
        found = [(w.cell, why) for w in self._waiting if (why := reason(w.cell))]
        gone = {cell.id for cell, _ in found}
        self._waiting = [w for w in self._waiting if w.cell.id not in gone]
        return found
