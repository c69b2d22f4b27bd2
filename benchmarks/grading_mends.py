r"""Mends of math-verify 0.9.0 and latex2sympy, made in a worker before its first question.

One changes verdicts: an equation without real solutions no longer equals every other one
(`_solve_less`). The others leave them as they are and save time:

- texts with the same kinds of tokens are parsed once (`_parse_each_shape_once`);
- a number is read as one, without evaluating Python for it (`_read_plain_numbers`);
- a difference that is plainly not zero is not simplified first (`_simplify_less`), nor is an
  equation solved whose solution is plainly another (`_solve_less`), nor the difference of two
  unions of intervals worked out when a point is in only one of them (`_compare_fewer_sets`).

"Plainly" is one-sided everywhere: it takes a number as a witness to call two things different, and
whatever it cannot tell goes to math-verify.
"""

import functools
import itertools
import re
from collections.abc import Iterable
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import sympy
from antlr4.atn.PredictionMode import PredictionMode
from latex2sympy2_extended.latex2sympy2 import _Latex2Sympy as Converter
from math_verify import grader
from sympy.core.numbers import ImaginaryUnit

SHAPES = 256  # parse trees kept, some 50 kB each

_INTEGER = re.compile(r"0|[1-9][0-9]*")
_DECIMAL = re.compile(r"[0-9]+\.[0-9]+")
_FUNCTIONS = (sympy.log, sympy.exp, sympy.sin, sympy.cos, sympy.tan, sympy.atan)
_NUMBERS = (sympy.Number, sympy.NumberSymbol, ImaginaryUnit, sympy.Symbol)
_ELEMENTARY = (*_NUMBERS, sympy.Add, sympy.Mul, sympy.Pow, sympy.UnevaluatedExpr, *_FUNCTIONS)


def mend_math_verify() -> None:
    """Replace what is unsound or slow in math-verify, for this process."""
    _parse_each_shape_once()
    _read_plain_numbers()
    _simplify_less()
    _solve_less()
    _compare_fewer_sets()


# ---------------------------------------------------------------- reading


def _parse_each_shape_once() -> None:
    """Keep the parse trees of earlier texts for texts with the same sequence of token types.

    The grammar has no action and no predicate that looks at a token's text, so the types decide
    the tree. An old tree gets the new tokens' places in the new text; while it is in use it is
    out of reach, as the converter parses parts of a derivative by itself.
    """
    create_parser, parse = Converter.create_parser, Converter.parse
    trees: dict[tuple[int, ...], tuple[list, Any]] = {}

    def parse_by_shape(self: Any, latex: str) -> Any:
        parser = create_parser(self, latex)
        stream = parser.getTokenStream()
        stream.fill()
        shape = tuple([token.type for token in stream.tokens])
        tokens, tree = trees.pop(shape, None) or (stream.tokens, _tree(parser))
        _retell(tokens, stream.tokens)
        self.tree = tree
        try:
            return parse(self, latex)
        finally:
            trees[shape] = tokens, tree
            if len(trees) > SHAPES:
                del trees[next(iter(trees))]

    Converter.parse = parse_by_shape
    Converter.create_parser = lambda self, _: SimpleNamespace(math=lambda: self.tree)


def _tree(parser: Any) -> Any:
    """The parse tree by ANTLR's SLL prediction, and by full LL only where that finds an error.

    This is ANTLR's own recipe: what SLL parses without an error, LL parses to the same tree.
    """
    parser._interp.predictionMode = PredictionMode.SLL
    try:
        return parser.math()
    except Exception:
        parser.reset()
        parser._interp.predictionMode = PredictionMode.LL
        return parser.math()


def _retell(tokens: list, others: list) -> None:
    """Make the tokens tell the text of others of the same types."""
    for token, other in zip(tokens, others, strict=True):
        token.source, token.start, token.stop = other.source, other.start, other.stop
        token.line, token.column, token.text = other.line, other.column, other._text


def _read_plain_numbers() -> None:
    """Read `12` and `0.5` directly; SymPy imports all its names anew to evaluate each of them."""
    parse_number = Converter.parse_number

    def parse_plain_number(self: Any, text: str) -> Any:
        if _INTEGER.fullmatch(text):
            return sympy.Integer(text)
        return sympy.Float(text) if _DECIMAL.fullmatch(text) else parse_number(self, text)

    Converter.parse_number = parse_plain_number


# ---------------------------------------------------------------- expressions


def _simplify_less() -> None:
    """Let math-verify simplify a difference only where it is not plainly other than zero."""
    simplify_and_compare = grader.sympy_symbolic_eq

    def symbolic_equal(gold: Any, answer: Any) -> bool:
        return not plainly_other(gold, answer) and simplify_and_compare(gold, answer)

    grader.sympy_symbolic_eq = symbolic_equal


def plainly_other(gold: Any, answer: Any) -> bool:
    """Whether the two differ by more than 1e-6 of their size at one point, so are not identical.

    The point gives each variable, by name, a positive rational of its own. Only elementary
    functions are taken, whose identities hold there and which SymPy evaluates reliably; and only
    small exponents, so that it is quick. Anything else is left to be simplified.
    """
    both = (gold, answer)
    try:
        if not all(map(_elementary, both)):
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


def _elementary(expression: Any) -> bool:
    """Whether a scalar is made of numbers, variables, + * ^ (exponents under 1000), exp, sin..."""
    if not isinstance(expression, _ELEMENTARY):
        return False
    if expression.is_Pow and not expression.exp.free_symbols:
        size = abs(expression.exp.evalf(5))
        if not (size.is_number and size < 1000):
            return False
    return all(map(_elementary, expression.args))


# ---------------------------------------------------------------- equations


def _solve_less() -> None:
    """Compare the solutions of two equations only where there are any that may be the same.

    math-verify ends by comparing the solutions, so a gold that has none (`x^2+18x+86=0`) would
    equal every contradiction, and a policy finds "1 = 2". One that is the gold rearranged is
    recognised before this comparison, one that is a multiple of it here.
    """
    compare = grader.sympy_solve_and_compare

    @functools.lru_cache(maxsize=256)
    def solve_once(relation: Any) -> Any:  # a gold is compared with many answers
        return sympy.solve(relation, relation.free_symbols)

    def compare_solutions(gold: Any, answer: Any, *precision: int) -> bool:
        solutions = solve_once(gold)
        if not solutions:
            return _is_a_multiple(gold, answer)
        if _plainly_unsolved(solutions, answer):
            return False
        return compare(gold, answer, *precision)

    grader.solve = lambda relation, _: solve_once(relation)
    grader.sympy_solve_and_compare = compare_solutions


def _is_a_multiple(gold: Any, answer: Any) -> bool:
    """Whether an equation in variables is the other times a number: x^2 + 1 = 0, 2x^2 = -2."""
    if not (isinstance(gold, sympy.Eq) and isinstance(answer, sympy.Eq) and gold.free_symbols):
        return False
    ratio = sympy.cancel((gold.lhs - gold.rhs) / (answer.lhs - answer.rhs))
    return bool(ratio.is_number and ratio.is_finite and not ratio.is_zero)


def _plainly_unsolved(solutions: Any, answer: Any) -> bool:
    """Whether no solution of the answer, an equation, can be the first of these, {x: value}.

    If the answer is linear in x, the only value for which it could be solved is one Newton step
    away from any other; if it does not have x, there is none.
    """
    try:
        if not isinstance(answer, sympy.Eq):
            return False
        [(variable, value)] = solutions[0].items()
        if variable not in answer.free_symbols:
            return True
        residual = answer.lhs - answer.rhs
        slope = residual.diff(variable)
        if variable in slope.free_symbols:
            return False
        return plainly_other(value, value - residual.subs(variable, value) / slope)
    except Exception:
        return False


# ---------------------------------------------------------------- sets

_Span = tuple[Fraction | float, Fraction | float, bool, bool]  # from, to, left open, right open


def _compare_fewer_sets() -> None:
    """Let math-verify compare a union only with sets that have the same points, where we can tell.

    It asks SymPy whether the symmetric difference is empty, and has no other rule for a union.
    """
    compare = grader.sympy_compare_sets

    def compare_sets(gold: Any, answer: Any, *precision: int) -> bool:
        return not _plainly_other_union(gold, answer) and compare(gold, answer, *precision)

    grader.sympy_compare_sets = compare_sets


def _plainly_other_union(gold: Any, answer: Any) -> bool:
    """Whether, of two unions of intervals with rational ends, only one contains some point."""
    sets = (gold, answer)
    if not all(isinstance(each, sympy.Union) for each in sets):
        return False
    if not all(map(_plain_interval, gold.args + answer.args)):
        return False
    spans = [[_span(interval) for interval in each.args] for each in sets]
    return any(_contains(spans[0], point) != _contains(spans[1], point) for point in _probes(spans))


def _plain_interval(part: Any) -> bool:
    return isinstance(part, sympy.Interval) and all(
        end.is_Rational or end in (sympy.oo, -sympy.oo) for end in (part.start, part.end)
    )


def _span(interval: Any) -> _Span:
    return (
        _exact(interval.start),
        _exact(interval.end),
        bool(interval.left_open),
        bool(interval.right_open),
    )


def _exact(end: Any) -> Fraction | float:
    """A rational end exactly, an infinite one as a float."""
    return Fraction(int(end.p), int(end.q)) if end.is_Rational else float(end)


def _contains(spans: list[_Span], point: Fraction) -> bool:
    return any(
        low < point < high or (point == low and not left_open) or (point == high and not right_open)
        for low, high, left_open, right_open in spans
    )


def _probes(spans: Iterable[list[_Span]]) -> list[Fraction]:
    """All finite ends, and a point between any two neighbours and beyond the outermost."""
    ends = {end for each in spans for span in each for end in span[:2]}
    finite = sorted(end for end in ends if isinstance(end, Fraction)) or [Fraction(0)]
    between = [(low + high) / 2 for low, high in itertools.pairwise(finite)]
    return [*finite, *between, finite[0] - 1, finite[-1] + 1]
