r"""What hostile answers cost the ordinary ones around them.

    python tests/bench/hostile_bench.py [--rows N] [--pairs N] [--workers N]

The ordinary answers are `grading_bench.py`'s mix. They are graded alone and, in one call, among
the hostile ones below, spread over its golds; the clock runs until the last ordinary answer has
its verdict. Alone and among take turns, each with fresh workers started before the clock, and the
median of the pairs' ratios counts, so that what else the machine does falls on both. Exit status 1
when the throughput of the ordinary answers falls by FALL or more, or when one of them is judged
differently.
"""

import argparse
import itertools
import runpy
import statistics
import sys
import time
from pathlib import Path
from unittest.mock import patch

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

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


def ordinary_seconds(
    ordinary: list[Pair], hostile: list[Pair], workers: int
) -> tuple[float, list[Verdict]]:
    """Seconds until every ordinary (gold, response) is decided, and their verdicts."""
    decide, last = Worker.decide, 0.0
    hostile_answers = {answer for _, answer in hostile}

    def noting(worker, questions, timeout):
        nonlocal last
        statuses = decide(worker, questions, timeout)
        for (_, answer), status in zip(questions, statuses, strict=True):
            if answer not in hostile_answers:
                last = time.perf_counter()
            yield status

    every = max(1, len(ordinary) // max(1, len(hostile)))
    tagged = [(gold, f"<answer>{answer}</answer>") for gold, answer in hostile]
    mixed = list(ordinary)
    for number, pair in enumerate(tagged):
        mixed.insert(number * (every + 1), pair)
    with Grader(workers, TIMEOUT) as grader, patch.object(Worker, "decide", noting):
        grader.start()
        begun = time.perf_counter()
        verdicts = grader.grade(mixed)
    strangers = set(tagged)
    kept = [v for v, pair in zip(verdicts, mixed, strict=True) if pair not in strangers]
    return last - begun, kept


def compare(rows: int, pairs: int, workers: int) -> tuple[list[tuple[float, float]], int]:
    """(seconds alone, seconds among hostile answers) of each pair; differing verdicts."""
    bench = runpy.run_path(str(Path(__file__).with_name("grading_bench.py")))
    ordinary = [(gold, response) for _, gold, response in bench["mix"](rows)]
    golds = itertools.cycle(dict.fromkeys(gold for gold, _ in ordinary))
    hostile = list(zip(golds, ENDLESS + HANGS + HOSTILE, strict=False))
    table, differing = [], 0
    for number in range(pairs):
        sides = [[], hostile] if number % 2 else [hostile, []]
        done = {bool(side): ordinary_seconds(ordinary, side, workers) for side in sides}
        table.append((done[False][0], done[True][0]))
        differing += sum(a != b for a, b in zip(done[False][1], done[True][1], strict=True))
    return table, differing


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=30 * 1024)
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args(arguments)
    table, differing = compare(options.rows, options.pairs, options.workers)
    for alone, among in table:
        print(
            f"alone {alone:7.3f} s   among hostile {among:7.3f} s   falls {1 - alone / among:7.1%}"
        )
    fall = statistics.median(1 - alone / among for alone, among in table)
    count = len(ENDLESS + HANGS + HOSTILE)
    print(f"among {count} hostile answers throughput falls {fall:.1%} (target under {FALL:.0%})")
    print(f"{differing} ordinary answers judged differently")
    return int(fall >= FALL or differing > 0)


if __name__ == "__main__":
    sys.exit(main())
