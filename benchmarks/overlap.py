"""Contamination: which benchmark problems occur word for word among the training prompts?

Exact text after taking away what editions of one problem differ in: letter case, whitespace, the
`$` around formulas, punctuation, and Unicode variants of one character. Paraphrases, translations
and problems inside longer prompts are not found: a count here is a lower bound.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping

# LaTeX and arithmetic live on these; without them `-1` and `1`, `2/3` and `23` would be equal.
_MEANING = frozenset("\\{}_-*/!%()[]")


def normalise(text: str) -> str:
    """Lower case, NFKC, without whitespace, `$` and punctuation; operators and brackets stay."""
    folded = unicodedata.normalize("NFKC", text.replace("\\$", "")).lower()
    return folded.translate(_KEPT)


class _Kept(dict):
    """A table for str.translate that learns: letters, marks, numbers, symbols but currency stay."""

    def __missing__(self, code: int) -> int | None:
        category = unicodedata.category(chr(code))
        tells = category[0] in "LMNS" and category != "Sc"
        self[code] = code if tells or chr(code) in _MEANING else None
        return self[code]


_KEPT = _Kept()


def overlapping(problems: Iterable[Mapping[str, str]], prompts: Iterable[str]) -> list[str]:
    """The ids of the problems whose text is one of the training prompts, in order.

    problems: mappings with `id` and `problem`. A problem that is empty once normalised is none.
    """
    seen = {normalise(prompt) for prompt in prompts}
    return [row["id"] for row in problems if (text := normalise(row["problem"])) and text in seen]
