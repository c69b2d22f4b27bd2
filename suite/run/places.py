"""Where runs are trained: on this machine, or on a Ray cluster (suite/run/cluster.py).

Both are asked the same: can this run ever start here (`impossible`), how many of its size fit at a
time (`slots`), does it fit now (`fits`), and give it its GPUs and start a worker on them (`start`).
What comes back is a `Held`: the worker and the GPUs that it holds, all of them or none.

On this machine a worker starts a private Ray on its share of the GPUs. On a cluster the GPUs of a
run are one placement group (two per run can deadlock on halves); the worker runs inside it, and
OpenRLHF is handed that group in place of its own. Without a GPU, GPUs are logical ones: as many as
a run asks for, on the same cores.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from typing import Protocol

from suite import machine
from suite.matrix.cell import Cell
from suite.run.cluster import Cluster
from suite.run.processes import Start, interrupt, killed, launch, oom_kills, reap


class Infeasible(RuntimeError):
    """No run can ever have these resources here."""


class Held(Protocol):
    """GPUs that a run holds, and the worker on them."""

    def poll(self) -> int | None:
        """The worker's exit status, None while it runs.

        Raises:
            Lost: it will never have one.
        """

    def stop(self) -> None:
        """Ask the worker to end as Ctrl-C would, then insist."""

    def release(self) -> None:
        """Nothing of the worker is left, and the GPUs are free."""


class Place(Protocol):
    """See the module's docstring."""

    reuse: bool  # whether runs share a start of the stack unless asked otherwise

    def impossible(self, cell: Cell) -> str | None: ...
    def slots(self, cell: Cell) -> int: ...
    def fits(self, cell: Cell) -> bool: ...
    def start(self, cell: Cell, start: Start) -> Held | None: ...
    def close(self) -> None: ...


def open_place(address: str | None, cells: list[Cell]) -> Place:
    """This machine, or the cluster at `address` ("auto", HOST:PORT); runs that never fit refused.

    Raises:
        Infeasible: a run asks for what is not there.
        NoCluster: none answers at the address.
    """
    place: Place = Cluster(address) if address else Machine()
    for cell in cells:
        problem = place.impossible(cell)
        if problem:
            place.close()
            raise Infeasible(problem)
    return place


class Machine:
    """The GPUs of this machine; without any, one run at a time on logical ones."""

    reuse = True

    def __init__(self) -> None:
        self.names = machine.gpus() if machine.device() == "gpu" else []
        self._free = set(range(len(self.names)))
        self._busy = False

    def impossible(self, cell: Cell) -> str | None:
        """An accelerator or a number of GPUs that is not here."""
        gpus, kind = cell.resources["gpus"], cell.resources["accelerator"]
        if kind and not any(kind.lower() in name.lower() for name in self.names):
            return (
                f"arm {cell.arm} wants {gpus} x {kind}, this machine has "
                f"{', '.join(self.names) or 'no GPU'}: `suite plan` works anywhere, "
                "`suite run` needs the hardware"
            )
        if self.names and gpus > len(self.names):
            return f"arm {cell.arm} wants {gpus} GPUs, this machine has {len(self.names)}"
        return None

    def slots(self, cell: Cell) -> int:
        return max(len(self.names) // cell.resources["gpus"], 1)

    def fits(self, cell: Cell) -> bool:
        return cell.resources["gpus"] <= len(self._free) if self.names else not self._busy

    def start(self, cell: Cell, start: Start) -> _Process:
        """A worker in a session of its own (Ctrl-C reaches the conductor only)."""
        reap(start.mark)  # what a killed conductor's attempt may have left
        mine = sorted(self._free)[: cell.resources["gpus"]] if self.names else []
        self._free -= set(mine)
        self._busy = True
        devices = {"CUDA_VISIBLE_DEVICES": ",".join(map(str, mine))} if mine else {}
        return _Process(launch(start, os.environ | devices), start.mark, lambda: self._return(mine))

    def _return(self, devices: list[int]) -> None:
        self._free |= set(devices)
        self._busy = False

    def close(self) -> None: ...


class _Process:
    """A worker that is a child of this process."""

    def __init__(self, worker: subprocess.Popen[bytes], mark: str, give_back: Callable[[], None]):
        self._worker, self._mark, self._give_back = worker, mark, give_back
        self._ooms = oom_kills()

    def poll(self) -> int | None:
        code = self._worker.poll()
        if code is not None and code < 0:
            raise killed(code, oom_kills() - self._ooms)
        return code

    def stop(self) -> None:
        interrupt(self._worker)

    def release(self) -> None:
        reap(self._mark)
        self._worker.wait()
        self._give_back()
