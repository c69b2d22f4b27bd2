"""The set-up stops with one clear line where it cannot work, and does nothing twice."""

import platform
import shutil
import subprocess
import sys
from collections import namedtuple

import pytest

from suite import bootstrap


def test_other_systems_are_told_at_once(monkeypatch):
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    with pytest.raises(SystemExit, match="Linux on x86-64 only"):
        bootstrap._check_platform()


def test_other_pythons_are_told_at_once(monkeypatch):
    monkeypatch.setattr(sys, "version_info", (3, 13, 0))
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(SystemExit, match=r"Python 3\.11 or 3\.12 is needed"):
        bootstrap._python()


def test_a_compiler_is_needed(monkeypatch, tmp_path):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(SystemExit, match=r"g\+\+ is missing"):
        bootstrap._check_machine("cpu", tmp_path / ".venv")


def test_disk_space_is_needed(monkeypatch, tmp_path):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10, 9, 2 * bootstrap.GIB))
    with pytest.raises(SystemExit, match=r"8 GiB of disk are needed .* 2\.0 are free"):
        bootstrap._check_machine("cpu", tmp_path / ".venv")


def test_a_missing_browser_names_the_remedy_where_it_cannot_be_installed(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(SystemExit, match=r"chromium is missing .* apt-get install -y chromium"):
        bootstrap._install_browser()


def test_a_browser_that_is_there_is_taken(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: f"/opt/{name}" if "google" in name else None)
    assert bootstrap.browser() == "/opt/google-chrome"
    bootstrap._install_browser()


def test_a_failing_step_shows_pips_last_error(monkeypatch, tmp_path, capsys):
    """A pip that fails as one without a network does."""
    fake = tmp_path / ".venv" / "bin"
    fake.mkdir(parents=True)
    (fake / "python").write_text("#!/bin/sh\necho 'ERROR: No matching distribution' >&2\nexit 1\n")
    (fake / "python").chmod(0o755)
    with pytest.raises(SystemExit, match="set-up: ERROR: No matching distribution"):
        bootstrap._install("cpu", [], tmp_path / ".venv")
    assert "1/4 torch==2.13.0 for CPU ... failed" in capsys.readouterr().out


def test_more_extras_leave_the_rest_as_it_is(tmp_path, capsys):
    """`make test` after `make demo` compiles nothing again."""
    fake, compiled = tmp_path / ".venv" / "bin", tmp_path / ".venv" / "torch-extensions"
    fake.mkdir(parents=True)
    compiled.mkdir()
    (fake / "python").write_text('#!/bin/sh\necho "$@"\n')
    (fake / "python").chmod(0o755)
    bootstrap._install("cpu", ["dashboard", "dev"], tmp_path / ".venv", complete=True)
    assert "1/1 more extras: dashboard, dev ..." in capsys.readouterr().out
    (asked,) = (tmp_path / ".venv-setup.log").read_text().splitlines()
    assert asked.endswith(f"-e {bootstrap.ROOT}[cpu,dashboard,dev]")
    assert compiled.exists()


def test_the_second_time_it_does_nothing(tmp_path, repo):
    venv = tmp_path / ".venv"
    venv.mkdir()
    stack = "gpu" if bootstrap._has_gpu() else "cpu"
    (venv / "suite-stamp").write_text(f"{bootstrap._fingerprint(stack)} dev")
    for extras in ([], ["--extras", "dev"]):
        ran = subprocess.run(
            [sys.executable, repo / "suite" / "bootstrap.py", "--venv", venv, *extras],
            capture_output=True,
            text=True,
            check=True,
        )
        assert "is up to date" in ran.stdout


def test_what_is_pinned_twice_agrees(repo):
    """torch is asked for before the project, the engines outside of its dependency lists."""
    text = (repo / "pyproject.toml").read_text()
    assert f'"{bootstrap.TORCH}"' in text
    assert '"openrlhf[vllm]==0.11.2"' in text
    assert "openrlhf==0.11.2" in bootstrap.WITHOUT_DEPENDENCIES
