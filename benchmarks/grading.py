r"""One grader for training rewards and benchmark scores: is this response's answer the gold answer?

math-verify decides; this file makes that safe and fast. A response is written by a policy that is
rewarded for surprising us, and one `\boxed{}` can hang SymPy for ever, so math-verify runs only in
killable child processes with a memory limit and a wall clock kept here. Its own timeouts are
switched off: they need the main thread and swallow what they stop, which then looks "wrong".

The rules, from cheap to dear:

1. `extract` finds the answer, in a `\boxed{}` or `<answer>` only; no answer is "unparsed".
2. An answer that is the gold, character for character after `_clean` and `_spell`, is "correct".
3. Two plain rationals (integers, fractions, short decimals) are compared exactly, as math-verify
   would: it rounds where there is a decimal point, so a decimal that is nearly equal is left to it.
4. An answer (or gold) over 300 characters or nested over 10 brackets deep is "wrong": nobody
   parses it. One that nobody can compute (`_ENDLESS`: towers of powers, huge factorials) is
   "timeout" at once, and costs no worker.
5. The rest goes to math-verify once per distinct (gold, answer). What does not finish within the
   time or the memory is "timeout": undecided, and counted apart from "wrong". What might not
   (`_doubtful`: factorials, sums, integrals, powers of powers) waits for the ordinary answers and
   never takes the last worker, so that a policy that learns to hang SymPy holds up only itself.
6. Verdicts are kept, the latest 100,000, for a Grader's next call; "timeout" never is.

Both sides are parsed as LaTeX in a box, whole. math-verify's default also searches text it cannot
read for any number, which makes the gold `E_{1},E_{2}` equal to "2" and the answer "??? 43" equal
to 43; that search is off, and such text can only be equal letter for letter.

Left out on purpose: "the last number of the response" (it rewards truncated reasoning), `\boxed 5`
without braces, multiple choice by letter, and any judging by a model.

OpenRLHF loads this file by path for `reward_func`, without registering the module: so it imports
nothing of this project, and no postponed annotations, which dataclasses could not resolve. A worker
is a script of its own (`grading_worker.py`), which needs no import guard in the caller's script.
"""

import contextlib
import json
import os
import queue
import re
import select
import subprocess
import sys
import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

Status = Literal["correct", "wrong", "unparsed", "timeout"]

MAX_LENGTH = 300  # characters of an answer; the golds of MATH, AIME, AMC, Olympiad stay under 210
MAX_DEPTH = 10  # open brackets of any kind; the deepest benchmark gold has 3
WORKER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "grading_worker.py")
STARTUP_SECONDS = 120.0  # importing SymPy takes under a second, on a crowded machine many
CHUNK = 16  # pairs a worker takes at a time
CACHE = 100_000  # verdicts a Grader remembers, some 20 MB

_BOX_OR_BRACE = re.compile(
    r"(?P<box>\\{1,2}(?:boxed|fbox)\s*\{)|\\.|(?P<open>\{)|(?P<close>\})", re.DOTALL
)
_MATH_DELIMITER = re.compile(r"\\?\$|(?<!\\)\\[()\[\]]")
_INTEGER = re.compile(r"-?[0-9]{1,15}")
_THOUSANDS = re.compile(r"-?[1-9][0-9]{0,2}(?:(?:,|\{,\})[0-9]{3}){1,4}")
_DECIMAL = re.compile(r"-?(?:0|[1-9][0-9]{0,7})?\.[0-9]{1,5}")
_FRACTION = re.compile(
    r"(?P<sign>-?)(?:\\frac\{(?P<up>-?[0-9]{1,9})\}\{(?P<down>[1-9][0-9]{0,8})\}"
    r"|(?P<left>[1-9][0-9]{0,8})/(?P<right>[1-9][0-9]{0,8}))"
)
_SPELLINGS = (
    (re.compile(r"\\[dtc]frac(?![a-zA-Z])"), r"\\frac"),
    (re.compile(r"\\(?:left|right)(?=[()\[\]]|\\[{}])"), ""),
    (re.compile(r"(?<=[0-9)}]) (?=[-+=<>])|(?<=[0-9)}] [-+=<>]) (?=[0-9])"), ""),
)
_ENDLESS = re.compile(
    r"(?:\^[({]*(?:[3-9]|[0-9]{2,})[)}]*){2}\^"  # a tower of four numbers
    r"|\^[({ ]*[0-9]{7}"
    r"|(?:[0-9]{6}|[0-9]{2}\^[({ ]*(?:[6-9]|[0-9]{2,}))[)} ]*!"
)
_DOUBTFUL = re.compile(
    r"!|\\(?:sum|prod|i*int|oint|lim|[dt]?binom)(?![a-z])"
    r"|\^[^+*/=,]*\^|[)}]\^[({ ]*[0-9]{2}|\^[({ ]*[0-9]{4}|[0-9]{40}"
)
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


def _spell(text: str) -> str:
    r"""The text in one spelling of what math-verify reads the same: `\dfrac`, `\left(`, `3 + 4`.

    So that each is asked once. Spaces stay where a unit, a set or a number might depend on them.
    """
    if len(text) <= MAX_LENGTH:
        for pattern, replacement in _SPELLINGS:
            text = pattern.sub(replacement, text)
    return text


def _rational(text: str) -> tuple[Fraction, bool] | None:
    """The value of a plain number and whether it has a decimal point, None for anything else."""
    if _INTEGER.fullmatch(text):
        return Fraction(int(text)), False
    if _THOUSANDS.fullmatch(text):
        return Fraction(int(re.sub("[{,}]", "", text))), False
    if _DECIMAL.fullmatch(text):
        return Fraction(text), True
    match = _FRACTION.fullmatch(text)
    if match is None:
        return None
    up, down = match["up"] or match["left"], match["down"] or match["right"]
    return Fraction(int(up), int(down)) * (-1 if match["sign"] else 1), False


def plainly_equal(left: str, right: str) -> bool:
    """Whether two answers are the same text in some spelling, or the same plain number."""
    left, right = _spell(_clean(left)), _spell(_clean(right))
    first, second = _rational(left), _rational(right)
    return left == right or bool(first and second and first[0] == second[0])


def _plain_status(gold: str, answer: str) -> Status | None:
    """The verdict where none of math-verify is needed, else None (rules 2 to 4 above).

    Identity is sound whether or not the gold parses: no reading of the same text differs.
    """
    if answer == gold:
        return "correct"
    if any(len(text) > MAX_LENGTH or _depth(text) > MAX_DEPTH for text in (gold, answer)):
        return "wrong"
    left, right = _rational(gold), _rational(answer)
    if left and right:
        if left[0] == right[0]:
            return "correct"
        rounded = left[1] or right[1]  # math-verify then compares six decimals
        return "wrong" if not rounded or abs(left[0] - right[0]) > Fraction(1, 10**5) else None
    return "timeout" if _ENDLESS.search(answer) else None


def _doubtful(key: tuple[str, str]) -> bool:
    """Whether a question may well take long; most that match are decided all the same."""
    return any(_DOUBTFUL.search(text) for text in key)


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
        command = [sys.executable, "-P", WORKER, "--memory", str(self._memory_bytes)]
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
    cache: verdicts remembered from one call to the next (training asks the same for epochs), the
    least recently used forgotten first.
    """

    def __init__(
        self,
        workers: int | None = None,
        timeout: float = 5.0,
        memory_bytes: int = 2 << 30,
        cache: int = CACHE,
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
        # Doubtful questions have threads of their own, fewer than workers.
        self._doubters = ThreadPoolExecutor(max(1, count - 1), thread_name_prefix="doubt")
        self._cache: OrderedDict[tuple[str, str], Status] = OrderedDict()
        self._cache_size = cache
        self._cache_lock = threading.Lock()
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
        for threads in (self._threads, self._doubters):
            threads.shutdown(wait=True, cancel_futures=True)
        for worker in self._workers:
            worker.kill()

    def grade(self, pairs: Iterable[tuple[str, str]]) -> list[Verdict]:
        """One verdict a (gold, response) pair, in order; each distinct question is asked once.

        Raises ValueError on an empty gold, RuntimeError when closed or when no worker can start.
        """
        if self._closed:
            raise RuntimeError("this Grader is closed")
        keys = [_key(number, gold, response) for number, (gold, response) in enumerate(pairs)]
        known: dict[tuple[str, str | None], Status | None] = {
            key: "unparsed" if key[1] is None else None for key in set(keys)
        }
        spelled = {key: (_spell(key[0]), _spell(key[1])) for key in known if key[1] is not None}
        decided = self._decided(set(spelled.values()))
        known |= {key: decided[question] for key, question in spelled.items()}
        return [Verdict(known[key], key[1] and key[1][:MAX_LENGTH]) for key in keys]

    def _decided(self, questions: set[tuple[str, str]]) -> dict[tuple[str, str], Status]:
        """The verdicts: remembered, plain, or math-verify's."""
        decided = self._remembered(questions)
        plain = {question: _plain_status(*question) for question in questions - decided.keys()}
        decided |= {question: status for question, status in plain.items() if status}
        asked = self._decide_all(sorted(questions - decided.keys()))
        self._remember(asked)
        return decided | asked

    def _remembered(self, questions: set[tuple[str, str]]) -> dict[tuple[str, str], Status]:
        with self._cache_lock:
            found = self._cache.keys() & questions
            for question in found:
                self._cache.move_to_end(question)
            return {question: self._cache[question] for question in found}

    def _remember(self, decided: dict[tuple[str, str], Status]) -> None:
        with self._cache_lock:
            self._cache |= {key: status for key, status in decided.items() if status != "timeout"}
            while len(self._cache) > self._cache_size:
                self._cache.popitem(last=False)

    def _decide_all(self, hard: list[tuple[str, str]]) -> dict[tuple[str, str], Status]:
        """Share the questions out, the doubtful after the others.

        They come sorted by gold, so that a worker parses most golds once.
        """
        doubtful = [question for question in hard if _doubtful(question)]
        ordinary = [question for question in hard if not _doubtful(question)]
        size = max(1, min(CHUNK, len(ordinary) // (2 * len(self._workers))))
        decided = self._share_out(self._threads, ordinary, size)
        return decided | self._share_out(self._doubters, doubtful, 1)

    def _share_out(
        self, threads: Executor, hard: list[tuple[str, str]], size: int
    ) -> dict[tuple[str, str], Status]:
        chunks = [hard[start : start + size] for start in range(0, len(hard), size)]
        futures = [threads.submit(self._decide_chunk, chunk) for chunk in chunks]
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
