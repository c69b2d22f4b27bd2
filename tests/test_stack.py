"""The production stack against an independent float64 reference written from the papers' equations.

Two starts of the real thing (Ray, DeepSpeed ZeRO-2, vLLM): one policy worker, and two
data-parallel ones. Each takes the gradient of seven objectives on one fixed batch, whole and in
four micro-batches.
"""

import itertools
import json
import math
import os
import subprocess
import sys

import pytest

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.stack

PROMPTS, GROUP = 8, 4
ROLLOUTS = PROMPTS * GROUP
SETTINGS = {
    "grpo": (0.2, 0.2, True, 0.0),
    "dr_grpo": (0.2, 0.2, False, 0.0),
    "clip_higher": (0.2, 0.28, False, 0.0),
    "clip_low": (0.15, float("inf"), False, 0.0),
    "clip_low_off": (1.0, 0.2, False, 0.0),
    "entreg": (0.2, 0.2, True, 0.5),
    "aent": (0.2, 0.2, True, 0.5),
    "gspo": (0.02, 0.02, True, 0.0),
    "kl_cov": (1.0, float("inf"), True, 0.0),
    "aepo": (0.2, 0.2, True, 0.0),
}


def start_stack(model, out, workers):
    train = {
        "prompts_per_step": PROMPTS,
        "samples_per_prompt": GROUP,
        "optimizer_steps_per_rollout": 1,
        "max_new_tokens": 40,
        "max_prompt_tokens": 40,
        "lr": 1e-3,
        "weight_decay": 0.0,
        "max_grad_norm": 1.0,
        "loss_aggregation": "seq-mean-token-mean",
        "micro_batch_size": ROLLOUTS // workers,
        "rollout_micro_batch_size": ROLLOUTS // workers // 2,
        "zero_stage": 2,
        "tensor_parallel_size": 1,
        "gradient_checkpointing": False,
        "prompt_template": None,
        "chat_template": False,
    }
    (out / "train.json").write_text(json.dumps(train))
    log = out / "stack.log"
    with log.open("wb") as output:
        code = subprocess.run(
            [
                sys.executable,
                __file__.replace("test_stack", "stack_probe"),
                model,
                out,
                str(workers),
            ],
            stdout=output,
            stderr=output,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            check=False,
        ).returncode
    assert code == 0, log.read_text()[-4000:]
    return torch.load(out / "measured.pt", weights_only=False)


@pytest.fixture(scope="module")
def one_worker(arithmetic_model, tmp_path_factory):
    return start_stack(arithmetic_model, tmp_path_factory.mktemp("one"), 1)


@pytest.fixture(scope="module")
def two_workers(arithmetic_model, tmp_path_factory):
    return start_stack(arithmetic_model, tmp_path_factory.mktemp("two"), 2)


def reference_gradients(model_path, measured, rewards):
    """grad of -J in float64 for each arm: AEPO eq. 1, CLIP section 1.2 and eq. 3, by sample."""
    batches = measured["batches"]
    marks = [row for batch in measured["marks"]["kl_cov"] for row in batch]
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(
        model_path, dtype=torch.float64, attn_implementation="eager"
    )
    groups = torch.tensor(rewards, dtype=torch.float64).view(PROMPTS, GROUP)
    samples = [
        {name: tensor[i] for name, tensor in batch.items()}
        for batch in batches
        for i in range(len(batch["sequences"]))
    ]
    totals = dict.fromkeys(SETTINGS, 0.0)
    for index, sample in enumerate(samples):
        length = int(sample["attention_mask"].sum())
        ids = sample["sequences"][:length]
        positions = sample["action_mask"][: length - 1].bool().nonzero()[:, 0]
        log_pi = torch.log_softmax(model(ids[None]).logits[0, :-1], dim=-1)[positions]
        taken = log_pi.gather(-1, ids[positions + 1, None])[:, 0]
        ratio = (taken - sample["action_log_probs"][positions].double()).exp()
        entropy = -(log_pi.exp() * log_pi).sum(-1)
        kept = log_pi.topk(log_pi.shape[-1] - int(log_pi.shape[-1] * 0.95), dim=-1).values
        kept = torch.log_softmax(kept, dim=-1)
        clamped = -(kept.exp() * kept).sum(-1)  # AEnt eq. 4.1
        for arm, (low, high, std, coefficient) in SETTINGS.items():
            group = groups[index // GROUP]
            advantage = group[index % GROUP] - group.mean()
            spread = ((group - group.mean()) ** 2).sum().div(GROUP - 1).sqrt()
            if std and spread > 0:
                advantage = advantage / spread
            weight = ratio.log().mean().exp() if arm == "gspo" else ratio
            within = weight.clamp(1 - low, 1 + high)
            surrogate = torch.min(weight * advantage, within * advantage)
            if arm == "kl_cov":
                surrogate = surrogate - marks[index][positions] * ratio.log().abs()
            bonus = clamped if arm == "aent" else entropy
            totals[arm] = totals[arm] + (surrogate + coefficient * bonus).mean()
        if 7 <= index < 12:  # five of eleven samples drawn were correct; alpha = 2
            correct = torch.min(ratio, ratio.clamp(0.8, 1.2)).mean()
            totals["aepo"] = totals["aepo"] + 2.0 * correct * len(samples) / 11
    names, parameters = zip(*model.named_parameters(), strict=True)
    return {
        arm: dict(
            zip(
                names,
                torch.autograd.grad(-total / len(samples), parameters, retain_graph=True),
                strict=True,
            )
        )
        for arm, total in totals.items()
    }


@pytest.fixture(scope="module")
def references(arithmetic_model, one_worker, two_workers):
    return {
        workers: reference_gradients(arithmetic_model, measured, fixed_rewards())
        for workers, measured in ((1, one_worker), (2, two_workers))
    }


def fixed_rewards():
    generator = torch.Generator().manual_seed(1)
    rewards = torch.randint(0, 2, (ROLLOUTS,), generator=generator).float()
    rewards[:GROUP] = 1.0
    return rewards.tolist()


def relative_error(gradient, reference):
    difference = sum(((gradient[n].double() - g) ** 2).sum() for n, g in reference.items())
    return float((difference / sum((g**2).sum() for g in reference.values())).sqrt())


@pytest.mark.parametrize("arm", SETTINGS)
@pytest.mark.parametrize("workers", [1, 2])
def test_gradient_equals_the_float64_reference(arm, workers, references, one_worker, two_workers):
    measured = one_worker if workers == 1 else two_workers
    reference = references[workers][arm]
    for parts in (1, 4):
        gradient = measured["gradients"][arm, parts]
        assert set(gradient) == set(reference)
        assert relative_error(gradient, reference) < 1e-4, f"{parts} micro-batches a worker"


def test_kl_cov_marks_a_tenth_of_the_tokens(one_worker):
    """The ceiling of a tenth of all response tokens of the batch."""
    tokens = sum(int(batch["action_mask"].sum()) for batch in one_worker["batches"])
    marked = sum(float(marks.sum()) for marks in one_worker["marks"]["kl_cov"])
    assert marked == math.ceil(0.1 * tokens)


def test_the_clip_settings_make_a_difference(one_worker):
    """The fixed batch has ratios beyond every bound, so no arm's gradient equals another's."""
    whole = {arm: one_worker["gradients"][arm, 1] for arm in SETTINGS}
    for arm in SETTINGS:
        for other in SETTINGS:
            if arm != other:
                assert relative_error(whole[arm], whole[other]) > 1e-2


@pytest.mark.parametrize("workers", ["one_worker", "two_workers"])
def test_vllm_samples_from_the_trained_weights(workers, request):
    """Log-probs of fixed responses: trainer and engine agree before and after each update."""
    measured = request.getfixturevalue(workers)
    moved = []
    for trained, sampled in map(stack_pairs, measured["log_probs"]):
        assert (trained - sampled).abs().max() < 1e-3
        moved.append(sampled)
    for before, after in itertools.pairwise(moved):
        assert (before - after).abs().max() > 1e-2


def stack_pairs(pairs):
    return tuple(torch.cat([pair[side] for pair in pairs]) for side in (0, 1))
