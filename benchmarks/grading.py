r"""One grader for training rewards and benchmark scores: is this response's answer the gold answer?

math-verify decides; this file makes that safe and fast. A response is written by a policy that is
rewarded for surprising us, and one `\boxed{}` can hang SymPy for ever, so math-verify runs only in
killable child processes with a memory limit and a wall clock kept here. Its own timeouts are
switched off: they need the main thread and swallow what they stop, which then looks "wrong".

The rules, from cheap to dear (1 to 4 are in `answers.py`):

1. `extract` finds the answer, in a `\boxed{}` or `<answer>` only; no answer is "unparsed".
2. An answer that is the gold, character for character after `clean` and `spell`, is "correct".
3. Two plain rationals (integers, fractions, short decimals) are compared exactly, as math-verify
   would: it rounds where there is a decimal point, so a decimal that is nearly equal is left to it.
4. An answer (or gold) over 300 characters or nested over 10 brackets deep is "wrong": nobody
   parses it. One that nobody can compute (towers of powers, huge factorials) is "timeout" at
   once, and costs no worker.
5. The rest goes to math-verify once per distinct (gold, answer). What does not finish within the
   time or the memory is "timeout": undecided, and counted apart from "wrong". What might not
   (`doubtful`: factorials, sums, integrals, powers of powers) waits for the ordinary answers and
   never takes the last worker, so that a policy that learns to hang SymPy holds up only itself.
6. Verdicts are kept, the latest 100,000, for a Grader's next call; "timeout" never is.

Both sides are parsed as LaTeX in a box, whole. math-verify's default also searches text it cannot
read for any number, which makes the gold `E_{1},E_{2}` equal to "2" and the answer "??? 43" equal
to 43; that search is off, and such text can only be equal letter for letter. No model judges.

OpenRLHF loads this file by path for `reward_func`, without registering the module: so there are no
postponed annotations, which dataclasses could not resolve.
"""

import os
import queue
import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from benchmarks.answers import (
    MAX_LENGTH,
    Question,
    Status,
    clean,
    doubtful,
    extract,
    plain_status,
    spell,
)
from benchmarks.grading_process import Worker

CHUNK = 16  # questions a worker takes at a time
CACHE = 100_000  # verdicts a Grader remembers, some 20 MB


@dataclass(frozen=True)
class Verdict:
    """What a response earned, and the answer it was judged by (at most 300 characters of it)."""

    status: Status
    answer: str | None


_UNPARSED = Verdict("unparsed", None)


class Grader:
    """A pool of killable workers, for callers that grade again and again; safe in any thread.

    workers: child processes, min(2, CPUs) by default. timeout: seconds of wall clock for one
    (gold, answer). memory_bytes: address space of one child.
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
        self._workers = [Worker(memory_bytes) for _ in range(count)]
        self._idle: queue.SimpleQueue[Worker] = queue.SimpleQueue()
        for worker in self._workers:
            self._idle.put(worker)
        # The pool's threads live as long as the grader. They must start the children, because
        # Linux sends "your parent died" when the *thread* that started a child ends.
        self._threads = ThreadPoolExecutor(count, thread_name_prefix="grading")
        # Doubtful questions have threads of their own, fewer than workers.
        self._doubters = ThreadPoolExecutor(max(1, count - 1), thread_name_prefix="doubt")
        self._cache: OrderedDict[Question, Status] = OrderedDict()
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
        keys = [(str(gold), extract(response)) for gold, response in pairs]
        golds = _cleaned_golds(keys)
        answers = {key: clean(key[1]) for key in set(keys) if key[1] is not None}
        questions = {key: (golds[key[0]], spell(answer)) for key, answer in answers.items()}
        decided = self._decided(set(questions.values()))
        verdicts = {
            key: Verdict(decided[question], answers[key][:MAX_LENGTH])
            for key, question in questions.items()
        }
        return [verdicts.get(key, _UNPARSED) for key in keys]

    def _decided(self, questions: set[Question]) -> dict[Question, Status]:
        """The verdicts: remembered, plain, or math-verify's."""
        decided = self._remembered(questions)
        plain = {question: plain_status(*question) for question in questions - decided.keys()}
        decided |= {question: status for question, status in plain.items() if status}
        asked = self._decide_all(sorted(questions - decided.keys()))
        self._remember(asked)
        return decided | asked

    def _remembered(self, questions: set[Question]) -> dict[Question, Status]:
        with self._cache_lock:
            remembered = self._cache.keys() & questions
            for question in remembered:
                self._cache.move_to_end(question)
            return {question: self._cache[question] for question in remembered}

    def _remember(self, decided: dict[Question, Status]) -> None:
        with self._cache_lock:
            self._cache |= {key: status for key, status in decided.items() if status != "timeout"}
            while len(self._cache) > self._cache_size:
                self._cache.popitem(last=False)

    def _decide_all(self, hard: list[Question]) -> dict[Question, Status]:
        """Share the questions out, the doubtful after the others.

        They come sorted by gold, so that a worker parses most golds once.
        """
        slow = [question for question in hard if doubtful(question)]
        ordinary = [question for question in hard if not doubtful(question)]
        size = max(1, min(CHUNK, len(ordinary) // (2 * len(self._workers))))
        decided = self._share_out(self._threads, ordinary, size)
        return decided | self._share_out(self._doubters, slow, 1)

    def _share_out(
        self, threads: Executor, hard: list[Question], size: int
    ) -> dict[Question, Status]:
        chunks = [hard[start : start + size] for start in range(0, len(hard), size)]
        futures = [threads.submit(self._decide_chunk, chunk) for chunk in chunks]
        try:
            statuses = [status for future in futures for status in future.result()]
        finally:
            for future in futures:
                future.cancel()
        return dict(zip(hard, statuses, strict=True))

    def _decide_chunk(self, chunk: list[Question]) -> list[Status]:
        worker, statuses = self._idle.get(), []
        try:
            for status in worker.decide(chunk, self._timeout):
                statuses.append(status)
                if self._closed:  # the "timeout" may be our own kill
                    worker.kill()
                    raise RuntimeError("this Grader was closed while grading")
        finally:
            self._idle.put(worker)
        return statuses


def _cleaned_golds(keys: list[tuple[str, str | None]]) -> dict[str, str]:
    """The golds as they are asked; ValueError naming the first pair whose gold is empty."""
    golds = {gold: spell(clean(gold)) for gold in {gold for gold, _ in keys}}
    for number, (gold, _) in enumerate(keys):
        if not golds[gold]:
            raise ValueError(f"pair {number} has an empty gold answer: {gold!r}")
    return golds


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

    def share(status: Status) -> torch.Tensor:
        return torch.tensor([float(each == status) for each in statuses])

    rewards = share("correct")
    logs = {"no_answer": share("unparsed"), "grade_timeout": share("timeout")}
    return {"rewards": rewards, "scores": rewards.clone(), "extra_logs": logs}


def _response(query: str, prompt: str) -> str:
    """The query without its prompt, which may show a box of its own ("answer in \\boxed{}").

    A prompt that was cut on the left, or that changed a little in tokenizing, is found by its end.
    """
    if query.startswith(prompt):
        return query[len(prompt) :]
    _, prompt_end, response = query.partition(prompt[-32:])
    return response if prompt_end else query
