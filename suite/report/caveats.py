"""What has to stand beside a score: what guessing reaches, and what it was trained on."""

from __future__ import annotations

import json

from benchmarks import catalogue

SHOWN_IDS = 5


def guessing(benchmark: str, ks: list[int]) -> list[float] | None:
    """pass@k of guessing among all possible answers; None where they are too many to guess."""
    known = catalogue.known().get(benchmark)
    if known is None or known.floor is None:
        return None
    return [1 - (1 - known.floor) ** k for k in ks]


def overlap(
    benchmark: str, overlapping: int, problems: int, ids: str, whose: str = "the training prompts"
) -> str:
    """How many problems, and which, occur in the training prompts.

    ids: those of the problems that do, as JSON; overlap is `benchmarks.overlap`'s.
    """
    first = ", ".join(json.loads(ids)[:SHOWN_IDS]) + (", ..." if overlapping > SHOWN_IDS else "")
    which = f" ({first})" if overlapping else ""
    return f"{overlapping} of {problems} problems of {benchmark} occur in {whose}{which}."
