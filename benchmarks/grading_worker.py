r"""A grading worker: math-verify in a child process that may hang, swell and be killed.

`benchmarks.grading` starts it by path (`python grading_worker.py --memory BYTES --parent PID`),
writes one JSON line [gold, answer] a question and reads one byte a verdict. Nothing here keeps
time: the parent does. Three mends of math-verify 0.9.0 and latex2sympy, all made at start:

- an equation without real solutions no longer equals every other one (`_solutions_exist`);
- ANTLR parses in its cheap mode first (`_parse_in_two_stages`), the same reading at half the price;
- a difference that is plainly not zero is not simplified first (`_plainly_nonzero`), which is most
  of what a wrong symbolic answer costs.
"""

import argparse
import contextlib
import functools
import json
import os
import sys
from typing import Any


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


def equal(gold: str, answer: str) -> bool:
    """Whether math-verify holds the two for equal; what it cannot read is not."""
    import math_verify

    try:
        return math_verify.verify(_parse_gold(gold), _parse(answer), timeout_seconds=None)
    except Exception:
        return False


def mend_math_verify() -> None:
    """Replace what is unsound or slow in math-verify 0.9.0, for this process."""
    _solutions_exist()
    _parse_in_two_stages()
    _simplify_only_what_may_be_zero()


def _solutions_exist() -> None:
    """Keep equations without real solutions from being equal to each other.

    math-verify ends by comparing the solutions of two equations, so a gold that has none
    (`x^2+18x+86=0`) would equal every contradiction, and a policy finds "1 = 2". One that is the
    gold rearranged is recognised before this comparison.
    """
    from math_verify import grader
    from sympy import solve

    compare = grader.sympy_solve_and_compare

    @functools.lru_cache(maxsize=256)
    def solve_once(relation: Any) -> Any:  # a gold is compared with many answers
        return solve(relation, relation.free_symbols)

    def compare_solutions(gold: Any, answer: Any, *precision: int) -> bool:
        return bool(solve_once(gold)) and compare(gold, answer, *precision)

    grader.solve = lambda relation, _: solve_once(relation)
    grader.sympy_solve_and_compare = compare_solutions


def _parse_in_two_stages() -> None:
    """Parse with ANTLR's SLL prediction, and with the full LL only where that finds an error.

    This is ANTLR's own recipe: what SLL parses without an error, LL parses to the same tree.
    """
    from antlr4.atn.PredictionMode import PredictionMode
    from latex2sympy2_extended.latex2sympy2 import _Latex2Sympy as Converter

    create_parser, parse = Converter.create_parser, Converter.parse

    def create_with_mode(self: Any, latex: str) -> Any:
        parser = create_parser(self, latex)
        parser._interp.predictionMode = self.mode
        return parser

    def parse_twice(self: Any, latex: str) -> Any:
        self.mode = PredictionMode.SLL
        try:
            return parse(self, latex)
        except Exception:
            self.mode = PredictionMode.LL
            return parse(self, latex)

    Converter.create_parser, Converter.parse = create_with_mode, parse_twice


def _simplify_only_what_may_be_zero() -> None:
    """Let math-verify simplify a difference only where it is not plainly other than zero."""
    from math_verify import grader

    simplify_and_compare = grader.sympy_symbolic_eq

    def symbolic_equal(gold: Any, answer: Any) -> bool:
        return not _plainly_nonzero(gold, answer) and simplify_and_compare(gold, answer)

    grader.sympy_symbolic_eq = symbolic_equal


def _plainly_nonzero(gold: Any, answer: Any) -> bool:
    """Whether the two differ by more than 1e-6 of their size at one point, so are not identical.

    The point gives each variable, by name, a positive rational of its own. Only elementary
    functions are taken, whose identities hold there and which SymPy evaluates reliably; and only
    small exponents, so that it is quick. Anything else is left to be simplified.
    """
    import sympy

    both, kinds = [gold, answer], _elementary_kinds()
    try:
        if not all(_elementary(expression, kinds) for expression in both):
            return False
        names = sorted({symbol.name for each in both for symbol in each.free_symbols})
        point = {name: sympy.Rational(37 + 30 * i, 29 + 2 * i) for i, name in enumerate(names)}
        values = [
            complex(each.subs({s: point[s.name] for s in each.free_symbols}).doit().evalf(20))
            for each in both
        ]
    except Exception:
        return False
    gap, size = abs(values[0] - values[1]), max(1.0, *map(abs, values))
    return 1e-6 * size < gap < 1e100  # neither nan nor infinite


@functools.cache
def _elementary_kinds() -> tuple[type, ...]:
    import sympy
    from sympy.core.numbers import ImaginaryUnit

    functions = (sympy.log, sympy.exp, sympy.sin, sympy.cos, sympy.tan, sympy.atan)
    numbers = (sympy.Number, sympy.NumberSymbol, ImaginaryUnit, sympy.Symbol)
    return (*numbers, sympy.Add, sympy.Mul, sympy.Pow, sympy.UnevaluatedExpr, *functions)


def _elementary(expression: Any, kinds: tuple[type, ...]) -> bool:
    """Whether a scalar is made of numbers, variables, + * ^ (exponents under 1000), exp, sin..."""
    if not isinstance(expression, kinds):
        return False
    if expression.is_Pow and not expression.exp.free_symbols:
        size = abs(expression.exp.evalf(5))
        if not (size.is_number and size < 1000):
            return False
    return all(_elementary(argument, kinds) for argument in expression.args)


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
        mend_math_verify()
        equal("0.5", "\\frac{1}{2}")  # compiles the grammar, so that no question pays for it
    except Exception as error:
        replies.write(f"!{error!r}".encode())
        return
    replies.write(b"+")
    peak = _peak_memory()
    for line in sys.stdin.buffer:
        same = equal(*json.loads(line))
        before, peak = peak, _peak_memory()
        if not same and peak - before > memory_bytes // 8:
            replies.write(b"t")
            return
        replies.write(b"c" if same else b"w")


def _main() -> None:
    parser = argparse.ArgumentParser(description="A grading worker; it talks to its parent only.")
    parser.add_argument("--memory", type=int, required=True, help="bytes of address space")
    parser.add_argument("--parent", type=int, required=True, help="process id of the parent")
    arguments = parser.parse_args()
    _serve(arguments.memory, arguments.parent)


if __name__ == "__main__":
    _main()
