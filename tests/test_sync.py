"""What is sampled from is what is trained: weights handed to engines of real architectures."""

import json
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from algorithms.openrlhf.driver import refuse_lora

torch = pytest.importorskip("torch")

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
