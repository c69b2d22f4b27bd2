"""The terms of CLIP's Theorems 1 and 2: by hand, and against what a small step does to entropy."""

import math

import pytest

torch = pytest.importorskip("torch")

from algorithms import load  # noqa: E402
from algorithms.diagnostics import clip_diagnostics, entropy_change  # noqa: E402
from algorithms.entropy import token_entropy  # noqa: E402

ETA = 1e-5


def test_by_hand():
    """pi = (1/2, 1/4, 1/4), pi_old = (1/4, 1/4, 1/2): r = 2, 1, 1/2; Y = {0}, X = {2}.

    H = 1.5 ln 2; Q = (ln 2 / 4, -ln 2 / 8, -ln 2 / 8), E[Q] = ln 2 / 16.
    """
    pi = torch.tensor([[0.5, 0.25, 0.25]], dtype=torch.float64)
    old = torch.tensor([[0.25, 0.25, 0.5]], dtype=torch.float64)
    found = clip_diagnostics(pi.log(), old.log(), 0.2, 0.2)
    expected = {
        "entropy": 1.5 * math.log(2),
        "p": 0.25,
        "q": 0.5,
        "q_gap_low": (1 / 16 + 1 / 8) * math.log(2),
        "q_gap_high": (1 / 16 - 1 / 4) * math.log(2),
        "surprisal_gap_low": 0.5 * math.log(2),
        "surprisal_gap_high": -0.5 * math.log(2),
    }
    assert {name: value.item() for name, value in found.items()} == pytest.approx(expected)


def test_empty_sets_are_nan_and_impossible_actions_weigh_nothing():
    logits = torch.tensor([[1.0, 0.0, -math.inf], [0.0, 1.0, 2.0]])
    found = clip_diagnostics(logits, logits, 0.2, 0.2)
    assert found["p"].tolist() == found["q"].tolist() == [0.0, 0.0]
    for name in ("q_gap_low", "q_gap_high", "surprisal_gap_low", "surprisal_gap_high"):
        assert found[name].isnan().all()
    assert entropy_change(found, "q").tolist() == [0.0, 0.0]
    wide = clip_diagnostics(logits, logits.flip(-1), 1.0, math.inf)
    assert wide["p"].tolist() == wide["q"].tolist() == [0.0, 0.0], "both sides are off"
    assert not found["entropy"].isnan().any()


def test_shapes_must_agree():
    with pytest.raises(ValueError, match=r"\(1, 3\) and \(1, 4\)"):
        clip_diagnostics(torch.zeros(1, 3), torch.zeros(1, 4), 0.2, 0.2)


def policies(states=64, actions=12):
    generator = torch.Generator().manual_seed(0)
    old, moved = torch.randn(2, states, actions, generator=generator, dtype=torch.float64)
    return old, old + 0.5 * moved


def expected_step(logits, old_logits):
    """Gradient of the surrogate's expectation over actions and over A = +1 or -1, half each."""
    z = logits.clone().requires_grad_()
    log_pi, old = torch.log_softmax(z, -1), torch.log_softmax(old_logits, -1)
    clip = load("clip", eps_low=0.2, eps_high=0.2)
    signs = torch.ones_like(old)
    surrogate = sum(clip.surrogate(log_pi, old, sign * signs) for sign in (1.0, -1.0)) / 2
    (gradient,) = torch.autograd.grad((old.exp() * surrogate).sum(), z)
    return gradient


@pytest.mark.parametrize("kind", ["q", "surprisal"])
def test_the_theorems_predict_what_a_step_of_the_clip_does(kind):
    """mu nu = 1/2 here. The natural gradient is F^+ times the gradient, F = diag(pi) - pi pi^T."""
    old, logits = policies()
    step = expected_step(logits, old)
    if kind == "surprisal":
        pi = torch.softmax(logits, -1)
        fisher = torch.diag_embed(pi) - pi.unsqueeze(-1) * pi.unsqueeze(-2)
        step = (torch.linalg.pinv(fisher) @ step.unsqueeze(-1)).squeeze(-1)
    before, after = token_entropy(logits), token_entropy(logits + ETA * step)
    predicted = 0.5 * ETA * entropy_change(clip_diagnostics(logits, old, 0.2, 0.2), kind)
    error = ((after - before - predicted) / predicted).abs()
    assert error.median() < 1e-4
    assert (after - before - predicted).abs().max() < 1e-3 * predicted.abs().max()
