"""How a problem becomes a prompt: named templates, so that a score says what it was asked with.

A template is a format string with one `{}` where the problem goes (a literal brace is doubled), as
OpenRLHF's `--data.input_template` takes it. With a chat template of the model's own
(`train.chat_template`) the problem is the user's turn and none of these is used.
"""

from __future__ import annotations

import difflib
import hashlib

_BOX = "Reason step by step, and put your final answer within \\boxed{{}}."

TEMPLATES: dict[str, str | None] = {
    # The problem as it is: what the embedded model was warm-started on.
    "none": None,
    # Base completion with the boxed-answer instruction after the problem.
    "boxed": "{}\n" + _BOX + "\n",
    # The turns that the Qwen2.5-Math models know, written out, with the instruction as system text.
    "qwen-math": "<|im_start|>system\n" + _BOX + "<|im_end|>\n"
    "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n",
}


def template(name: str | None) -> str | None:
    """The format string that `name` stands for; a format string stands for itself.

    Raises:
        ValueError: neither a known name nor a string with exactly one `{}`.
    """
    if name is None or name in TEMPLATES:
        return TEMPLATES[name or "none"]
    try:
        if name.format("\0").count("\0") == 1:
            return name
    except (IndexError, KeyError, ValueError):
        pass
    close = difflib.get_close_matches(name, TEMPLATES, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"give one of {', '.join(TEMPLATES)}"
    raise ValueError(f"unknown prompt template {name!r}: {hint} (or a text with one {{}})")


def render(name: str | None, problem: str) -> str:
    """The prompt for `problem`: `name` is a template's name or a template."""
    text = template(name)
    return problem if text is None else text.format(problem)


def prompt_digest(prompt: str) -> str:
    """Sixteen hexadecimal digits by which a rendered prompt is known."""
    return hashlib.sha256(prompt.encode()).hexdigest()[:16]
