"""The vLLM worker: OpenRLHF's rollout actor, asked for whole groups at a time.

OpenRLHF sends each sample through Ray as its own request and detokenises it as it grows; a prompt's
group is one request with n = G here, and only finished token ids travel back. Each request carries
its own seed, so a rollout depends on (seed, step, prompt) alone and not on what ran before it.
"""

from __future__ import annotations

import asyncio
from typing import Any

from openrlhf.trainer.ray.vllm_engine import RolloutRayActor
from vllm import SamplingParams
from vllm.sampling_params import RequestOutputKind

from algorithms.openrlhf import cpu
from algorithms.openrlhf.rollouts import Sample


class EngineActor(RolloutRayActor.__ray_metadata__.modified_class):
    """OpenRLHF's actor with CPU settings where needed and a grouped generate."""

    async def __init__(self, *args: Any, **kwargs: Any):
        if cpu.active():
            kwargs["dtype"] = "float32"
            kwargs["worker_extension_cls"] = "algorithms.openrlhf.cpu.WeightReceiver"
        kwargs["disable_log_stats"] = True
        await super().__init__(*args, **kwargs)

    async def generate_groups(
        self, prompts: list[list[int]], params: list[dict[str, Any]]
    ) -> list[list[Sample]]:
        """For each prompt (token ids) its `params["n"]` samples, in order.

        `params` are keyword arguments of vllm.SamplingParams, one dict a prompt.
        """
        outputs = await asyncio.gather(
            *(
                self.generate(
                    prompt,
                    SamplingParams(
                        **one,
                        detokenize=False,
                        output_kind=RequestOutputKind.FINAL_ONLY,
                    ),
                )
                for prompt, one in zip(prompts, params, strict=True)
            )
        )
        return [
            [Sample(list(o.token_ids), o.finish_reason == "length") for o in output.outputs]
            for output in outputs
        ]
