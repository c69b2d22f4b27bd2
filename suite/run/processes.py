"""A worker as a process: started, asked to end, and nothing of it left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import psutil

PATIENCE_SECONDS = 15.0  # between asking a worker to stop and killing it
MARK = "SUITE_CELL"  # environment variable of every process of a worker: its runs' folders


class Lost(RuntimeError):
    """The worker's process or machine is gone; the message says which, `kind` in one word."""

    def __init__(self, kind: str, message: str):
        super().__init__(message)
        self.kind = kind


@dataclass(frozen=True)
class Start:
    """What a worker is started with: arguments of suite.worker, its mark, its log."""

    arguments: list[str]
    mark: str
    log: Path


def launch(start: Start, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    """Start a worker of this process, in its own session, its output in its log."""
    with start.log.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "suite.worker", str(os.getpid()), *start.arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=environment | {MARK: start.mark},
        )


def interrupt(worker: subprocess.Popen[bytes]) -> None:
    """Ask a worker to end as Ctrl-C would; kill it when it does not."""
    worker.send_signal(signal.SIGINT)
    try:
        worker.wait(PATIENCE_SECONDS)
    except subprocess.TimeoutExpired:
        worker.kill()


def killed(code: int, ooms: int) -> Lost:
    """Why a worker that a signal ended is gone."""
    name = signal.Signals(-code).name
    if ooms > 0:
        return Lost("out of memory", f"the worker was killed ({name}): out of memory")
    return Lost("worker lost", f"the worker was killed ({name})")


def oom_kills() -> int:
    """How many processes the kernel has killed for memory since it started."""
    try:
        lines = Path("/proc/vmstat").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)


def reap(mark: str) -> None:
    """Kill every process here that carries a run of this mark: no two attempts ever overlap."""
    ending, folders = [], set(mark.split(os.pathsep))
    for process in psutil.process_iter():
        try:
            marks = process.environ().get(MARK, "").split(os.pathsep)
            if folders.intersection(marks) and process.pid != os.getpid():
                process.kill()
                ending.append(process)
        except (psutil.Error, OSError):
            continue
    psutil.wait_procs(ending, timeout=PATIENCE_SECONDS)
