"""DAPO's objective: GRPO with the upper clip raised.

Yu et al. (2503.14476): eps 0.2 / 0.28 with the group-normalised advantage. Its other
parts are settings of the harness, for any arm alike: the token-level mean is `train:
{loss_aggregation: token-mean}`. Left out: dynamic sampling and overlong reward shaping.
With `eps_high: 0.2` it is GRPO, bit for bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from algorithms.grpo import GRPO


@dataclass(frozen=True, kw_only=True)
class DAPO(GRPO):
    """Settings of DAPO; see the module docstring."""

    only_ratio: ClassVar[bool] = True

    eps_high: float = 0.28  # "clip-higher"
