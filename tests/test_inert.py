"""The inert-arm detector: no false alarm, no missed one."""

import pytest

torch = pytest.importorskip("torch")

from algorithms import load  # noqa: E402
from algorithms.base import Batch  # noqa: E402
from algorithms.inert import differs_from_grpo, reference  # noqa: E402

REWARDS = torch.tensor([[1.0, 0.0, 0.0, 1.0]])


def differs(name, ratios, **settings):
    """Where the arm differs, for four responses of one token with these importance ratios."""
    arm = load(name, **settings)
    old = torch.full((4, 1), -1.0)
    new = old + torch.tensor(ratios).log().view(4, 1)
    own, grpo = (a.advantages(REWARDS).view(4, 1) for a in (arm, reference(arm)))
    batch = Batch(old, own, mask=torch.ones(4, 1))
    return differs_from_grpo(arm, new, batch, grpo)[:, 0].tolist()


@pytest.mark.parametrize("name", ["clip-higher", "clip-high-off", "clip-low", "dapo", "grpo"])
def test_on_policy_every_clip_variant_is_inert(name):
    assert differs(name, [1.0] * 4) == [False] * 4


def test_a_clip_variant_differs_where_its_range_does():
    """A is positive at 0 and 3, negative at 1 and 2; 1.25 lies between .2 and .28."""
    assert differs("clip-higher", [1.25, 1.25, 0.79, 1.0]) == [True, False, False, False]
    assert differs("clip-low", [1.0, 1.0, 0.82, 3.0]) == [False, False, True, True]
    assert differs("clip", [1.0, 0.82, 0.9, 1.0], eps_low=0.15) == [False, True, False, False]


def test_another_order_of_operations_is_no_difference():
    """CISPO within its bound has the gradient r A of the surrogate."""
    assert differs("cispo", [1.1, 0.9, 1.05, 0.95]) == [False] * 4


def test_other_advantages_are_a_difference():
    assert all(differs("w_reinforce", [1.0] * 4))


def test_padding_never_differs():
    arm = load("w_reinforce")
    zeros = torch.zeros(4, 1)
    own = arm.advantages(REWARDS).view(4, 1)
    assert not differs_from_grpo(arm, zeros, Batch(zeros, own, mask=zeros), zeros).any()
