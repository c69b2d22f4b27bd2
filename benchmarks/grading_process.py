"""The parent's side of a grading worker: start it, ask it, keep its time, end it."""

import contextlib
import json
import os
import select
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import IO

from benchmarks.answers import Question, Status

SCRIPT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "grading_worker.py")
STARTUP_SECONDS = 120.0  # importing SymPy takes under a second, on a crowded machine many
_STATUSES: dict[bytes, Status] = {b"c": "correct", b"w": "wrong"}


class Worker:
    """One child process; started when first needed, and again after it died or was killed.

    memory_bytes: its address space; it needs about 65 MB itself.
    """

    def __init__(self, memory_bytes: int) -> None:
        self._memory_bytes = memory_bytes
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The process id of the child, None when there is none."""
        return None if self._process is None else self._process.pid

    def ready(self) -> subprocess.Popen[bytes]:
        """The child, started unless it runs; RuntimeError when it cannot start."""
        if self._process is None or self._process.poll() is not None:
            return self._start()
        return self._process

    def decide(self, questions: Sequence[Question], timeout: float) -> Iterator[Status]:
        """One status a question, in order, each within `timeout` seconds of the one before.

        The child finds the next question waiting when it has answered one. A child that overruns
        or dies has not decided, and a new one takes over what is left.
        """
        sent = 0
        for number in range(len(questions)):
            process = self.ready()
            for question in questions[sent : number + 2]:
                _send(process, question)
            sent = min(number + 2, len(questions))
            status = _STATUSES.get(_read(process, 1, timeout))
            if status is None:
                self.kill()
                sent = number + 1
            yield status or "timeout"

    def interrupt(self) -> None:
        """End the child from another thread; the thread that is waiting for it cleans up."""
        process = self._process
        if process is not None:
            process.kill()

    def kill(self) -> None:
        """End the child, whatever it is doing, and collect it."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for pipe in _pipes(process):
                pipe.close()

    def _start(self) -> subprocess.Popen[bytes]:
        self.kill()
        command = [sys.executable, "-P", SCRIPT, "--memory", str(self._memory_bytes)]
        command += ["--parent", str(os.getpid())]
        # A fixed hash seed: the order of SymPy's sets must not change a verdict between runs.
        environment = os.environ | {"PYTHONHASHSEED": "0", "OPENBLAS_NUM_THREADS": "1"}
        process = self._process = subprocess.Popen(
            command,
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            start_new_session=True,  # Ctrl-C belongs to the parent
        )
        greeting = _read(process, 1, STARTUP_SECONDS)
        if greeting != b"+":
            reason = _read(process, 2000, STARTUP_SECONDS) if greeting == b"!" else b"no greeting"
            self.kill()
            raise RuntimeError(f"the grading worker did not start: {reason.decode()}")
        return process


def _pipes(process: subprocess.Popen[bytes]) -> tuple[IO[bytes], IO[bytes]]:
    """Where questions go in, and where verdicts come out."""
    assert process.stdin is not None and process.stdout is not None, "started with pipes"
    return process.stdin, process.stdout


def _send(process: subprocess.Popen[bytes], question: Question) -> None:
    questions, _ = _pipes(process)
    with contextlib.suppress(BrokenPipeError):  # the reading side notices
        questions.write(json.dumps(question).encode() + b"\n")


def _read(process: subprocess.Popen[bytes], size: int, timeout: float) -> bytes:
    """Up to `size` bytes, or none after `timeout` seconds or at the child's end."""
    _, verdicts = _pipes(process)
    poll = select.poll()  # unlike select.select, good for descriptors above 1023
    poll.register(verdicts, select.POLLIN)
    return verdicts.read(size) if poll.poll(timeout * 1000) else b""
