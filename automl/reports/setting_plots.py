"""The pictures of what was chosen: which settings matter, and which of their values do well.

importance   fANOVA shares
parallel     the dimensions that matter, a line a trial
slices       value against one dimension at a time
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from automl.records import Status
from automl.reports.drawing import (
    BLUE,
    GREY,
    INK,
    ORANGE,
    drawn,
    new_axes,
    trials_with_values,
    visible_range,
)
from automl.reports.importance import Importance, ranks
from automl.reports.numerals import Scale, short
from automl.space.ranges import Choice, Value
from automl.space.tree import Space
from automl.study.state import State, Trial

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_ABSENT = -0.12  # height in parallel coordinates of a setting that a recipe does not have


@drawn
def importance(found: Sequence[Importance]) -> Figure | None:
    rows = [i for i in found if i.share > 0.002][:10]
    if not rows:
        return None
    figure, ax = new_axes(9.4, 0.8 + 0.32 * len(rows))
    shares = [100 * i.share for i in rows]
    ax.barh(range(len(rows)), shares, height=0.62, color=BLUE, alpha=0.85)
    for place, share in enumerate(shares):
        text = f"{share:.0f} %" if share >= 1 else "< 1 %"
        ax.annotate(text, (share, place), xytext=(4, 0), textcoords="offset points", va="center",
                    fontsize=9)  # fmt: skip
    ax.set_yticks(range(len(rows)), [setting_name(i.name) for i in rows], fontsize=9)
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.set_xlim(0, max(shares) * 1.12)
    ax.grid(axis="y", visible=False)
    ax.set_xlabel("share of the variation between trials that it explains alone (%)")
    return figure


@drawn
def parallel(state: State, found: Sequence[Importance]) -> Figure | None:
    """At most five axes; the same setting of several methods (their lr) shares one."""
    place = ranks(state)
    trials = [state.trials[n] for n in place if not state.trials[n].recipe.changes]
    assert state.config is not None
    space = Space.from_json(state.config.card.space)
    axes = _merged(found)[:5]
    if len(trials) < 3 or len(axes) < 2:
        return None
    columns = [_column([_lookup(t, names) for t in trials], space, names) for _, names in axes]
    figure, ax = new_axes(11.2, 4.2)
    from matplotlib import colormaps  # see drawn

    colours = colormaps["cividis_r"]
    order = sorted(range(len(trials)), key=lambda i: place[trials[i].number])
    busy = len(trials) > 120
    for i in order:
        rank = place[trials[i].number]
        top = rank > (0.97 if busy else 0.9)
        heights = [_ABSENT if math.isnan(c[0][i]) else c[0][i] for c in columns] + [rank]
        ax.plot(range(len(heights)), heights, color=colours(0.08 + 0.9 * rank),
                alpha=0.95 if top else 0.15 if busy else 0.35, lw=1.6 if top else 0.8)  # fmt: skip
    for x, ((name, _), (_, ticks)) in enumerate(zip(axes, columns, strict=True)):
        ax.plot([x, x], [0, 1], color=INK, lw=0.8)
        for height, text in ticks:
            ax.annotate(text, (x, height), xytext=(-4, 0), textcoords="offset points", ha="right",
                        va="center", fontsize=8,
                        zorder=9, bbox={"fc": "white", "ec": "none", "alpha": 0.92, "pad": 1},
            )  # fmt: skip
        if any(math.isnan(h) for h in columns[x][0]):
            ax.annotate("not used", (x, _ABSENT), xytext=(0, -9), textcoords="offset points",
                        ha="center", fontsize=8)  # fmt: skip
        ax.annotate(name, (x, 1.07), ha="center", fontsize=9, annotation_clip=False)
    last = len(axes)
    ax.plot([last, last], [0, 1], color=INK, lw=0.8)
    ax.annotate("rank", (last, 1.07), ha="center", fontsize=9, annotation_clip=False)
    for height, text in ((1.0, "best"), (0.0, "worst")):
        ax.annotate(text, (last, height), xytext=(5, 0), textcoords="offset points", va="center",
                    fontsize=8)  # fmt: skip
    ax.set_xlim(-0.45, last + 0.3)
    ax.set_ylim(_ABSENT - 0.06, 1.04)
    ax.set_axis_off()
    return figure


@drawn
def slices(state: State, found: Sequence[Importance]) -> Figure | None:
    """The six settings that matter most, each against the value."""
    from matplotlib.figure import Figure  # see drawn

    assert state.config is not None
    space = Space.from_json(state.config.card.space)
    # One whose settings changed meanwhile stands nowhere.
    valued = [(t, v) for t, v in trials_with_values(state) if not t.recipe.changes]
    names = [i.name for i in found][:6] or [d.name for d in space][:6]
    names = [
        n for n in names if len({str(t.recipe.point.get(n)) for t, _ in valued} - {"None"}) > 1
    ]
    if not names or len(valued) < 3:
        return None
    scale = Scale(state.config.card.metric)
    ended = [v for t, v in valued if t.status == Status.DONE]
    low, high = visible_range(ended or [v for _, v in valued], state)
    rows = -(-len(names) // 3)
    figure = Figure(figsize=(11.2, 2.5 * rows + 0.3), layout="constrained")
    grid = figure.subplots(rows, 3, squeeze=False, sharey=True).ravel()
    rng = np.random.default_rng(0)
    incumbent = state.incumbent()
    for ax, name in zip(grid, names, strict=False):
        range_ = space[name].range
        here = [(t, v) for t, v in valued if name in t.recipe.point]
        choice = isinstance(range_, Choice)
        options = list(range_.options) if isinstance(range_, Choice) else []
        for t, v in sorted(here, key=lambda p: p[0].status == Status.DONE):
            value = t.recipe.point[name]
            x = options.index(value) + rng.uniform(-0.18, 0.18) if choice else float(value)  # type: ignore[arg-type]
            done = t.status == Status.DONE
            ax.plot(x, min(max(v, low), high) * scale.factor, "o", mew=0,
                    color=BLUE if done else GREY, alpha=0.75 if done else 0.4,
                    ms=4 if len(valued) <= 100 else 2.8)  # fmt: skip
            if t is incumbent:
                ax.plot(x, v * scale.factor, "*", color=ORANGE, ms=11, mew=0, zorder=5)
        if choice:
            ax.set_xticks(range(len(options)), [_wrap(o) for o in options], fontsize=8)
            ax.set_xlim(-0.5, len(options) - 0.5)
        else:
            ax.set_xscale("log" if range_.log else "linear")  # type: ignore[union-attr]
            ax.tick_params(labelsize=8)
        ax.set_title(setting_name(name), fontsize=9)
        pad = 0.06 * (high - low)
        ax.set_ylim((low - pad) * scale.factor, (high + pad) * scale.factor)
    for ax in grid[len(names) :]:
        ax.set_axis_off()
    for row in range(rows):
        grid[3 * row].set_ylabel(scale.axis, fontsize=9)
    return figure


def setting_name(name: str) -> str:
    """ "optimizer.adamw.lr" as "adamw lr"; "model.width" as "width"."""
    parts = name.split(".")
    return " ".join(parts[1:]).replace("_", " ") if len(parts) > 1 else name.replace("_", " ")


def _merged(found: Sequence[Importance]) -> list[tuple[str, tuple[str, ...]]]:
    """Axes by their joint importance: (title, names); equal settings of one stage share one."""
    groups: dict[str, list[Importance]] = {}
    for i in found:
        parts = i.name.split(".")
        key = f"{parts[0]}\n{parts[2]}" if len(parts) == 3 else setting_name(i.name)
        groups.setdefault(key, []).append(i)
    order = sorted(groups, key=lambda k: -sum(i.share for i in groups[k]))
    return [(k.replace("_", " "), tuple(i.name for i in groups[k])) for k in order]


def _lookup(trial: Trial, names: Sequence[str]) -> Value:
    return next((trial.recipe.point[n] for n in names if n in trial.recipe.point), None)


def _column(
    values: Sequence[Value], space: Space, names: Sequence[str]
) -> tuple[list[float], list[tuple[float, str]]]:
    """Heights in [0, 1] of the values (NaN where there is none), and the ticks (height, text)."""
    ranges = [space[n].range for n in names]
    if any(isinstance(r, Choice) for r in ranges):
        options = list(dict.fromkeys(o for r in ranges if isinstance(r, Choice) for o in r.options))
        span = max(len(options) - 1, 1)
        heights = [options.index(v) / span if v in options else math.nan for v in values]
        # A little aside, so that lines of one option do not hide each other.
        shifts = np.random.default_rng(0).uniform(-0.025, 0.025, len(heights))
        ticks = [(i / span, str(o)) for i, o in enumerate(options)]
        return [h + s for h, s in zip(heights, shifts.tolist(), strict=True)], ticks
    log = any(r.log for r in ranges if not isinstance(r, Choice))
    bounds = [(r.low, r.high) for r in ranges if not isinstance(r, Choice)]
    low, high = float(min(b[0] for b in bounds)), float(max(b[1] for b in bounds))

    def height(value: float) -> float:
        if high == low:
            return 0.5
        if log:
            return math.log(value / low) / math.log(high / low)
        return (value - low) / (high - low)

    heights = [math.nan if v is None else height(float(v)) for v in values]
    if log:
        tens = [10.0**e for e in range(math.ceil(math.log10(low) - 1e-9),
                                       math.floor(math.log10(high) + 1e-9) + 1)]  # fmt: skip
        marks = tens if len(tens) >= 2 else [low, math.sqrt(low * high), high]
        marks = marks[:: -(-len(marks) // 5)]
    else:
        marks = [low, (low + high) / 2, high]
    return heights, [(height(m), short(float(f"{m:.2g}"))) for m in marks]


def _wrap(option: Value) -> str:
    return short(option).replace("+", "+\n").replace("_", "_\n" if len(str(option)) > 10 else "_")
