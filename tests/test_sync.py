"""What is sampled from is what is trained: weights handed to engines of real architectures."""

import json
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("openrlhf")

from algorithms.openrlhf.driver import refuse_lora  # noqa: E402
from algorithms.openrlhf.rollouts import Rollout, Row, Sample  # noqa: E402
from algorithms.openrlhf.sync import BOUNDS, OutOfSync, check_sync  # noqa: E402

MODELS = [
    f"{kind} {ties}" for kind in ("Qwen2", "Qwen3", "Llama", "Olmo2") for ties in ("tied", "untied")
]


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    out = tmp_path_factory.mktemp("sync")
    log = out / "probe.log"
    with log.open("wb") as output:
        code = subprocess.run(
            [sys.executable, __file__.replace("test_sync", "sync_probe"), out],
            stdout=output,
            stderr=output,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            check=False,
        ).returncode
    assert code == 0, log.read_text()[-4000:]
    return json.loads((out / "measured.json").read_text())


@pytest.mark.stack
@pytest.mark.parametrize("model", MODELS)
def test_an_engine_has_the_weights_that_it_was_given(model, measured):
    """At the start, after one message of all weights, and after one message each (ZeRO-3)."""
    by_model, by_engine = torch.tensor(measured[model]).unbind(1)
    assert (by_model - by_engine).abs().max() < 1e-3
    assert (by_engine[1:] - by_engine[:-1]).abs().amax(-1).min() > 0.1  # they moved


@pytest.mark.stack
@pytest.mark.parametrize("engine", ["in_training", "in_evaluation"])
def test_long_prompts_have_the_same_samples_together_and_alone(engine, measured):
    """24 prompts of 300 tokens, 4 seeded samples each: more than one batch prefills."""
    together, alone = measured["long prompts"][engine]
    assert [len(group) for group in together] == [4] * 24
    assert [together[i] for i in (0, 11, 23)] == alone
    assert len({str(group) for group in together}) == 24


def test_adapters_are_refused_before_anything_starts():
    def asked(rank):
        return SimpleNamespace(ds=SimpleNamespace(lora=SimpleNamespace(rank=rank)))

    refuse_lora(asked(0))
    with pytest.raises(ValueError, match=r"--ds\.lora\.rank 8: adapters cannot be trained"):
        refuse_lora(asked(8))


# The check in every run --------------------------------------------------------------------


def row(prompt, trained, sampled):
    """A rollout of `prompt`, with the trainer's and (or None) the engine's log-probs."""
    engine = None if sampled is None else list(map(float, sampled))
    sample = Sample([5] * len(trained), False, engine)
    return Row(Rollout("p", "a", [prompt], sample, "t"), torch.as_tensor(trained), torch.empty(0))


def test_the_check_says_how_far_the_two_are_apart():
    """Prompt 1: |differences| 2e-5, 4e-5, 0; prompt 2: 1e-5; the rest is not compared."""
    rows = [
        row(1, [-1.0, -2.0], [-1.00002, -2.00004]),
        row(1, [-3.0], [-3.0]),
        row(2, [-1.0], [-0.99999]),
        row(2, [], []),  # nothing was sampled
        row(3, [-9.0], None),
    ]
    traced = check_sync(4, rows, "fp32")
    assert traced["sync/log_prob_mean"] == pytest.approx(2e-5, rel=0.02)
    assert traced["sync/log_prob_max"] == pytest.approx(4e-5, rel=0.02)
    assert check_sync(4, rows[3:], "fp32") == {}


@pytest.mark.parametrize("precision", BOUNDS)
def test_one_engine_does_not_hide_behind_the_others(precision):
    """Seven of eight agree: the mean over all tokens is within the bound, the eighth is not."""
    bound = BOUNDS[precision]
    rows = [row(prompt, [-1.0] * 3, [-1.0] * 3) for prompt in range(7)]
    check_sync(1, [*rows, row(7, [-1.0] * 3, [-1.0 - 0.9 * bound] * 3)], precision)
    with pytest.raises(OutOfSync):
        check_sync(1, [*rows, row(7, [-1.0] * 3, [-1.0 - 2 * bound] * 3)], precision)
    with pytest.raises(OutOfSync):
        check_sync(1, [*rows, row(7, [-1.0] * 3, [float("nan")] * 3)], precision)


def test_a_head_that_is_held_back_stops_the_run():
    """A real model one Adam step of 1e-4 on; the engine's has that body, and the head of before."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.Qwen2Config(
        vocab_size=4096,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        tie_word_embeddings=True,
    )
    model = transformers.Qwen2ForCausalLM(config)
    tokens = torch.randint(0, 4096, (1, 40))
    head = model.lm_head.weight.detach().clone()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    model(tokens, labels=tokens).loss.backward()
    optimizer.step()

    def log_probs(weight):
        hidden = model.model(tokens).last_hidden_state[0, :-1]
        log_pi = (hidden @ weight.T).log_softmax(-1)
        return log_pi.gather(-1, tokens[0, 1:, None])[:, 0].detach()

    trained = log_probs(model.lm_head.weight)
    same = check_sync(2, [row(1, trained, log_probs(model.lm_head.weight))], "fp32")
    assert same == {"sync/log_prob_mean": 0, "sync/log_prob_max": 0}
    line = r"^step 2: an engine does not sample from the weights that are trained: .*nats a token.*"
    with pytest.raises(OutOfSync, match=line + "fp32 explains 0.0001; .* after step 1$"):
        check_sync(2, [row(1, trained, log_probs(head))], "fp32")
