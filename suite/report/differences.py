"""Arms against each other and against the base model."""

from __future__ import annotations

from suite import stats
from suite.report.scores import Scores
from suite.report.table import Entry, Report, column

BASE = "the base model"  # as comparisons name it
GRPO = "grpo"
Comparisons = dict[int, list[stats.Comparison]]  # k -> the other arms against one


def above_base(scores: Scores, k: int) -> dict[str, stats.Comparison]:
    """Each arm against the base model, on the seeds with which both have been scored."""
    compared = {}
    for arm in scores.names():
        seeds = [seed for seed in scores.seeds(arm) if seed in scores.base]
        if seeds:
            both = {arm: scores.values(arm, k, seeds), BASE: scores.values(None, k, seeds)}
            (compared[arm],) = stats.compare_arms(both, BASE, rng=scores.rng(arm, k, "base"))
    return compared


def baseline_of(arms: list[str]) -> str:
    """What arms are compared with: GRPO, or the first of them; "" of none."""
    return GRPO if GRPO in arms else next(iter(arms), "")


def baseline(scores: Scores) -> tuple[str, list[int]]:
    """What arms are compared with, and the seeds that all of them have.

    No seeds without an arm to compare.
    """
    arms = list(dict.fromkeys(arm for arm, _ in scores.arms))  # in the order of the matrix
    against = baseline_of(arms)
    if len(arms) < 2:
        return against, []
    return against, sorted(set.intersection(*(set(scores.seeds(arm)) for arm in arms)))


def comparisons(scores: Scores, against: str = "") -> Comparisons:
    """For each k the other arms against one, by default the baseline; {} without a shared seed.

    Raises ValueError when that arm has no scores.
    """
    usual, shared = baseline(scores)
    if not shared:
        return {}
    return {k: scores.compared(k, against or usual, shared) for k in scores.ks}


def differences(scores: Scores, compared: Comparisons) -> list[Report]:
    """What `comparisons` found as a table with its notes; nothing when it found nothing."""
    if not compared:
        return []
    smallest_k = next(iter(compared.values()))
    rows: list[list[Entry]] = [
        [comparison.arm, *(of_k[place] for of_k in compared.values())]
        for place, comparison in enumerate(smallest_k)
    ]
    detectable = {k: max(c.detectable for c in of_k) for k, of_k in compared.items()}
    against, (_, shared) = smallest_k[0].reference, baseline(scores)
    together = " together" if len(rows) > 1 else ""
    sizes = ", ".join(
        f"{f'±{size:.3f}' if size < 1 else 'no difference at all'} at pass@{k}"
        for k, size in detectable.items()
    )
    notes = [
        f"Difference from {against} on the same problems{_seeds_text(shared)}; the intervals hold "
        f"at 95 %{together} (Bonferroni), and Holm's test agrees where a winner is named.",
        f"What a comparison as noisy as these would show in four of five repetitions: {sizes}.",
    ]
    if len(shared) == 1:
        notes.append("One seed: nothing here says that another seed would agree.")
    columns = [
        column("arm"),
        *(column("difference", ".3f", f"pass@{k}", k=k) for k in compared),
    ]
    title = f"{scores.title}: against {against}"
    about = scores.about | {"against": against}
    return [Report("differences", title, columns, rows, notes, about)]


def _seeds_text(seeds: list[int]) -> str:
    return "" if len(seeds) == 1 else f" and the {len(seeds)} seeds that all arms have"
