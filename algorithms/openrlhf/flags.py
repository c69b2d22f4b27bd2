"""A cell's settings as the exact command line of OpenRLHF 0.11.2's `train_ppo_ray`.

Imports neither torch nor OpenRLHF: `suite plan` prints these commands on any machine. What differs
between a GPU and a CPU machine is the one table `_DEVICE_FLAGS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

MODULE = "openrlhf.cli.train_ppo_ray"

_DEVICE_FLAGS: dict[str, dict[str, Any]] = {
    # One process after the other uses the cores, so sleeping would only cost time.
    "cpu": {
        "vllm.sync_backend": "gloo",
        "vllm.enforce_eager": True,
        "ds.attn_implementation": "eager",
    },
    # Policy and engine share each GPU; whoever is not at work gives its memory back.
    "gpu": {
        "vllm.sync_backend": "nccl",
        "vllm.enable_sleep": True,
        "vllm.gpu_memory_utilization": 0.6,
        "vllm.enable_prefix_caching": True,
        "ds.enable_sleep": True,
        "ds.attn_implementation": "flash_attention_2",
    },
}


def command_line(
    train: Mapping[str, Any],
    *,
    gpus: int,
    device: str,
    seed: int,
    model: str,
    dataset: str,
    workspace: Path,
    reward: str,
    longest_response: int,
) -> list[str]:
    """The flags of one cell.

    Args:
        train: the matrix's `train` section (suite.matrix.schema.Train), every default filled in.
        gpus: GPUs of the cell, shared by policy workers and engines (colocated).
        device: "cpu" or "gpu".
        seed: of the cell.
        model: path or Hugging Face id of the base model.
        dataset: path or id of the prompts.
        workspace: folder of the cell; checkpoints and the final policy go below it.
        reward: the .py file that holds the reward function.
        longest_response: tokens, of training or evaluation, whichever allows more.
    """
    rollouts = train["prompts_per_step"] * train["samples_per_prompt"]
    columns = train.get("columns", {})
    settings: dict[str, Any] = {
        "actor.model_name_or_path": model,
        "actor.num_gpus_per_node": gpus,
        "vllm.num_engines": gpus // train["tensor_parallel_size"],
        "vllm.tensor_parallel_size": train["tensor_parallel_size"],
        "train.colocate_all": True,
        "data.prompt_dataset": dataset,
        "data.input_key": columns.get("problem", "problem"),
        "data.label_key": columns.get("answer", "answer"),
        "data.input_template": train["prompt_template"],
        "data.apply_chat_template": train["chat_template"],
        "data.max_len": train["max_prompt_tokens"] + longest_response,
        "reward.remote_url": reward,
        "rollout.batch_size": train["prompts_per_step"],
        "rollout.n_samples_per_prompt": train["samples_per_prompt"],
        "rollout.micro_batch_size": train["rollout_micro_batch_size"],
        "rollout.max_new_tokens": train["max_new_tokens"],
        "rollout.temperature": 1.0,
        "train.batch_size": rollouts // train["optimizer_steps_per_rollout"],
        "train.micro_batch_size": train["micro_batch_size"],
        "train.seed": seed,
        "algo.advantage.estimator": "group_norm",
        "algo.kl.init_coef": 0,
        "actor.adam.lr": train["lr"],
        "actor.adam.weight_decay": train["weight_decay"],
        "actor.max_norm": train["max_grad_norm"],
        "actor.lr_scheduler": "constant_with_warmup",
        "actor.lr_warmup_ratio": 0.0,
        "actor.loss_agg_mode": train["loss_aggregation"],
        "ds.zero_stage": train["zero_stage"],
        "ckpt.path": workspace / "checkpoints",
        "ckpt.output_dir": workspace / "policy",
        "ckpt.max_num": 2,
        "ckpt.load_enable": True,
    } | _DEVICE_FLAGS[device]
    if device == "gpu":
        settings["actor.gradient_checkpointing_enable"] = train["gradient_checkpointing"]
    return [word for name, value in settings.items() for word in _words(name, value)]


def _words(name: str, value: Any) -> list[str]:
    if value is None or value is False:
        return []
    return [f"--{name}"] if value is True else [f"--{name}", str(value)]
