"""The picture of what a supernet found, as SVG text.

the cell    nodes in a row, a line an edge with its operation; orange is a skip, dotted none
weights     a panel an edge: what each candidate weighs in the mixture, by epoch; blue the one
            that was derived, orange the skip
scores      the supernet's, by epoch, and what the cut down to the cell costs; the mean weight
            of a skip; the sharpness, where it was watched
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from automl.errors import StudyError
from automl.reports.derived import Derived, Edge, derived
from automl.reports.drawing import BLUE, GREY, INK, ORANGE, drawn
from automl.reports.numerals import Scale
from automl.study.state import State

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FILE = "arch.svg"
_WIDE = 11.2  # inches
_CELLS = 4  # architectures drawn, where several were derived
_RISE = 0.42  # height of an arc's top for each node that it passes; a unit is an inch or so


def picture(state: State) -> str:
    """The drawing of what the study's supernet found; "" while there is nothing to draw."""
    try:
        found = derived(state)
    except StudyError:
        return ""
    assert state.config is not None
    return _picture(found, Scale(state.config.card.metric))


@drawn
def _picture(found: Derived, scale: Scale) -> Figure:
    from matplotlib.figure import Figure  # late, as in drawing.py

    cells = list(dict.fromkeys(e.cell for e in found.edges))
    shown = found.chosen[:_CELLS]
    learnt = bool(found.weights)
    tallest = max(e.target - e.source for e in found.edges)
    heights = [0.9 + 1.1 * tallest * _RISE] * len(shown)
    if learnt:
        heights += [1.5] * len(cells) + [2.1]
    figure = Figure(figsize=(_WIDE, sum(heights)), layout="constrained")
    rows = figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
    for row, chosen in zip(rows, shown, strict=False):
        axes = row.subplots(1, len(cells), squeeze=False)[0]
        which = f" {found.chosen.index(chosen) + 1}" if len(found.chosen) > 1 else ""
        for ax, cell in zip(axes, cells, strict=True):
            _cell(ax, [e for e in found.edges if e.cell == cell], chosen)
            ax.set_title(" ".join(f"derived {cell} cell{which}".split()))
    if learnt:
        for row, cell in zip(rows[len(shown) :], cells, strict=False):
            _weights(row, [e for e in found.edges if e.cell == cell], found)
        _scores(rows[-1], found, scale)
    return figure


# The cell ------------------------------------------------------------------------------------


def _cell(ax: Axes, edges: Sequence[Edge], chosen: Mapping[str, str]) -> None:
    """Nodes in a row from the filled inputs to the right; an edge past others is an arc above."""
    nodes = sorted({e.source for e in edges} | {e.target for e in edges})
    entered = {e.target for e in edges}
    for e in edges:
        operation = chosen[e.name]
        colour = ORANGE if operation == "skip" else GREY if operation == "none" else BLUE
        span = e.target - e.source
        t = np.linspace(0, 1, 60)
        top = _RISE * (span - 1)
        ax.plot(e.source + span * t, 4 * top * t * (1 - t), color=colour,
                lw=1.1 if operation == "none" else 1.6,
                ls=":" if operation == "none" else "-")  # fmt: skip
        ax.annotate(
            operation, (e.source + span / 2, top), ha="center", va="center",
            fontsize=8, color=INK if operation != "none" else GREY, zorder=4,
            bbox={"fc": "white", "ec": "none", "alpha": 0.9, "pad": 0.8},
        )  # fmt: skip
    for node in nodes:
        given = node not in entered
        ax.plot(node, 0, "o", ms=16, mfc=INK if given else "white", mec=INK, mew=1.2, zorder=5)
        ax.annotate(str(node), (node, 0), ha="center", va="center", fontsize=9, zorder=6,
                    color="white" if given else INK)  # fmt: skip
    tallest = max(e.target - e.source for e in edges) - 1
    ax.set_xlim(nodes[0] - 0.3, nodes[-1] + 0.3)
    ax.set_ylim(-0.25, _RISE * tallest + 0.25)
    ax.set_axis_off()


# How it came to it ---------------------------------------------------------------------------


def _weights(row: Any, edges: Sequence[Edge], found: Derived) -> None:
    axes = row.subplots(1, len(edges), squeeze=False, sharey=True)[0]
    epochs = range(1, len(found.weights) + 1)
    for ax, e in zip(axes, edges, strict=True):
        chosen = found.chosen[0][e.name]
        candidates = dict.fromkeys(name for w in found.weights for name in w[e.name])
        for name in sorted(candidates, key=lambda n: (n == chosen, n == "skip")):
            colour = BLUE if name == chosen else ORANGE if name == "skip" else GREY
            points = [(x, w[e.name][name]) for x, w in zip(epochs, found.weights, strict=True)
                      if name in w[e.name]]  # fmt: skip
            strong = name in (chosen, "skip")
            alpha, width = (1.0, 1.8) if strong else (0.6, 0.8)
            mark = "o" if len(points) == 1 else None
            xs, ys = zip(*points, strict=True)
            ax.plot(xs, ys, color=colour, lw=width, alpha=alpha, marker=mark, ms=3)
        skip = chosen == "skip"
        ax.set_title(f"{e.source} → {e.target}  {chosen}", fontsize=8,
                     color=ORANGE if skip else BLUE)  # fmt: skip
        ax.tick_params(labelsize=7)
        _whole(ax)
    cell = f"{edges[0].cell} cell: " if edges[0].cell else ""
    axes[0].set_ylabel(f"{cell}weight" if len(cell) < 8 else f"{cell}\nweight", fontsize=8)


def _scores(row: Any, found: Derived, scale: Scale) -> None:
    watched = [(x, s) for x, s in enumerate(found.sharpness, 1) if s is not None]
    skips = found.skip_weight()
    score, *others = row.subplots(1, 1 + bool(skips) + bool(watched), squeeze=False)[0]
    epochs = range(1, len(found.scores) + 1)
    score.plot(epochs, [scale.factor * s for s in found.scores], "-o", color=BLUE, ms=3)
    if found.before is not None and found.after is not None:
        end = len(found.scores) + 0.6
        marks = (("mixed", found.before, BLUE), ("the cell", found.after, ORANGE))
        by_height = sorted(marks, key=lambda mark: mark[1])
        for (name, value, colour), side in zip(by_height, ("top", "bottom"), strict=True):
            score.plot(end, scale.factor * value, "D", color=colour, ms=6, clip_on=False)
            score.annotate(f"{name} {scale.value(value)}", (end, scale.factor * value),
                           xytext=(8, 0), textcoords="offset points", va=side, fontsize=8,
                           annotation_clip=False)  # fmt: skip
    score.set_title(f"supernet's {scale.axis}", fontsize=9)
    if skips:
        ax = others.pop(0)
        ax.plot(range(1, len(skips) + 1), skips, "-o", color=ORANGE, ms=3)
        ax.set_ylim(0, 1.2 * max(skips))
        ax.set_title("mean weight of a skip", fontsize=9)
        _epochs(ax)
    if watched:
        ax = others.pop(0)
        ax.plot(*zip(*watched, strict=True), "-o", color=INK, ms=3)
        if found.collapsed is not None:
            ax.axvline(found.collapsed + 1, color=ORANGE, lw=1.2, ls=(0, (5, 3)))
        ax.set_title("sharpness in the alphas", fontsize=9)
        _epochs(ax)
    _epochs(score)


def _epochs(ax: Axes) -> None:
    ax.set_xlabel("epoch of the supernet", fontsize=8)
    ax.tick_params(labelsize=8)
    _whole(ax)


def _whole(ax: Axes) -> None:
    from matplotlib.ticker import MaxNLocator  # late, as in drawing.py

    ax.xaxis.set_major_locator(MaxNLocator(nbins=4, integer=True))
