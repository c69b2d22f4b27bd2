"""What OpenRLHF's own parser makes of cells' command lines; for the tests of plans and matrices."""

import json
import subprocess
import sys

from suite.matrix.command import openrlhf_flags


def parsed_by_openrlhf(cells, workspace, repo):
    """OpenRLHF's arguments for each cell, in one process; it fails where a flag is refused."""
    return flags_parsed_by_openrlhf([openrlhf_flags(cell, workspace) for cell in cells], repo)


def flags_parsed_by_openrlhf(command_lines, repo):
    """The same for lists of flags."""
    lines = [json.dumps(flags) + "\n" for flags in command_lines]
    ran = subprocess.run(
        [sys.executable, repo / "tests" / "flags_probe.py"],
        input="".join(lines),
        capture_output=True,
        text=True,
        cwd=repo,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(repo), "SUITE_DEVICE": "cpu"},
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    found = [json.loads(line) for line in ran.stdout.splitlines() if line.startswith("{")]
    assert len(found) == len(command_lines)
    return found
