"""How every picture looks, and what the pictures of a study share.

Blue is the winner or the best, orange the baseline, grey what was stopped early. Pictures are SVG
text in one calm style that colour-blind readers can use; "" where there is nothing to draw.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec

import numpy as np

from automl.records import Status
from automl.reports.numerals import Scale
from automl.study.state import State, Trial

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, GREY, INK = "#0072b2", "#d55e00", "#009e73", "#9aa3ad", "#2b3138"
FAINT = "#c9ced4"
_STYLE = {
    "font.family": "sans-serif", "font.sans-serif": ["DejaVu Sans"], "font.size": 10,
    "axes.edgecolor": FAINT, "axes.labelcolor": INK, "text.color": INK, "xtick.color": INK,
    "ytick.color": INK, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True,
    "grid.color": "#eceff2", "axes.axisbelow": True, "legend.frameon": False, "legend.fontsize": 9,
    "xtick.major.size": 0, "ytick.major.size": 0, "xtick.minor.size": 0, "ytick.minor.size": 0,
    "svg.fonttype": "none", "figure.facecolor": "white", "axes.titlesize": 10,
}  # fmt: skip
P = ParamSpec("P")


def drawn(function: Callable[P, Figure | None]) -> Callable[P, str]:
    """The figure that `function` makes, in our style, as SVG text without prologue."""

    @wraps(function)
    def draw(*args: P.args, **kwargs: P.kwargs) -> str:
        import matplotlib  # late: half a second, and only reports draw

        # The salt keeps ids of one page's pictures apart and two runs' bytes equal.
        style: Any = {**_STYLE, "svg.hashsalt": function.__name__}
        with matplotlib.rc_context(style):
            figure = function(*args, **kwargs)
            if figure is None:
                return ""
            target = io.StringIO()
            figure.savefig(target, format="svg", bbox_inches="tight", metadata={"Date": None})
        text = target.getvalue()
        text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.S)
        return re.sub(r'id="((?:figure|axes|patch|line2d|text)_\d+)"', "", text)

    return draw


def new_axes(width: float = 11.2, height: float = 3.9) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure  # see drawn

    figure = Figure(figsize=(width, height))
    return figure, figure.add_subplot()


def finite_points(trial: Trial, state: State) -> list[tuple[int, float]]:
    return [(s, v) for s, v in trial.values(state.metric) if math.isfinite(v)]


def trials_with_values(state: State) -> list[tuple[Trial, float]]:
    """Search trials with their last finite value."""
    found = []
    for t in state.search_trials():
        points = finite_points(t, state)
        if points and t.status != Status.DIVERGED:
            found.append((t, points[-1][1]))
    return found


def visible_range(
    values: Sequence[float], state: State, *, keep: float = 0.95
) -> tuple[float, float]:
    """Limits that hold the best and the `keep` best part; the rest would flatten the picture."""
    ordered = sorted(values, reverse=state.better(1, 0))
    worst = ordered[min(math.ceil(keep * len(ordered)), len(ordered)) - 1]
    first = state.baseline()
    base = first.last(state.metric) if first else None
    inside = [ordered[0], worst, *([base] if base is not None and math.isfinite(base) else [])]
    low, high = min(inside), max(inside)
    if low == high:
        low, high = low - 0.01 * (abs(low) or 1), high + 0.01 * (abs(high) or 1)
    return low, high


def draw_line(ax: Axes, points: Sequence[tuple[int, float]], scale: Scale, **style: object) -> None:
    xs, ys = zip(*points, strict=True)
    marker = "o" if len(points) == 1 else None
    ax.plot(xs, np.array(ys) * scale.factor, marker=marker, ms=3, **style)  # type: ignore[arg-type]


def add_legend(ax: Axes) -> None:
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=5, borderaxespad=0, handlelength=1.6)
