"""Clip variants: GRPO with the two sides of the clip set apart.

CLIP (2509.26114, section 3): clip-low raises entropy, clip-high lowers it, so the pair (eps_low,
eps_high) is an entropy control. Settings of the paper and of its neighbours:
    symmetric       0.2 / 0.2
    clip-higher     0.2 / 0.28   (DAPO)
    clip-high off   0.2 / inf
    clip-low off    1.0 / 0.2
    clip-low        0.15 / inf   (the paper's balance on GSM8K, and this file's default)
The advantage is Dr. GRPO's, without the division by the standard deviation (CLIP section 1.2); no
KL and no entropy term. With `eps_low: 0.2, eps_high: 0.2, std: true` it is GRPO, bit for bit.
Left out: the training recipe, which is the matrix's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from algorithms.grpo import GRPO


@dataclass(frozen=True, kw_only=True)
class Clip(GRPO):
    """Settings of a clip variant; see the module docstring."""

    only_ratio: ClassVar[bool] = True

    eps_low: float = 0.15  # CLIP section 3.2; 1.0 switches clip-low off
    eps_high: float = float("inf")  # CLIP section 3.2; inf switches clip-high off
    std: bool = False  # CLIP section 1.2: Dr. GRPO advantage


@dataclass(frozen=True, kw_only=True)
class ClipHigher(Clip):
    """Clip-higher: 0.2 / 0.28 (CLIP section 3.2)."""

    eps_low: float = 0.2
    eps_high: float = 0.28


@dataclass(frozen=True, kw_only=True)
class ClipHighOff(Clip):
    """Clip-high off: 0.2 / inf (CLIP section 3.2)."""

    eps_low: float = 0.2


@dataclass(frozen=True, kw_only=True)
class ClipLowOff(Clip):
    """Clip-low off: 1.0 / 0.2 (CLIP section 3.2)."""

    eps_low: float = 1.0
    eps_high: float = 0.2
