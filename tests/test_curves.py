"""Scores over cost, against numbers worked out by hand and curves with known parameters."""

import numpy as np
import pytest

from suite.stats.curves import (
    Draws,
    Saturation,
    cost_to,
    fit_saturation,
    mean_over_cost,
    percentile,
    score_at,
)

COST, SCORE = [0.0, 2.0, 4.0], [0.2, 0.6, 0.5]


def test_a_score_moves_in_straight_lines_and_stays_at_the_ends():
    """Half of the way from 0 to 2 is 0.4; a quarter from 2 to 4 is 0.575."""
    found = [float(score_at(COST, SCORE, cost)) for cost in (-1, 0, 1, 2.5, 4, 9)]
    assert found == pytest.approx([0.2, 0.2, 0.4, 0.575, 0.5, 0.5])


def test_a_table_of_scores_is_interpolated_entry_by_entry():
    table = np.array([[0.0, 1.0], [1.0, 0.0]])
    assert score_at([0, 4], table, 1.0) == pytest.approx([0.25, 0.75])


def test_the_cost_of_a_score_is_where_the_lines_first_reach_it():
    """0.5 lies three quarters up the first line, 1.5; the second line falls through it again."""
    assert cost_to(COST, SCORE, 0.5) == pytest.approx(1.5)
    assert cost_to(COST, SCORE, 0.6) == 2.0
    assert cost_to(COST, SCORE, 0.1) == 0.0
    assert cost_to(COST, SCORE, 0.61) == float("inf")


def test_two_evaluations_of_one_step_share_their_cost():
    assert cost_to([0, 2, 2], [0.1, 0.4, 0.4], 0.4) == 2.0
    assert float(score_at([0, 2, 2], [0.1, 0.4, 0.4], 2)) == pytest.approx(0.4)


def test_the_mean_over_the_cost_is_the_area():
    """To 4: (0.4 * 2 + 0.55 * 2) / 4 = 0.475; to 1: 0.3; to 6, staying at 0.5: (1.9 + 1) / 6."""
    found = [float(mean_over_cost(COST, SCORE, until)) for until in (4, 1, 6)]
    assert found == pytest.approx([0.475, 0.3, 2.9 / 6])
    constant = np.full((3, 2, 5), 0.7)
    assert mean_over_cost(COST, constant, 3.3) == pytest.approx(np.full((2, 5), 0.7))


@pytest.mark.parametrize(
    ("cost", "score"), [([2, 1], [0, 1]), ([0, 1], [0, 1, 2]), ([], []), ([0, 1], [0, np.nan])]
)
def test_what_is_no_curve_is_refused(cost, score):
    with pytest.raises(ValueError, match=r"cost|finite"):
        cost_to(cost, score, 0.5)


def test_an_area_needs_a_range():
    with pytest.raises(ValueError, match="begins at 1"):
        mean_over_cost([1, 2], [0, 1], 1)


def test_half_of_the_way_is_gone_at_c_mid():
    """R0 = 0.2, A = 0.8: 0.5 at C_mid; at 3 C_mid with B = 2 it is 0.2 + 0.6 / (1 + 1/9) = 0.74."""
    curve = Saturation(0.2, 0.8, 5.0, 2.0, 0.0)
    assert curve([5.0, 15.0]) == pytest.approx([0.5, 0.74])


@pytest.mark.parametrize(
    "true",
    [
        Saturation(0.2, 0.8, 5.0, 2.0, 0.0),
        Saturation(0.35, 0.7, 0.002, 1.0, 0.0),
        Saturation(0.9, 0.6, 3e5, 1.5, 0.0),
    ],
    ids=["steep", "small costs", "falling"],
)
def test_the_parameters_of_a_saturating_curve_are_found_again(true):
    cost = true.middle * np.array([0.2, 0.5, 1, 2, 4, 8])
    found = fit_saturation(cost, true(cost), true.start)
    assert found[:4] == pytest.approx(true[:4], rel=1e-3)
    assert found.error < 1e-6


def test_a_grid_alone_is_near_enough_for_resamples():
    true = Saturation(0.2, 0.8, 5.0, 2.0, 0.0)
    cost = np.array([1, 2.5, 5, 10, 20, 40])
    found = fit_saturation(cost, true(cost), 0.2, refine=False)
    assert found[1:4] == pytest.approx(true[1:4], rel=0.1)


def test_too_few_points_are_not_fitted():
    with pytest.raises(ValueError, match=r"4 points after the base model's; 3 parameters need 5"):
        fit_saturation([1, 2, 3, 4], [0.3, 0.4, 0.45, 0.5], 0.2)
    with pytest.raises(ValueError, match="must have cost something"):
        fit_saturation([0, 1, 2, 3, 4], [0.2, 0.3, 0.4, 0.45, 0.5], 0.2)


def test_an_asymptote_is_a_score():
    """A straight rise has no end in sight: A stops at 1."""
    assert fit_saturation([1, 2, 3, 4, 5], [0.5, 0.6, 0.7, 0.8, 0.9], 0.4).asymptote <= 1


def test_resampled_curves_have_the_variance_of_a_mean():
    """One seed, 50 problems: the variance of a resampled mean is that of the problems over 50."""
    rng = np.random.default_rng(0)
    scores = rng.random((2, 1, 50))
    draws = Draws.make(1, 50, 4000, rng)
    cost, score = draws.curves(np.array([[1.0], [2.0]]), scores)
    assert np.all(cost == [1.0, 2.0])
    assert score.mean(axis=0) == pytest.approx(scores.mean(axis=(1, 2)), abs=0.005)
    assert score.var(axis=0) == pytest.approx(scores.var(axis=(1, 2)) / 50, rel=0.1)


def test_seeds_carry_their_costs_with_them():
    """Two seeds of cost 1 and 3: a resample costs 1, 2 or 3."""
    draws = Draws.make(2, 3, 500, np.random.default_rng(1))
    cost, score = draws.curves(np.array([[1.0, 3.0]]), np.array([[[0.0] * 3, [1.0] * 3]]))
    assert set(np.round(cost[:, 0], 9)) == {1.0, 2.0, 3.0}
    assert score[:, 0] == pytest.approx((cost[:, 0] - 1) / 2)


def test_percentiles_may_be_infinite():
    assert percentile([1.0] * 90 + [np.inf] * 10) == (1.0, np.inf)
    assert percentile([1.0] * 99 + [np.inf]) == (1.0, 1.0)
    assert percentile(np.arange(1, 101)) == (3.0, 98.0)
    with pytest.raises(ValueError, match="numbers"):
        percentile([])
