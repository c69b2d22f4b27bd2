"""Run by test_resume.py: a worker's attempts at cells, with a SIGKILL at a set point.

    python tests/resume_probe.py DB CELL:ATTEMPT [CELL:ATTEMPT ...] [--kill CELL:STEP:POINT]

POINT is "saving": the step's checkpoint is being written, the optimizer's file is half there; or
"updating": the step's rollouts are done and its update is about to begin. The whole tree of
processes is killed then, this one first. At the POINT "fenced" nothing is killed: while the step's
checkpoint is being written, the cell's lease goes to a later attempt. Nothing else differs from
`python -m suite.worker`.
"""

import io
import os
import signal
import sys
from functools import partial
from pathlib import Path

from algorithms.openrlhf import cpu

cpu.prepare_process()

import psutil  # noqa: E402
import torch  # noqa: E402

from algorithms.openrlhf import driver  # noqa: E402
from suite.spool.spool import write_lease  # noqa: E402
from suite.worker import worker  # noqa: E402
from suite.workspace import Workspace  # noqa: E402


def kill_everything(root):
    """SIGKILL to the process `root`, to all below it, and to this one, which is among them."""
    tree = [psutil.Process(root), *psutil.Process(root).children(recursive=True)]
    for process in tree:
        if process.pid != os.getpid():
            process.kill()
    os.kill(os.getpid(), signal.SIGKILL)


def make_policy(cell, at, point):
    from algorithms.openrlhf.actor import PolicyActor

    class KilledPolicy(PolicyActor):
        root = os.getpid()  # of the process that plugs this class in

        def begin_step(self, step, state, extra=None):
            if (self.strategy.args.suite.folder.name, step, "updating") == (cell, at, point):
                kill_everything(self.root)
            super().begin_step(step, state, extra)

        def save_state(self, folder, progress=None):
            here = (folder.parent.parent.name, (progress or {}).get("step"))
            if (*here, "saving") == (cell, at, point):
                torch.save = self.half_of_the_optimizer
            super().save_state(folder, progress)
            if (*here, "fenced") == (cell, at, point):
                write_lease(folder.parent.parent, 99)

        whole = staticmethod(torch.save)

        def half_of_the_optimizer(self, state, path, *args, **kwargs):
            if "optim_states" not in str(path):
                return self.whole(state, path, *args, **kwargs)
            self.whole(state, written := io.BytesIO())
            Path(path).write_bytes(written.getvalue()[: written.tell() // 2])
            kill_everything(self.root)

    return KilledPolicy


def main():
    db, *wanted = sys.argv[1:]
    if "--kill" in wanted:
        cell, step, point = wanted.pop().split(":")
        wanted.remove("--kill")
        driver.train = partial(driver.train, policy=make_policy(cell, int(step), point))
    pairs = [one.split(":") for one in wanted]
    worker.run(Workspace(Path(db)), [(cell, int(attempt)) for cell, attempt in pairs])


if __name__ == "__main__":
    main()
