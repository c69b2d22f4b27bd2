"""The warm start's settings and their hash: all that decides the tiny model's weights.

Apart from `model.py` because a planner wants the hash (it is the model's identity in a cell's id)
without paying for the import of torch.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

NAME = "arithmetic-tiny"
SOURCES = ("problems.py", "solutions.py", "recipe.py", "model.py")
LIBRARIES = ("torch", "transformers", "tokenizers")


@dataclass(frozen=True)
class Recipe:
    """Architecture (Qwen2, sizes that vLLM's CPU attention accepts) and supervised training."""

    hidden: int = 64
    layers: int = 2
    heads: int = 2
    intermediate: int = 256
    rope_theta: float = 100.0  # prompts and responses are short: no wavelength is wasted
    context: int = 128
    steps: int = 1100
    batch: int = 64
    lr: float = 3e-3  # embeddings, norms and head (AdamW)
    lr_matrices: float = 4e-3  # the layers' matrices (Muon: half of AdamW's steps here)
    warmup: int = 50
    careful_share: float = 0.65  # of the steps, the first, on right solutions only


RECIPE = Recipe()


def recipe_hash(seed: int = 0, recipe: Recipe = RECIPE) -> str:
    """Twelve hex digits over settings, seed, source texts and library versions."""
    here = Path(__file__).parent
    content = {
        "recipe": asdict(recipe),
        "seed": seed,
        "sources": {name: (here / name).read_text(encoding="utf-8") for name in SOURCES},
        "libraries": {name: version(name) for name in LIBRARIES},
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]
