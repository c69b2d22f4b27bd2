"""What a matrix may name: models, training sets and benchmarks, and what each name stands for.

`arithmetic` and `arithmetic-tiny` are made here on demand, `benchmarks.catalogue` knows the other
benchmarks by name; everything else is a local path or the id of a model or data set on the Hugging
Face hub.
"""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache
from pathlib import Path

from algorithms import nearest
from benchmarks import catalogue

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
    if name in catalogue.known():
        path = None if name == EMBEDDED_DATASET else catalogue.local_file(name)
        return _file_problem(name, path) if path else None
    if _looks_local(name, base) and name.endswith(".jsonl"):
        return None if _path(name, base).is_file() else f"no benchmark at {_path(name, base)}"
    close = nearest(name, list(catalogue.known()))
    hint = close if close.startswith("did") else f"give one of {', '.join(catalogue.known())}"
    return f"unknown benchmark {name!r}: {hint}, or a .jsonl file"


def data_file_problem(name: str, benchmarks: list[str], path: str, base: Path) -> str | None:
    """Why `path` cannot be the file of the benchmark `name`, or None."""
    if name == EMBEDDED_DATASET:
        return "is made here and takes no file"
    if name not in catalogue.known() or name not in benchmarks:
        takers = [b for b in benchmarks if b in catalogue.known() and b != EMBEDDED_DATASET]
        hint = nearest(name, takers) if takers else "none of them takes a file"
        return f"is no known benchmark of this evaluation: {hint}"
    file = catalogue.local_file(name, _path(path, base))
    return _file_problem(name, file) if file else None


def data_files(benchmarks: list[str], given: dict[str, str], base: Path) -> dict[str, str]:
    """The local file of each known benchmark that has one: as given, else in SUITE_DATA."""
    files = {}
    for name in benchmarks:
        if name in catalogue.known() and name != EMBEDDED_DATASET:
            path = catalogue.local_file(name, _path(given[name], base) if name in given else None)
            if path is not None:
                files[name] = str(path.resolve())
    return files


def absolute(name: str, base: Path) -> str:
    """A local path relative to the matrix file as an absolute one; any other name unchanged."""
    if name == EMBEDDED_MODEL or name in catalogue.known() or not _looks_local(name, base):
        return name
    return str(_path(name, base))


def identity(names: list[str], files: dict[str, str] | None = None) -> dict[str, str]:
    """A content hash for every name that stands for something outside the matrix file.

    Files up to 64 MiB are hashed whole, larger ones by size and modification time. Hub ids stand
    for themselves. A known benchmark is hashed by its problems when it is read from one of
    `files`, else by the id and revision that it is pinned to.
    """
    hashes, files = {}, files or {}
    for name in names:
        if name == EMBEDDED_MODEL:
            from benchmarks.arithmetic.recipe import recipe_hash

            hashes[name] = recipe_hash()
        elif name == EMBEDDED_DATASET:
            hashes[name] = _hash_files([_problems_source()])
        elif name in files:
            hashes[name] = _digest_of(name, *_stamped(Path(files[name])))
        elif name in catalogue.known():
            hashes[name] = _pin(name)
        elif Path(name).exists():
            path = Path(name)
            parts = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
            hashes[name] = _hash_files(parts)
    return hashes


def model_path(name: str, models: Path) -> str:
    """What OpenRLHF is given as the model; the embedded one lies below `models` once built."""
    if name != EMBEDDED_MODEL:
        return name
    from benchmarks.arithmetic.recipe import recipe_hash

    return str(models / f"{EMBEDDED_MODEL}-{recipe_hash()}")


def data_path(name: str, data: Path, split: str, content: str | None = None) -> str:
    """What is read as the prompts of `split`; what is known by name lies below `data` once written.

    `content` is the identity of a known benchmark.
    """
    if name != EMBEDDED_DATASET and name in catalogue.known():
        return str(data / f"{name}-{content or _pin(name)}.jsonl")
    if name != EMBEDDED_DATASET:
        return name
    return str(data / f"{EMBEDDED_DATASET}-{split}-{_hash_files([_problems_source()])}.jsonl")


def _file_problem(name: str, path: Path) -> str | None:
    """Why the problems of the benchmark `name` cannot be read from `path`, or None."""
    try:
        _digest_of(name, *_stamped(path))
    except (OSError, ValueError) as error:
        return str(error)
    return None


def _pin(name: str) -> str:
    """Hash of where a benchmark comes from; of how it is made when it is made here."""
    benchmark = catalogue.known()[name]
    source = _problems_source().read_text() if benchmark.embedded else ""
    return hashlib.sha256(f"{benchmark.pinned} {source}".encode()).hexdigest()[:16]


def _stamped(path: Path) -> tuple[str, int, int]:
    """A path with its size and time: the key under which its digest is remembered."""
    if not path.is_file():
        raise FileNotFoundError(f"no benchmark file at {path}")
    return str(path), path.stat().st_size, path.stat().st_mtime_ns


@lru_cache
def _digest_of(name: str, path: str, size: int, modified: int) -> str:
    """Sixteen digits of the digest of a benchmark's problems; ids count here."""
    edition = catalogue.edition(name, path)
    ids = " ".join(row["id"] for row in edition.rows)
    return hashlib.sha256(f"{edition.sha256} {ids}".encode()).hexdigest()[:16]


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
