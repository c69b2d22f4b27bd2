"""Which arm to use, and why, in a few sentences drawn from the paired comparison.

Nothing is said that the corrected intervals do not show: an arm is recommended when it is above the
baseline at the smallest k, or else at a larger one; arms above the baseline are not ranked among
themselves, for that was not tested.
"""

from __future__ import annotations

from suite.report.differences import Comparisons, baseline
from suite.report.scores import Scores
from suite.stats import Comparison


def headline(scores: Scores, compared: Comparisons) -> list[str]:
    """The advice, then what it rests on; `compared` is what `differences.comparisons` returned."""
    if not scores.arms:
        return ["No arm has been scored yet."]
    if not compared:
        return [f"Nothing to compare yet: {_all(scores.names())} alone has been scored."]
    reference = next(iter(compared.values()))[0].reference
    usual, seeds = baseline(scores)
    for k, of_k in compared.items():
        better = sorted((c for c in of_k if c.shown and c.estimate > 0), key=lambda c: -c.estimate)
        if better:
            return [_recommend(k, better[0], seeds), *_rest(scores, seeds, compared, better)]
    smallest, of_smallest = next(iter(compared.items()))
    bound = max(comparison.detectable for comparison in of_smallest)
    advice = f"No arm is shown to be better than {reference}."
    if reference == usual:
        advice = f"Stay with {reference}: no arm is shown to be better."
    number = f"{len(seeds)} seed{'' if len(seeds) == 1 else 's'}"
    power = (
        f"With {number} a difference of {bound:.3f} at pass@{smallest} could be detected, four "
        "times in five."
    )
    if bound >= 1:
        power = f"With {number} no difference at pass@{smallest} could be detected."
    return [advice, power, *_rest(scores, seeds, compared, [])]


def _recommend(k: int, best: Comparison, seeds: list[int]) -> str:
    advice = f"Use {best.arm}" if len(seeds) > 1 else f"On its one seed {best.arm} is ahead"
    return (
        f"{advice}: its pass@{k} is {best.estimate:.3f} [{best.low:.3f}, {best.high:.3f}] "
        f"above {best.reference}'s for the same budget."
    )


def _rest(
    scores: Scores,
    seeds: list[int],
    compared: Comparisons,
    better: list[Comparison],
) -> list[str]:
    """What else the comparison shows, and how far it carries."""
    sentences = []
    if better:
        others = [
            f"pass@{k} {comparison.verdict.removesuffix(f' {comparison.reference}')}"
            if comparison.shown
            else f"no difference at pass@{k}"
            for k, of_k in compared.items()
            for comparison in of_k
            if comparison.arm == better[0].arm and comparison != better[0]
        ]
        if others:
            sentences.append(f"{better[0].arm} elsewhere: {', '.join(others)}.")
    if len(better) > 1:
        also = _all([comparison.arm for comparison in better[1:]])
        sentences.append(f"Also above {better[0].reference}: {also}; they were not compared.")
    for k, of_k in compared.items():
        worse = [c.arm for c in of_k if c.shown and c.estimate < 0]
        if worse:
            sentences.append(f"Below {of_k[0].reference} at pass@{k}: {_all(worse)}.")
    caveat = "; nothing here says that another seed would agree" if len(seeds) == 1 else ""
    number = f"{len(seeds)} seed{'' if len(seeds) == 1 else 's'}"
    return [*sentences, f"{scores.problems} problems, {number}{caveat}."]


def _all(names: list[str]) -> str:
    return ", ".join(names)
