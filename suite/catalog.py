"""What a matrix may name: models, training sets and benchmarks, and what each name stands for.

`arithmetic` and `arithmetic-tiny` are made here on demand; everything else is a local path or the
id of a model or data set on the Hugging Face hub.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from algorithms import nearest

EMBEDDED_MODEL = "arithmetic-tiny"
EMBEDDED_DATASET = "arithmetic"
EMBEDDED_LENGTHS = {"max_prompt_tokens": 48, "max_new_tokens": 40}  # defaults for that model


def model_problem(name: str, base: Path) -> str | None:
    """Why `name` cannot be a model, or None."""
    if name == EMBEDDED_MODEL:
        return None
    if _looks_local(name, base):
        folder = _path(name, base)
        if not folder.is_dir():
            return f"no model at {folder}: give a folder with config.json, or a Hugging Face id"
        if not (folder / "config.json").is_file():
            return f"{folder} holds no config.json: a model is a folder in Hugging Face format"
        return None
    return None if _is_hub_id(name) else f"unknown model {name!r}: {_hint(name, EMBEDDED_MODEL)}"


def context_length(name: str) -> int | None:
    """Tokens of prompt and response that the model can hold, where that is known without it."""
    if name == EMBEDDED_MODEL:
        from benchmarks.arithmetic.recipe import RECIPE

        return RECIPE.context
    config = Path(name) / "config.json"
    if not config.is_file():
        return None
    try:
        return json.loads(config.read_text()).get("max_position_embeddings")
    except ValueError:
        return None


def dataset_problem(name: str, base: Path) -> str | None:
    """Why `name` cannot be a set of training prompts, or None."""
    if name == EMBEDDED_DATASET:
        return None
    if _looks_local(name, base):
        return None if _path(name, base).exists() else f"no data set at {_path(name, base)}"
    return (
        None if _is_hub_id(name) else f"unknown data set {name!r}: {_hint(name, EMBEDDED_DATASET)}"
    )


def benchmark_problem(name: str, base: Path) -> str | None:
    """Why `name` cannot be a benchmark, or None."""
    if name == EMBEDDED_DATASET:
        return None
    if _looks_local(name, base) and name.endswith(".jsonl"):
        return None if _path(name, base).is_file() else f"no benchmark at {_path(name, base)}"
    return f"unknown benchmark {name!r}: {_hint(name, EMBEDDED_DATASET)}, or a .jsonl file"


def absolute(name: str, base: Path) -> str:
    """A local path relative to the matrix file as an absolute one; any other name unchanged."""
    if name in (EMBEDDED_MODEL, EMBEDDED_DATASET) or not _looks_local(name, base):
        return name
    return str(_path(name, base))


def identity(names: list[str]) -> dict[str, str]:
    """A content hash for every name that stands for something outside the matrix file.

    Files up to 64 MiB are hashed whole, larger ones by size and modification time. Hub ids stand
    for themselves.
    """
    hashes = {}
    for name in names:
        if name == EMBEDDED_MODEL:
            from benchmarks.arithmetic.recipe import recipe_hash

            hashes[name] = recipe_hash()
        elif name == EMBEDDED_DATASET:
            hashes[name] = _hash_files([_problems_source()])
        elif Path(name).exists():
            path = Path(name)
            files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
            hashes[name] = _hash_files(files)
    return hashes


def model_path(name: str, models: Path) -> str:
    """What OpenRLHF is given as the model; the embedded one lies below `models` once built."""
    if name != EMBEDDED_MODEL:
        return name
    from benchmarks.arithmetic.recipe import recipe_hash

    return str(models / f"{EMBEDDED_MODEL}-{recipe_hash()}")


def data_path(name: str, data: Path, split: str) -> str:
    """What is read as the prompts of `split`; the embedded ones lie below `data` once written."""
    if name != EMBEDDED_DATASET:
        return name
    return str(data / f"{EMBEDDED_DATASET}-{split}-{_hash_files([_problems_source()])}.jsonl")


def _problems_source() -> Path:
    import benchmarks.arithmetic.problems as problems

    return Path(problems.__file__)


def _hash_files(files: list[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.name.encode())
        status = file.stat()
        if status.st_size <= 64 << 20:
            digest.update(file.read_bytes())
        else:
            digest.update(f"{status.st_size} {status.st_mtime_ns}".encode())
    return digest.hexdigest()[:16]


def _looks_local(name: str, base: Path) -> bool:
    return name.startswith((".", "/", "~")) or name.endswith(".jsonl") or _path(name, base).exists()


def _path(name: str, base: Path) -> Path:
    return (base / Path(name).expanduser()).resolve()


def _is_hub_id(name: str) -> bool:
    owner, slash, repository = name.partition("/")
    return bool(owner and slash and repository) and "/" not in repository and " " not in name


def _hint(name: str, embedded: str) -> str:
    close = nearest(name, [embedded])
    return close if close.startswith("did") else f"{embedded!r}, a local path or an owner/name id"
