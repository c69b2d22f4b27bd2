r"""One grader for training rewards and benchmark scores: is this response's answer the gold answer?

math-verify decides; this file makes that safe and fast. A response is written by a policy that is
rewarded for surprising us, and one `\boxed{}` can hang SymPy for ever, so math-verify runs only in
killable child processes with a memory limit and a wall clock kept here. Its own timeouts are
switched off: they need the main thread and swallow what they stop, which then looks "wrong".

The rules, from cheap to dear:

1. `extract` finds the answer, in a `\boxed{}` or `<answer>` only; no answer is "unparsed".
2. An answer that is the gold, character for character after `_clean`, is "correct".
3. Two plain integers are compared as integers.
4. An answer (or gold) over 300 characters or nested over 10 brackets deep is "wrong": nobody
   parses it.
5. The rest goes to math-verify once per distinct (gold, answer). What does not finish within the
   time or the memory is "timeout": undecided, and counted apart from "wrong".

Both sides are parsed as LaTeX in a box, whole. math-verify's default also searches text it cannot
read for any number, which makes the gold `E_{1},E_{2}` equal to "2" and the answer "??? 43" equal
to 43; that search is off, and such text can only be equal letter for letter.

Left out on purpose: "the last number of the response" (it rewards truncated reasoning), `\boxed 5`
without braces, multiple choice by letter, and any judging by a model.

This file also runs by path: OpenRLHF loads it for `reward_func` without registering the module
(so no postponed annotations, which dataclasses could not resolve), and a worker is
`python grading.py --worker`, which needs no import guard in the caller's script.
"""

import argparse
import contextlib
import functools
import json
import os
import queue
import re
import select
import subprocess
import sys
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

Status = Literal["correct", "wrong", "unparsed", "timeout"]

MAX_LENGTH = 300  # characters of an answer; the golds of MATH, AIME, AMC, Olympiad stay under 210
MAX_DEPTH = 10  # open brackets of any kind; the deepest benchmark gold has 3
STARTUP_SECONDS = 120.0  # importing SymPy takes under a second, on a crowded machine many
CHUNK = 16  # pairs a worker takes at a time

_BOX_OR_BRACE = re.compile(
    r"(?P<box>\\{1,2}(?:boxed|fbox)\s*\{)|\\.|(?P<open>\{)|(?P<close>\})", re.DOTALL
)
_MATH_DELIMITER = re.compile(r"\\?\$|(?<!\\)\\[()\[\]]")
_INTEGER = re.compile(r"-?[0-9]{1,15}")
_BARE_POINT = re.compile(r"(?<=[0-9])\.(?=[-+*/^)])")  # "-3./2", a gold of Minerva


@dataclass(frozen=True)
class Verdict:
    """What a response earned, and the answer it was judged by (at most 300 characters of it)."""

    status: Status
    answer: str | None


# ---------------------------------------------------------------- extraction


def extract(response: str) -> str | None:
    r"""The answer a response commits to, or None.

    The last balanced `\boxed{}` (or `\fbox{}`), else the body of the last `<answer>...</answer>`.
    What follows the last `</think>` is searched first, the whole response only when that holds
    neither. Of nested boxes the innermost counts; an empty answer is none. Linear in the length.
    """
    _, closed, after = response.rpartition("</think>")
    for text in (after, response) if closed else (response,):
        answer = _last_box(text) or _last_tag(text)
        if answer:
            return answer
    return None


def _last_box(text: str) -> str | None:
    """The content of the balanced box that starts last; escaped braces do not count."""
    open_braces: list[int | None] = []  # where the content of a box starts, None for a plain brace
    last_start, last_end = -1, -1
    for token in _BOX_OR_BRACE.finditer(text):
        if token["box"]:
            open_braces.append(token.end())
        elif token["open"]:
            open_braces.append(None)
        elif token["close"] and open_braces:
            start = open_braces.pop()
            if start is not None and start > last_start:
                last_start, last_end = start, token.start()
    return text[last_start:last_end].strip() if last_start >= 0 else None


def _last_tag(text: str) -> str | None:
    """The body of the last closed `<answer>`."""
    before, closed, _ = text.rpartition("</answer>")
    _, opened, body = before.rpartition("<answer>")
    return body.strip() if closed and opened else None


# ---------------------------------------------------------------- what needs no algebra


def _clean(text: str) -> str:
    r"""The text without math delimiters (`$`, `\$`, `\(`, `\[`), outer space and a final stop."""
    if len(text) > 4 * MAX_LENGTH:
        return text
    text = _BARE_POINT.sub("", _MATH_DELIMITER.sub("", text)).strip()
    while text.endswith((".", ",", ";")) and not text.endswith(("\\,", "\\;")):
        text = text[:-1].rstrip()
    return text


def _depth(text: str) -> int:
    """How deep brackets of any kind nest."""
    depth = deepest = 0
    for character in text:
        depth += (character in "{([") - (character in "})]")
        deepest = max(deepest, depth)
    return deepest


def _plain_status(gold: str, answer: str) -> Status | None:
    """The verdict where none of math-verify is needed, else None (rules 2 to 4 above).

    Identity is sound whether or not the gold parses: no reading of the same text differs.
    """
    if answer == gold:
        return "correct"
    if _INTEGER.fullmatch(gold) and _INTEGER.fullmatch(answer):
        return "correct" if int(gold) == int(answer) else "wrong"
    if any(len(text) > MAX_LENGTH or _depth(text) > MAX_DEPTH for text in (gold, answer)):
        return "wrong"
    return None


# ---------------------------------------------------------------- the parent's side of a worker


class _Worker:
    """One child process; started when first needed, and again after it died or was killed."""

    def __init__(self, memory_bytes: int) -> None:
        self._memory_bytes = memory_bytes
        self._process: subprocess.Popen[bytes] | None = None

    def ready(self) -> None:
        """Start the child unless it runs."""
        if self._process is None or self._process.poll() is not None:
            self._process = self._start()

    def decide(self, gold: str, answer: str, timeout: float) -> Status:
        """Ask the child; a child that overruns `timeout` seconds or dies has not decided."""
        self.ready()
        reply = b""
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps([gold, answer]).encode() + b"\n")
            reply = self._read(1, timeout)
        if reply in (b"c", b"w"):
            return "correct" if reply == b"c" else "wrong"
        self.kill()
        return "timeout"

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

    def _start(self) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-P", os.path.abspath(__file__), "--worker"]
        command += ["--memory", str(self._memory_bytes), "--parent", str(os.getpid())]
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
        return self._process

    def _read(self, size: int, timeout: float) -> bytes:
        """Up to `size` bytes, or none after `timeout` seconds or at the child's end."""
        poll = select.poll()  # unlike select.select, good for descriptors above 1023
        poll.register(self._process.stdout, select.POLLIN)
        return self._process.stdout.read(size) if poll.poll(timeout * 1000) else b""


class Grader:
    """A pool of killable workers, for callers that grade again and again; safe in any thread.

    workers: child processes, min(2, CPUs) by default. timeout: seconds of wall clock for one
    (gold, answer). memory_bytes: address space of one child, which needs about 65 MB itself.
    """

    def __init__(
        self, workers: int | None = None, timeout: float = 5.0, memory_bytes: int = 2 << 30
    ) -> None:
        count = min(2, os.cpu_count() or 1) if workers is None else workers
        if count < 1 or timeout <= 0:
            raise ValueError(f"workers and timeout must be positive, not {count} and {timeout}")
        self._timeout = timeout
        self._workers = [_Worker(memory_bytes) for _ in range(count)]
        self._idle: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
        for worker in self._workers:
            self._idle.put(worker)
        # The pool's threads live as long as the grader. They must start the children, because
        # Linux sends "your parent died" when the *thread* that started a child ends.
        self._threads = ThreadPoolExecutor(count, thread_name_prefix="grading")
        self._closed = False

    def __enter__(self) -> "Grader":
        return self

    def start(self) -> None:
        """Start all workers now rather than when first needed: for callers that are timed."""
        for started in [self._threads.submit(worker.ready) for worker in self._workers]:
            started.result()

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End every child. What other threads are still grading raises RuntimeError there."""
        self._closed = True
        for worker in self._workers:
            worker.interrupt()
        self._threads.shutdown(wait=True, cancel_futures=True)
        for worker in self._workers:
            worker.kill()

    def grade(self, pairs: Iterable[tuple[str, str]]) -> list[Verdict]:
        """One verdict a (gold, response) pair, in order; each distinct question is asked once.

        Raises ValueError on an empty gold, RuntimeError when closed or when no worker can start.
        """
        keys = [_key(number, gold, response) for number, (gold, response) in enumerate(pairs)]
        known: dict[tuple[str, str | None], Status] = {
            (gold, answer): "unparsed" if answer is None else _plain_status(gold, answer)
            for gold, answer in set(keys)
        }
        known |= self._decide_all(sorted(key for key, status in known.items() if status is None))
        return [Verdict(known[key], key[1] and key[1][:MAX_LENGTH]) for key in keys]

    def _decide_all(self, hard: list[tuple[str, str]]) -> dict[tuple[str, str], Status]:
        """Share the questions out; sorted by gold, so that a worker parses most golds once."""
        size = max(1, min(CHUNK, len(hard) // len(self._workers)))
        chunks = [hard[start : start + size] for start in range(0, len(hard), size)]
        if self._closed:
            raise RuntimeError("this Grader is closed")
        futures = [self._threads.submit(self._decide_chunk, chunk) for chunk in chunks]
        try:
            statuses = [status for future in futures for status in future.result()]
        finally:
            for future in futures:
                future.cancel()
        return dict(zip(hard, statuses, strict=True))

    def _decide_chunk(self, chunk: list[tuple[str, str]]) -> list[Status]:
        worker = self._idle.get()
        try:
            return [self._decide(worker, gold, answer) for gold, answer in chunk]
        finally:
            self._idle.put(worker)

    def _decide(self, worker: _Worker, gold: str, answer: str) -> Status:
        status = worker.decide(gold, answer, self._timeout)
        if self._closed:  # the "timeout" may be our own kill
            worker.kill()
            raise RuntimeError("this Grader was closed while grading")
        return status


def _key(number: int, gold: str, response: str) -> tuple[str, str | None]:
    """The cleaned gold and answer by which a pair is graded."""
    cleaned = _clean(str(gold))
    if not cleaned:
        raise ValueError(f"pair {number} has an empty gold answer: {gold!r}")
    answer = extract(response)
    return cleaned, answer if answer is None else _clean(answer)


def grade_many(
    pairs: Iterable[tuple[str, str]], *, workers: int | None = None, timeout: float = 5.0
) -> list[Verdict]:
    """Grade (gold, response) pairs in order with workers of their own; see `Grader`."""
    with Grader(workers, timeout) as grader:
        return grader.grade(pairs)


# ---------------------------------------------------------------- OpenRLHF's reward


_shared_lock = threading.Lock()
_shared: list[Grader] = []


def _shared_grader() -> Grader:
    """The process's own grader, made on first use; its children end with the process."""
    with _shared_lock:
        if not _shared:
            _shared.append(Grader())
        return _shared[0]


def reward_func(
    queries: Sequence[str], prompts: Sequence[str], labels: Sequence[str]
) -> dict[str, Any]:
    """The function of OpenRLHF's `--reward.remote_url benchmarks/grading.py`: 1 if correct, else 0.

    queries: prompt and response decoded together; labels: golds. OpenRLHF calls it from many
    threads with one query each and puts each value in `torch.tensor([value])`, so every value
    is a float tensor [B]. `extra_logs` carries the shares that a mean reward hides.
    """
    import torch  # the caller's own; grading needs none

    responses = [_response(query, prompt) for query, prompt in zip(queries, prompts, strict=True)]
    pairs = zip(labels, responses, strict=True)
    statuses = [verdict.status for verdict in _shared_grader().grade(pairs)]

    def share(wanted: Status) -> torch.Tensor:
        return torch.tensor([float(status == wanted) for status in statuses])

    rewards = share("correct")
    logs = {"no_answer": share("unparsed"), "grade_timeout": share("timeout")}
    return {"rewards": rewards, "scores": rewards.clone(), "extra_logs": logs}


def _response(query: str, prompt: str) -> str:
    """The query without its prompt, which may show a box of its own ("answer in \\boxed{}").

    A prompt that was cut on the left, or that changed a little in tokenizing, is found by its end.
    """
    if query.startswith(prompt):
        return query[len(prompt) :]
    _, found, rest = query.partition(prompt[-32:])
    return rest if found else query


# ---------------------------------------------------------------- the child's side


@functools.lru_cache(maxsize=256)
def _parse_gold(gold: str) -> list:
    return _parse(gold)


def _parse(text: str) -> list:
    r"""math-verify's reading of `\boxed{text}`: a SymPy object, its text, both or none.

    Never print, hash into a message or pickle what this returns: that alone can take for ever.
    """
    import math_verify

    latex = math_verify.LatexExtractionConfig(
        try_extract_without_anchor=False, boxed_match_priority=0
    )
    boxed = "\\boxed{" + text + "}"
    return math_verify.parse(boxed, extraction_config=[latex], parsing_timeout=None)


def _equal(gold: str, answer: str) -> bool:
    """Whether math-verify holds the two for equal; what it cannot read is not."""
    import math_verify

    try:
        return math_verify.verify(_parse_gold(gold), _parse(answer), timeout_seconds=None)
    except Exception:
        return False


def _mend_math_verify() -> None:
    """Keep equations without real solutions from being equal to each other.

    math-verify 0.9.0 ends by comparing the solutions of two equations, so a gold that has none
    (`x^2+18x+86=0`) would equal every contradiction, and a policy finds "1 = 2". One that is the
    gold rearranged is recognised before this comparison.
    """
    import sympy
    from math_verify import grader

    compare = grader.sympy_solve_and_compare

    def compare_solutions(gold: Any, answer: Any, *precision: int) -> bool:
        return bool(sympy.solve(gold, gold.free_symbols)) and compare(gold, answer, *precision)

    grader.sympy_solve_and_compare = compare_solutions


def _peak_memory() -> int:
    """The largest address space this process has had, in bytes; 0 where there is no /proc."""
    with contextlib.suppress(OSError), open("/proc/self/status") as status:
        for line in status:
            if line.startswith("VmPeak:"):
                return int(line.split()[1]) * 1024
    return 0


def _die_with_parent(parent: int) -> None:
    """Have Linux kill this process when its parent ends; elsewhere the closed pipe must do."""
    with contextlib.suppress(Exception):
        import ctypes

        pr_set_pdeathsig, sigkill = 1, 9
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, sigkill)
    if os.getppid() != parent:  # it ended before we asked
        os._exit(1)


def _serve(memory_bytes: int, parent: int) -> None:
    """Answer [gold, answer] lines on stdin with one byte each: c(orrect), w(rong), t(oo much).

    SymPy and math-verify swallow MemoryError and would call it "wrong". A question after which
    the peak memory has grown by an eighth of the limit was over the limit or on the way there:
    its "wrong" is not believed, and the child ends to give the memory back. (A single allocation
    larger than all the limit leaves no trace and stays "wrong".)
    """
    _die_with_parent(parent)
    replies = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # a library that prints must not answer for us
    try:
        import resource

        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
        _mend_math_verify()
        _equal("0.5", "\\frac{1}{2}")  # compiles the grammar, so that no question pays for it
    except Exception as error:
        replies.write(f"!{error!r}".encode())
        return
    replies.write(b"+")
    peak = _peak_memory()
    for line in sys.stdin.buffer:
        equal = _equal(*json.loads(line))
        before, peak = peak, _peak_memory()
        if not equal and peak - before > memory_bytes // 8:
            replies.write(b"t")
            return
        replies.write(b"c" if equal else b"w")


def _main() -> None:
    parser = argparse.ArgumentParser(description="A grading worker; it talks to its parent only.")
    parser.add_argument("--worker", action="store_true", required=True)
    parser.add_argument("--memory", type=int, required=True, help="bytes of address space")
    parser.add_argument("--parent", type=int, required=True, help="process id of the parent")
    arguments = parser.parse_args()
    _serve(arguments.memory, arguments.parent)


if __name__ == "__main__":
    _main()
