"""Run by tests: OpenRLHF's own parser on command lines, its arguments as JSON, a line for each.

Command lines are read from stdin, a JSON list a line (tests/parsing.py). OpenRLHF's module parses
and validates under `__main__`, then asks for a strategy: there the arguments are taken, before Ray
or a model is touched.
"""

import json
import runpy
import sys

from algorithms.openrlhf import cpu
from algorithms.openrlhf.flags import MODULE

cpu.prepare_process()

import openrlhf.utils  # noqa: E402
import ray  # noqa: E402


class Parsed(Exception):
    """Carries the arguments out."""


def take(args):
    raise Parsed(args)


def plain(value):
    return {k: plain(v) for k, v in vars(value).items()} if hasattr(value, "__dict__") else value


openrlhf.utils.get_strategy = take
ray.is_initialized = lambda: True
for flags in map(json.loads, sys.stdin.readlines()):
    sys.argv = [MODULE, *flags]
    try:
        runpy.run_module(MODULE, run_name="__main__")
    except Parsed as parsed:
        print(json.dumps(plain(parsed.args[0]), default=str))
