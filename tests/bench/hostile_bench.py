r"""What hostile answers cost the ordinary ones around them.

    python tests/bench/hostile_bench.py [--rows N] [--pairs N] [--workers N]

The ordinary answers are `grading_bench.py`'s mix. They are graded alone and, in one call, among
the hostile ones below, spread over its golds; the clocks run until the last ordinary answer has its
verdict: the wall's, and the workers' processor time, which other work on the machine hardly moves.
Alone and among take turns, each with fresh workers started before the clocks, and the median of the
pairs counts. Exit status 1 when the throughput of the ordinary answers (a second of processor time)
falls by FALL or more, or when one of them is judged differently, timeouts aside.
"""

import argparse
import itertools
import os
import runpy
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from unittest.mock import patch

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.answers import clean, extract, spell
from benchmarks.grading import Grader, Verdict
from benchmarks.grading_process import Worker

FALL = 0.10
TIMEOUT = 1.0  # seconds; those that hang are asked after all others

ENDLESS = [  # undecided without asking anyone
    r"\dfrac{5^{(5^{(5^{(5^5)})}-4)}-5}{16}",
    r"(10^9)!",
    r"9^{9^{9^9}}",
    r"9^9^9^9^9^9",
    r"x^{9^{9^{9^9}}}+1",
    r"2^{100000000000}",
    r"10^{-999999999}",
    r"123456789!",
    r"\prod_{i=1}^{10000000} i",
    r"\frac{1}{10^{10}!}",
]
HANGS = [  # these have to be killed
    r"\prod_{i=1}^{999999} i",
    r"9^{9^{99}}",
    r"\sum_{i=1}^{999999} \sin(i^2)",
    r"\binom{999999}{499999}",
]
HOSTILE = [
    "(" * 200 + "1" + ")" * 200,
    "[" * 11 + "1" + "]" * 11,
    "{" * 5000 + "}" * 5000,
    r"\frac{1}{" * 20 + "1" + "}" * 20,
    r"\sqrt{" * 9 + "2" + "}" * 9,
    "1" * 300,
    "9" * 100_000,
    "9" * 1_000_000,
    "x+" * 50_000,
    r"\frac{1}{2}" * 10_000,
    "a" * 299,
    "\0\x01\x1b[2J",
    "1\0",
    "\x7f\x80\u200b\u202e1",
    "\ud800",
    "\\" * 200,
    "%" * 100,
    "&" * 100,
    "{}{}{}}}}{{{",
    "}{",
    "((((((((((",
    r"\frac{1}{0}",
    r"\infty-\infty",
    r"0^0",
    r"\begin{pmatrix}1 & 2",
    r"\begin{matrix}" * 15,
    r"\frac{1",
    r"\boxed{\boxed{\boxed{7}}}",
    r"\boxed{1}" * 20,
    '__import__("os").system("false")',
    "import os; os._exit(0)",
    "lambda: (yield)",
    "'; DROP TABLE responses; --",
    "<script>alert(1)</script>",
    "{{7*7}}${7*7}",
    "٣",
    "𝟙𝟚",
    r"\sqrt[0]{-1}",
    r"\log_{1} 0",
    r"\text{" + "ab " * 90 + "}",
    '"]\n["1", "1',
    "\n" * 250 + "1",
]

Pair = tuple[str, str]
DECIDE = Worker.decide


class Clocks:
    """Wall and processor seconds of a grader's workers up to the last ordinary answer."""

    def __init__(self, grader: Grader, ordinary: set[str]) -> None:
        self._ordinary = ordinary
        self._started = {worker.pid: _processor_seconds(worker.pid) for worker in grader._workers}
        self._latest = dict(self._started)  # a child started later starts at zero
        self._begun = self._last = time.perf_counter()

    def noting(self, worker: Worker, questions: Sequence[Pair], timeout: float) -> Iterator[str]:
        """`Worker.decide`, looking at the clocks after each ordinary answer."""
        for (_, answer), status in zip(questions, DECIDE(worker, questions, timeout), strict=True):
            if answer in self._ordinary:
                self._last = time.perf_counter()
                if worker.pid is not None:
                    self._latest[worker.pid] = _processor_seconds(worker.pid)
            yield status

    def read(self) -> tuple[float, float]:
        """(wall seconds, processor seconds)."""
        spent = sum(self._latest.values()) - sum(self._started.values())
        return self._last - self._begun, spent


def _processor_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def grade_among(
    ordinary: list[Pair], hostile: list[Pair], workers: int
) -> tuple[tuple[float, float], list[Verdict]]:
    """What the clocks show when the ordinary (gold, response) are decided, and their verdicts."""
    counted = {spell(clean(extract(response))) for _, response in ordinary}
    every = len(ordinary) // max(1, len(hostile)) + 1
    mixed = [(pair, True) for pair in ordinary]
    for number, (gold, answer) in enumerate(hostile):
        mixed.insert(number * every, ((gold, f"<answer>{answer}</answer>"), False))
    with Grader(workers, TIMEOUT) as grader:
        grader.start()
        clocks = Clocks(grader, counted)
        with patch.object(Worker, "decide", lambda *call: clocks.noting(*call)):
            verdicts = grader.grade([pair for pair, _ in mixed])
    kept = [verdict for verdict, (_, own) in zip(verdicts, mixed, strict=True) if own]
    return clocks.read(), kept


def compare(rows: int, pairs: int, workers: int) -> tuple[list[tuple[float, float]], int]:
    """The falls of throughput (by the wall, by processor time) of each pair; differing verdicts."""
    bench = runpy.run_path(str(Path(__file__).with_name("grading_bench.py")))
    ordinary = [(gold, response) for _, gold, response in bench["mix"](rows)]
    golds = itertools.cycle(dict.fromkeys(gold for gold, _ in ordinary))
    hostile = list(zip(golds, ENDLESS + HANGS + HOSTILE, strict=False))
    falls, differing = [], 0
    for number in range(pairs):
        sides = ["alone", "among"] if number % 2 else ["among", "alone"]
        done = {
            side: grade_among(ordinary, hostile if side == "among" else [], workers)
            for side in sides
        }
        (before, expected), (after, verdicts) = done["alone"], done["among"]
        falls.append(tuple(1 - a / b for a, b in zip(before, after, strict=True)))
        differing += sum(
            a != b and "timeout" not in (a.status, b.status)
            for a, b in zip(expected, verdicts, strict=True)
        )
        print(f"alone {before[0]:.2f} s ({before[1]:.2f} s of the workers), ", end="")
        print(f"among hostile answers {after[0]:.2f} s ({after[1]:.2f} s)", flush=True)
    return falls, differing


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=30 * 1024)
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args(arguments)
    falls, differing = compare(options.rows, options.pairs, options.workers)
    wall, processor = (statistics.median(column) for column in zip(*falls, strict=True))
    count = len(ENDLESS + HANGS + HOSTILE)
    print(f"among {count} hostile answers throughput falls {processor:.1%} (target {FALL:.0%})")
    print(f"by the wall clock {wall:.1%}; {differing} ordinary answers judged differently")
    return int(processor >= FALL or differing > 0)


if __name__ == "__main__":
    sys.exit(main())
