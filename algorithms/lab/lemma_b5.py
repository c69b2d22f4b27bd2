"""AEPO's Lemma B.5: a REINFORCE step on hotter samples lowers entropy less, or raises it.

AEPO (2510.08141) Theorem 4.3 and Lemma B.5: one expected REINFORCE step on the correct actions a*
drawn at temperature T, delta z = eta sum_{a*} pi^T(a*) (e_{a*} - pi), changes entropy by

    dH(T) = -eta sum_{a*} pi^T(a*) Cov_pi(z, delta_{a,a*} - pi(a))

to first order, and d/dT dH > 0 at T = 1 whenever dH(1) < 0. Both are compared with finite
differences in float64, on random policies from flat to peaked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from algorithms.base import require

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class LemmaB5:
    """Settings: how many random policies a seed draws, and of what kind."""

    policies: int = 2000
    actions: int = 20
    correct: int = 3
    eta: float = 1e-5
    hot: float = 1.2  # the temperature at which the sign of dH itself is looked at

    def __post_init__(self) -> None:
        require(0 < self.correct < self.actions, "correct", self.correct, "in (0, actions)")
        require(self.policies >= 1, "policies", self.policies, ">= 1")
        require(self.eta > 0, "eta", self.eta, "> 0")

    def measure(self, seed: int) -> dict[str, float]:
        """Errors (median, relative), eligible share, violations with and without the condition.

        "rises_when_hot": share of the eligible policies whose entropy rises at T = `hot` outright.
        """
        z, correct = self._policies(seed)
        change, slope = self._change(z, correct, 1.0), self._slope(z, correct)
        step = 1e-4
        differences = self._change(z, correct, 1 + step) - self._change(z, correct, 1 - step)
        finite = differences / (2 * step)
        eligible = change < 0
        return {
            "value_error": _relative(self._finite_change(z, correct), change),
            "slope_error": _relative(finite, slope),
            "eligible": float(eligible.double().mean()),
            "violations": float((slope <= 0)[eligible].double().mean()),
            "violations_unconditional": float((slope <= 0).double().mean()),
            "rises_when_hot": float(
                (self._change(z, correct, self.hot) > 0)[eligible].double().mean()
            ),
        }

    def _policies(self, seed: int) -> tuple[Tensor, Tensor]:
        """Logits [N, V] with standard deviations from 0.1 to 10, and which actions are correct."""
        import torch

        source = torch.Generator().manual_seed(seed)
        shape = (self.policies, self.actions)
        scale = 10 ** (2 * torch.rand(self.policies, 1, generator=source).double() - 1)
        z = scale * torch.randn(shape, generator=source).double()
        order = torch.rand(shape, generator=source).argsort(-1)
        return z, order < self.correct

    def _change(self, z: Tensor, correct: Tensor, temperature: float) -> Tensor:
        """dH(T) / eta by the theorem, [N]."""
        return -((z / temperature).softmax(-1) * correct * _covariances(z)).sum(-1)

    def _slope(self, z: Tensor, correct: Tensor) -> Tensor:
        """d/dT of it at T = 1, [N]: d pi^T(a)/dT = -pi(a) (z_a - mean z)."""
        pi = z.softmax(-1)
        centred = z - (pi * z).sum(-1, keepdim=True)
        return (pi * centred * correct * _covariances(z)).sum(-1)

    def _finite_change(self, z: Tensor, correct: Tensor) -> Tensor:
        """(H after the step at T = 1 minus H before) / eta, [N]."""
        from algorithms.entropy import token_entropy

        pi = z.softmax(-1)
        right = pi * correct
        step = right - pi * right.sum(-1, keepdim=True)
        return (token_entropy(z + self.eta * step) - token_entropy(z)) / self.eta


def _covariances(z: Tensor) -> Tensor:
    """Cov_pi(z, delta_{a,a*} - pi(a)) for every a*, [N, V]."""
    pi = z.softmax(-1)
    centred = z - (pi * z).sum(-1, keepdim=True)
    return pi * centred - (pi * pi * centred).sum(-1, keepdim=True)


def _relative(measured: Tensor, expected: Tensor) -> float:
    """The median relative error; maxima blow up where the expected value is near zero."""
    return float(((measured - expected) / expected).abs().nanmedian())
