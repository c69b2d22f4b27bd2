"""The surrogate and its aggregation, against numbers worked out by hand."""

import math

import pytest

torch = pytest.importorskip("torch")

from algorithms.objective import aggregate, clipped_surrogate, importance_ratio  # noqa: E402

RATIOS = torch.tensor([0.5, 0.9, 1.1, 1.5]).double()


def surrogate(advantage, low, high):
    old = torch.zeros(4).double()
    advantages = torch.full((4,), advantage).double()
    return clipped_surrogate(RATIOS.log(), old, advantages, low, high)


def test_positive_advantage_is_capped_above():
    expected = torch.tensor([0.5, 0.9, 1.1, 1.2]).double() * 2  # min(r A, 1.2 A), A = 2
    torch.testing.assert_close(surrogate(2.0, 0.2, 0.2), expected)


def test_negative_advantage_is_capped_below():
    expected = torch.tensor([0.8, 0.9, 1.1, 1.5]).double() * -2  # min(r A, 0.8 A) at r = 0.5
    torch.testing.assert_close(surrogate(-2.0, 0.2, 0.2), expected)


def test_each_side_can_be_switched_off():
    torch.testing.assert_close(surrogate(2.0, 0.2, math.inf), 2 * RATIOS)
    torch.testing.assert_close(surrogate(-2.0, 1.0, 0.2), -2 * RATIOS)


def test_only_the_numerator_has_a_gradient():
    new, old = torch.zeros(3, requires_grad=True), torch.zeros(3, requires_grad=True)
    clipped_surrogate(new, old, torch.ones(3), 0.2, 0.2).sum().backward()
    assert torch.equal(new.grad, torch.ones(3))
    assert old.grad is None


def test_a_broken_token_does_not_overflow():
    assert torch.isfinite(importance_ratio(torch.tensor([1000.0]), torch.tensor([0.0]))).all()


@pytest.mark.parametrize(("low", "high"), [(-0.1, 0.2), (1.1, 0.2), (0.2, -0.1), (0.2, math.nan)])
def test_impossible_clip_ranges_are_refused(low, high):
    with pytest.raises(ValueError, match="eps_"):
        surrogate(1.0, low, high)


VALUES = torch.tensor([[1.0, 2.0, math.nan], [5.0, math.inf, math.nan], [math.nan] * 3])
MASK = torch.tensor([[1, 1, 0], [1, 0, 0], [0, 0, 0]])


def test_sequence_mean_weighs_responses_the_same():
    """((1 + 2) / 2 + 5) / 2 responses with tokens; padding may hold anything."""
    assert aggregate(VALUES, MASK) == pytest.approx(3.25)


def test_token_mean_weighs_tokens_the_same():
    assert aggregate(VALUES, MASK, "token-mean") == pytest.approx(8 / 3)


def test_parts_of_a_batch_add_up_to_the_whole():
    for mode, total in (("seq-mean-token-mean", 2), ("token-mean", 3)):
        parts = [aggregate(VALUES[i : i + 1], MASK[i : i + 1], mode, total=total) for i in range(3)]
        assert sum(parts) == pytest.approx(float(aggregate(VALUES, MASK, mode)))


def test_padding_gets_no_gradient():
    values = torch.ones(3, 3, requires_grad=True)
    aggregate(values, MASK).backward()
    assert torch.equal(values.grad, torch.tensor([[0.25, 0.25, 0], [0.5, 0, 0], [0, 0, 0]]))


def test_nothing_to_aggregate_is_zero():
    assert aggregate(torch.ones(2, 3), torch.zeros(2, 3)) == 0


def test_unknown_mode():
    with pytest.raises(ValueError, match="token-mean"):
        aggregate(VALUES, MASK, "mean")
