"""pass@k and its relatives against exact arithmetic, counting by hand and published numbers."""

import itertools
import json
import math
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from suite.stats import majority_at_k, mean_at_n, pass_at_k, pass_curve, pass_hat_k

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "model_outputs"


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


def test_every_published_value_of_large_language_monkeys_is_reproduced():
    path = DATA / "passk_llmonkeys.jsonl"
    if not path.exists():
        pytest.skip(f"no published values at {path}")
    rows = [json.loads(line) for line in path.open()]
    compared = 0
    for row in rows:
        ks = [int(k) for k in row["pass_at_k"]]
        published = list(row["pass_at_k"].values())
        alone = [float(pass_at_k(row["n"], row["c"], k)) for k in ks]
        np.testing.assert_allclose(alone, published, rtol=0, atol=1e-9)
        in_one_pass = pass_curve(row["n"], row["c"], ks)
        np.testing.assert_allclose(in_one_pass, published, rtol=0, atol=1e-9)
        compared += len(ks)
    assert compared > 1000


def exact(n: int, c: int, k: int) -> Fraction:
    return 1 - Fraction(math.comb(n - c, k), math.comb(n, k))


@pytest.mark.parametrize("n", [1, 2, 7, 16, 64, 257])
def test_the_whole_curve_is_exact_and_equals_pass_at_k(n):
    c = np.unique(np.r_[0, 1, 2, n // 3, n // 2, n - 1, n].clip(0, n))
    curve = pass_curve(np.full(len(c), n), c)
    assert curve.shape == (len(c), n)
    wanted = [[float(exact(n, int(right), k)) for k in range(1, n + 1)] for right in c]
    np.testing.assert_allclose(curve, wanted, rtol=1e-13, atol=0)
    alone = np.stack([pass_at_k(n, c, k) for k in range(1, n + 1)], axis=-1)
    np.testing.assert_allclose(curve, alone, rtol=1e-13, atol=0)


@pytest.mark.parametrize(("n", "c"), [(1024, 3), (1024, 700), (10_112, 1), (10_112, 9_000)])
def test_the_curve_of_many_samples_is_exact(n, c):
    ks = [1, 2, 10, 300, 1000]
    wanted = [float(exact(n, c, k)) for k in ks]
    np.testing.assert_allclose(pass_curve(n, c, ks), wanted, rtol=1e-13, atol=0)
    wanted = [float(1 - exact(n, n - c, k)) for k in ks]
    got = [float(pass_hat_k(n, c, k)) for k in ks]
    np.testing.assert_allclose(got, wanted, rtol=1e-9, atol=1e-300)


def test_the_curve_has_one_axis_more_and_keeps_the_order_of_ks():
    curve = pass_curve([[4], [8]], [0, 1, 4], [4, 1])
    assert curve.shape == (2, 3, 2)
    np.testing.assert_allclose(curve[..., 0], pass_at_k([[4], [8]], [0, 1, 4], 4))
    np.testing.assert_allclose(curve[1, :, 1], mean_at_n(8, [0, 1, 4]))
    assert pass_curve([3, 5], [1, 1]).shape == (2, 3)  # k ≤ the smallest n


@pytest.mark.parametrize("ks", [[0], [9], [1.5], [[1]], []])
def test_the_curve_refuses(ks):
    with pytest.raises(ValueError):
        pass_curve([8, 12], [1, 1], ks)


def test_pass_hat_k_counts_subsets_one_by_one():
    # 5 samples, 3 correct, k = 2: 3 of the 10 pairs hold only correct ones.
    assert pass_hat_k(5, 3, 2) == pytest.approx(0.3, abs=1e-15)
    assert pass_hat_k(5, 1, 2) == 0 and pass_hat_k(5, 5, 5) == 1
    np.testing.assert_allclose(pass_hat_k(9, np.arange(10), 1), np.arange(10) / 9)
    with pytest.raises(ValueError):
        pass_hat_k(4, 2, 5)


def test_mean_at_n_is_the_share_and_refuses_what_is_none():
    np.testing.assert_array_equal(mean_at_n([4, 8], [1, 8]), [0.25, 1])
    for n, c in ((0, 0), (4, 5), (4, -1), (4, 0.5)):
        with pytest.raises(ValueError):
            mean_at_n(n, c)


def majority_by_enumeration(answers: list[str | None], right: str, k: int) -> Fraction:
    total, choices = Fraction(0), 0
    for chosen in itertools.combinations(answers, k):
        choices += 1
        votes = {answer: chosen.count(answer) for answer in set(chosen) - {None}}
        first = [answer for answer, count in votes.items() if count == max(votes.values())]
        total += Fraction(right in first, max(len(first), 1))
    return total / choices


@pytest.mark.parametrize("k", range(1, 10))
def test_majority_equals_the_count_over_all_subsets(k):
    # 9 samples: a three times, b twice, c twice, one lone answer, one without any; a is right.
    answers = ["a"] * 3 + ["b"] * 2 + ["c"] * 2 + ["d", None]
    wanted = float(majority_by_enumeration(answers, "a", k))
    found = majority_at_k(
        [3, 2, 2, 1],
        [True, False, False, False],
        k,
        rng=np.random.default_rng(0),
        silent=1,
        draws=40_000,
    )
    assert found == pytest.approx(wanted, abs=1e-12 if k in (1, 9) else 0.01)


def test_majority_by_hand():
    def at_all(counts, correct, **more):
        k = sum(counts) + more.get("silent", 0)
        return majority_at_k(counts, correct, k, rng=np.random.default_rng(0), **more)

    assert at_all([3, 2], [True, False]) == 1 and at_all([2, 3], [True, False]) == 0
    assert at_all([2, 2], [True, False]) == 0.5  # a tie
    assert at_all([1, 1, 1], [True, True, False]) == pytest.approx(2 / 3)  # two forms of it
    assert at_all([1], [True], silent=5) == 1  # silence does not vote
    assert at_all([], [], silent=5) == 0


@pytest.mark.parametrize(
    ("counts", "correct", "k"),
    [
        ([2, 1], [True], 1),
        ([2, 1], [True, False], 4),
        ([2, 1], [True, False], 0),
        ([2, -1], [True, False], 1),
        ([1.5], [True], 1),
    ],
)
def test_majority_refuses(counts, correct, k):
    with pytest.raises(ValueError):
        majority_at_k(counts, correct, k, rng=np.random.default_rng(0))
