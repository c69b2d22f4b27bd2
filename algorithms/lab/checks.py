"""The claims that are checked without training, one file a paper's group, found by name.

A check is a frozen settings object with `measure(seed)`: random policies drawn by the seed, the
claim evaluated on each, a few numbers returned. "violations" is always the share of the eligible
cases that contradict the claim.
"""

from __future__ import annotations

import importlib
from typing import Any, Protocol

from algorithms import nearest

CHECKS: dict[str, str] = {
    "lemma-b5": "algorithms.lab.lemma_b5:LemmaB5",
    "clip-theorem": "algorithms.lab.clip_theorems:ClipTheorem",
    "gradient-bound": "algorithms.lab.propositions:GradientBound",
    "bonus-bias": "algorithms.lab.propositions:BonusBias",
}


class Check(Protocol):
    """What `load` returns."""

    def measure(self, seed: int) -> dict[str, float]:
        """The numbers of one seed."""


def check_class(name: str) -> type:
    """The settings class registered under `name`; ValueError that names the nearest valid one."""
    if name not in CHECKS:
        raise ValueError(f"unknown check {name!r}: {nearest(name, list(CHECKS))}")
    module, _, attribute = CHECKS[name].partition(":")
    return getattr(importlib.import_module(module), attribute)


def load(name: str, **settings: Any) -> Check:
    """The check `name` with `settings` over its defaults."""
    return check_class(name)(**settings)
