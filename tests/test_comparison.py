"""Comparisons of arms against hand-made cases, a reference implementation and simulated nulls."""

import numpy as np
import pytest
from scipy import stats as distributions

from suite.stats import (
    compare_arms,
    comparison,
    holm,
    interquartile_interval,
    interquartile_mean,
    minimum_detectable_effect,
    paired_bootstrap,
    probability_of_improvement,
)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_holm_by_hand():
    # Sorted .01 .02 .03 .5 times 4 3 2 1: .04 .06 .06 .5, each at least the one before.
    assert holm([0.03, 0.01, 0.5, 0.02]) == pytest.approx([0.06, 0.04, 0.5, 0.06])
    assert holm([0.9, 0.8]) == pytest.approx([1, 1]) and holm([0.2]) == pytest.approx([0.2])
    assert holm([]).shape == (0,)
    for p_values in ([1.2], [-0.1], [np.nan], 0.5):
        with pytest.raises(ValueError):
            holm(p_values)


def test_interquartile_mean_is_that_of_the_reference():
    # 1 … 8: two go at each end, (3 + 4 + 5 + 6) / 4. rliable is scipy's trim_mean at 0.25.
    assert interquartile_mean([[1, 2, 3, 4], [8, 7, 6, 5]]) == 4.5
    for count in range(1, 30):
        scores = rng(count).random(count)
        reference = distributions.trim_mean(scores, proportiontocut=0.25, axis=None)
        assert interquartile_mean(scores) == pytest.approx(reference, abs=1e-14)
    for scores in ([], [np.inf]):
        with pytest.raises(ValueError):
            interquartile_mean(scores)


def test_interquartile_interval_is_as_wide_as_its_sampling():
    generator = rng(1)
    means = [interquartile_mean(generator.normal(0.5, 0.1, (20, 6))) for _ in range(2000)]
    interval = interquartile_interval(generator.normal(0.5, 0.1, (20, 6)), rng=rng(2))
    assert interval.low < interval.estimate < interval.high
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * np.std(means), rel=0.3)
    with pytest.raises(ValueError):
        interquartile_interval([0.5], rng=rng())


def test_probability_of_improvement_is_the_mann_whitney_statistic_of_each_benchmark():
    # Runs 1, 2 against 0, 2: 1 > 0, 1 < 2, 2 > 0, 2 = 2, so 2.5 of 4.
    assert probability_of_improvement([[1], [2]], [[0], [2]]) == 0.625
    a, b = rng(3).integers(0, 5, (4, 3)), rng(4).integers(0, 5, (6, 3))
    reference = [distributions.mannwhitneyu(a[:, m], b[:, m]).statistic / 24 for m in range(3)]
    assert probability_of_improvement(a, b) == pytest.approx(np.mean(reference), abs=1e-14)
    with pytest.raises(ValueError):
        probability_of_improvement(a, b[:, :2])


def test_minimum_detectable_effect_is_two_quantiles():
    assert minimum_detectable_effect(1) == pytest.approx(1.959964 + 0.841621, abs=1e-6)
    assert minimum_detectable_effect(0.1, degrees=29) == pytest.approx(
        0.1 * (2.045230 + 0.854192), abs=1e-6
    )
    corrected = minimum_detectable_effect(1, comparisons=5)
    assert corrected == pytest.approx(2.575829 + 0.841621, abs=1e-6)
    for more in ({"standard_error": -1}, {"standard_error": 1, "power": 1}):
        with pytest.raises(ValueError):
            minimum_detectable_effect(**more)


def test_a_difference_of_the_detectable_size_is_shown_in_four_of_five(monkeypatch):
    monkeypatch.setattr(comparison, "FLIPS", 499)
    generator, shown, draws = rng(5), 0, 300
    effect = minimum_detectable_effect(0.1 / np.sqrt(60), degrees=59)
    for _ in range(draws):
        base = generator.uniform(0.3, 0.6, 60)
        scores = {"grpo": base, "arm": base + generator.normal(effect, 0.1, 60)}
        shown += compare_arms(scores, "grpo", rng=generator, resamples=300)[0].shown
    assert shown / draws == pytest.approx(0.8, abs=0.08)


def arms_without_a_difference(generator, seeds, problems, mean, drift=0.0):
    rates = generator.beta(2 * mean, 2 * (1 - mean), problems)
    for arm in ("grpo", "a", "b", "c"):
        effect = 1 + drift * np.clip(generator.normal(0, 0.3, (seeds, 1)), -1, 1)
        yield arm, generator.binomial(16, rates * effect / (1 + drift)) / 16


@pytest.mark.slow
@pytest.mark.parametrize(
    ("seeds", "problems", "mean", "drift"),
    [(1, 30, 0.5, 0), (1, 30, 0.03, 0), (3, 30, 0.5, 0), (3, 100, 0.5, 0.5)],
)
def test_no_difference_is_shown_where_there_is_none(monkeypatch, seeds, problems, mean, drift):
    monkeypatch.setattr(comparison, "FLIPS", 499)
    generator, families, draws = rng(6), 0, 400
    for _ in range(draws):
        scores = dict(arms_without_a_difference(generator, seeds, problems, mean, drift))
        found = compare_arms(scores, "grpo", rng=generator, resamples=300)
        families += any(one.shown for one in found)
    assert families / draws < 0.09


def test_one_seed_cannot_know_that_seeds_differ(monkeypatch):
    # The limit that the docstring states: with drifting seeds one seed sees differences.
    monkeypatch.setattr(comparison, "FLIPS", 499)
    generator, families, draws = rng(7), 0, 200
    for _ in range(draws):
        scores = dict(arms_without_a_difference(generator, 1, 100, 0.5, 0.5))
        found = compare_arms(scores, "grpo", rng=generator, resamples=300)
        families += any(one.shown for one in found)
    assert families / draws > 0.3


def test_a_large_gain_is_shown_and_named():
    base = rng(8).uniform(0.2, 0.6, (3, 50))
    scores = {"grpo": base, "aepo": base + rng(9).normal(0.2, 0.05, (3, 50)), "same": base.copy()}
    better, same = compare_arms(scores, "grpo", rng=rng())
    assert (better.verdict, same.verdict) == ("above grpo", "no difference from grpo shown")
    assert better.low > 0.1 and better.p_adjusted <= 0.0005 and better.seeds == 3
    assert (same.estimate, same.low, same.high, same.p_adjusted) == (0, 0, 0, 1)
    assert better.family == 2 and better.probability_of_improvement == 1
    worse = compare_arms({"a": base, "b": scores["aepo"]}, "b", rng=rng())[0]
    assert worse.verdict == "below b"


def test_four_problems_of_thirty_are_no_proof():
    # The bootstrap leaves out 0 (it misses all four in 1 % of draws); four coin flips do not.
    arm = np.zeros(30)
    arm[:4] = 1
    assert paired_bootstrap(arm, np.zeros(30), rng=rng()).low > 0
    found = compare_arms({"arm": arm, "grpo": np.zeros(30)}, "grpo", rng=rng())[0]
    assert found.p_value == pytest.approx(2 / 16, abs=0.01)
    assert found.verdict == "no difference from grpo shown"


def test_more_arms_widen_each_interval():
    base = rng(10).random(40)
    scores = {"grpo": base} | {name: base + rng(11).normal(0.05, 0.1, 40) for name in "abcdefgh"}
    alone = compare_arms({"grpo": base, "a": scores["a"]}, "grpo", rng=rng())[0]
    among = compare_arms(scores, "grpo", rng=rng())[0]
    assert among.estimate == alone.estimate and among.p_adjusted > alone.p_adjusted
    assert among.high - among.low > 1.2 * (alone.high - alone.low)
    assert among.detectable > alone.detectable


def test_clusters_count_once():
    question = rng(12).normal(0.02, 0.05, 20)
    whole = compare_arms({"a": question, "b": np.zeros(20)}, "b", rng=rng())[0]
    copies = {"a": np.repeat(question, 10), "b": np.zeros(200)}
    labels = np.repeat(np.arange(20), 10)
    clustered = compare_arms(copies, "b", rng=rng(), clusters=labels)[0]
    naive = compare_arms(copies, "b", rng=rng())[0]
    assert clustered.standard_error == pytest.approx(whole.standard_error)
    assert clustered.p_value == pytest.approx(whole.p_value, abs=0.02)
    assert naive.standard_error < 0.5 * whole.standard_error


@pytest.mark.parametrize(
    ("scores", "reference"),
    [({"a": [1, 0]}, "a"), ({"a": [1, 0]}, "b"), ({"a": [1, 0], "b": [1]}, "b")],
)
def test_compare_arms_refuses(scores, reference):
    with pytest.raises(ValueError):
        compare_arms(scores, reference, rng=rng())
