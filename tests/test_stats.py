"""Intervals and paired differences against closed forms and simulated truth."""

import numpy as np
import pytest
from scipy import stats as distributions

from suite.stats import hierarchical_interval, mean_interval, paired_bootstrap, sampling_interval


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


# ---------------------------------------------------------------- the interval of a mean


def coverage(draw, truth: float, draws: int = 2000, problems: int = 30) -> float:
    """The share of simulated benchmarks whose interval holds the true mean."""
    generator = rng(1)
    hits = 0
    for _ in range(draws):
        interval = mean_interval(draw(generator, problems), rng=generator, resamples=300)
        hits += interval.low <= truth <= interval.high
    return hits / draws


@pytest.mark.slow
@pytest.mark.parametrize("truth", [0.02, 0.1, 0.5, 0.95])
def test_interval_covers_for_solved_or_unsolved_problems(truth):
    # Mean ± 1.96 standard errors covers 45 % at 0.02 and 93 % in the middle.
    covered = coverage(lambda generator, count: generator.random(count) < truth, truth)
    assert 0.93 <= covered <= 0.99


@pytest.mark.slow
@pytest.mark.parametrize("truth", [0.05, 0.35, 0.9])
def test_interval_covers_for_graded_problems(truth):
    # Most problems near 0 or near 1, as solve rates of one model are: Beta(truth/2, (1-truth)/2).
    covered = coverage(
        lambda generator, count: generator.beta(truth / 2, (1 - truth) / 2, count), truth
    )
    assert 0.93 <= covered <= 0.995


def test_interval_of_nothing_solved_is_wilsons():
    # Wilson with no success in 30: [0, z² / (30 + z²)].
    interval = mean_interval(np.zeros(30), rng=rng())
    assert interval == pytest.approx((0, 0, 1.959964**2 / (30 + 1.959964**2)), abs=1e-6)
    mirrored = mean_interval(np.ones(30), rng=rng())
    assert mirrored == pytest.approx((1, 1 - interval.high, 1), abs=1e-12)


def test_interval_in_the_middle_is_as_wide_as_students():
    scores = rng(3).normal(0.5, 0.05, 30)
    interval = mean_interval(scores, rng=rng(), resamples=20_000)
    student = 2.045 * scores.std(ddof=1) / np.sqrt(30)
    assert (interval.high - interval.low) / 2 == pytest.approx(student, rel=0.03)
    assert interval.estimate == pytest.approx(scores.mean())


def test_interval_narrows_with_problems_and_depends_on_the_generator_only():
    scores = rng(4).random(400)
    first = mean_interval(scores, rng=rng(7))
    assert first == mean_interval(scores, rng=rng(7))
    assert first != mean_interval(scores, rng=rng(8))
    few = mean_interval(scores[:40], rng=rng(7))
    assert first.high - first.low < 0.5 * (few.high - few.low)
    one = mean_interval([0.5], rng=rng())
    assert one.low < 0.1 and one.high > 0.9


@pytest.mark.parametrize("values", [[], [[0.5]], [0.5, np.nan], [0.5, 1.1], [-0.1, 0.2]])
def test_interval_refuses(values):
    with pytest.raises(ValueError):
        mean_interval(values, rng=rng())


# ---------------------------------------------------------------- solve rates, sampled


def solve_rates(generator, mean: float, concentration: float, shape):
    """Beta(mean · concentration, (1 - mean) · concentration); concentration 0 is all or nothing."""
    if concentration == 0:
        return (generator.random(shape) < mean).astype(float)
    return generator.beta(mean * concentration, (1 - mean) * concentration, shape)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mean", "concentration", "samples"),
    [
        (0.01, 0.5, 64),
        (0.02, 0.5, 64),
        (0.02, 3, 64),
        (0.02, 10, 1024),
        (0.05, 1, 64),
        (0.1, 1, 1024),
        (0.5, 1, 64),
        (0.5, 20, 16),
        (0.95, 1, 64),
        (0.98, 0.5, 64),
        (0.98, 3, 64),
    ],
)
def test_interval_covers_the_population_mean_of_thirty_sampled_problems(
    mean, concentration, samples
):
    # Mean ± 1.96 standard errors covers 50 to 80 % in the settings near 0 and 1.
    generator, hits, draws = rng(int(1000 * mean + concentration)), 0, 2000
    for _ in range(draws):
        correct = generator.binomial(samples, solve_rates(generator, mean, concentration, 30))
        interval = mean_interval(correct / samples, rng=generator, resamples=300)
        hits += interval.low <= mean <= interval.high
    assert 0.93 <= hits / draws <= 0.98


def test_interval_of_solved_or_unsolved_problems_leaves_its_range_seldom():
    # Without simulation: the 31 intervals of 30 problems, weighted by the binomial law. Their ends
    # jump from one count to the next, so at single rates coverage does too (Brown, Cai and DasGupta
    # 2001 show it of every such interval): docs/numbers.md says how far.
    solved = np.arange(31)
    intervals = [mean_interval(solved[1:] <= count, rng=rng(count)) for count in solved]
    low, high = (np.array([x[end] for x in intervals]) for end in (1, 2))
    share = solved / 30
    naive = 1.96 * np.sqrt(share * (1 - share) / 29)
    rates = np.arange(1, 1000) / 1000
    law = distributions.binom.pmf(solved, 30, rates[:, None])
    covered = (law * ((low <= rates[:, None]) & (rates[:, None] <= high))).sum(axis=1)
    assert covered.min() > 0.92 and covered.max() < 0.999
    assert np.mean(covered < 0.93) < 0.01 and np.mean(covered > 0.98) < 0.06
    assert 0.95 < covered.mean() < 0.97
    plain = (law * (np.abs(share - rates[:, None]) <= naive)).sum(axis=1)
    assert plain[14] == pytest.approx(0.364, abs=1e-3)  # at a rate of 0.015: 1 - 0.985^30
    assert plain[34] == pytest.approx(0.656, abs=1e-3)  # at 0.035


def test_few_problems_have_a_score_interval_too():
    # One of two solved: two coin flips, Student's quantile counting for a tenth of the way.
    interval = mean_interval([0, 1], rng=rng())
    assert interval.low < 0.1 and interval.high > 0.9
    assert mean_interval([0, 0, 1], rng=rng()).low < 0.02


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mean", "concentration", "samples"), [(0.02, 1, 64), (0.5, 2, 4), (0.5, 2, 64), (0.98, 1, 16)]
)
def test_fixed_problems_have_their_own_narrower_interval(mean, concentration, samples):
    generator = rng(20)
    rates = solve_rates(generator, mean, concentration, 30)
    within, population, draws = 0, 0, 1000
    for _ in range(draws):
        correct = generator.binomial(samples, rates)
        mine = sampling_interval(np.full(30, samples), correct)
        within += mine.low <= rates.mean() <= mine.high
        other = mean_interval(correct / samples, rng=generator, resamples=100)
        population += other.low <= rates.mean() <= other.high
        assert mine.high - mine.low < other.high - other.low
    assert within / draws >= 0.93  # near 1 nearly always: few wrong samples, a cautious guess
    assert population / draws > 0.99  # for these problems the population's interval is too wide


def test_sampling_interval_by_hand():
    # Nothing right in 30 · 16 tries: p = 0.5 / 17, so (1 - p) p / p (1 - p) · 30 · 16 trials.
    interval = sampling_interval(np.full(30, 16), np.zeros(30))
    assert interval == pytest.approx((0, 0, 1.959964**2 / (480 + 1.959964**2)), abs=1e-6)
    mirrored = sampling_interval(np.full(30, 16), np.full(30, 16))
    assert mirrored == pytest.approx((1, 1 - interval.high, 1), abs=1e-12)
    for n, c in (([], []), ([4], [5]), (4, 2), ([4, 0], [1, 0])):
        with pytest.raises(ValueError):
            sampling_interval(n, c)


# ---------------------------------------------------------------- seeds of training


@pytest.mark.slow
@pytest.mark.parametrize(("seeds", "problems", "shift"), [(2, 30, 0.3), (3, 200, 0.3), (5, 30, 0)])
def test_interval_over_seeds_covers_the_mean_over_all_seeds(seeds, problems, shift):
    generator, hits, draws = rng(seeds), 0, 800
    for _ in range(draws):
        rates = solve_rates(generator, 0.5, 2, problems)
        effect = 1 + shift * np.clip(generator.normal(0, 0.4, (seeds, 1)), -1, 1)
        correct = generator.binomial(16, rates * effect / (1 + shift))
        interval = hierarchical_interval(correct / 16, rng=generator, resamples=300)
        hits += interval.low <= 0.5 / (1 + shift) <= interval.high
    assert 0.93 <= hits / draws <= 0.985


def test_one_seed_is_the_interval_over_problems():
    scores = rng(13).random(40)
    assert hierarchical_interval(scores[None], rng=rng(2)) == mean_interval(scores, rng=rng(2))


def test_seeds_that_agree_add_nothing_and_seeds_that_differ_widen():
    scores = rng(14).random(100) * 0.6 + 0.2
    one = mean_interval(scores, rng=rng())
    agreeing = hierarchical_interval(np.tile(scores, (4, 1)), rng=rng())
    assert agreeing.high - agreeing.low == pytest.approx(one.high - one.low, rel=0.05)
    apart = hierarchical_interval(scores + np.array([[0.2], [-0.2], [0.1], [-0.1]]), rng=rng())
    assert apart.high - apart.low > 2 * (one.high - one.low)


@pytest.mark.parametrize("scores", [[0.5, 0.5], [[]], [[0.5, np.nan]], [[0.5, 1.5]]])
def test_interval_over_seeds_refuses(scores):
    with pytest.raises(ValueError):
        hierarchical_interval(scores, rng=rng())


# ---------------------------------------------------------------- paired differences


def test_a_constant_gain_is_known_exactly():
    b = rng(5).random(50)
    result = paired_bootstrap(b + 0.25, b, rng=rng())
    assert result == pytest.approx((0.25, 0.25, 0.25, 1.0), abs=1e-12)


def test_equal_scores_are_a_tie():
    scores = rng(5).random(50)
    assert paired_bootstrap(scores, scores.copy(), rng=rng()) == (0, 0, 0, 0.5)


def test_two_problems_by_hand():
    # Differences +1 and 0. The four equally likely draws have means 1, 1/2, 1/2, 0:
    # a is above in three and ties in one, 3/4 + 1/8.
    result = paired_bootstrap([1, 0], [0, 0], rng=rng(), resamples=40_000)
    assert result.estimate == 0.5 and (result.low, result.high) == (0, 1)
    assert result.probability_of_improvement == pytest.approx(7 / 8, abs=0.01)


def test_seeds_by_hand():
    # One problem, two seeds with differences +1 and -1: means 1, 0, 0, -1, so 1/4 + 1/2 · 1/2.
    result = paired_bootstrap([[1], [0]], [[0], [1]], rng=rng(), resamples=40_000)
    assert (result.estimate, result.low, result.high) == (0, -1, 1)
    assert result.probability_of_improvement == pytest.approx(0.5, abs=0.01)


def test_pairing_removes_the_difficulty_of_problems():
    difficulty = rng(6).random(200)
    a, b = difficulty + rng(7).normal(0.02, 0.05, 200), difficulty + rng(8).normal(0, 0.05, 200)
    result = paired_bootstrap(a, b, rng=rng())
    standard_error = (a - b).std() / np.sqrt(200)
    assert result.high - result.low == pytest.approx(2 * 1.96 * standard_error, rel=0.1)
    assert result.low < 0.02 < result.high


def test_no_difference_is_covered_as_often_as_promised():
    generator, covered, draws = rng(9), 0, 400
    for _ in range(draws):
        a, b = generator.random((2, 3, 40))
        result = paired_bootstrap(a, b, rng=generator, resamples=300)
        covered += result.low <= 0 <= result.high
    assert covered / draws > 0.92


def test_seeds_add_their_own_uncertainty():
    # Every problem moves together within a seed: only the seeds are independent.
    shift = np.array([0.1, -0.1, 0.2, 0.0])[:, None]
    noise = rng(10).normal(0, 0.01, (4, 300))
    crossed = paired_bootstrap(0.5 + shift + noise, np.full((4, 300), 0.5), rng=rng())
    averaged = paired_bootstrap((0.5 + shift + noise).mean(0), np.full(300, 0.5), rng=rng())
    assert crossed.high - crossed.low > 10 * (averaged.high - averaged.low)
    assert crossed.estimate == pytest.approx(averaged.estimate)


def test_clusters_are_drawn_whole():
    # 20 questions in 10 identical copies each are 20 observations, not 200.
    question = rng(11).normal(0, 0.1, 20)
    copies, labels = np.repeat(question, 10), np.repeat(np.arange(20), 10)
    whole = paired_bootstrap(question, np.zeros(20), rng=rng())
    clustered = paired_bootstrap(copies, np.zeros(200), rng=rng(), clusters=labels)
    naive = paired_bootstrap(copies, np.zeros(200), rng=rng())
    assert clustered == pytest.approx(whole, abs=1e-9)
    assert naive.high - naive.low < 0.5 * (clustered.high - clustered.low)


def test_bootstrap_depends_on_the_generator_only():
    a, b = rng(12).random((2, 60))
    assert paired_bootstrap(a, b, rng=rng(1)) == paired_bootstrap(a, b, rng=rng(1))
    assert paired_bootstrap(a, b, rng=rng(1)) != paired_bootstrap(a, b, rng=rng(2))


@pytest.mark.parametrize(
    ("a", "b", "more"),
    [
        ([0, 1], [0, 1, 1], {}),
        ([[0, 1]], [0, 1], {}),
        ([], [], {}),
        (0.5, 0.4, {}),
        ([0, np.nan], [0, 1], {}),
        ([0, 1], [0, 1], {"clusters": [0]}),
        ([0, 1], [0, 1], {"level": 95}),
        ([0, 1], [0, 1], {"resamples": 0}),
    ],
)
def test_paired_bootstrap_refuses(a, b, more):
    with pytest.raises(ValueError):
        paired_bootstrap(a, b, rng=rng(), **more)
