"""Responses from the vLLM engines: a prompt's whole group at a time, seeded by what it is for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray
from openrlhf.datasets.prompts_dataset import preprocess_data
from openrlhf.trainer.ray.vllm_engine import batch_vllm_engine_call

from algorithms.openrlhf.rollouts import Rollout, hashed_seed, prompt_indices


class Sampler:
    """Asks the engines for responses, to the prompts of a step or to any others.

    Attributes:
        dataset_size: prompts of the training data.
        prompts_per_step: P.
        group_size: G.
    """

    def __init__(self, args: Any, tokenizer: Any, engines: list[Any], dataset: Any, seed: int):
        """`args` are OpenRLHF's, `dataset` its rendered prompts; `seed` is the run's."""
        self._rollout, self._data = args.rollout, args.data
        self._engines_sleep = args.vllm.enable_sleep
        self._tokenizer, self._engines = tokenizer, engines
        self._dataset, self._seed = dataset, seed
        self.dataset_size = len(dataset)
        self.prompts_per_step: int = self._rollout.batch_size
        self.group_size: int = self._rollout.n_samples_per_prompt

    def groups(
        self,
        step: int,
        purpose: str,
        positions: range,
        temperature: float | None = None,
        samples: int | None = None,
        log_probs: int = 0,
    ) -> list[Rollout]:
        """Groups of the prompts at these positions of the step, seeded by the purpose.

        Args:
            step: from 1; which prompts it has is a function of the seed alone.
            purpose: what the samples are for: another purpose draws others.
            positions: among the step's prompts.
            temperature: by default that of training.
            samples: of each prompt, by default G.
            log_probs: of so many prompts, the first ones, the samples have the engine's log-probs.

        Returns:
            The rollouts, prompt-major.
        """
        indices = prompt_indices(self._seed, step, self.prompts_per_step, self.dataset_size)
        places = [indices[position] for position in positions]
        params = [
            {
                "n": samples or self.group_size,
                "temperature": self._rollout.temperature if temperature is None else temperature,
                "top_p": self._rollout.top_p,
                "max_tokens": self._rollout.max_new_tokens,
                "seed": hashed_seed(self._seed, purpose, step, position),
                "logprobs": 0 if number < log_probs else None,  # of the sampled token alone
            }
            for number, position in enumerate(positions)
        ]
        prompts = [self._dataset.prompts[i] for i in places]
        return self.sample(prompts, [str(self._dataset.labels[i]) for i in places], params)

    def sample(
        self, prompts: list[str], answers: list[str], params: list[dict[str, Any]]
    ) -> list[Rollout]:
        """Rendered prompts through the engines, spread evenly, returned in order.

        `params` are keyword arguments of vllm.SamplingParams, one dict a prompt.
        """
        ids = [self._tokenizer(p, add_special_tokens=False)["input_ids"] for p in prompts]
        with self._engines_awake():
            engines = self._engines
            refs = [
                engine.generate_groups.remote(ids[i :: len(engines)], params[i :: len(engines)])
                for i, engine in enumerate(engines)
            ]
            parts = ray.get(refs)
        groups = [parts[i % len(engines)][i // len(engines)] for i in range(len(prompts))]
        responses = [tuple(sample.token_ids) for group in groups for sample in group]
        different = list(dict.fromkeys(responses))  # many are the same
        texts = self._tokenizer.batch_decode(different, skip_special_tokens=True)
        decoded = dict(zip(different, texts, strict=True))
        return [
            Rollout(prompt, answer, prompt_ids, sample, decoded[tuple(sample.token_ids)])
            for prompt, answer, prompt_ids, group in zip(prompts, answers, ids, groups, strict=True)
            for sample in group
        ]

    def render(self, problem: str) -> str:
        """The prompt of a problem, as in training."""
        template = self._tokenizer.apply_chat_template if self._data.apply_chat_template else None
        row = {"problem": problem}
        return preprocess_data(row, self._data.input_template, "problem", None, template)[0]

    @contextmanager
    def _engines_awake(self) -> Iterator[None]:
        """With --vllm.enable_sleep the engines give their memory back outside generation."""
        if not self._engines_sleep:
            yield
            return
        batch_vllm_engine_call(self._engines, "wake_up")
        try:
            yield
        finally:
            batch_vllm_engine_call(self._engines, "sleep")
