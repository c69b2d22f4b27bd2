"""Model sizes from configurations and names, accelerators by their names."""

import json

import pytest

from suite.plan.size import accelerator, model_shape

QWEN_7B = {
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "vocab_size": 152064,
    "tie_word_embeddings": False,
}


def configured(folder, **changes):
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(QWEN_7B | changes))
    return model_shape(str(folder), folder)


def test_parameters_of_a_configuration(tmp_path):
    """Qwen2.5-7B has 7.616 billion; norms and biases, under a thousandth, are not counted."""
    assert configured(tmp_path / "a").parameters == pytest.approx(7_615_616_512, rel=1e-3)
    tied = configured(tmp_path / "b", tie_word_embeddings=True)
    assert tied.parameters == pytest.approx(7_615_616_512 - 152064 * 3584, rel=1e-3)
    assert tied.keys == 4 * 128


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("Qwen/Qwen2.5-1.5B-Instruct", 1.5e9),
        ("Qwen/Qwen2.5-Math-7B", 7e9),
        ("HuggingFaceTB/SmolLM2-135M", 135e6),
        ("Qwen/Qwen3-30B-A3B", 30e9),
    ],
)
def test_a_size_in_the_name(name, parameters, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    found = model_shape(name, tmp_path)
    assert found.parameters == parameters and "assumed" in found.source
    assert 12 * found.layers * found.hidden**2 == pytest.approx(parameters, rel=0.01)


def test_no_size_is_no_guess(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    assert model_shape("openai-community/gpt2", tmp_path) is None
    assert configured(tmp_path / "experts", num_experts=64) is None


def test_the_hubs_cache_is_read_before_the_name(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    snapshot = tmp_path / "models--Qwen--Qwen2.5-7B" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text(json.dumps(QWEN_7B))
    assert model_shape("Qwen/Qwen2.5-7B", tmp_path).source == "its config.json"


@pytest.mark.parametrize(
    ("name", "memory_gib"),
    [
        ("A100", 40),
        ("NVIDIA A100-SXM4-80GB", 80),
        ("NVIDIA H200", 140.4),
        ("L40S", 45),
        ("L4", 22.5),
    ],
)
def test_accelerators_by_name(name, memory_gib):
    found = accelerator(name)
    assert found.memory == memory_gib
    assert ("40 assumed" in found.note) == (name == "A100")


def test_an_unknown_accelerator_is_not_guessed():
    assert accelerator("MI300X") is None
