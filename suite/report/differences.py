"""Arms against each other and against the base model."""

from __future__ import annotations

from suite import stats
from suite.report.scores import Scores
from suite.report.table import Report

BASE = "the base model"  # as comparisons name it


def above_base(scores: Scores, k: int) -> dict[str, stats.Comparison]:
    """Each arm against the base model, on the seeds with which both have been scored."""
    found = {}
    for arm in scores.names():
        seeds = [seed for seed in scores.seeds(arm) if seed in scores.base]
        if seeds:
            both = {arm: scores.of(arm, k, seeds), BASE: scores.of(None, k, seeds)}
            (found[arm],) = stats.compare_arms(both, BASE, rng=scores.rng(arm, k, "base"))
    return found


def baseline(scores: Scores) -> tuple[str, list[int]]:
    """What arms are compared with, GRPO or the first arm, and the seeds that all of them have.

    No seeds without an arm to compare.
    """
    arms = scores.names()
    against = "grpo" if "grpo" in arms else next(iter(scores.arms), ("", 0))[0]
    if len(arms) < 2:
        return against, []
    return against, sorted(set.intersection(*(set(scores.seeds(arm)) for arm in arms)))


def comparisons(scores: Scores, against: str = "") -> dict[int, list[stats.Comparison]]:
    """For each k the other arms against one, by default the baseline; {} without a shared seed.

    Raises ValueError when that arm has no scores.
    """
    usual, shared = baseline(scores)
    if not shared:
        return {}
    return {k: scores.compared(k, against or usual, shared) for k in scores.ks}


def differences(scores: Scores, found: dict[int, list[stats.Comparison]]) -> list[Report]:
    """What `comparisons` found as a table with its notes; nothing when it found nothing."""
    if not found:
        return []
    first = next(iter(found.values()))
    rows = [
        [one.arm, *(_difference(of_k[place]) for of_k in found.values())]
        for place, one in enumerate(first)
    ]
    smallest = {k: max(one.detectable for one in of_k) for k, of_k in found.items()}
    against, (_, shared) = first[0].reference, baseline(scores)
    together = " together" if len(rows) > 1 else ""
    sizes = ", ".join(
        f"{f'±{size:.3f}' if size < 1 else 'no difference at all'} at pass@{k}"
        for k, size in smallest.items()
    )
    notes = [
        f"Difference from {against} on the same problems{_seeds_text(shared)}; the intervals hold "
        f"at 95 %{together} (Bonferroni), and Holm's test agrees where a winner is named.",
        f"What a comparison as noisy as these would show in four of five repetitions: {sizes}.",
    ]
    if len(shared) == 1:
        notes.append("One seed: nothing here says that another seed would agree.")
    columns = ["arm", *(f"pass@{k}" for k in found)]
    return [Report(f"{scores.title}: against {against}", columns, rows, notes)]


def _difference(found: stats.Comparison) -> str:
    """ "+0.041 [+0.006, +0.078] above"."""
    said = found.verdict.split()[0] if found.shown else "not shown"
    return f"{found.estimate:+.3f} [{found.low:+.3f}, {found.high:+.3f}] {said}"


def _seeds_text(seeds: list[int]) -> str:
    return "" if len(seeds) == 1 else f" and the {len(seeds)} seeds that all arms have"
