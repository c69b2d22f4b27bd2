"""The compared algorithms: one file per paper, found through one literal table.

The name in `ALGORITHMS` is the algorithm everywhere: file, matrix value, database value and plot
label. Loading an algorithm reads its settings only; torch is imported when its mathematics is first
used, so a matrix can be checked and planned on a machine without torch.
"""

from __future__ import annotations

import difflib
import importlib
from dataclasses import fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from algorithms.base import Algorithm

ALGORITHMS: dict[str, str] = {
    "grpo": "algorithms.grpo:GRPO",
    "entreg": "algorithms.entreg:EntReg",
    "entropy_adv": "algorithms.entropy_adv:EntropyAdv",
    "aent": "algorithms.aent:AEnt",
    "aent-constant": "algorithms.aent:AEntConstant",
    "aepo": "algorithms.aepo:AEPO",
    "aepo-eq2": "algorithms.aepo:AEPOEq2",
    "aepo-eq3": "algorithms.aepo:AEPOEq3",
    "aepo-reinforce": "algorithms.aepo:AEPOReinforce",
    "clip": "algorithms.clip:Clip",
    "clip-higher": "algorithms.clip:ClipHigher",
    "clip-high-off": "algorithms.clip:ClipHighOff",
    "clip-low-off": "algorithms.clip:ClipLowOff",
    "clip-low": "algorithms.clip:Clip",  # its defaults
    "dapo": "algorithms.dapo:DAPO",
    "clip_cov": "algorithms.clip_cov:ClipCov",
    "kl_cov": "algorithms.kl_cov:KLCov",
    "cispo": "algorithms.cispo:CISPO",
    "dcpo": "algorithms.dcpo:DCPO",
    "gspo": "algorithms.gspo:GSPO",
    "high_entropy_tokens": "algorithms.high_entropy_tokens:HighEntropyTokens",
    "pass_at_k": "algorithms.pass_at_k:PassAtK",
    "qae": "algorithms.qae:QAE",
    "rloo_onpolicy": "algorithms.rloo_onpolicy:RLOO",
    "skywork": "algorithms.skywork:Skywork",
    "w_reinforce": "algorithms.w_reinforce:WReinforce",
}

_MATHEMATICS = ("entropy", "objective")


def __getattr__(name: str) -> Any:
    """`algorithms.objective` and `algorithms.entropy`, imported (with torch) on first use."""
    if name in _MATHEMATICS:
        return importlib.import_module(f"algorithms.{name}")
    raise AttributeError(f"module 'algorithms' has no attribute {name!r}")


def nearest(name: str, valid: list[str]) -> str:
    """The end of an error message: the closest valid name, or all of them when none is close."""
    close = difflib.get_close_matches(name, valid, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"valid: {', '.join(sorted(valid))}"


def algorithm_class(name: str) -> type[Algorithm]:
    """The settings class registered under `name`; ValueError that names the nearest valid one."""
    if name not in ALGORITHMS:
        name = str(name)
        raise ValueError(f"unknown algorithm {name!r}: {nearest(name, list(ALGORITHMS))}")
    module, _, attribute = ALGORITHMS[name].partition(":")
    return getattr(importlib.import_module(module), attribute)


def load(name: str, **settings: Any) -> Algorithm:
    """The algorithm `name` with `settings` over its paper's defaults.

    Raises:
        ValueError: unknown name, unknown setting (the nearest valid one is named) or a value that
            the algorithm cannot take.
    """
    cls = algorithm_class(name)
    valid = [field.name for field in fields(cls) if field.name not in cls.unused]
    for key in settings:
        if key in cls.unused:
            raise ValueError(f"{name} does not use {key!r}")
        if key not in valid:
            hint = nearest(key, valid) if valid else "it takes none"
            raise ValueError(f"{name} has no setting {key!r}: {hint}")
    try:
        return cls(**settings)
    except TypeError as error:
        raise ValueError(f"{name}: a setting has the wrong type ({error})") from error
