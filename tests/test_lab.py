"""The lab: mechanics by hand, and the claims that are robust (20 seeds, paired).

Thresholds stand far below what is observed; docs/lab.md has the numbers.
"""

import dataclasses
import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from algorithms import ALGORITHMS, load  # noqa: E402
from algorithms.lab import checks, table  # noqa: E402
from algorithms.lab.settings import Environment, Training  # noqa: E402
from algorithms.lab.trainer import train  # noqa: E402
from suite.lab.outcome import mean_and_error  # noqa: E402

SEEDS = list(range(20))
SMALL = Environment(states=3, actions=5, correct=2)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def rows(name, environment, training, seeds=SEEDS, **settings):
    return list(train(load(name, **settings), environment, training, seeds))


def late_entropy(*arguments, **settings):
    """Mean entropy over the last quarter of the rows, for each seed."""
    values = np.array([row["entropy"] for row in rows(*arguments, **settings)])
    return values[-max(1, len(values) // 4) :].mean(0)


def t_value(differences):
    mean, error = mean_and_error(np.asarray(differences))
    return mean / error


# The table -------------------------------------------------------------------------------------


def test_a_table_is_what_its_settings_say():
    environment = Environment(states=4, actions=30, correct=2, partial=5, raised=3, raise_by=100.0)
    tables = table.make_tables(environment, [0, 1])
    assert (tables.rewards_RSV == 1.0).sum(-1).eq(2).all()
    assert tables.rewards_RSV.eq(0.2).sum(-1).eq(5).all()
    high = tables.logits_RSV > 50
    assert high.sum(-1).eq(3).all() and not (high & (tables.rewards_RSV == 1.0)).any()
    both = table.make_tables(dataclasses.replace(environment, raise_correct=True), [0, 1])
    assert (both.logits_RSV > 50).sum(-1).eq(5).all()


def test_sampling_inverts_the_distribution():
    probabilities = torch.tensor([[[0.25, 0.0, 0.75]]])
    uniform = torch.tensor([[[0.0, 0.2, 0.25, 0.99]]])
    assert table.sample(probabilities, uniform).tolist() == [[[0, 0, 2, 2]]]


def test_a_run_depends_on_its_own_seed_alone():
    training = Training(iterations=12, trace_every=4)
    alone = rows("aepo", SMALL, training, [7])
    among = rows("aepo", SMALL, training, [3, 7])
    for one, two in zip(alone, among, strict=True):
        assert one["entropy"][0] == pytest.approx(two["entropy"][1], abs=1e-6)


@pytest.mark.parametrize("kind", ["bernoulli", "gaussian"])
def test_random_rewards_ignore_the_action(kind):
    environment = Environment(states=50, actions=4, rewards=kind, reward_mean=0.3)
    rewarder = table.Rewarder(environment, [0], (50, 64))
    found = rewarder(torch.ones(1, 50, 4), torch.zeros(1, 50, 64, dtype=torch.int64))
    assert found.mean().item() == pytest.approx(0.3, abs=0.06)
    if kind == "bernoulli":
        assert set(found.flatten().tolist()) == {0.0, 1.0}


# The trainer -----------------------------------------------------------------------------------


def test_one_step_by_hand():
    """GRPO, SGD: delta z = lr * mean over G of A (e_a - pi), and entropy before the step."""
    environment = Environment(states=1, actions=2, correct=1, logits_std=0.0)
    first, last = rows("grpo", environment, Training(iterations=1, samples=4, lr=0.5), [2])
    assert first["entropy"][0] == pytest.approx(math.log(2))
    uniform = table.Stream([2], table.ROLLOUTS, (1, 4)).next()
    right = table.make_tables(environment, [2]).rewards_RSV[0, 0]
    actions = (uniform >= 0.5).long().flatten()
    advantages = load("grpo").advantages(right[actions][None])[0]
    step = 0.5 * (advantages[:, None] * (torch.eye(2)[actions] - 0.5)).mean(0)
    assert last["correct"][0] == pytest.approx(step.softmax(0)[right.argmax()].item(), abs=1e-6)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_algorithm_trains_a_table(name):
    training = Training(iterations=3, optimizer_steps=2, trace_every=1, clip_range=0.2)
    found = rows(name, SMALL, training, [0, 1])
    assert [row["step"] for row in found] == [0, 1, 2, 3]
    assert all(math.isfinite(value) for row in found for value in row["entropy"])
    assert {"clip_low", "clip_high", "p", "q"} <= set(found[-1])


def test_the_controller_of_each_run_is_its_own():
    """AEnt's coefficient moves in every iteration from the third, by its own run's entropy."""
    band = {"entropy_low": 9.0, "entropy_high": 9.0, "beta": 0.001, "coefficient_high": 1.0}
    found = rows("aent", SMALL, Training(iterations=5, trace_every=1), [0, 1], **band)
    coefficients = np.array([row["coefficient"] for row in found[1:]])
    assert np.allclose(coefficients[:3], 0.002), "seen in iteration 3, used in iteration 4"
    assert (np.diff(coefficients[2:], axis=0) > 0).all()
    assert coefficients[-1, 0] != coefficients[-1, 1]


def test_replacing_samples_is_refused():
    with pytest.raises(ValueError, match="append"):
        rows("aepo", SMALL, Training(iterations=1), [0], inject="replace")


def test_a_large_vocabulary_and_adam():
    """The mechanics of the bandit figure, small: graded rewards, a clamped bonus, Adam."""
    environment = Environment(
        states=1, actions=10_000, correct=15, partial=50, raised=50, raise_by=1, raise_correct=True
    )
    training = Training(iterations=150, samples=64, optimizer="adam", lr=0.1, trace_every=50)
    settings = {"std": False, "p": 0.98, "coefficient": 0.008}
    found = rows("aent-constant", environment, training, [0, 1], **settings)
    assert found[-1]["reward"] > found[0]["reward"]
    assert all(0 < value < math.log(200) for value in found[-1]["bonus_statistic"])


# Claims: theory --------------------------------------------------------------------------------


@pytest.mark.parametrize("correct", [1, 3, 10])
def test_lemma_b5(correct):
    check = checks.load("lemma-b5", correct=correct, policies=500)
    for seed in SEEDS:
        found = check.measure(seed)
        assert found["violations"] == 0.0 and found["eligible"] > 0.1
        assert found["value_error"] < 1e-4 and found["slope_error"] < 1e-5


@pytest.mark.parametrize("natural", [False, True])
def test_theorems_1_and_2_hold_with_an_error_linear_in_the_step(natural):
    check = checks.load("clip-theorem", natural=natural, policies=100)
    for seed in SEEDS:
        found = check.measure(seed)
        assert found["error_at_0.0001"] < 3e-4
        assert found["order"] == pytest.approx(1.0, abs=0.05)


def test_propositions_1_and_2():
    for seed in SEEDS:
        assert checks.load("gradient-bound", policies=500).measure(seed)["violations"] == 0.0
        found = checks.load("bonus-bias", problems=100).measure(seed)
        assert found["violations_full"] == found["violations_clamped"] == 0.0
        assert found["bias_clamped"] < found["bias_full"]


# Claims: training ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def random_rewards():
    """Change of entropy for each seed under (eps_low, eps_high), spread and peaked policies."""
    torch.set_num_threads(1)
    spread = Environment(states=16, actions=20, rewards="bernoulli", logits_std=3.0)
    peaked = Environment(
        states=64, actions=32, rewards="bernoulli", logits_std=1.0, raised=1, raise_by=5.0
    )
    short = Training(iterations=40, lr=0.6, optimizer_steps=8, trace_every=40)
    long = Training(iterations=100, lr=0.5, optimizer_steps=8, trace_every=100)
    changes = {}
    for where, environment, training in (("spread", spread, short), ("peaked", peaked, long)):
        for low, high in ((0.2, 0.2), (0.2, math.inf), (1.0, 0.2), (1.0, math.inf)):
            first, last = rows("clip", environment, training, eps_low=low, eps_high=high)
            changes[where, low, high] = np.subtract(last["entropy"], first["entropy"])
    return changes


@pytest.mark.slow
@pytest.mark.parametrize("where", ["spread", "peaked"])
def test_under_random_rewards_clip_low_raises_and_clip_high_lowers_entropy(random_rewards, where):
    """Paired by seed, against symmetric and against both sides off (which is not neutral)."""
    change = {key[1:]: value for key, value in random_rewards.items() if key[0] == where}
    symmetric, off = change[0.2, 0.2], change[1.0, math.inf]
    assert t_value(change[0.2, math.inf] - symmetric) > 6, "without clip-high it is higher"
    assert t_value(change[1.0, 0.2] - symmetric) < -6, "without clip-low it is lower"
    assert t_value(change[0.2, math.inf] - off) > 5, "clip-low alone"
    assert t_value(change[1.0, 0.2] - off) < -5, "clip-high alone"
    assert t_value(symmetric) < -4, "at 0.2 / 0.2 entropy falls"


def test_one_step_a_batch_makes_every_clip_inert():
    environment = Environment(rewards="bernoulli", logits_std=3.0)
    training = Training(iterations=20, lr=0.6)
    on = rows("clip", environment, training, [0, 1], eps_low=0.2, eps_high=0.2)
    off = rows("clip", environment, training, [0, 1], eps_low=1.0, eps_high=math.inf)
    assert on[-1]["entropy"] == off[-1]["entropy"]
    assert on[-1]["clip_low"] == on[-1]["clip_high"] == [0.0, 0.0]


TARGETS = Environment(states=16, actions=64, correct=16, logits_std=0.5)
STEPS = Training(iterations=1000, lr=0.1, trace_every=50)


@pytest.mark.slow
@pytest.mark.parametrize("target", [0.5, 1.0])
def test_aepo_holds_its_target(target):
    found = late_entropy("aepo", TARGETS, STEPS, coefficient=4.0, target=target)
    assert np.abs(found - target).max() < 0.05, "the worst of 20 seeds"


@pytest.mark.slow
def test_aepo_misses_with_one_correct_action():
    """Negative control: hot samples find nothing to spread over."""
    alone = dataclasses.replace(TARGETS, correct=1)
    found = late_entropy("aepo", alone, STEPS, coefficient=4.0, target=0.5)
    assert (0.5 - found.mean()) > 0.35


@pytest.mark.slow
def test_both_ablations_of_aepo_fall_below_grpo():
    grpo = late_entropy("grpo", TARGETS, STEPS)
    for name in ("aepo-eq2", "aepo-eq3"):
        found = late_entropy(name, TARGETS, STEPS, coefficient=4.0, target=1.0)
        assert t_value(found - grpo) < -6
    assert grpo.mean() < 0.4


@pytest.mark.slow
def test_one_bonus_coefficient_does_not_transfer_and_one_target_does():
    more = dataclasses.replace(TARGETS, correct=32)
    bonus = [late_entropy("entreg", e, STEPS, coefficient=0.11) for e in (TARGETS, more)]
    assert t_value(bonus[1] - bonus[0]) > 15 and (bonus[1] - bonus[0]).mean() > 1.0
    target = late_entropy("aepo", more, STEPS, coefficient=4.0, target=1.0)
    assert abs(target.mean() - 1.0) < 0.05


@pytest.mark.slow
def test_hot_reinforce_raises_entropy_and_cold_lowers_it():
    environment = Environment(
        actions=50, correct=5, logits_std=1.5, raise_correct=True, raise_by=6.0
    )
    training = Training(iterations=200, lr=0.1, trace_every=200)
    change = {}
    for temperature in (0.8, 1.0, 1.2):
        fixed = {"temperature_low": temperature, "temperature_high": temperature}
        first, last = rows("aepo-reinforce", environment, training, coefficient=4.0, **fixed)
        change[temperature] = np.subtract(last["entropy"], first["entropy"])
    assert t_value(change[0.8]) < -8 and t_value(change[1.2]) > 4
    assert t_value(change[1.2] - change[1.0]) > 10 and t_value(change[0.8] - change[1.0]) < -8


@pytest.mark.slow
def test_the_clamped_bonus_costs_less_reward():
    """lambda 0.2 in 500 actions: the plain optimum keeps 5 e^5 / (5 e^5 + 495) = 0.6 of it."""
    environment = Environment(states=4, actions=500, correct=5)
    training = Training(iterations=200, samples=32, optimizer="adam", lr=0.1, trace_every=200)
    settings = {"std": False, "coefficient": 0.2}
    plain = rows("entreg", environment, training, **settings)[-1]["reward"]
    clamped = rows("aent-constant", environment, training, p=0.96, **settings)[-1]["reward"]
    assert np.mean(plain) == pytest.approx(0.6, abs=0.1)
    assert t_value(np.subtract(clamped, plain)) > 20
