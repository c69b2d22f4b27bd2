"""The statistics against closed forms, published numbers and simulated truth."""

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest

from suite.stats import mean_interval, paired_bootstrap, pass_at_k

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "model_outputs"


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


# ---------------------------------------------------------------- pass@k


@pytest.mark.parametrize("n", range(1, 13))
def test_pass_at_k_is_the_share_of_k_subsets_with_a_correct_sample(n):
    c = np.arange(n + 1)
    for k in range(1, n + 1):
        exact = [1 - math.comb(n - correct, k) / math.comb(n, k) for correct in c]
        np.testing.assert_allclose(pass_at_k(n, c, k), exact, rtol=1e-13, atol=0)


def test_pass_at_k_counts_subsets_one_by_one():
    # 5 samples, 2 correct, k = 2: of 10 pairs, 3 hold only wrong ones.
    pairs = list(itertools.combinations([True, True, False, False, False], 2))
    assert sum(map(any, pairs)) == 7
    assert pass_at_k(5, 2, 2) == pytest.approx(0.7, abs=1e-15)


def test_pass_at_k_is_exact_at_the_ends_and_precise_where_tiny():
    assert pass_at_k(1024, 0, 1024) == 0.0
    assert pass_at_k(10, 8, 3) == 1.0
    assert pass_at_k(1024, 1, 1024) == 1.0
    assert pass_at_k(10**6, 1, 1) == pytest.approx(1e-6, rel=1e-14)
    exact = 1 - math.comb(1024 - 3, 64) / math.comb(1024, 64)
    assert pass_at_k(1024, 3, 64) == pytest.approx(exact, rel=1e-13)


def test_pass_at_k_broadcasts_and_keeps_the_shape():
    n, c = np.array([[4], [8]]), np.array([0, 1, 4])
    result = pass_at_k(n, c, 2)
    assert result.shape == (2, 3)
    assert result[0, 1] == pytest.approx(0.5) and result[1, 1] == pytest.approx(0.25)
    assert pass_at_k(np.array([], int), np.array([], int), 1).shape == (0,)


@pytest.mark.parametrize(
    ("n", "c", "k"),
    [([8, 3], [1, 1], 4), (8, -1, 1), (8, 9, 1), (8, 1, 0), (8.5, 1, 1), (8, np.nan, 1)],
)
def test_pass_at_k_refuses(n, c, k):
    with pytest.raises(ValueError):
        pass_at_k(n, c, k)


def test_pass_at_k_equals_every_published_value_of_large_language_monkeys():
    path = DATA / "passk_llmonkeys.jsonl"
    if not path.exists():
        pytest.skip(f"no published values at {path}")
    rows = [json.loads(line) for line in path.open()]
    by_k: dict[int, list[tuple[int, int, float]]] = {}
    for row in rows:
        for k, published in row["pass_at_k"].items():
            by_k.setdefault(int(k), []).append((row["n"], row["c"], published))
    assert sum(map(len, by_k.values())) > 1000
    for k, cases in by_k.items():
        n, c, published = map(np.array, zip(*cases, strict=True))
        np.testing.assert_allclose(pass_at_k(n, c, k), published, rtol=0, atol=1e-9)


# ---------------------------------------------------------------- the interval of a mean


def coverage(draw, truth: float, draws: int = 2000, problems: int = 30) -> float:
    """The share of simulated benchmarks whose interval holds the true mean."""
    generator = rng(1)
    hits = 0
    for _ in range(draws):
        interval = mean_interval(draw(generator, problems), rng=generator, resamples=300)
        hits += interval.low <= truth <= interval.high
    return hits / draws


@pytest.mark.parametrize("truth", [0.02, 0.1, 0.5, 0.95])
def test_interval_covers_for_solved_or_unsolved_problems(truth):
    # Mean ± 1.96 standard errors covers 45 % at 0.02 and 93 % in the middle.
    covered = coverage(lambda generator, count: generator.random(count) < truth, truth)
    assert 0.93 <= covered <= 0.99


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
