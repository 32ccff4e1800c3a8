"""Pictures of several objectives and of constraints.

pareto        the first objective against each other objective and each constrained quantity: the
              front as a step line, its knee and the baseline marked, what constraints forbid shaded
hypervolume   how much of the objectives' space the front dominates, over the trials
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import numpy as np

from automl.aims import Aims, Constraint, Objective, plain_name
from automl.reports.aim_words import unit_of
from automl.reports.drawing import (
    BLUE,
    GREEN,
    GREY,
    INK,
    ORANGE,
    add_legend,
    drawn,
    new_axes,
    visible_range,
)
from automl.reports.numerals import Scale
from automl.search.hypervolume import hypervolume as volume
from automl.search.pareto import front_of
from automl.study.state import State, Trial

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PANELS = 4
_LOG_RATIO = 30.0  # largest over smallest, from which an axis is logarithmic
_SHADE = "#f3d9c8"


@drawn
def pareto(state: State) -> Figure | None:
    aims = state.aims
    found = ended(state)
    across = _across(aims)[:_PANELS]
    if not found or not across:
        return None
    from matplotlib.figure import Figure  # see drawn

    figure = Figure(figsize=(5.6 * max(min(len(across), 2), 1), 4.0 * (-(-len(across) // 2))))
    columns = min(len(across), 2)
    grid = figure.subplots(-(-len(across) // columns), columns, squeeze=False).ravel()
    for ax, x in zip(grid, across, strict=False):
        _panel(ax, state, found, x)
    for ax in grid[len(across) :]:
        ax.set_axis_off()
    add_legend(grid[0])
    figure.subplots_adjust(wspace=0.28, hspace=0.34)
    return figure


@drawn
def hypervolume(state: State) -> Figure | None:
    rows = volumes(state)
    if len(rows) < 2:
        return None
    figure, ax = new_axes(height=2.6)
    ax.step(*zip(*rows, strict=True), where="post", color=BLUE, lw=1.6)
    ax.set_ylim(bottom=0)
    from matplotlib.ticker import MaxNLocator  # see drawn

    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_xlabel("trial")
    ax.set_ylabel("share of the box dominated")
    return figure


def volumes(state: State) -> list[tuple[int, float]]:
    """(trial, hypervolume) as trials come to their end; [] but for two or three objectives.

    Losses are scaled by what finished trials have shown: 0 the best of each, 1 the worst, which is
    the reference. Those that break constraints add nothing.
    """
    aims = state.aims
    if len(aims.objectives) not in (2, 3):
        return []
    found = [(t, aims.losses(t.curve[-1][1])) for t in ended(state)]
    if not found:
        return []
    losses = np.array([x for _, x in found])
    low, high = losses.min(axis=0), losses.max(axis=0)
    scaled = (losses - low) / np.where(high > low, high - low, 1.0)
    rows: list[tuple[int, float]] = []
    kept: list[np.ndarray] = []
    for (trial, _), row in zip(found, scaled, strict=True):
        if state.violation(trial) == 0:
            kept.append(row)
        reference = (1.0,) * len(aims.objectives)
        rows.append((trial.number, volume(np.array(kept).reshape(-1, len(reference)), reference)))
    return rows


def ended(state: State) -> list[Trial]:
    """Finished search trials with a finite value of everything that counts."""
    names = state.aims.names
    return [
        t
        for t in state.finished()
        if t.curve and all(math.isfinite(t.curve[-1][1].get(n, math.nan)) for n in names)
    ]


def _across(aims: Aims) -> list[Objective]:
    """What stands on the panels' axes: further objectives, and constraints on something else."""
    found = {o.name: o for o in aims.objectives}
    for c in aims.constraints:
        way = "minimize" if c.sense[0] == "<" else "maximize"
        found.setdefault(c.name, Objective(c.name, way))
    return list(found.values())[1:]


def _panel(ax: Axes, state: State, found: list[Trial], x: Objective) -> None:
    y = state.aims.objectives[0]
    at = {t.number: (_shown(x.name, t), _shown(y.name, t)) for t in found}
    front = {t.number for t in state.front()} if state.aims.several else set()
    kept = [t for t in found if state.violation(t) == 0]
    groups = (
        ("breaks a constraint", [t for t in found if state.violation(t) > 0], "x", GREY, 5),
        ("trial", [t for t in kept if t.number not in front], "o", GREY, 5),
        ("on the front", [t for t in kept if t.number in front], "o", BLUE, 7),
    )
    for label, trials, mark, colour, size in groups:
        if trials:
            xs, ys = zip(*(at[t.number] for t in trials), strict=True)
            edge = 1.3 if mark == "x" else 0
            ax.plot(xs, ys, mark, color=colour, ms=size, mew=edge, alpha=0.85, label=label)
    losses = [(y.loss(at[t.number][1]), x.loss(at[t.number][0])) for t in kept]
    best = [at[kept[i].number] for i in front_of(losses, [0.0] * len(losses))]
    if len(best) > 1:
        # From one to the next nothing but the worse of both is known to be had.
        xs, ys = zip(*sorted(best), strict=True)
        where: Literal["post", "pre"] = "post" if x.direction == "minimize" else "pre"
        ax.step(xs, ys, where=where, color=BLUE, lw=1.3, label="front")
    base = state.baseline()
    if base is not None and base.number in at:
        ax.plot(*at[base.number], "D", color=ORANGE, ms=8, mew=0, label="baseline", zorder=5)
    chosen = state.incumbent()
    if chosen is not None and chosen.number in at and chosen is not base:
        ax.plot(*at[chosen.number], "*", color=GREEN, ms=13, mew=0, label="kept", zorder=6)
    middle = state.compromise()
    if middle is not None and middle.number in at:
        ax.plot(*at[middle.number], "o", mfc="none", mec=INK, ms=15, label="compromise", zorder=7)
    values = [p[0] for p in at.values()]
    if min(values) > 0 and max(values) / min(values) > _LOG_RATIO:
        ax.set_xscale("log")
    else:
        from matplotlib.ticker import MaxNLocator  # see drawn

        ax.xaxis.set_major_locator(MaxNLocator(5))
    ax.margins(0.08)
    heights = [at[t.number][1] / _factor(y.name) for t in found]
    low, high = visible_range(heights, state, keep=0.8)
    shown = [low, high, *(h for t, h in zip(found, heights, strict=True) if t.number in front)]
    pad = 0.06 * (max(shown) - min(shown))
    ax.set_ylim((min(shown) - pad) * _factor(y.name), (max(shown) + pad) * _factor(y.name))
    for c in state.aims.constraints:
        if c.name in (x.name, y.name):
            _shade(ax, c, horizontal=c.name == y.name)
    ax.set_xlabel(_axis(x.name))
    ax.set_ylabel(f"validation {_axis(y.name)}")


def _shade(ax: Axes, c: Constraint, *, horizontal: bool) -> None:
    """Fill what the constraint forbids; the view stays where the trials are."""
    limits = ax.get_ylim() if horizontal else ax.get_xlim()
    low, high = sorted(limits)
    bound = c.bound * _factor(c.name)
    ends = (max(bound, low), high) if c.sense[0] == "<" else (low, min(bound, high))
    if ends[0] >= ends[1]:
        return
    span, line = (ax.axhspan, ax.axhline) if horizontal else (ax.axvspan, ax.axvline)
    span(*ends, color=_SHADE, alpha=0.6, lw=0, zorder=0)
    if low < bound < high:
        line(bound, color=INK, lw=0.8, ls=(0, (2, 2)))
    (ax.set_ylim if horizontal else ax.set_xlim)(low, high)


def _shown(name: str, trial: Trial) -> float:
    return trial.curve[-1][1][name] * _factor(name)


def _factor(name: str) -> float:
    return Scale(name.rsplit("/", 1)[-1]).factor


def _axis(name: str) -> str:
    unit = "%" if _factor(name) != 1 else unit_of(name)
    return f"{plain_name(name)} ({unit})" if unit else plain_name(name)
