r"""The grader beside a plain math-verify loop: speed and verdicts, in one run.

    python tests/bench/grading_bench.py [--rows N] [--problems N] [--workers N]

plain   for each response `verify(parse(gold), parse(response))` with math-verify's defaults, in
        this process; the gold as `$\boxed{gold}$`, since bare golds are misread
grader  Grader.grade of all responses to a problem: fresh workers, started before the clock

The mix: 31 golds, one of each kind that MATH, AIME and Olympiad have, and 30 x 1024 responses dealt
over them; each is a short derivation that ends in a `\boxed{}`; 40 % are correct in several
spellings, the wrong ones have a long tail, some nine responses to a distinct answer. All verdicts
are compared one by one, timeouts aside; a difference has to be in EXPLAINED. Exit status 1 when the
grader is less than FASTER times as fast or a difference is not explained.

The two take turns of four problems each, which is what an evaluation grades at a time, so that what
else the machine does falls on both. Times are of the wall clock.
"""

import argparse
import logging
import random
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.grading import Grader

RESPONSES = 30 * 1024
CORRECT = 0.4
FASTER = 25.0

Kind = tuple[str, tuple[str, ...], Callable[[int], str]]  # gold, spellings, the k-th wrong answer

KINDS: dict[str, Kind] = {
    "integer": ("204", ("204", "204.", r"204\ ", "x = 204"), lambda k: str(204 + k)),
    "negative": ("-17", ("-17", r"{-17}", "- 17"), lambda k: str(-17 - k if k % 2 else k)),
    "thousands": (
        "12,600",
        ("12600", "12,600", r"12{,}600", r"12\,600"),
        lambda k: f"{12 + k},600",
    ),
    "decimal": ("4.5", ("4.5", r"\frac{9}{2}", "9/2", "4.50"), lambda k: f"{k}.25"),
    "fraction": (
        r"\frac{14}{3}",
        (r"\frac{14}{3}", r"\dfrac{14}{3}", "14/3", r"\frac{28}{6}", r"\tfrac{14}{3}"),
        lambda k: rf"\frac{{{k}}}{{{k % 7 + 2}}}" if k % 14 else "k",
    ),
    "negative fraction": (
        r"-\frac{2}{7}",
        (r"-\frac{2}{7}", r"\frac{-2}{7}", r"-\dfrac{2}{7}", "-2/7"),
        lambda k: rf"-\dfrac{{{k}}}{{11}}",
    ),
    "percentage": (r"42\%", (r"42\%", "42", r"42 \%"), lambda k: rf"{42 + k}\%"),
    "money": (r"\$18.90", (r"\$18.90", "18.90", "18.9"), lambda k: rf"\${18 + k}.90"),
    "degrees": (r"120^\circ", (r"120^\circ", r"120^{\circ}", "120"), lambda k: rf"{120 + k}^\circ"),
    "units": (
        r"75\text{ cm}^2",
        (r"75\text{ cm}^2", "75", r"75 \text{ cm}^2", r"75\,\text{cm}^2"),
        lambda k: rf"{75 + k}\text{{ cm}}^2",
    ),
    "surd": (
        r"3\sqrt{13}",
        (r"3\sqrt{13}", r"\sqrt{117}", r"3 \sqrt{13}", r"3\cdot\sqrt{13}"),
        lambda k: rf"{k + 3}\sqrt{{{13 + k % 5}}}",
    ),
    "mixed surd": (
        r"2+\sqrt{3}",
        (r"2+\sqrt{3}", r"\sqrt{3}+2", r"2 + \sqrt 3"),
        lambda k: rf"{k}-\sqrt{{{k + 2}}}",
    ),
    "surd in a fraction": (
        r"\frac{1+\sqrt{5}}{2}",
        (r"\frac{1+\sqrt{5}}{2}", r"\dfrac{1 + \sqrt{5}}{2}", r"\frac{\sqrt{5}+1}{2}"),
        lambda k: rf"\frac{{{k}+\sqrt{{5}}}}{{{k % 4 + 3}}}",
    ),
    "cube root": (
        r"5\sqrt[3]{2}",
        (r"5\sqrt[3]{2}", r"\sqrt[3]{250}", r"5 \sqrt[3]{2}"),
        lambda k: rf"{k + 5}\sqrt[3]{{{k % 3 + 3}}}",
    ),
    "multiple of pi": (
        r"12\pi",
        (r"12\pi", r"12 \pi", r"\pi \cdot 12"),
        lambda k: rf"{12 + k}\pi",
    ),
    "surd and pi": (
        r"\frac{4\pi}{3}-\sqrt{3}",
        (r"\frac{4\pi}{3}-\sqrt{3}", r"\frac{4}{3}\pi-\sqrt{3}", r"-\sqrt{3} + \dfrac{4\pi}{3}"),
        lambda k: rf"\frac{{{k + 4}\pi}}{{3}}-\sqrt{{{k % 3 + 2}}}",
    ),
    "power": ("2^{12}", ("2^{12}", "4096", "4^6"), lambda k: rf"{k % 3 + 3}^{{{k % 40}}}"),
    "scientific": (
        r"3.2 \times 10^{5}",
        (r"3.2 \times 10^{5}", r"3.2\times10^5", "320000", r"3.2 \cdot 10^5"),
        lambda k: rf"{k}.2 \times 10^{{{k % 4 + 4}}}",
    ),
    "complex": ("3-4i", ("3-4i", "3 - 4i", "-4i+3"), lambda k: f"{k}+{k % 5 + 2}i"),
    "logarithm": (
        r"\log_2 5",
        (r"\log_2 5", r"\log_{2}5", r"\frac{\ln 5}{\ln 2}"),
        lambda k: rf"\log_{{{k % 3 + 3}}} {k + 5}",
    ),
    "trigonometric": (
        r"\frac{\pi}{2}-\arctan 2",
        (r"\frac{\pi}{2}-\arctan 2", r"\frac{\pi}{2} - \arctan(2)"),
        lambda k: rf"\arctan \frac{{{k}}}{{{k % 7 + 2}}}",
    ),
    "pair": (
        r"(3, \frac{\pi}{2})",
        (r"(3, \frac{\pi}{2})", r"\left( 3, \frac{\pi}{2} \right)", r"(3,\dfrac{\pi}{2})"),
        lambda k: rf"\left({k}, \frac{{{k % 5 + 2}\pi}}{{3}}\right)",
    ),
    "triple": ("(1,-2,5)", ("(1,-2,5)", "(1, -2, 5)"), lambda k: f"({k},{-k},{k % 7})"),
    "interval": (
        r"[-2,7)",
        ("[-2,7)", r"\left[-2, 7\right)", "[-2, 7)"),
        lambda k: f"({-k},{k % 9 + 4}]",
    ),
    "union": (
        r"(-\infty,-3)\cup(3,\infty)",
        (r"(-\infty,-3)\cup(3,\infty)", r"(-\infty, -3) \cup (3, +\infty)"),
        lambda k: rf"(-\infty,{k})\cup({k + 3},\infty)",
    ),
    "set": (
        r"\{1,2,6\}",
        (r"\{1,2,6\}", r"\{6, 2, 1\}", "1,2,6"),
        lambda k: rf"\{{1,{k % 9},{k + 7}\}}",
    ),
    "polynomial": (
        "x^2-5x+6",
        ("x^2-5x+6", "x^2 - 5x + 6", "(x-2)(x-3)", "6-5x+x^2"),
        lambda k: f"x^2-{k % 6 + 6}x+{k}",
    ),
    "rational function": (
        r"\frac{x+1}{x-3}",
        (r"\frac{x+1}{x-3}", r"\dfrac{x + 1}{x - 3}", r"\frac{1+x}{x-3}"),
        lambda k: rf"\frac{{x+{k}}}{{x-{k % 5 + 4}}}",
    ),
    "equation": ("y=2x-7", ("y=2x-7", "y = 2x - 7", "2x-y=7"), lambda k: f"y={k + 2}x-{k % 8}"),
    "matrix": (
        r"\begin{pmatrix}1&2\\3&4\end{pmatrix}",
        (
            r"\begin{pmatrix}1&2\\3&4\end{pmatrix}",
            r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}",
        ),
        lambda k: rf"\begin{{pmatrix}}{k}&2\\{k % 6}&5\end{{pmatrix}}",
    ),
    "text": (r"\text{Evelyn}", (r"\text{Evelyn}", "Evelyn"), lambda k: rf"\text{{Runner {k}}}"),
}

DERIVATION = (
    "Let us write the condition as $a_{n} = {a}n + {b}$ and look at the first terms.\n\n"
    "**Step 1.** With $n = {b}$ we get $a_{n} = {a} \\cdot {b} + {b}$, so the sum of the two terms "
    "cannot exceed \\({c}\\).\n\n"
    "**Step 2.** Substituting this into the second condition leaves one unknown, and the square "
    "on the left must be positive:\n\\[ {a}x^2 - {b}x \\geq {c}. \\]\n\n"
    "Only one of the cases above is possible. Therefore the final answer is $\\boxed{ANSWER}$."
)

# Differences that follow from this grader's rules (see benchmarks/grading.py): kind -> the reason.
TURN = 4  # problems of about 1,000 responses
EXPLAINED = {
    "integer": "a final stop is no part of the answer; math-verify cannot read `204.`",
}


def mix(rows: int, problems: int = len(KINDS), seed: int = 0) -> list[tuple[str, str, str]]:
    """(kind, gold, response) of `rows` responses dealt over the first `problems` kinds."""
    generator = random.Random(seed)
    kinds = list(KINDS)[:problems]
    tail = [(rank + 4) ** -1.6 for rank in range(300)]
    made = []
    for number in range(rows):
        kind = kinds[number * problems // rows]
        gold, spellings, wrong = KINDS[kind]
        if generator.random() < CORRECT:
            answer = generator.choices(spellings, [4, *[1] * (len(spellings) - 1)])[0]
        else:
            answer = wrong(generator.choices(range(1, 301), tail)[0])
        text = DERIVATION.replace("ANSWER", answer)
        for name in "abc":
            text = text.replace("{" + name + "}", str(generator.randint(2, 99)))
        made.append((kind, gold, text))
    return made


def plain_loop(rows: list[tuple[str, str, str]]) -> list[bool]:
    """What everybody writes: parse both, verify."""
    from math_verify import parse, verify

    return [verify(parse(f"$\\boxed{{{gold}}}$"), parse(response)) for _, gold, response in rows]


def compare(
    rows: list[tuple[str, str, str]], workers: int
) -> tuple[list[tuple[str, int, float, float]], list[tuple[str, str, str | None, bool, str]]]:
    """Time both, turn by turn.

    Returns (kinds, responses, plain seconds, grader seconds) of each turn, and the differences:
    (kind, gold, answer, the plain loop's verdict, the grader's).
    """
    table, differences = [], []
    plain_loop(rows[:1])
    with Grader(workers) as grader:
        grader.start()
        kinds = list(dict.fromkeys(kind for kind, _, _ in rows))
        for start in range(0, len(kinds), TURN):
            turn = kinds[start : start + TURN]
            mine = [row for row in rows if row[0] in turn]
            begun = time.perf_counter()
            plain = plain_loop(mine)
            between = time.perf_counter()
            verdicts = grader.grade([(gold, response) for _, gold, response in mine])
            table.append(
                (", ".join(turn), len(mine), between - begun, time.perf_counter() - between)
            )
            differences += [
                (row[0], row[1], verdict.answer, right, verdict.status)
                for row, right, verdict in zip(mine, plain, verdicts, strict=True)
                if verdict.status != "timeout" and right != (verdict.status == "correct")
            ]
    return table, differences


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=RESPONSES)
    parser.add_argument("--problems", type=int, default=len(KINDS))
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args(arguments)
    logging.disable(logging.WARNING)  # the plain loop reports each of its own timeouts
    rows = mix(options.rows, options.problems)
    table, differences = compare(rows, options.workers)
    table.append(("all", *(sum(column) for column in list(zip(*table, strict=True))[1:])))
    print(f"{'kinds':60} {'responses':>9} {'plain s':>9} {'grader s':>9} {'times':>7}")
    for kind, count, plain, ours in table:
        print(f"{kind:60} {count:9} {plain:9.2f} {ours:9.3f} {plain / ours:7.1f}")
    for difference, count in Counter(differences).most_common():
        print("difference", count, difference, EXPLAINED.get(difference[0], "NOT EXPLAINED"))
    faster = table[-1][2] / table[-1][3]
    unexplained = [each for each in differences if each[0] not in EXPLAINED]
    print(
        f"{faster:.1f} times faster (target {FASTER}), {len(unexplained)} unexplained differences"
    )
    return int(faster < FASTER or bool(unexplained))


if __name__ == "__main__":
    sys.exit(main())
