"""OpenRLHF, DeepSpeed and vLLM on a machine without a GPU; nothing here acts where there is one.

OpenRLHF 0.11.2 assumes CUDA in six places. Each has one answer here:

1. it imports flash_attn at the top               -> `_placeholder_flash_attn`
2. it calls torch.cuda and makes a "cuda" mesh     -> `_answer_cuda_calls`
3. it sends weights to vLLM over NCCL              -> `GlooGroup`
4. vLLM's worker extension allocates on "cuda"     -> `WeightReceiver`
5. it knows bf16 and fp16 only                     -> `use_float32` (bf16 needs AMX in vLLM)
6. it asks Ray for GPUs                            -> `driver.start_ray` offers logical ones

DeepSpeed's Adam for the CPU has a memory of its own, which a resumed process lacks: `replay_adam`.

`prepare_process` runs first in the driver and, as Ray's worker process setup hook, in every worker.
"""

from __future__ import annotations

import importlib.machinery
import os
import sys
from datetime import timedelta
from types import ModuleType
from typing import Any

ENVIRONMENT = {
    "DS_ACCELERATOR": "cpu",
    "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "OMP_NUM_THREADS": "1",  # two OpenMP pools on two cores spin on each other
}
# Memory of activations is kept for the next step: returned to the system each time, its pages
# are zeroed and mapped again, a tenth of a forward and backward pass. For glibc, in bytes.
ALLOCATION = {
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 30),
    "MALLOC_TOP_PAD_": str(64 << 20),
}


def active() -> bool:
    """True where torch sees no CUDA device (or CUDA is hidden on purpose)."""
    import torch

    return not torch.cuda.is_available() or getattr(torch.cuda, "_suite_cpu", False)


def prepare_process() -> None:
    """Make this process able to import and run OpenRLHF; idempotent, inert on a GPU machine."""
    import torch

    if not active() or getattr(torch.cuda, "_suite_cpu", False):
        return
    os.environ.update(ENVIRONMENT)
    os.environ.setdefault("TORCH_EXTENSIONS_DIR", f"{sys.prefix}/torch-extensions")
    tools = os.path.dirname(sys.executable)  # ninja, without which no extension loads
    if tools not in os.environ.get("PATH", "").split(os.pathsep):
        os.environ["PATH"] = os.pathsep.join([tools, os.environ.get("PATH", "")])
    torch.set_num_threads(1)
    _placeholder_flash_attn()
    _answer_cuda_calls()


def _placeholder_flash_attn() -> None:
    """Names that openrlhf.models.ring_attn_utils imports; packing stays off, so none is called."""

    def unavailable(*_: Any, **__: Any) -> None:
        raise RuntimeError("flash-attn is not installed: packed sequences need a GPU machine")

    names: dict[str, tuple[str, ...]] = {
        "flash_attn": (),
        "flash_attn.bert_padding": ("index_first_axis", "pad_input", "rearrange", "unpad_input"),
        "flash_attn.utils": (),
        "flash_attn.utils.distributed": ("all_gather",),
    }
    for name, attributes in names.items():
        module = ModuleType(name)
        module.__spec__ = importlib.machinery.ModuleSpec(name, loader=None)
        for attribute in attributes:
            setattr(module, attribute, unavailable)
        sys.modules[name] = module


class _CpuDevice(str):
    """What torch.cuda.current_device() answers: "cpu" as a device, index 0 inside "cuda:{...}".

    OpenRLHF's replay buffer builds torch.device(f"cuda:{...}") that it never moves anything to.
    """

    def __format__(self, _spec: str) -> str:
        return "0"


def _answer_cuda_calls() -> None:
    import torch
    import torch.distributed.device_mesh as device_mesh

    class Stream:
        def synchronize(self) -> None: ...

    cuda: Any = torch.cuda  # a module whose names are replaced, by others of other types
    cuda._suite_cpu = True
    cuda.current_device = lambda: _CpuDevice("cpu")
    cuda.current_stream = lambda *_: Stream()
    for name in ("set_device", "empty_cache", "synchronize"):
        setattr(cuda, name, lambda *_, **__: None)

    cuda_mesh = device_mesh.init_device_mesh

    def init_device_mesh(device_type: str, *args: Any, **kwargs: Any) -> Any:
        return cuda_mesh("cpu" if device_type == "cuda" else device_type, *args, **kwargs)

    device_mesh.init_device_mesh = init_device_mesh


def use_float32(args: Any) -> None:
    """Train in fp32: neither of the two types OpenRLHF's command line offers runs here."""
    args.ds.param_dtype = "fp32"


def patch_trainer(ppo_actor: Any) -> None:
    """Answers 3 and 5 inside a policy worker; `ppo_actor` is OpenRLHF's module of that name."""
    if not active():
        return
    import openrlhf.utils.utils as openrlhf_utils
    import torch

    ppo_actor.stateless_init_process_group = GlooGroup
    other_types = openrlhf_utils.convert_to_torch_dtype

    def convert_to_torch_dtype(param_dtype: str) -> torch.dtype:
        return torch.float32 if param_dtype == "fp32" else other_types(param_dtype)

    openrlhf_utils.convert_to_torch_dtype = convert_to_torch_dtype


def replay_adam(optimizer: Any) -> None:
    """Bring Adam's bias correction to where the steps in the optimizer's state had brought it.

    DeepSpeed's kernel keeps beta ** step in the process, as a running product. One that begins in
    the middle computes a power instead: the two differ in the last bit, and so would the runs.
    """
    if not active():
        return
    import torch

    taken = max((int(state["step"]) for state in optimizer.state.values()), default=0)
    group = optimizer.param_groups[0]
    nothing = [[torch.zeros(1)] for _ in range(4)]  # gradient, parameter, both moments
    same = (optimizer.adam_w_mode, int(group["bias_correction"]), 0.0)
    for step in range(1, taken + 1):
        optimizer.multi_tensor_adam(
            1, optimizer._dummy_overflow_buf, nothing, 0.0, *group["betas"], 1.0, step, *same
        )


class GlooGroup:
    """A process group between policy rank 0 and the vLLM workers, in place of an NCCL one."""

    def __init__(self, host: str, port: int, rank: int, world_size: int, _device: Any = None):
        from torch.distributed import ProcessGroupGloo, TCPStore

        patience = timedelta(minutes=5)
        store = TCPStore(host, port, world_size, is_master=rank == 0, timeout=patience)
        self._group: Any = ProcessGroupGloo(store, rank, world_size, patience)
        self._store = store

    def broadcast(self, tensor: Any, src: int, stream: Any = None) -> None:
        """Send `tensor` from rank `src` to all ranks, in place, and wait."""
        from torch.distributed import BroadcastOptions

        options = BroadcastOptions()
        options.rootRank = src
        options.rootTensor = 0
        self._group.broadcast([tensor.contiguous()], options).wait()


class WeightReceiver:
    """vLLM worker extension: collect the broadcast weights, hand them over together.

    vLLM's CPU build repacks linear weights after loading, so a second load of single parameters
    fails; `reload_weights` starts from the unpacked layout and takes all of them at once. It packs
    each layer as its own weights arrive, and a head that shares the embedding's has none.
    """

    model_runner: Any  # of the vLLM worker that is extended

    def init_process_group(
        self, host: str, port: int, rank_offset: int, world_size: int, *_: Any, **__: Any
    ) -> None:
        """Join the group that policy rank 0 opens at host:port."""
        import torch

        rank = torch.distributed.get_rank() + rank_offset
        self._sync_group = GlooGroup(host, port, rank, world_size)
        self._received: list[tuple[str, Any]] = []

    def update_weight(self, name: str, dtype: Any, shape: Any, empty_cache: bool = False) -> None:
        """Receive one parameter; `empty_cache` marks the last one, which loads them all."""
        import torch

        weight = torch.empty(shape, dtype=dtype)
        self._sync_group.broadcast(weight, src=0)
        self._received.append((name, weight))
        if empty_cache:
            received, self._received = self._received, []
            self._load(received)

    def receive_weights(self, layout: list[tuple[str, Any]]) -> None:
        """Receive all parameters, float32, in one message; `layout` has their names and shapes."""
        import torch

        sizes = [shape.numel() for _, shape in layout]
        flat_N = torch.empty(sum(sizes))
        self._sync_group.broadcast(flat_N, src=0)
        parts = zip(layout, flat_N.split(sizes), strict=True)
        self._load([(name, part.view(shape)) for (name, shape), part in parts])

    def _load(self, weights: list[tuple[str, Any]]) -> None:
        """All of the model's weights, by the trainer's names; a tied one comes once."""
        self.model_runner.reload_weights(weights_iterator=iter(weights))
        for head in tied_heads(self.model_runner.get_model()):
            head.quant_method.process_weights_after_loading(head)


def tied_heads(model: Any) -> list[Any]:
    """The output heads of an engine's model that share the weight of its embedding."""
    from vllm.model_executor.layers.vocab_parallel_embedding import (
        ParallelLMHead,
        VocabParallelEmbedding,
    )

    vocabulary = [part for part in model.modules() if isinstance(part, VocabParallelEmbedding)]
    heads = [part for part in vocabulary if isinstance(part, ParallelLMHead)]
    shared = {id(part.weight) for part in vocabulary if not isinstance(part, ParallelLMHead)}
    return [head for head in heads if id(head.weight) in shared]


def send_weights(model: Any, group: GlooGroup, engines: list[Any]) -> None:
    """From policy rank 0 to the engines in one message: one for each parameter costs more."""
    import ray
    import torch

    named = list(model.named_parameters())
    layout = [(name, parameter.shape) for name, parameter in named]
    sent = [engine.receive_weights.remote(layout) for engine in engines]
    group.broadcast(torch.cat([parameter.data.reshape(-1) for _, parameter in named]), src=0)
    ray.get(sent)
