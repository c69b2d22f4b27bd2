"""Build the embedded language model: a character tokenizer and a minute of supervised training.

The model is a two-layer Qwen2, since every engine in the suite knows that architecture. It is
trained to imitate `solutions.py` on train-split problems only; test problems are never seen.
Same seed, same machine, same libraries: the same weights, bit for bit (one thread, one generator
for each purpose). Left out on purpose: mixed precision, dropout, weight decay, checkpoints.
"""

from __future__ import annotations

import dataclasses
import os
import random
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from benchmarks.arithmetic import solutions
from benchmarks.arithmetic.problems import FAMILIES, pool
from benchmarks.arithmetic.recipe import NAME, RECIPE, Recipe, recipe_hash

__all__ = ["NAME", "build", "build_tokenizer", "cached", "recipe_hash"]

PAD, EOS, UNK = "<pad>", "<eos>", "<unk>"
COMMANDS = ("\\boxed{", "\\frac{", "}{")
CHARACTERS = "0123456789+-*/=} ,;."
IGNORE = -100  # the label that torch's cross entropy skips


def build_tokenizer() -> PreTrainedTokenizerFast:
    """One token a character, a LaTeX command or a free word; decoding is plain joining."""
    words = (*solutions.OPENERS, *solutions.SEPARATORS, *solutions.CLOSERS)
    long = sorted((*COMMANDS, *words), key=len, reverse=True)
    vocabulary = [PAD, EOS, UNK, *CHARACTERS, *sorted(set(long))]
    tokenizer = Tokenizer(
        models.WordLevel({token: i for i, token in enumerate(vocabulary)}, unk_token=UNK)
    )
    pattern = "|".join([*(_escaped(token) for token in long), r"[\s\S]"])
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(pattern), behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=EOS,
        unk_token=UNK,
        padding_side="left",
        clean_up_tokenization_spaces=False,
        model_max_length=RECIPE.context,
    )


def build(
    directory: str | Path,
    *,
    seed: int = 0,
    steps: int | None = None,
    log: Callable[[str], object] = print,
) -> Path:
    """Warm-start the model and save it as a Hugging Face directory.

    `steps` shortens or lengthens the training (for tests); the recipe's own count is the default.
    """
    recipe = RECIPE if steps is None else dataclasses.replace(RECIPE, steps=steps)
    tokenizer = build_tokenizer()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # reproducible sums, and no second thread spinning on a busy core
    try:
        model = _train(_fresh_model(tokenizer, recipe, seed), tokenizer, recipe, seed, log)
    finally:
        torch.set_num_threads(threads)
    model.save_pretrained(directory, safe_serialization=True)
    tokenizer.save_pretrained(directory)
    return Path(directory)


def cached(
    cache_dir: str | Path,
    *,
    seed: int = 0,
    steps: int | None = None,
    log: Callable[[str], object] = print,
) -> Path:
    """The model's directory under `cache_dir`, built on first use.

    The build happens beside its destination and is renamed into place, so a reader never sees
    half a model and of two builders at once the first wins.
    """
    recipe = RECIPE if steps is None else dataclasses.replace(RECIPE, steps=steps)
    target = Path(cache_dir) / f"{NAME}-{recipe_hash(seed, recipe)}"
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    log(f"{target.name}: not built yet, warm-starting it (about a minute, once)")
    with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as work:
        built = build(Path(work) / "model", seed=seed, steps=steps, log=log)
        try:
            os.rename(built, target)
        except OSError:
            if not target.is_dir():  # not the race that another builder won
                raise
            shutil.rmtree(built)
    return target


def _fresh_model(tokenizer: PreTrainedTokenizerFast, recipe: Recipe, seed: int) -> Qwen2ForCausalLM:
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=recipe.hidden,
        intermediate_size=recipe.intermediate,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.heads,
        max_position_embeddings=recipe.context,
        rope_parameters={"rope_type": "default", "rope_theta": recipe.rope_theta},
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        dtype="float32",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Qwen2ForCausalLM(config).float()


def _train(
    model: Qwen2ForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    recipe: Recipe,
    seed: int,
    log: Callable[[str], object],
) -> Qwen2ForCausalLM:
    """Imitate fresh random solutions: first to work with care, then with everybody's habits."""
    rng = random.Random(seed)
    optimizers = _optimizers(model, recipe)
    model.train()
    started = time.monotonic()
    for step in range(recipe.steps):
        early = step < recipe.careful_share * recipe.steps
        write = solutions.careful if early else solutions.solution
        inputs, labels = _batch(tokenizer, recipe.batch, write, rng)
        loss = _loss(model, inputs, labels)
        model.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * _schedule(step, recipe)
            optimizer.step()
        if (step + 1) % max(1, recipe.steps // 6) == 0:
            seconds = time.monotonic() - started
            log(f"warm start {step + 1}/{recipe.steps}: loss {loss.item():.3f}, {seconds:.0f} s")
    return model.eval()


def _optimizers(model: Qwen2ForCausalLM, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """Muon for the layers' matrices, AdamW for all else; each group remembers its peak rate."""
    matrices = [p for name, p in model.named_parameters() if "layers" in name and p.ndim == 2]
    others = [p for name, p in model.named_parameters() if "layers" not in name or p.ndim != 2]
    return [
        torch.optim.Muon(
            [{"params": matrices, "peak": recipe.lr_matrices}],
            weight_decay=0,
            adjust_lr_fn="match_rms_adamw",
        ),
        torch.optim.AdamW(
            [{"params": others, "peak": recipe.lr}], betas=(0.9, 0.95), weight_decay=0
        ),
    ]


def _schedule(step: int, recipe: Recipe) -> float:
    """Share of the peak rate: linear warm-up, a plateau, a linear fall over the last half."""
    return min(1.0, (step + 1) / recipe.warmup, 2 * (1 - step / recipe.steps))


def _batch(
    tokenizer: PreTrainedTokenizerFast, size: int, write: Callable[..., str], rng: random.Random
) -> tuple[torch.Tensor, torch.Tensor]:
    """Right-padded token ids and labels, both (size, longest); prompts and padding are ignored."""
    prompts, texts = [], []
    for _ in range(size):
        family = rng.choice(list(FAMILIES))
        operands = rng.choice(pool("train", family))
        prompts.append(FAMILIES[family].prompt(*operands))
        texts.append(write(family, operands, rng))
    prompt_ids = tokenizer(prompts)["input_ids"]
    text_ids = [[*ids, tokenizer.eos_token_id] for ids in tokenizer(texts)["input_ids"]]
    longest = max(len(p) + len(t) for p, t in zip(prompt_ids, text_ids, strict=True))
    inputs = torch.full((size, longest), tokenizer.pad_token_id)
    labels = torch.full((size, longest), IGNORE)
    for row, (p, t) in enumerate(zip(prompt_ids, text_ids, strict=True)):
        inputs[row, : len(p) + len(t)] = torch.tensor(p + t)
        labels[row, len(p) : len(p) + len(t)] = torch.tensor(t)
    return inputs, labels


def _loss(model: Qwen2ForCausalLM, inputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean negative log likelihood in nats per response token."""
    logits = model(input_ids=inputs[:, :-1]).logits
    return torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), labels[:, 1:].flatten(), ignore_index=IGNORE
    )


def _escaped(token: str) -> str:
    return "".join(c if c.isalnum() or c in " ,;:'" else "\\" + c for c in token)
