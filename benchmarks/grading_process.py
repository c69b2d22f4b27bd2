"""The parent's side of a grading worker: start it, ask it, keep its time, end it."""

import contextlib
import json
import os
import select
import subprocess
import sys
from collections.abc import Iterator, Sequence

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
        return self._process and self._process.pid

    def ready(self) -> None:
        """Start the child unless it runs; RuntimeError when it cannot start."""
        if self._process is None or self._process.poll() is not None:
            self._start()

    def decide(self, questions: Sequence[Question], timeout: float) -> Iterator[Status]:
        """One status a question, in order, each within `timeout` seconds of the one before.

        The child finds the next question waiting when it has answered one. A child that overruns
        or dies has not decided, and a new one takes over what is left.
        """
        sent = 0
        for number in range(len(questions)):
            self.ready()
            for question in questions[sent : number + 2]:
                self._send(question)
            sent = min(number + 2, len(questions))
            status = _STATUSES.get(self._read(1, timeout))
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
            process.stdin.close()
            process.stdout.close()

    def _start(self) -> None:
        self.kill()
        command = [sys.executable, "-P", SCRIPT, "--memory", str(self._memory_bytes)]
        command += ["--parent", str(os.getpid())]
        # A fixed hash seed: the order of SymPy's sets must not change a verdict between runs.
        environment = os.environ | {"PYTHONHASHSEED": "0", "OPENBLAS_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            command,
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            start_new_session=True,  # Ctrl-C belongs to the parent
        )
        greeting = self._read(1, STARTUP_SECONDS)
        if greeting != b"+":
            reason = self._process.stdout.read(2000) if greeting == b"!" else b"no greeting"
            self.kill()
            raise RuntimeError(f"the grading worker did not start: {reason.decode()}")

    def _send(self, question: Question) -> None:
        with contextlib.suppress(BrokenPipeError):  # the reading side notices
            self._process.stdin.write(json.dumps(question).encode() + b"\n")

    def _read(self, size: int, timeout: float) -> bytes:
        """Up to `size` bytes, or none after `timeout` seconds or at the child's end."""
        poll = select.poll()  # unlike select.select, good for descriptors above 1023
        poll.register(self._process.stdout, select.POLLIN)
        return self._process.stdout.read(size) if poll.poll(timeout * 1000) else b""
