"""The vLLM worker: OpenRLHF's rollout actor, asked for whole groups at a time.

OpenRLHF sends each sample through Ray as its own request and detokenises it as it grows; a prompt's
group is one request with n = G here, and only finished token ids travel back. Each request carries
its own seed, so a rollout depends on (seed, step, prompt) alone and not on what ran before it.

Without a GPU the engine runs in the actor's own process: vLLM would start two more, each with all
of its imports, and pass every token between the three.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from typing import Any

import torch
from openrlhf.trainer.ray.vllm_engine import RolloutRayActor
from vllm import LLM, SamplingParams, TokensPrompt
from vllm.sampling_params import RequestOutputKind
from vllm.v1.sample import sampler

from algorithms.openrlhf import cpu
from algorithms.openrlhf.rollouts import Sample

# What OpenRLHF's actor is given besides the engine's own settings.
_ACTOR_ONLY = (
    "agent_func_path",
    "bundle_indices",
    "full_determinism",
    "mm_pad_token_ids",
    "num_gpus",
    "remote_rm_url",
)


class EngineActor(RolloutRayActor.__ray_metadata__.modified_class):
    """OpenRLHF's actor with a grouped generate; without a GPU the engine is in its process."""

    # Ray awaits the constructor of an asynchronous actor.
    async def __init__(self, *args: Any, **kwargs: Any):  # type: ignore[misc]
        kwargs["disable_log_stats"] = True
        if not cpu.active():
            await super().__init__(*args, **kwargs)
            return
        for name in _ACTOR_ONLY:
            kwargs.pop(name, None)
        self._mm_pad_token_ids = None
        self.llm = _InProcess(*args, **kwargs)

    async def receive_weights(self, layout: list[tuple[str, Any]]) -> None:
        """All parameters at once; see `cpu.WeightReceiver`."""
        await self.llm.collective_rpc("receive_weights", args=(layout,))

    async def generate_groups(
        self, prompts: list[list[int]], params: list[dict[str, Any]]
    ) -> list[list[Sample]]:
        """For each prompt (token ids) its `params["n"]` samples, in order.

        `params` are keyword arguments of vllm.SamplingParams, one dict a prompt.
        """
        settings = [
            SamplingParams(**given, detokenize=False, output_kind=RequestOutputKind.FINAL_ONLY)
            for given in params
        ]
        if isinstance(self.llm, _InProcess):
            outputs = self.llm.all_of(prompts, settings)
        else:
            outputs = await asyncio.gather(*map(self.generate, prompts, settings))
        return [[_sample(completion) for completion in output.outputs] for output in outputs]


def _sample(completion: Any) -> Sample:
    """One of vLLM's completions; the log-probs that it may have are of the unscaled logits."""
    tokens, candidates = list(completion.token_ids), completion.logprobs
    log_probs = None
    if candidates is not None:
        pairs = zip(tokens, candidates, strict=True)
        log_probs = [candidate[token].logprob for token, candidate in pairs]
    return Sample(tokens, completion.finish_reason == "length", log_probs)


# A prompt is prefilled whole: of one prefilled in parts, vLLM takes the seed's generator back to
# where it was, which one on a CPU cannot do. A batch takes so many tokens, at least.
WHOLE_PROMPTS = 16384


def _no_ranks(x: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """In place of each sampled token's rank in the vocabulary: nobody asks, and it costs most."""
    return torch.zeros(len(values), dtype=torch.long)


class _InProcess:
    """vLLM's offline engine under the names of its asynchronous one that the actor uses."""

    def __init__(self, *args: Any, **kwargs: Any):
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
        os.environ["VLLM_ALLOW_INSECURE_SERIALIZATION"] = "1"
        kwargs["dtype"] = "float32"
        kwargs["worker_extension_cls"] = "algorithms.openrlhf.cpu.WeightReceiver"
        kwargs["enable_chunked_prefill"] = False
        kwargs["max_num_batched_tokens"] = max(WHOLE_PROMPTS, kwargs["max_model_len"])
        sampler.batched_count_greater_than = _no_ranks
        self._llm = LLM(*args, **kwargs)

    def all_of(self, prompts: list[list[int]], settings: list[SamplingParams]) -> list[Any]:
        """The outputs of all requests, in order."""
        requests = [TokensPrompt(prompt_token_ids=prompt) for prompt in prompts]
        return self._llm.generate(requests, settings, use_tqdm=False)

    async def generate(
        self, prompt: Any, settings: SamplingParams, request_id: str
    ) -> AsyncIterator[Any]:
        """The finished output of one request."""
        yield self._llm.generate([prompt], [settings], use_tqdm=False)[0]

    async def collective_rpc(self, method: str, args: tuple[Any, ...] = ()) -> list[Any]:
        return self._llm.collective_rpc(method, args=args)
