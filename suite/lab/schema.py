"""The sections of an experiment's file with their types and defaults (pydantic)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from suite.matrix.schema import Section

At = Literal["first", "last", "change", "last-quarter"]


class Measure(Section):
    """A number of each run: a metric at its first or last row, its change, or its late mean."""

    metric: str
    at: At = "last"


class Expect(Measure):
    """What the claim says about a measure of an arm, or of its paired difference to another arm.

    Exactly one of: `sign` ("+" or "-", with |t| of at least `t`), `value` with `tolerance`,
    `at_most`, `at_least`. `each: true` asks it of every seed instead of the mean.
    """

    claim: str
    arm: str
    against: str | None = None
    sign: Literal["+", "-"] | None = None
    t: Annotated[float, Field(gt=0)] = 3.0
    value: float | None = None
    tolerance: Annotated[float, Field(ge=0)] | None = None
    at_most: float | None = None
    at_least: float | None = None
    each: bool = False

    @model_validator(mode="after")
    def _one_kind(self) -> Expect:
        given = [
            k for k in ("sign", "value", "at_most", "at_least") if getattr(self, k) is not None
        ]
        if len(given) != 1:
            raise ValueError("give exactly one of sign, value, at_most, at_least")
        if (self.value is None) != (self.tolerance is None):
            raise ValueError("value and tolerance go together")
        if self.each and self.sign:
            raise ValueError("each goes with value, at_most or at_least: a sign is tested by t")
        return self


class Plot(Measure):
    """A picture: a metric along training ("curves") or a measure of each arm ("points")."""

    kind: Literal["curves", "points"] = "curves"
    title: str
    arms: list[str] | None = None


class ExperimentFile(Section):
    """The file as written."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
    claim: str
    source: str
    environment: dict[str, Any] = Field(default_factory=dict)
    train: dict[str, Any] = Field(default_factory=dict)
    seeds: Annotated[int, Field(ge=2)] = 20
    arms: Annotated[dict[str, dict[str, Any] | None], Field(min_length=1)]
    measure: Annotated[list[Measure], Field(min_length=1)]
    expect: Annotated[list[Expect], Field(min_length=1)]
    plots: list[Plot] = Field(default_factory=list)
    notes: list[str] = Field(default_factory=list)
    tried: list[str] = Field(default_factory=list)
