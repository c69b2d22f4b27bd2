"""Charts with one fixed look an arm: colour, dash and shape; no arm is told by colour alone.

The colours are Okabe and Ito's (2008, "Color universal design") without black and yellow, which
vanish on a dark and a light page; GRPO and the base model are grey. `show` draws a chart and offers
it as SVG and PNG, and its data as CSV.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Sequence
from html import escape
from io import BytesIO, StringIO
from typing import Literal, TypeVar

import altair as alt
import pandas as pd
import streamlit as st

from dashboard.text import as_written

HUES = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9")
GREY = "#757575"
DASHES = ((1, 0), (6, 3), (2, 2), (8, 2, 2, 2), (12, 4), (1, 4))  # with the hues 36 looks
SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down")
PLAIN = ("grpo", "base model")  # what the others are told from
HEIGHT, LOW = 300, 280  # pixels with axes and title

Plot = alt.Chart | alt.LayerChart  # what `show` draws
Mark = TypeVar("Mark", str, list[int])  # a colour or shape by name, or a dash


class Look:
    """The look of each arm: `arms` in the order in which they came, whatever is shown of them.

    The first 36 have each their own; then looks repeat.
    """

    def __init__(self, arms: Sequence[str]):
        others = [arm for arm in arms if arm not in PLAIN]
        self._place = {arm: number for number, arm in enumerate(others)}

    def colour(self, arm: str) -> str:
        """Its hexadecimal colour."""
        return GREY if arm in PLAIN else HUES[self._place.get(arm, 0) % len(HUES)]

    def dash(self, arm: str) -> list[int]:
        """Its dash: solid for as long as the colours last; the base model's is dotted."""
        if arm in PLAIN:
            return list(DASHES[2 if arm == "base model" else 0])
        return list(DASHES[self._place.get(arm, 0) // len(HUES) % len(DASHES)])

    def shape(self, arm: str) -> str:
        """The mark of its points."""
        place = self._place.get(arm, 0)
        shift = 1 + place // len(HUES)  # or arms of one hue would have one mark, too
        return "circle" if arm in PLAIN else SHAPES[(place + shift) % len(SHAPES)]

    def encode(self, shown: Sequence[str], points: bool = False) -> dict[str, object]:
        """Channels of a chart of the arms `shown`; one legend for all of them."""
        shown = list(shown)

        def scale(look: Callable[[str], Mark]) -> alt.Scale:
            return alt.Scale(domain=shown, range=[look(arm) for arm in shown])

        legend = alt.Legend(
            orient="top", title=None, symbolSize=120, symbolOpacity=1, columns=3, labelLimit=220
        )
        channels: dict[str, object] = {
            "color": alt.Color("arm:N", scale=scale(self.colour), legend=legend)
        }
        if points:
            channels["shape"] = alt.Shape("arm:N", scale=scale(self.shape), legend=legend)
        else:
            channels["strokeDash"] = alt.StrokeDash("arm:N", scale=scale(self.dash), legend=legend)
        return channels

    def legend(self, shown: Sequence[str]) -> None:
        """The lines and marks of the arms `shown`, once for all charts of a view."""
        keys = "".join(
            f"<span style='white-space: nowrap; margin-right: 1.6em'>{self._key(arm)} {escape(arm)}"
            "</span> "
            for arm in shown
        )
        st.html(f"<div style='font-size: 0.9rem; line-height: 1.8'>{keys}</div>")

    def _key(self, arm: str) -> str:
        dash = " ".join(map(str, self.dash(arm)))
        marks = {
            "circle": "<circle cx='20' cy='6' r='5'/>",
            "square": "<rect x='15.5' y='1.5' width='9' height='9'/>",
            "triangle-up": "<path d='M20 0 L26 11 L14 11 Z'/>",
            "diamond": "<path d='M20 0 L25.5 6 L20 12 L14.5 6 Z'/>",
            "cross": "<path d='M18 0h4v4h4v4h-4v4h-4v-4h-4v-4h4z'/>",
            "triangle-down": "<path d='M20 12 L26 1 L14 1 Z'/>",
        }
        drawn = (
            "<svg xmlns='http://www.w3.org/2000/svg' width='40' height='12'"
            f" fill='{self.colour(arm)}' stroke='{self.colour(arm)}'>"
            f"<line x1='0' y1='6' x2='40' y2='6' stroke-width='2.2' stroke-dasharray='{dash}'/>"
            f"{marks[self.shape(arm)]}</svg>"
        )
        image = b64encode(drawn.encode()).decode()
        return f"<img alt='' src='data:image/svg+xml;base64,{image}' style='display: inline'>"


def score_curves(data: pd.DataFrame, look: Look, shown: Sequence[str], x: str) -> alt.LayerChart:
    """Mean lines and interval bands of pass@k; data: arm, cost, score, low, high."""
    return _banded(data, look, shown, alt.X("cost:Q", title=x, axis=_numbers(x)), x)


def pass_curves(data: pd.DataFrame, look: Look, shown: Sequence[str]) -> alt.LayerChart:
    """pass@k over k on a logarithmic axis; data: arm, k, score, low, high."""
    ticks = sorted(set(data.k))
    x = alt.X("k:Q", title="k", scale=alt.Scale(type="log", base=2), axis=alt.Axis(values=ticks))
    return _banded(data, look, shown, x, "k")


def _banded(
    data: pd.DataFrame, look: Look, shown: Sequence[str], x: alt.X, title: str
) -> alt.LayerChart:
    score = alt.Y("score:Q", title="score", scale=alt.Scale(zero=False))
    base = alt.Chart(data).encode(x=x)
    colour = {"color": look.encode(shown)["color"]}
    band = base.mark_area(opacity=0.14).encode(y=alt.Y("low:Q"), y2="high:Q", **colour)
    line = base.mark_line().encode(y=score, **look.encode(shown))
    tips = [
        alt.Tooltip("arm:N"),
        alt.Tooltip(x.shorthand, title=title, format=",.4~g"),
        *(alt.Tooltip(f"{name}:Q", format=".3f") for name in ("score", "low", "high")),
    ]
    points = base.mark_point(filled=True, size=55, opacity=1).encode(
        y=score, tooltip=tips, **look.encode(shown, points=True)
    )
    layers = alt.LayerChart(layer=[band, line, points])
    return layers.resolve_legend(shape="shared").properties(height=HEIGHT)


def traces(data: pd.DataFrame, look: Look, shown: Sequence[str], x: str, y: str) -> alt.LayerChart:
    """Means over seeds of a metric as lines, each seed fainter; data: arm, seed, part, x, value.

    A part is an interval of steps, the same for all seeds.
    """
    means = data.groupby(["arm", "part"], as_index=False)[["x", "value"]].mean()
    value = alt.Y("value:Q", title=None, scale=alt.Scale(zero=False), axis=alt.Axis(format=".3~g"))
    along = {"x": alt.X("x:Q", title=x, axis=_numbers(x)), "y": value, **look.encode(shown)}
    layers = [
        alt.Chart(means).mark_line(strokeWidth=2.2).encode(tooltip=["arm", "x", "value"], **along)
    ]
    if data.seed.nunique() > 1:
        seeds = alt.Chart(data).mark_line(strokeWidth=1, opacity=0.3)
        layers.insert(
            0, seeds.encode(detail="seed:N", tooltip=["arm", "seed", "x", "value"], **along)
        )
    return alt.LayerChart(layer=layers).properties(height=LOW, title=y)


def _numbers(title: str) -> alt.Axis:
    """Whole numbers for what is counted."""
    if title == "GPU-hours":
        return alt.Axis(format=".3~g")
    return alt.Axis(format="~s" if title == "tokens" else "d", tickMinStep=1)


def paths(data: pd.DataFrame, look: Look, shown: Sequence[str], x: str, y: str) -> alt.LayerChart:
    """Where arms went in the plane of entropy and score; data: arm, fraction, entropy, score."""
    base = alt.Chart(data).encode(
        x=alt.X("entropy:Q", title=x, scale=alt.Scale(zero=False)),
        y=alt.Y("score:Q", title=y, scale=alt.Scale(zero=False)),
        order="fraction:Q",
    )
    tips = [
        "arm",
        alt.Tooltip("fraction:Q", title="of the budget", format=".0%"),
        alt.Tooltip("entropy:Q", format=".3f"),
        alt.Tooltip("score:Q", format=".3f"),
    ]
    size = alt.Size("fraction:Q", legend=None, scale=alt.Scale(range=[20, 160]))
    line = base.mark_line(opacity=0.6).encode(**look.encode(shown))
    points = base.mark_point(filled=True, opacity=1).encode(
        size=size, tooltip=tips, **look.encode(shown, points=True)
    )
    return alt.LayerChart(layer=[line, points]).properties(height=HEIGHT)


def shares(data: pd.DataFrame) -> alt.Chart:
    """A bar of phases an arm; data: arm, phase, gpu_hours, share."""
    phases = list(dict.fromkeys(data.phase))
    colours = alt.Scale(domain=phases, range=[GREY, *HUES][: len(phases)])
    return (
        alt.Chart(data)
        .mark_bar()
        .encode(
            x=alt.X("share:Q", title="share of the charged GPU-hours", axis=alt.Axis(format="%")),
            y=alt.Y(
                "arm:N",
                title=None,
                sort=list(dict.fromkeys(data.arm)),
                axis=alt.Axis(labelLimit=240),
            ),
            color=alt.Color(
                "phase:N",
                scale=colours,
                sort=phases,
                legend=alt.Legend(orient="top", title=None, columns=6),
            ),
            order=alt.Order("place:Q"),
            tooltip=[
                "arm",
                "phase",
                alt.Tooltip("share:Q", format=".1%"),
                alt.Tooltip("gpu_hours:Q", title="GPU-hours", format=".3~g"),
            ],
        )
        .properties(height=34 * data.arm.nunique() + 110)  # the axis and the legend among it
    )


def show(chart: Plot, data: pd.DataFrame, name: str, alt_text: str, legend: bool = False) -> None:
    """A chart with buttons that save it and its data; name: of the files and of the element.

    On the page it has no legend unless asked: `Look.legend` is one for all. In the files it has.
    """
    st.altair_chart(
        chart if legend else _without_legend(chart),
        width="stretch",
        key=f"chart-{name}",
        alt=alt_text,
    )
    files = {
        "SVG": (lambda: _drawn(chart, "svg"), "image/svg+xml"),
        "PNG": (lambda: _drawn(chart, "png"), "image/png"),
        "CSV": (lambda: data.to_csv(index=False), "text/csv"),
    }
    with st.container(horizontal=True):
        for kind, (content, mime) in files.items():
            st.download_button(
                kind,
                content,
                file_name=f"{name}.{kind.lower()}",
                mime=mime,
                key=f"{kind}-{name}",
                on_click="ignore",
                type="tertiary",
                help=as_written(f"{name}.{kind.lower()}"),
            )


def _without_legend(chart: Plot) -> Plot:
    bare = chart.copy(deep=True)
    for layer in bare.layer if isinstance(bare, alt.LayerChart) else [bare]:
        for name in ("color", "shape", "strokeDash"):
            channel = layer.encoding[name]
            if channel is not alt.Undefined:
                channel.legend = None
    return bare


def _drawn(chart: Plot, kind: Literal["svg", "png"]) -> bytes:
    """The chart as a file, for paper: on white, at twice the size of a screen."""
    out = BytesIO() if kind == "png" else StringIO()
    chart.properties(width=560, background="white").save(out, format=kind, scale_factor=2)
    content = out.getvalue()
    return content if isinstance(content, bytes) else content.encode()
