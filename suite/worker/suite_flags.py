"""The flags of suite.worker.by_hand: what they mean, and what is wrong with them.

`--suite.*` are ours, written by suite.matrix.command; of OpenRLHF's a few are read here as well.
"""

from __future__ import annotations

import argparse
import json
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import ValidationError

import algorithms
from algorithms.base import Algorithm
from suite.matrix import schema
from suite.matrix.command import BY_HAND, infinite
from suite.worker.ledger import Budget

CHECKPOINTS, POLICY = "checkpoints", "policy"  # what a run's folder calls them

DESCRIPTION = """\
Train one arm as a `suite run` would, without evaluation: nothing is scored, and no database is
written. `suite plan matrix.yaml` prints this command for each of a matrix's arms, complete.

What is trained is in the command alone: the algorithm with its settings, the budget, the reward
rule and the seed. OpenRLHF's flags follow as OpenRLHF takes them; those that are read here as well
are listed below, every other one is handed on.

Start it again and it continues from its last checkpoint. The folder above --ckpt.path gets
  attempt-001.jsonl  what was measured at each step, a line of JSON each
  attempt-001.log    what the training stack printed
  checkpoints/       the last one
  policy/            the trained model, in Hugging Face's format
"""
USAGE = f"""python -m {BY_HAND} [-h] --suite.algorithm NAME [--suite.settings JSON]
           --suite.budget UNIT=NUMBER [--suite.reward RULE] ... OPENRLHF_FLAGS"""


@dataclass(frozen=True)
class ByHand:
    """What a command asks for.

    Attributes:
        command: the words that asked for it, from "python" on.
        flags: those of them that are OpenRLHF's.
        folder: of the run, above the checkpoints.
        model, dataset: paths or Hugging Face ids.
        reward, checkpoint_every, diagnosed_states: as Experiment has them.
    """

    command: list[str]
    flags: list[str]
    algorithm: Algorithm
    budget: Budget
    reward: str | dict[str, float]
    checkpoint_every: int
    diagnosed_states: int
    folder: Path
    model: str
    dataset: str
    seed: int
    gpus: int


def parse(words: list[str]) -> ByHand:
    """The training that the words after `python -m suite.worker.by_hand` ask for.

    Raises:
        SystemExit: they do not make sense; why is on stderr.
    """
    ours, read_here = _our_flags(), _openrlhf_flags_read_here()
    parser = argparse.ArgumentParser(
        usage=USAGE,
        description=DESCRIPTION,
        parents=[ours, read_here],
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    valid = [action.option_strings[0] for action in ours._actions]
    for name in (word.partition("=")[0] for word in words):
        if name.startswith("--suite.") and name not in valid:
            parser.error(f"unknown {name}: {algorithms.nearest(name, valid)}")
    given, _ = parser.parse_known_args(words)
    value = {name.rpartition(".")[2]: content for name, content in vars(given).items()}
    checkpoints, policy = Path(value["path"]).resolve(), Path(value["output_dir"]).resolve()
    folder = checkpoints.parent
    if (checkpoints, policy) != (folder / CHECKPOINTS, folder / POLICY):
        parser.error("--ckpt.path must be FOLDER/checkpoints, --ckpt.output_dir FOLDER/policy")
    try:
        algorithm = algorithms.load(value["algorithm"], **value["settings"])
    except ValueError as error:
        parser.error(str(error))
    return ByHand(
        command=["python", "-m", BY_HAND, *words],
        flags=ours.parse_known_args(words)[1],
        algorithm=algorithm,
        budget=value["budget"],
        reward=value["reward"],
        checkpoint_every=value["checkpoint_every"],
        diagnosed_states=value["clip_diagnostics"],
        folder=folder,
        model=value["model_name_or_path"],
        dataset=value["prompt_dataset"],
        seed=value["seed"],
        gpus=value["num_gpus_per_node"],
    )


def _our_flags() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    add = parser.add_argument_group("what OpenRLHF's flags cannot carry").add_argument
    names = ", ".join(algorithms.ALGORITHMS)
    add("--suite.algorithm", required=True, metavar="NAME", help=f"one of {names}")
    add(
        "--suite.settings",
        type=_settings,
        default={},
        metavar="JSON",
        help='the algorithm\'s settings, e.g. \'{"eps_low": 0.15, "eps_high": "inf"}\'; those that '
        "are left out are its paper's",
    )
    add(
        "--suite.budget",
        type=_budget,
        required=True,
        metavar="UNIT=NUMBER",
        help="when to stop: gpu_hours=0.0065, tokens=1000000 (generated) or steps=20 (rollout "
        "batches)",
    )
    add(
        "--suite.reward",
        type=_reward,
        default="verified",
        metavar="RULE",
        help="verified (1 for a correct answer, else 0), or random: bernoulli=P, gaussian=SIGMA "
        "(default: verified)",
    )
    for name, what in (
        ("checkpoint_every", "steps between checkpoints"),
        ("clip_diagnostics", "states on which the clip's diagnostics are taken each step"),
    ):
        default = schema.Train.model_fields[name].default
        add(
            f"--suite.{name}",
            type=partial(_number, name),
            default=default,
            metavar="N",
            help=f"{what} (default: {default})",
        )
    return parser


def _openrlhf_flags_read_here() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    add = parser.add_argument_group("of OpenRLHF's flags, those that are read here").add_argument
    for name, kind, metavar, what in (
        ("ckpt.path", str, "FOLDER/checkpoints", "where to keep checkpoints"),
        ("ckpt.output_dir", str, "FOLDER/policy", "where to leave the trained model"),
        ("actor.model_name_or_path", str, "MODEL", "made first where it is the embedded one"),
        ("data.prompt_dataset", str, "DATA", "written first where it is the embedded one"),
        ("train.seed", int, "N", "of prompt order and sampling"),
        ("actor.num_gpus_per_node", int, "N", "GPUs, each shared by policy and engine"),
    ):
        add(f"--{name}", type=kind, required=True, metavar=metavar, help=what)
    return parser


def _settings(words: str) -> dict[str, Any]:
    try:
        settings = json.loads(words)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"not JSON ({error}): {words}") from error
    if not isinstance(settings, dict):
        raise argparse.ArgumentTypeError(f"a JSON object is wanted, got {words}")
    return infinite(settings)


def _budget(words: str) -> Budget:
    unit, _, number = words.partition("=")
    units = list(schema.Budget.model_fields)
    if unit not in units:
        raise argparse.ArgumentTypeError(
            f"unknown unit {unit!r}: {algorithms.nearest(unit, units)}, as UNIT=NUMBER"
        )
    return Budget(unit, getattr(_checked(schema.Budget, **{unit: number}), unit))


def _reward(words: str) -> Any:
    law, equals, number = words.partition("=")
    rule: Any = words
    if equals:
        with suppress(ValueError):
            rule = {law: float(number)}
    try:
        return schema.Train(reward=rule).reward
    except ValidationError as error:
        rules = "verified, bernoulli=P with P in [0, 1] or gaussian=SIGMA with SIGMA > 0"
        raise argparse.ArgumentTypeError(f"must be {rules}, got {words}") from error


def _number(name: str, words: str) -> int:
    return getattr(_checked(schema.Train, **{name: words}), name)


def _checked(section: type[schema.Section], **values: Any) -> schema.Section:
    """A section of a matrix with these values."""
    try:
        return section(**values)
    except ValidationError as error:
        raise argparse.ArgumentTypeError(error.errors()[0]["msg"]) from error
