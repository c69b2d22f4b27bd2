"""The sections of a matrix file with their types and defaults (pydantic)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from algorithms import nearest
from benchmarks import prompts
from benchmarks.sampling import PRESETS

Positive = Annotated[int, Field(gt=0)]
# What a data set calls them where it is not `problem` and `answer`; left out of a cell when empty.
Columns = Annotated[
    dict[Literal["problem", "answer"], str], Field(exclude_if=lambda columns: not columns)
]


class Section(BaseModel):
    """Unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Train(Section):
    """How every arm is trained. Defaults are the papers' common practice."""

    dataset: str = "arithmetic"
    prompts_per_step: Positive = 32
    samples_per_prompt: Annotated[int, Field(ge=2)] = 8
    optimizer_steps_per_rollout: Positive = 4
    max_new_tokens: Positive = 1024
    max_prompt_tokens: Positive = 512
    lr: Annotated[float, Field(gt=0)] = 1.0e-6
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0
    loss_aggregation: Literal["seq-mean-token-mean", "token-mean"] = "seq-mean-token-mean"
    micro_batch_size: Positive | None = None
    rollout_micro_batch_size: Positive | None = None
    zero_stage: Literal[0, 1, 2, 3] = 2
    tensor_parallel_size: Positive = 1
    gradient_checkpointing: bool = False
    prompt_template: str | None = None
    chat_template: bool = False
    columns: Columns = {}
    checkpoint_every: Positive = 10
    keep_checkpoints: Literal["evaluated", "last"] = "evaluated"
    reward: str | dict[str, float] = "verified"
    clip_diagnostics: Annotated[int, Field(ge=0)] = 0

    @field_validator("prompt_template")
    @classmethod
    def _named_template(cls, name: str | None) -> str | None:
        """A template of benchmarks.prompts by name, or one written out; kept as the text itself."""
        return prompts.template(name)

    @model_validator(mode="after")
    def _one_template(self) -> Train:
        if self.chat_template and self.prompt_template:
            raise ValueError(
                "prompt_template is not used with chat_template: true (OpenRLHF gives the "
                "problem to the chat template as it is): drop one of them"
            )
        return self

    @field_validator("reward", mode="before")
    @classmethod
    def _reward_rule(cls, reward: Any) -> Any:
        """A rule of algorithms.openrlhf.rollouts.rewarded."""
        if reward == "verified":
            return reward
        if isinstance(reward, dict) and len(reward) == 1:
            ((law, parameter),) = reward.items()
            number = isinstance(parameter, int | float) and not isinstance(parameter, bool)
            if law == "bernoulli" and number and 0 <= parameter <= 1:
                return reward
            if law == "gaussian" and number and parameter > 0:
                return reward
        raise ValueError(
            "must be verified, {bernoulli: p} with p in [0, 1] or {gaussian: sigma} with sigma > 0"
        )

    @property
    def rollouts(self) -> int:
        """Responses of one rollout batch."""
        return self.prompts_per_step * self.samples_per_prompt


class Evaluate(Section):
    """How checkpoints are scored: which problems, at which fractions of the budget, how often.

    Without any fraction (`at: []`) arms are trained and traced, and nothing is scored.
    """

    benchmarks: Annotated[list[str], Field(min_length=1)] = ["arithmetic"]
    at: list[float] = [0.0, 1.0]
    samples: Positive = 64
    pass_at: Annotated[list[Positive], Field(min_length=1)] = [1, 8, 64]
    temperature: Annotated[float, Field(ge=0)] = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    top_k: Annotated[int, Field(ge=1)] | None = None
    max_new_tokens: Positive | None = None
    problems: Positive | None = None
    data_files: dict[str, str] = {}
    probe_prompts: Annotated[int, Field(ge=0)] = 64
    preset: Annotated[str | None, Field(exclude=True)] = None  # see `spelled_out`

    @field_validator("preset")
    @classmethod
    def _known_preset(cls, preset: str | None) -> str | None:
        if preset is not None and preset not in PRESETS:
            raise ValueError(f"unknown preset {preset!r}: {nearest(preset, list(PRESETS))}")
        return preset

    @model_validator(mode="after")
    def _greedy_is_one_sample(self) -> Evaluate:
        if self.temperature == 0 and self.samples > 1:
            raise ValueError(f"temperature 0 always gives the same answer, not {self.samples}")
        return self

    @field_validator("at")
    @classmethod
    def _fractions(cls, at: list[float]) -> list[float]:
        if any(not 0.0 <= point <= 1.0 for point in at) or sorted(set(at)) != at:
            raise ValueError("must be increasing fractions of the budget in [0, 1]")
        return at


def spelled_out(section: dict[str, Any]) -> dict[str, Any]:
    """A section as written with what its preset stands for; what stands beside that comes first."""
    preset = section.get("preset")
    return PRESETS.get(preset, {}) | section if isinstance(preset, str) else section


class Budget(Section):
    """What each arm may spend: exactly one unit."""

    gpu_hours: Annotated[float, Field(gt=0)] | None = None
    tokens: Positive | None = None
    steps: Positive | None = None


class Resources(Section):
    """What each cell holds while it runs."""

    gpus: Positive = 1
    accelerator: str | None = None


class Matrix(Section):
    """The file as written; `expand` turns it into cells."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
    model: str | Annotated[list[str], Field(min_length=1)]
    train: dict[str, Any] = {}
    budget: dict[str, Any]
    seeds: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)] = [0]
    arms: Annotated[dict[str, dict[str, Any] | None], Field(min_length=1)]
    evaluate: dict[str, Any] = {}
    resources: dict[str, Any] = {}
