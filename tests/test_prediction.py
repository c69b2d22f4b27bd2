"""The prediction of pass@k against simulated laws and real counts of 128 to 10,000 samples."""

import json
from pathlib import Path

import numpy as np
import pytest

from suite.stats import Estimated, pass_at_k, predict_pass_at_k

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "model_outputs"


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.slow
@pytest.mark.parametrize(("right", "wrong"), [(0.3, 30), (0.5, 3), (1, 500), (0.1, 1)])
def test_intervals_cover_problems_and_population_of_a_beta_law(right, wrong):
    generator, these, population, draws, k = rng(1), 0, 0, 200, 1024
    truth = 1 - np.exp(-np.log1p(right / (wrong + np.arange(k))).sum())  # 1 - B(a, b+k) / B(a, b)
    for _ in range(draws):
        rates = generator.beta(right, wrong, 40)
        found = predict_pass_at_k(
            np.full(40, 64), generator.binomial(64, rates), k, rng=generator, draws=500
        )
        mine = (1 - (1 - rates) ** k).mean()
        these += found.low <= mine <= found.high
        population += found.population_low <= truth <= found.population_high
    assert these / draws > 0.91 and population / draws > 0.91


def test_a_population_is_never_known_better_than_by_measuring():
    """30 problems, all nearly always solved: a measured 1.000 would have [0.886, 1.000] too."""
    found = predict_pass_at_k([64] * 30, [60] * 30, 1024, rng=np.random.default_rng(0))
    assert found.estimate > 0.999
    assert 0.85 < found.population_low < 0.92 and found.population_high == 1.0


def test_the_estimate_says_that_it_is_one():
    found = predict_pass_at_k([64] * 30, [0, 1, 5] * 10, 1024, rng=rng())
    assert isinstance(found, Estimated) and found.estimated is True
    assert str(found).startswith("pass@1024 ≈ ") and str(found).endswith(
        "estimated from 64 samples"
    )
    assert 0 <= found.low < found.estimate < found.high <= 1
    population = f"[{found.population_low:.3f}, {found.population_high:.3f}], for these very"
    assert population in str(found)  # what brackets mean everywhere else
    assert found == predict_pass_at_k([64] * 30, [0, 1, 5] * 10, 1024, rng=rng())


def test_ends_and_ignorance():
    solved = predict_pass_at_k([64] * 30, [64] * 30, 1024, rng=rng())
    assert solved.estimate > 0.999
    unseen = predict_pass_at_k([64] * 30, [0] * 30, 1024, rng=rng())
    assert unseen.low < 0.01 and unseen.high > 0.1  # nothing seen is not nothing there
    more = predict_pass_at_k([1000] * 30, [0] * 30, 1024, rng=rng())
    assert more.high < unseen.high


@pytest.mark.parametrize(
    ("n", "c", "k"),
    [([64], [1], 64), ([], [], 8), ([4], [5], 8), (4, 1, 8), ([4], [0.5], 8), ([4], [1], 8.5)],
)
def test_prediction_refuses(n, c, k):
    with pytest.raises((ValueError, TypeError)):
        predict_pass_at_k(n, c, k, rng=rng())


def real_counts(benchmark: str, model: str, least: int) -> tuple[np.ndarray, np.ndarray]:
    path = DATA / "passk_llmonkeys.jsonl"
    if not path.exists():
        pytest.skip(f"no real counts at {path}")
    rows = [json.loads(line) for line in path.open()]
    rows = [r for r in rows if r["benchmark"] == benchmark and r["model"].startswith(model)]
    rows = [r for r in rows if r["n"] >= least]
    return np.array([r["n"] for r in rows]), np.array([r["c"] for r in rows])


@pytest.mark.parametrize(
    ("benchmark", "model", "least", "k", "samples", "error"),
    [
        ("math", "Pythia_410M", 1024, 1024, 64, 0.15),  # 61 problems, measured: 0.25
        ("math", "Pythia_410M", 1024, 1024, 128, 0.12),
        ("math", "Pythia_410M", 1024, 1024, 256, 0.09),
        ("math", "Pythia", 10_000, 1024, 64, 0.18),  # 48 problems and models, measured: 0.57
        ("math", "Pythia", 10_000, 1024, 128, 0.13),
        ("math", "Pythia", 10_000, 1024, 256, 0.09),
        ("gsm8k", "Pythia_12B", 128, 64, 16, 0.12),  # 73 problems, measured: 0.39
        ("gsm8k", "Pythia_2.8B", 256, 128, 32, 0.11),  # 73 problems, measured: 0.58
    ],
)
def test_real_counts_are_predicted_within_the_interval(benchmark, model, least, k, samples, error):
    # `samples` of each problem's real ones are drawn without replacement, 100 times over.
    n, c = real_counts(benchmark, model, least)
    measured = pass_at_k(n, c, k).mean()
    generator, inside, errors = rng(2), 0, []
    for _ in range(100):
        drawn = generator.hypergeometric(c, n - c, samples)
        found = predict_pass_at_k(np.full(len(n), samples), drawn, k, rng=generator, draws=500)
        inside += found.low <= measured <= found.high
        errors.append(found.estimate - measured)
    assert inside / 100 >= 0.9
    assert np.sqrt(np.mean(np.square(errors))) < error
