"""Each algorithm: a case worked out by hand, and its idea switched off equals GRPO bit for bit."""

import dataclasses
import itertools
import math
import re

import pytest

torch = pytest.importorskip("torch")

import algorithms  # noqa: E402
from algorithms import ALGORITHMS, load  # noqa: E402
from algorithms.base import Batch, Tokens  # noqa: E402

REWARDS = torch.tensor([[1.0, 0.0, 0.0, 1.0], [1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 1.0]])
OFF = {
    "entreg": {"coefficient": 0.0},
    "entropy_adv": {"beta": 0.0},
    "aent": {"coefficient": 0.0, "beta": 0.0},
    "clip-higher": {"eps_high": 0.2, "std": True},
    "clip-high-off": {"eps_high": 0.2, "std": True},
    "clip-low-off": {"eps_low": 0.2, "std": True},
    "clip-low": {"eps_low": 0.2, "eps_high": 0.2, "std": True},
    "dapo": {"eps_high": 0.2},
    "high_entropy_tokens": {"eps_high": 0.2, "share": 1.0},
    "skywork": {"delta": 0.0},
    "clip": {"eps_low": 0.2, "eps_high": 0.2, "std": True},
    "aent-constant": {"coefficient": 0.0},
    "aepo": {"coefficient": 0.0},
    "aepo-eq2": {"coefficient": 0.0},
    "aepo-eq3": {"coefficient": 0.0},
    "clip_cov": {"share": 0.0},
    "dcpo": {"alpha": 0.0},
}


def tokens(advantages, log_probs, rewards=None, tempered=None, seed=0):
    """Response tokens with entropy 1/2 each."""
    rewards = torch.ones_like(advantages) if rewards is None else rewards
    entropy = torch.full_like(advantages, 0.5)
    return Tokens(advantages, entropy, log_probs, rewards, tempered or {}, seed)


def test_grpo_advantages_by_hand():
    """Mean 1/2, sample std sqrt(1/3): +-0.8660; no signal; mean 1/4, std 1/2."""
    expected = torch.tensor(
        [[0.8660254, -0.8660254, -0.8660254, 0.8660254], [0.0] * 4, [-0.5, -0.5, -0.5, 1.5]]
    )
    torch.testing.assert_close(load("grpo").advantages(REWARDS), expected)


def test_dr_grpo_advantages_by_hand():
    expected = torch.tensor([[0.5, -0.5, -0.5, 0.5], [0.0] * 4, [-0.25, -0.25, -0.25, 0.75]])
    torch.testing.assert_close(load("grpo", std=False).advantages(REWARDS), expected)
    torch.testing.assert_close(load("clip").advantages(REWARDS), expected)


def test_equal_rewards_give_exactly_zero():
    """0.1 has no exact mean in binary: without care, rounding would be divided by rounding."""
    assert torch.equal(load("grpo").advantages(torch.full((2, 7), 0.1)), torch.zeros(2, 7))


def test_entreg_bonus_by_hand():
    """lambda * H: 0.002 * ln 4 on uniform logits; the gradient pushes towards uniform."""
    entreg = load("entreg")
    assert entreg.bonus(torch.zeros(1, 2, 4)).flatten().tolist() == pytest.approx(
        [0.002 * math.log(4)] * 2
    )
    logits = torch.tensor([2.0, 0.0], requires_grad=True)
    entreg.bonus(logits).backward()
    assert logits.grad[0] < 0 < logits.grad[1]


def test_entropy_adv_by_hand():
    """beta 0.4, kappa 2: min(0.4 H, |A| / 2) is added; 0.4 * 0.5 = 0.2 but at most 0.1 / 2."""
    advantages, entropy = torch.tensor([[1.0, -1.0, 0.1, 0.0]]), torch.full((1, 4), 0.5)
    shaped = load("entropy_adv").shape(advantages, entropy.requires_grad_())
    torch.testing.assert_close(shaped.detach(), torch.tensor([[1.2, -0.8, 0.15, 0.0]]))
    assert not shaped.requires_grad


def test_aent_bonus_by_hand():
    """Ten equal logits, p = 0.33: lambda * ln 7."""
    value = load("aent").bonus(torch.zeros(1, 10))
    assert value.item() == pytest.approx(0.002 * math.log(7))


@pytest.mark.parametrize(
    ("entropy", "moved"),
    [
        (0.05, 0.002 + 0.002 * 0.10),  # 0.10 below the band of 0.15 .. 0.24: up
        (0.34, 0.002 - 0.002 * 0.10),  # 0.10 above it: down
        (0.20, 0.002),  # inside
        (-9.0, 0.009),  # the box
        (9.0, 0.0006),
    ],
)
def test_aent_moves_its_coefficient_towards_the_band(entropy, moved):
    aent = load("aent")
    after = aent.next_state({"coefficient": 0.002}, {"bonus_statistic": entropy, "epoch": 3})
    assert after == {"coefficient": pytest.approx(moved)}


def test_aent_waits_for_its_epoch_and_is_not_dead_at_zero():
    aent = load("aent", coefficient=0.0, coefficient_low=0.0)
    state = aent.initial_state()
    assert aent.next_state(state, {"bonus_statistic": 0.0, "epoch": 2}) == state
    assert aent.next_state(state, {"bonus_statistic": 0.0, "epoch": 3})["coefficient"] > 0
    constant = load("aent", beta=0.0)
    assert constant.next_state({"coefficient": 0.002}, {"epoch": 9})["coefficient"] == 0.002


def test_aent_without_clamp_is_entreg():
    logits = torch.randn(2, 3, 50)
    clamped, plain = load("aent", p=0.0), load("entreg", coefficient=0.002)
    assert torch.equal(clamped.bonus(logits), plain.bonus(logits))


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("clip-higher", 0.2, 0.28),
        ("clip-high-off", 0.2, math.inf),
        ("clip-low-off", 1.0, 0.2),
        ("clip-low", 0.15, math.inf),
        ("dapo", 0.2, 0.28),
    ],
)
def test_presets(name, low, high):
    assert (load(name).eps_low, load(name).eps_high) == (low, high)


def test_cispo_by_hand():
    """r = 8 weighs 6, r = 2 weighs 2; the gradient in log pi is weight * A."""
    old, advantages = torch.zeros(3), torch.tensor([1.0, -1.0, 1.0])
    new = torch.tensor([8.0, 2.0, 0.5]).log().requires_grad_()
    load("cispo").surrogate(new, old, advantages).sum().backward()
    torch.testing.assert_close(new.grad, torch.tensor([6.0, -2.0, 0.5]))
    free = load("clip", eps_low=1.0, eps_high=math.inf)
    (gradient,) = torch.autograd.grad(free.surrogate(new, old, advantages).sum(), new)
    (mine,) = torch.autograd.grad(
        load("cispo", eps_max=math.inf).surrogate(new, old, advantages).sum(), new
    )
    torch.testing.assert_close(mine, gradient)


def test_w_reinforce_by_hand():
    expected = torch.tensor([[0.1, -1.0, -1.0, 0.1], [0.1] * 4, [-1.0, -1.0, -1.0, 0.1]])
    torch.testing.assert_close(load("w_reinforce").advantages(REWARDS), expected)


def test_qae_by_hand():
    """K = 0.4 of 4: the second smallest reward, 0 in rows 1 and 3; row 2 has no signal."""
    expected = torch.tensor([[1.0, 0, 0, 1.0], [0.0] * 4, [0, 0, 0, 1.0]])
    expected[0] /= math.sqrt(1 / 3)
    expected[2] /= 0.5
    torch.testing.assert_close(load("qae").advantages(REWARDS), expected)
    easy = load("qae", std=False).advantages(torch.tensor([[1.0, 1.0, 1.0, 0.0]]))
    torch.testing.assert_close(easy, torch.tensor([[0.0, 0.0, 0.0, -1.0]]))


def test_pass_at_k_by_hand():
    """n = 4, k = 2, c = 1: rho = 1 - 3/6, sigma = 1/2: A+ = 1, A- = (1/2 - 2/3) / (1/2) = -1/3."""
    advantages = load("pass_at_k", k=2).advantages(REWARDS)
    torch.testing.assert_close(advantages[2], torch.tensor([-1 / 3, -1 / 3, -1 / 3, 1.0]))
    assert torch.equal(advantages[1], torch.zeros(4))
    torch.testing.assert_close(advantages.sum(-1), torch.zeros(3))


def test_pass_at_one_is_grpo_with_the_population_deviation():
    expected = load("grpo").advantages(REWARDS) * math.sqrt(4 / 3)
    torch.testing.assert_close(load("pass_at_k", k=1).advantages(REWARDS), expected)


def test_pass_at_k_is_the_mean_over_all_subsets():
    """The definition: average over subsets of 2 the normalised reward "one of them is correct"."""
    rewards = torch.tensor([1.0, 0.0, 0.0, 0.0, 1.0])
    subsets = list(itertools.combinations(range(5), 2))
    values = torch.tensor([float(rewards[list(s)].max()) for s in subsets])
    normalised = (values - values.mean()) / values.std(correction=0)
    expected = [
        torch.stack([v for v, s in zip(normalised, subsets, strict=True) if i in s]).mean()
        for i in range(5)
    ]
    mine = load("pass_at_k", k=2).advantages(rewards[None])[0]
    torch.testing.assert_close(mine, torch.stack(expected))


def test_rloo_by_hand():
    """R - mean of the other three: 1 - 1/3, 0 - 2/3."""
    expected = torch.tensor([2 / 3, -2 / 3, -2 / 3, 2 / 3])
    torch.testing.assert_close(load("rloo_onpolicy").advantages(REWARDS)[0], expected)


def test_skywork_switches_by_hand():
    skywork = load("skywork")
    state = skywork.initial_state()
    assert skywork.bonus_coefficient(state) == 0
    state = skywork.next_state(state, {"bonus_statistic": 0.2})
    assert skywork.bonus_coefficient(state) == pytest.approx(0.005)
    state = skywork.next_state(state, {"bonus_statistic": 0.1})
    assert skywork.bonus_coefficient(state) == pytest.approx(0.010)
    state = skywork.next_state(state, {"bonus_statistic": 0.3})
    assert state["coefficient"] == pytest.approx(0.005)
    assert skywork.bonus_coefficient(state) == 0


def test_high_entropy_tokens_by_hand():
    """The top fifth of ten tokens: two keep their advantage; ties at the threshold stay."""
    entropy = torch.tensor([0.1, 0.9, 0.2, 0.3, 0.8, 0.0, 0.0, 0.0, 0.1, 0.2])
    shaped = load("high_entropy_tokens").shape(torch.ones(10), entropy)
    assert shaped.nonzero().flatten().tolist() == [1, 4]


def test_aepo_asks_for_hot_samples_below_the_target_and_cold_ones_above():
    aepo = load("aepo", target=0.5)
    state = aepo.observe(aepo.initial_state(), {"entropy": 0.3, "entropy_sampled": 0.9})
    rise = aepo.extra_rollouts(state)
    assert (rise["temperature"], rise["positives"]) == (1.2, 60)
    fall = aepo.extra_rollouts(aepo.next_state(state, {"entropy": 0.5}))
    assert (fall["temperature"], fall["positives"]) == (0.8, 30)
    assert rise["inject"] == "append" and rise["coefficient"] == 1.0
    assert (rise.temperature, rise.positives, rise.prompts) == (1.2, 60, 1.0)
    with pytest.raises(KeyError, match="no 'top_p' among temperature, positives, prompts"):
        rise["top_p"]
    sampled = load("aepo", entropy_estimator="sampled")
    assert sampled.observe({}, {"entropy": 0.3, "entropy_sampled": 0.9}) == {"entropy": 0.9}


def test_aepo_learns_from_correct_samples_only():
    assert torch.equal(load("aepo").extra_advantages(REWARDS), REWARDS)


def test_aepo_ablations_by_hand():
    """Eq. 2 samples at temperature 1 whatever the entropy; eq. 3 keeps GRPO's negatives."""
    eq2, eq3 = load("aepo-eq2"), load("aepo-eq3")
    assert {eq2.extra_rollouts({"entropy": h})["temperature"] for h in (0.1, 0.9)} == {1.0}
    assert torch.equal(eq2.extra_advantages(REWARDS), REWARDS)
    assert torch.equal(eq3.extra_advantages(REWARDS), load("grpo").advantages(REWARDS))
    assert eq3.extra_rollouts({"entropy": 0.1})["temperature"] == 1.2


def test_aepos_reinforce_term_alone_has_no_grpo_in_it():
    """Fig. 2: ordinary rollouts have no advantage, extra ones have R."""
    arm = load("aepo-reinforce")
    assert torch.equal(arm.advantages(REWARDS), torch.zeros(3, 4))
    assert torch.equal(arm.extra_advantages(REWARDS), REWARDS)


DEFAULTS = {  # the sources' values
    "grpo": {"eps_low": 0.2, "eps_high": 0.2, "std": True},
    "entreg": {"coefficient": 0.002},
    "entropy_adv": {"beta": 0.4, "kappa": 2.0},
    "aent": {"p": 0.33, "entropy_low": 0.15, "entropy_high": 0.24, "coefficient": 0.002}
    | {"beta": 0.002, "coefficient_low": 0.0006, "coefficient_high": 0.009, "moves_from": 3},
    "aepo": {"temperature_high": 1.2, "temperature_low": 0.8, "positives_up": 60}
    | {"positives_down": 30, "target": 0.5, "eps_low": 0.2, "eps_high": 0.2},
    "clip": {"eps_low": 0.15, "eps_high": math.inf, "std": False},
    "dapo": {"eps_low": 0.2, "eps_high": 0.28},
    "clip_cov": {"share": 2e-4, "cov_low": 1.0, "cov_high": 5.0},
    "kl_cov": {"share": 2e-3, "coefficient": 1.0, "eps_low": 1.0, "eps_high": math.inf},
    "high_entropy_tokens": {"share": 0.2, "eps_low": 0.2, "eps_high": 0.28},
    "skywork": {"target": 0.2, "delta": 0.005, "coefficient": 0.0},
    "cispo": {"eps_max": 5.0},
    "gspo": {"eps_low": 3e-4, "eps_high": 4e-4},
    "w_reinforce": {"weight": 0.1},
    "pass_at_k": {"k": 4},
    "qae": {"quantile": 0.4},
    "dcpo": {"temperature_high": 1.2, "temperature_low": 0.8, "target": 0.5},
    "rloo_onpolicy": {"eps_low": 1.0, "eps_high": math.inf},
}


@pytest.mark.parametrize("name", DEFAULTS)
def test_defaults_are_the_sources(name):
    algorithm = load(name)
    assert {key: getattr(algorithm, key) for key in DEFAULTS[name]} == DEFAULTS[name]


def test_half_a_reward_is_no_success():
    """A random reward of 0.3 is not correct: thresholds are at one half."""
    rewards = torch.tensor([[0.3, 0.7]])
    assert load("w_reinforce").advantages(rewards)[0].tolist() == pytest.approx([-1.0, 0.1])
    assert load("aepo").extra_advantages(rewards).tolist() == [[0.0, 1.0]]


def test_gspo_by_hand():
    """Log-ratios .1 and .3 over two tokens: s = e^.2 at both; padding counts for nothing."""
    gspo = load("gspo", eps_low=0.2, eps_high=0.5)
    new = torch.tensor([[0.1, 0.3, 9.0]], requires_grad=True)
    mask = torch.tensor([[1, 1, 0]])
    advantages = torch.tensor([[2.0, 2.0, 0.0]])
    objective = gspo.surrogate(new, torch.zeros(1, 3), advantages, mask)
    assert objective[0, :2].tolist() == pytest.approx([2 * math.exp(0.2)] * 2)
    (objective * mask).sum().backward()  # each token: sum over 2 tokens of s A / 2
    assert new.grad[0].tolist() == pytest.approx([2 * math.exp(0.2)] * 2 + [0.0])
    events = load("gspo").clip_events(new.detach(), torch.zeros(1, 3), advantages, mask)
    assert events["clip_high"].tolist() == [[True, True, False]]
    assert (load("gspo").eps_low, load("gspo").eps_high) == (3e-4, 4e-4)


def test_loose_tensors_and_a_batch_are_one_objective():
    """`surrogate` and `clip_events` put a Batch together: GSPO needs the mask, KL-Cov the marks."""
    new, old = torch.randn(2, 3, 5) * 0.3
    advantages, marks = torch.randn(3, 5), torch.randint(0, 2, (3, 5)).float()
    mask = torch.tensor([[1, 1, 1, 0, 0], [0, 1, 1, 1, 1], [1, 1, 1, 1, 1]])
    batch = Batch(old, advantages, mask, marks)
    for name in ALGORITHMS:
        arm = load(name)
        loose = arm.surrogate(new, old, advantages, mask_BT=mask, marks_BT=marks)
        assert torch.equal(loose, arm.objective(new, batch)), name
        events, expected = arm.clip_events(new, old, advantages, mask), arm.clipped(new, batch)
        assert events.keys() == expected.keys() == {"clip_low", "clip_high"}
        assert all(torch.equal(events[side], expected[side]) for side in expected), name


def test_without_a_mask_every_token_is_a_response():
    zeros = torch.zeros(2, 3)
    assert Batch(zeros, zeros).inside.all()
    mask = torch.tensor([[1, 0, 0], [1, 1, 0]])
    assert Batch(zeros, zeros, mask).inside.tolist() == mask.bool().tolist()


def test_gspo_with_one_token_is_grpo_bit_for_bit():
    new, old, advantages = torch.randn(3, 6, 1)
    gspo, grpo = load("gspo", eps_low=0.2, eps_high=0.2), load("grpo")
    assert torch.equal(gspo.surrogate(new, old, advantages), grpo.surrogate(new, old, advantages))


ADVANTAGES_N = torch.tensor([1.0, 1.0, -1.0, -1.0])
LOG_PROBS_N = torch.tensor([-1.0, -5.0, -1.0, -5.0])  # mean -3: cov = 2, -2, -2, 2


def test_clip_cov_takes_the_gradient_of_a_token_in_the_window():
    """cov is 2 at tokens 0 and 3: one of them (share .25 of 4) loses its advantage."""
    arm = load("clip_cov", share=0.25)
    seen = set()
    for seed in range(20):
        credit = arm.credit(tokens(ADVANTAGES_N, LOG_PROBS_N, seed=seed), {})
        (lost,) = (credit == 0).nonzero()[:, 0].tolist()
        assert torch.equal(credit, ADVANTAGES_N.index_fill(0, torch.tensor([lost]), 0.0))
        seen.add(lost)
    assert seen == {0, 3}
    above = load("clip_cov", share=1.0, cov_low=0.0, cov_high=1.5)  # 2 is over the window
    assert torch.equal(above.credit(tokens(ADVANTAGES_N, LOG_PROBS_N), {}), ADVANTAGES_N)
    least = load("clip_cov", share=0.01).credit(tokens(ADVANTAGES_N, LOG_PROBS_N), {})
    assert (least == 0).sum() == 1  # the ceiling of 1 % of 4
    none = load("clip_cov", share=1.0, cov_low=3.0, cov_high=4.0)
    assert torch.equal(none.credit(tokens(ADVANTAGES_N, LOG_PROBS_N), {}), ADVANTAGES_N)


def test_kl_cov_by_hand():
    """Top quarter by cov; there r A - beta |log r|, elsewhere r A without a clip."""
    arm = load("kl_cov", share=0.25, coefficient=0.5)
    advantages, log_probs = ADVANTAGES_N.clone(), LOG_PROBS_N.clone()
    log_probs[3] = -6.0
    marks = arm.marks(tokens(advantages, log_probs))
    assert marks.tolist() == [0.0, 0.0, 0.0, 1.0]
    new = log_probs + math.log(2.0)
    objective = arm.surrogate(new, log_probs, advantages, None, marks)
    assert objective.tolist() == pytest.approx([2, 2, -2, -2 - 0.5 * math.log(2)])


def test_kl_cov_switched_off_is_grpo_without_clips_bit_for_bit():
    free, off = load("grpo", eps_low=1.0, eps_high=math.inf), load("kl_cov", share=0.0)
    new, old, advantages = torch.randn(3, 6, 9)
    marks = off.marks(tokens(advantages.flatten(), old.flatten()))
    assert torch.equal(
        off.surrogate(new, old, advantages, None, marks.view(6, 9)),
        free.surrogate(new, old, advantages),
    )


def test_dcpo_by_hand():
    """alpha .1: .9 A + .1 e^(l^T - l) on correct responses, .9 A on wrong ones; T by entropy."""
    arm = load("dcpo")
    assert arm.temperatures == (0.8, 1.2)
    batch = tokens(
        torch.tensor([1.0, -1.0]),
        torch.tensor([-1.0, -1.0]),
        rewards=torch.tensor([1.0, 0.0]),
        tempered={1.2: torch.tensor([-0.9, -0.9]), 0.8: torch.tensor([-1.2, -1.2])},
    )
    hot = arm.credit(batch, arm.observe({}, {"entropy": 0.4}))
    assert hot.tolist() == pytest.approx([0.9 + 0.1 * math.exp(0.1), -0.9])
    cold = arm.credit(batch, arm.observe({}, {"entropy": 0.6}))
    assert cold.tolist() == pytest.approx([0.9 + 0.1 * math.exp(-0.2), -0.9])


def test_aent_with_a_constant_coefficient():
    arm = load("aent-constant")
    state = arm.initial_state()
    assert arm.bonus_coefficient(arm.next_state(state, {"epoch": 9})) == 0.002


def test_grpo_has_no_entropy_term():
    grpo = load("grpo")
    assert grpo.bonus_coefficient(grpo.initial_state()) == 0
    assert grpo.bonus(torch.zeros(1, 4)) is None and not grpo.has_bonus
    assert grpo.extra_rollouts(grpo.initial_state()) is None


def test_clip_defaults_are_the_papers_balance():
    clip = load("clip")
    ratios = torch.tensor([[0.7, 0.7, 3.0, 3.0]])
    advantages = torch.tensor([[1.0, -1.0, 1.0, -1.0]])
    objective = clip.surrogate(ratios.log(), torch.zeros(1, 4), advantages)
    torch.testing.assert_close(objective, torch.tensor([[0.7, -0.85, 3.0, -3.0]]))


def test_clip_events_are_told_apart():
    ratios = torch.tensor([[0.7, 0.7, 1.3, 1.3, 1.0]])
    advantages = torch.tensor([[1.0, -1.0, 1.0, -1.0, 1.0]])
    events = load("grpo").clip_events(ratios.log(), torch.zeros(1, 5), advantages)
    assert events["clip_low"].tolist() == [[False, True, False, False, False]]
    assert events["clip_high"].tolist() == [[False, False, True, False, False]]
    off = load("clip", eps_low=1.0, eps_high=math.inf)
    assert not any(
        e.any() for e in off.clip_events(ratios.log(), torch.zeros(1, 5), advantages).values()
    )


@pytest.mark.parametrize("name", OFF)
def test_switched_off_it_is_grpo_bit_for_bit(name):
    grpo, off = load("grpo"), load(name, **OFF[name])
    generator = torch.Generator().manual_seed(0)
    new, old, advantages = torch.randn(3, 6, 9, generator=generator)
    assert torch.equal(grpo.advantages(REWARDS), off.advantages(REWARDS))
    assert torch.equal(grpo.surrogate(new, old, advantages), off.surrogate(new, old, advantages))
    assert torch.equal(grpo.shape(advantages, new), off.shape(advantages, new))
    batch = tokens(*torch.randn(2, 50, generator=generator))
    state = off.initial_state()
    assert torch.equal(grpo.credit(batch, {}), off.credit(batch, state))
    assert off.marks(batch) is None and off.temperatures == ()
    assert off.extra_rollouts(off.observe(state, {"entropy": 0.1})) is None
    assert off.bonus(new) is None
    measured = {"entropy": 1.0, "bonus_statistic": 1.0, "epoch": 9}
    after = off.next_state(state, measured)
    assert after == state or set(after) == {"entropy"}  # seen, and without effect
    assert off.bonus_coefficient(off.initial_state()) == 0


@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_algorithm_loads_and_cites_its_source(name):
    algorithm = load(name)
    module = __import__(ALGORITHMS[name].split(":")[0], fromlist=["x"])
    assert re.search(r"\b2\d{3}\.\d{5}\b", module.__doc__), "a paper's number"
    with pytest.raises(dataclasses.FrozenInstanceError):
        algorithm.eps_low = 0.1


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("grop", {}, "unknown algorithm 'grop': did you mean 'grpo'"),
        ("entreg", {"coeficient": 1}, "did you mean 'coefficient'"),
        ("clip", {"eps_low": 1.5}, r"eps_low must be in \[0, 1\]"),
        ("clip", {"eps_high": -1}, "eps_high must be >= 0"),
        ("entreg", {"coefficient": -0.1}, "coefficient must be >= 0"),
        ("aent", {"p": 1.0}, r"p must be in \[0, 1\)"),
        ("aent", {"entropy_low": 0.5}, "entropy_low must be <= entropy_high"),
        ("qae", {"quantile": 0.0}, "quantile must be in"),
        ("pass_at_k", {"k": 0}, "k must be a whole number"),
        ("entropy_adv", {"kappa": 0.0}, "kappa must be > 0"),
        ("grpo", {"std": 1}, "std must be true or false"),
        ("aepo", {"inject": "prepend"}, "inject must be append or replace"),
        ("aepo", {"entropy_estimator": "k3"}, "entropy_estimator must be exact or sampled"),
        ("aepo", {"temperature_low": 1.5}, "temperature_low must be in"),
        ("aepo", {"positives_up": 0}, "positives_up must be a whole number"),
        ("aepo", {"coefficient": -1.0}, "coefficient must be >= 0"),
        ("aepo", {"target": math.nan}, "target must be nats"),
        ("aepo", {"temperature_high": 2.5}, "temperature_high must be <= 2"),
        ("aepo", {"positives_up": 2.5}, "positives_up must be a whole number"),
        ("skywork", {"target": math.nan}, "target must be nats"),
        ("cispo", {"eps_low": 0.1}, "cispo does not use 'eps_low'"),
        ("rloo_onpolicy", {"std": False}, "does not use 'std'"),
        (None, {}, "unknown algorithm 'None'"),
        ("dcpo", {"alpha": 2.0}, "alpha must be in"),
        ("clip_cov", {"cov_low": 9.0}, "cov_low must be below cov_high"),
        ("kl_cov", {"share": 2.0}, "share must be in"),
        ("grpo", {"eps_low": "much"}, "wrong type"),
    ],
)
def test_bad_settings_are_refused_with_a_hint(name, settings, message):
    with pytest.raises(ValueError, match=message):
        load(name, **settings)


def test_unknown_attribute_of_the_package():
    with pytest.raises(AttributeError, match="nonsense"):
        algorithms.nonsense  # noqa: B018
