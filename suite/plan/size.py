"""How large a model is, and what an accelerator holds, from what is known without loading either.

A model's numbers come from its config.json (a local folder, the embedded model, or the hub's cache
on this machine), else from the size in its name ("1.5B") and typical proportions, which is said.
Mixture-of-experts configurations are not counted: they are taken by their names.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path

from suite.matrix import sources

TYPICAL_VOCABULARY = 151_936  # Qwen2.5; large, as today's vocabularies are
TYPICAL_ASPECT = 128  # hidden size over layers (Kaplan et al. 2020, arXiv:2001.08361, figure 5)
GIB = 2**30


@dataclass(frozen=True)
class ModelShape:
    """A decoder with gated MLPs; `keys` is the width of the keys (and of the values) of a layer."""

    parameters: float
    layers: int
    hidden: int
    intermediate: int
    keys: int
    vocabulary: int
    source: str


def model_shape(model: str, models: Path) -> ModelShape | None:
    """The shape of a model that a matrix names; `models` is where the embedded one lies.

    None when neither a configuration nor a size in the name is at hand.
    """
    for folder in (Path(sources.model_path(model, models)), _cached(model)):
        if folder and (shape := _configured(folder / "config.json")):
            return shape
    if model == sources.EMBEDDED_MODEL:
        from benchmarks.arithmetic.recipe import RECIPE as recipe

        dense = 4 * recipe.hidden**2 + 3 * recipe.hidden * recipe.intermediate
        return ModelShape(
            float(recipe.layers * dense),
            *(recipe.layers, recipe.hidden, recipe.intermediate, recipe.hidden, 0),
            "its recipe (not built yet)",
        )
    return _named(Path(model).name)


def _configured(path: Path) -> ModelShape | None:
    """From a Hugging Face configuration of a dense decoder (Llama, Qwen, Mistral, ...)."""
    try:
        config = json.loads(path.read_text())
        hidden, layers = config["hidden_size"], config["num_hidden_layers"]
        inner, vocabulary = config["intermediate_size"], config["vocab_size"]
        heads = config["num_attention_heads"]
    except (OSError, ValueError, KeyError):
        return None
    if any("expert" in key for key in config):
        return None
    head = config.get("head_dim") or hidden // heads
    queries, keys = heads * head, (config.get("num_key_value_heads") or heads) * head
    layer = 2 * hidden * queries + 2 * hidden * keys + 3 * hidden * inner
    tables = 1 if config.get("tie_word_embeddings") else 2
    parameters = float(layers * layer + tables * vocabulary * hidden)
    return ModelShape(parameters, layers, hidden, inner, keys, vocabulary, "its config.json")


def _named(name: str) -> ModelShape | None:
    """From "7B" or "350M" in a name, the largest where there are several."""
    sizes = re.findall(r"(?<![\d.])(\d+(?:\.\d+)?)([BbMm])(?![A-Za-z])", name)
    if not sizes:
        return None
    parameters = max(float(n) * (1e9 if unit in "Bb" else 1e6) for n, unit in sizes)
    layers = max(1, round((parameters / 12 / TYPICAL_ASPECT**2) ** (1 / 3)))
    hidden = round((parameters / 12 / layers) ** 0.5)
    text = (
        f"the size in its name; {layers} layers of {hidden} and {TYPICAL_VOCABULARY} tokens assumed"
    )
    return ModelShape(parameters, layers, hidden, hidden * 8 // 3, hidden, TYPICAL_VOCABULARY, text)


def _cached(model: str) -> Path | None:
    """The newest snapshot of a hub id in the hub's cache on this machine."""
    home = os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface"
    hub = Path(os.environ.get("HF_HUB_CACHE") or Path(home) / "hub")
    snapshots = hub / f"models--{model.replace('/', '--')}" / "snapshots"
    if model.count("/") != 1 or not snapshots.is_dir():
        return None
    return max(snapshots.iterdir(), key=lambda path: path.stat().st_mtime, default=None)


# Accelerators -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Accelerator:
    """One device: memory in GiB, bf16 matrix multiplication without sparsity, memory bandwidth.

    `note` says what was assumed of it, or is empty.
    """

    name: str
    memory: float
    flops: float
    bandwidth: float
    note: str = ""


# Vendors' data sheets: GiB as nvidia-smi shows them, 1e12 FLOP/s dense bf16, 1e12 bytes/s. The
# smaller memory of a chip that is sold with two comes first.
_CHIPS: dict[str, tuple[tuple[float, float, float], ...]] = {
    "A100": ((40, 312, 1.555), (80, 312, 2.039)),
    "A800": ((40, 312, 1.555), (80, 312, 2.039)),
    "H100": ((79.6, 989, 3.35),),
    "H800": ((79.6, 989, 3.35),),
    "H200": ((140.4, 989, 4.8),),
    "H20": ((95.6, 148, 4.0),),
    "B200": ((178, 2250, 7.7),),
    "L40S": ((45, 362, 0.864),),
    "L40": ((45, 181, 0.864),),
    "A6000": ((48, 155, 0.768),),
    "A10G": ((22.5, 70, 0.6),),
    "A10": ((22.5, 125, 0.6),),
    "L4": ((22.5, 121, 0.3),),
    "4090": ((24, 165, 1.008),),
}


def accelerator(name: str) -> Accelerator | None:
    """What is known of "A100", "NVIDIA A100-SXM4-80GB", "H200"; None of any other name.

    A chip that comes with two memories is taken with the smaller one unless the name holds a size.
    """
    chip = next(
        (c for c in _CHIPS if re.search(rf"(?<![A-Z\d]){c}(?![A-Z\d])", name.upper())), None
    )
    if chip is None:
        return None
    kinds = _CHIPS[chip]
    size = re.search(r"(\d+)\s*GI?B", name.upper())
    named = float(size.group(1)) if size else kinds[0][0]
    memory, flops, bandwidth = min(kinds, key=lambda kind: abs(kind[0] - named))
    note = ""
    if len(kinds) > 1 and not size:
        sizes = " or ".join(f"{kind[0]:g}" for kind in kinds)
        note = (
            f"{chip} comes with {sizes} GB; {memory:g} assumed "
            f"(a name like {chip}-SXM4-80GB decides)"
        )
    return Accelerator(chip, memory, flops * 1e12, bandwidth * 1e12, note)
