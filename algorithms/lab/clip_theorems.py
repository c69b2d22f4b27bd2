"""CLIP's Theorems 1 and 2: what a step under random rewards does to entropy, through the clip.

CLIP (2509.26114) section 2. Random policies pi and pi_old; rewards are +1 or -1 whatever the
action, so without a clip the expected gradient is zero. The gradient of the clip algorithm's own
surrogate, expected exactly over actions and rewards (mu nu = 1/2, d = 1), is taken with step eta;
the change of entropy is compared with the theorem's first-order formula, whose terms come from
algorithms.diagnostics. The error must be linear in eta. How often the four differences are positive
(the paper's conditions under which each side has its sign) is measured beside it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import algorithms
from algorithms.base import require

if TYPE_CHECKING:
    from torch import Tensor

ETAS = (1e-2, 1e-3, 1e-4)


@dataclass(frozen=True, kw_only=True)
class ClipTheorem:
    """Settings: Theorem 1 (policy gradient) or 2 (natural), and the random policies."""

    natural: bool = False  # True is Theorem 2
    policies: int = 200
    actions: int = 20
    logits_std: float = 1.0
    moved: float = 0.5  # standard deviation of logits between pi_old and pi
    clip_range: float = 0.2

    def __post_init__(self) -> None:
        require(self.policies >= 1, "policies", self.policies, ">= 1")
        require(self.actions >= 2, "actions", self.actions, ">= 2")
        require(0 < self.clip_range < 1, "clip_range", self.clip_range, "in (0, 1)")

    def measure(self, seed: int) -> dict[str, float]:
        """Median relative error at each eta, its order in eta, shares of positive differences."""
        import torch

        from algorithms.diagnostics import clip_diagnostics, entropy_change
        from algorithms.entropy import token_entropy

        source = torch.Generator().manual_seed(seed)
        draws = torch.randn(2, self.policies, self.actions, generator=source).double()
        old = self.logits_std * draws[0]
        logits = old + self.moved * draws[1]
        terms = clip_diagnostics(logits, old, self.clip_range, self.clip_range)
        predicted = 0.5 * entropy_change(terms, "surprisal" if self.natural else "q")
        step, before = self._step(logits, old), token_entropy(logits)
        errors = {}
        for eta in ETAS:
            change = (token_entropy(logits + eta * step) - before) / eta
            errors[eta] = float(((change - predicted) / predicted).abs().nanmedian())
        order = torch.tensor([errors[ETAS[0]] / errors[ETAS[-1]]]).log10() / 2
        positive = {
            f"{name}_positive": float((value > 0)[~value.isnan()].double().mean())
            for name, value in terms.items()
            if "gap" in name
        }
        return {
            **{f"error_at_{eta:g}": error for eta, error in errors.items()},
            "order": float(order),
            **positive,
        }

    def _step(self, logits: Tensor, old_logits: Tensor) -> Tensor:
        """The expected (natural) gradient of the clipped surrogate at `logits`, [N, V]."""
        import torch

        clip = algorithms.load("clip", eps_low=self.clip_range, eps_high=self.clip_range)
        z = logits.clone().requires_grad_()
        log_pi, old = z.log_softmax(-1), old_logits.log_softmax(-1)
        sign = torch.ones_like(old)
        surrogate = (clip.surrogate(log_pi, old, sign) + clip.surrogate(log_pi, old, -sign)) / 2
        (gradient,) = torch.autograd.grad((old.exp() * surrogate).sum(), z)
        if not self.natural:
            return gradient
        pi = logits.softmax(-1)
        fisher = torch.diag_embed(pi) - pi.unsqueeze(-1) * pi.unsqueeze(-2)
        return (torch.linalg.pinv(fisher) @ gradient.unsqueeze(-1)).squeeze(-1)
