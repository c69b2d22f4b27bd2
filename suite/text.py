"""Numbers as people read them, and text as SQL wants it."""

from __future__ import annotations


def compact(value: float) -> str:
    """ "0.00736", "12.5", "60,501"."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def count(number: float) -> str:
    """ "137 thousand", "7.62 billion"."""
    for size, name in ((1e9, "billion"), (1e6, "million"), (1e3, "thousand")):
        if number >= size:
            return f"{number / size:.3g} {name}"
    return f"{number:.0f}"


def duration(seconds: float) -> str:
    """ "40 s", "12 min", "3.5 h", "8.8 days"."""
    for limit, unit, text in (
        (120, 1, "{:.0f} s"),
        (7200, 60, "{:.0f} min"),
        (172_800, 3600, "{:.1f} h"),
    ):
        if seconds < limit:
            return text.format(seconds / unit)
    return f"{seconds / 86_400:.1f} days"


def as_sql(text: object) -> str:
    """As a string in SQL, where no parameter can stand: a path in ATTACH or COPY."""
    return "'{}'".format(str(text).replace("'", "''"))
