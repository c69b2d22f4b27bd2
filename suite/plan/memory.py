"""Does a cell fit into its accelerators? Memory of one device at the moments that are tight.

Counted as OpenRLHF 0.11.2 runs a cell with our flags: policy and engine share each device; while
the engine generates, the policy keeps only its bf16 weights there (DeepSpeed's states sleep in host
memory), and while the policy trains, the engine sleeps. The numbers are estimates, worst cases in
length: a micro-batch whose every response is as long as the matrix allows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from suite.matrix.command import largest_divisor
from suite.plan.size import GIB, Accelerator, ModelShape

ENGINE_SHARE = 0.6  # vllm.gpu_memory_utilization in algorithms.openrlhf.flags
RESERVED = 2.0  # GiB: CUDA contexts of two processes, NCCL, what a sleeping engine keeps
HOST_RESERVED = 6.0  # GiB: Ray, conductor, workers and engine of the CPU stack, empty
GATHERED = 1e9  # parameters that stage 3 brings together at a time (stage3_max_live_parameters)
FRAGMENTATION = 0.95  # of the rest can be used


@dataclass(frozen=True)
class Load:
    """What decides a cell's memory; micro-batches in responses, lengths in tokens."""

    shape: ModelShape
    gpus: int
    zero_stage: int
    tensor_parallel_size: int
    micro_batch: int
    rollout_micro_batch: int
    length: int
    checkpointing: bool
    bonus: bool = False


@dataclass(frozen=True)
class Moment:
    """GiB on one device at one moment, by what they are for."""

    name: str
    parts: dict[str, float]

    @property
    def total(self) -> float:
        return sum(self.parts.values())


def moments(load: Load, device: Accelerator) -> list[Moment]:
    """The moments at which a device may run out, in the order of a training step."""
    states = _states(load)
    gathered = {"gathered": 2 * min(load.shape.parameters, GATHERED) / GIB}
    if load.zero_stage < 3:
        gathered = {}
    weights = {"weights": states["weights"], "reserved": RESERVED}
    engine = {"engine": ENGINE_SHARE * device.memory}
    measuring = {
        "activations": load.rollout_micro_batch * load.length * _layer(load.shape) / GIB,
        "logits": _logits(load, load.rollout_micro_batch, 4 + 2),  # fp32 beside the bf16 original
    }
    training = {
        "activations": _activations(load, load.micro_batch),
        # fp32 logits and their gradient, in bf16 once more; a bonus adds a gradient of its own
        "logits": _logits(load, load.micro_batch, 4 + 4 + 2 + 4 * load.bonus),
    }
    shard = load.shape.parameters / (load.gpus if load.zero_stage else 1)
    stepping = {"fp32 gradients": 4 * min(shard, GATHERED if load.zero_stage == 3 else shard) / GIB}
    return [
        Moment("generation", weights | engine),
        Moment("experience", weights | gathered | measuring),
        Moment("update", states | {"reserved": RESERVED} | gathered | training),
        Moment("optimizer step", states | {"reserved": RESERVED} | stepping),
    ]


def problems(load: Load, device: Accelerator) -> list[str]:
    """Each reason why the cell does not fit, in words; empty when it does."""
    usable = FRAGMENTATION * device.memory
    reasons = [
        f"{moment.name} needs {moment.total:.0f} GiB of {device.memory:g} ({_parts(moment)})"
        for moment in moments(load, device)
        if moment.total > usable
    ]
    weights = 2 * load.shape.parameters / load.tensor_parallel_size / GIB
    cache = ENGINE_SHARE * device.memory * FRAGMENTATION - weights
    if cache < _key_values(load):
        reasons.append(
            f"the engine's {ENGINE_SHARE:.0%} of {device.memory:g} GiB hold {weights:.0f} GiB of "
            f"weights and not the {_key_values(load):.1f} GiB of one response"
        )
    return reasons


def host_problems(load: Load, memory: float) -> list[str]:
    """The same for a machine without a GPU, where everything shares its `memory` (GiB), in fp32."""
    parameters = load.shape.parameters * load.gpus  # a process a logical GPU
    rows = max(load.micro_batch, load.rollout_micro_batch)
    moment = Moment(
        "update",
        {
            "processes": HOST_RESERVED,
            "engine": 4 * parameters / GIB,
            "weights, gradients, optimizer": (4 + 4 + 12) * parameters / GIB,
            "activations": 2 * _activations(load, rows),
            "logits": _logits(load, rows, 12),
        },
    )
    if moment.total <= FRAGMENTATION * memory:
        return []
    return [f"{moment.name} needs {moment.total:.0f} GiB of {memory:g} ({_parts(moment)})"]


def host_remedy(load: Load, memory: float) -> dict[str, Any] | None:
    """The largest micro-batches with which the run fits into `memory` (GiB) without a GPU, or None.

    They divide those that the run has, and so its batches too; {} when it fits already.
    """
    for most in range(max(load.micro_batch, load.rollout_micro_batch), 0, -1):
        sizes = {
            "train.rollout_micro_batch_size": largest_divisor(load.rollout_micro_batch, most),
            "train.micro_batch_size": largest_divisor(load.micro_batch, most),
        }
        if not host_problems(_with(load, sizes), memory):
            return {n: size for n, size in sizes.items() if size != getattr(load, _FIELDS[n])}
    return None


def remedy(load: Load, device: Accelerator) -> dict[str, Any] | None:
    """The mildest settings found with which the cell fits, or None; {} when it fits already.

    Tried in turn, each kept while the next is added, then whatever turned out unneeded is dropped:
    what costs little first, more GPUs last.
    """
    changes: dict[str, Any] = {}
    for setting, value in _milder(load):
        if not problems(_with(load, changes), device):
            break
        changes[setting] = value
    if problems(_with(load, changes), device):
        return None
    for setting in list(changes):
        without = {name: value for name, value in changes.items() if name != setting}
        if not problems(_with(load, without), device):
            changes = without
    return changes


_FIELDS = {
    "train.rollout_micro_batch_size": "rollout_micro_batch",
    "train.micro_batch_size": "micro_batch",
    "train.gradient_checkpointing": "checkpointing",
    "train.tensor_parallel_size": "tensor_parallel_size",
    "train.zero_stage": "zero_stage",
    "resources.gpus": "gpus",
}
MOST_GPUS = 64
MOST_TENSOR_PARALLEL = 8  # of one node


def _with(load: Load, changes: dict[str, Any]) -> Load:
    return replace(load, **{_FIELDS[setting]: value for setting, value in changes.items()})


def _milder(load: Load) -> Iterator[tuple[str, Any]]:
    """Settings of the matrix that save memory, in the order in which they are tried."""
    yield "train.rollout_micro_batch_size", 1
    yield "train.micro_batch_size", 1
    yield "train.gradient_checkpointing", True
    gpus = load.gpus
    while True:
        for size in (2, 4, MOST_TENSOR_PARALLEL):
            if load.tensor_parallel_size < size <= gpus:
                yield "train.tensor_parallel_size", size
        if gpus > 1:
            yield "train.zero_stage", 3
        gpus *= 2
        if gpus > MOST_GPUS:
            return
        yield "resources.gpus", gpus


def _states(load: Load) -> dict[str, float]:
    """Mixed-precision Adam under ZeRO (Rajbhandari et al. 2020, arXiv:1910.02054, section 3), GiB.

    2 bytes of weights, 2 of gradients, 12 of fp32 weights and moments a parameter; stage 1 shards
    the 12 over the GPUs, stage 2 the gradients too, stage 3 all.
    """
    sharded = [stage <= load.zero_stage for stage in (3, 2, 1)]
    return {
        name: size * load.shape.parameters / (load.gpus if split else 1) / GIB
        for name, size, split in zip(
            ("weights", "gradients", "optimizer"), (2, 2, 12), sharded, strict=True
        )
    }


def _layer(s: ModelShape) -> int:
    """Bytes a token that one layer keeps for its backward pass, in bf16, with FlashAttention.

    The inputs of its norms (once more in fp32), queries, keys, values, attention output and the
    four products of a gated MLP; no matrix of scores. As Korthikanti et al. 2022
    (arXiv:2205.05198), counted for this architecture.
    """
    return 2 * (6 * s.hidden + 2 * s.keys + 4 * s.intermediate) + 8 * s.hidden


def _activations(load: Load, rows: int) -> float:
    """GiB of all layers; with checkpointing, each layer's input and one layer's own at a time."""
    s, layer = load.shape, _layer(load.shape)
    each = 2 * s.hidden * s.layers + layer if load.checkpointing else layer * s.layers
    return rows * load.length * each / GIB


def _logits(load: Load, rows: int, size: int) -> float:
    return rows * load.length * load.shape.vocabulary * size / GIB


def _key_values(load: Load) -> float:
    """GiB of one response's keys and values on one device of an engine."""
    s = load.shape
    return 4 * s.layers * s.keys * load.length / load.tensor_parallel_size / GIB


def _parts(moment: Moment) -> str:
    return ", ".join(f"{name} {size:.0f}" for name, size in moment.parts.items() if size >= 0.5)
