"""The pictures of a study as SVG text, in one calm style that colour-blind readers can use.

    comparison   baseline and finalists: every fresh seed a dot, the mean with its interval
    gains        what each change of the winner gives, beside the noise
    history      values in the order of the search, the incumbent's line, the baseline's
    curves       learning curves: all faint, the best and the baseline strong
    importance   fANOVA shares
    parallel     the dimensions that matter, a line a trial
    slices       value against one dimension at a time

Blue is the winner or the best, orange the baseline, grey what was stopped early. Each function
returns "" when there is nothing to draw.
"""

from __future__ import annotations

import io
import math
import re
import textwrap
from collections.abc import Callable, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec

import numpy as np

from automl.records import Status
from automl.reports.importance import Importance, ranks
from automl.reports.numerals import Scale, short
from automl.reports.tables import change_words, recipe_title, verdict_of
from automl.space.ranges import Choice, Value
from automl.space.tree import Space
from automl.study.comparison import quantile
from automl.study.contenders import baseline_recipe
from automl.study.state import State, Trial
from automl.study.verdict import Standing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, GREY, INK = "#0072b2", "#d55e00", "#009e73", "#9aa3ad", "#2b3138"
_FAINT = "#c9ced4"
_ABSENT = -0.12  # height in parallel coordinates of a setting that a recipe does not have
_STYLE = {
    "font.family": "sans-serif", "font.sans-serif": ["DejaVu Sans"], "font.size": 10,
    "axes.edgecolor": _FAINT, "axes.labelcolor": INK, "text.color": INK, "xtick.color": INK,
    "ytick.color": INK, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True,
    "grid.color": "#eceff2", "axes.axisbelow": True, "legend.frameon": False, "legend.fontsize": 9,
    "xtick.major.size": 0, "ytick.major.size": 0, "xtick.minor.size": 0, "ytick.minor.size": 0,
    "svg.fonttype": "none", "figure.facecolor": "white", "axes.titlesize": 10,
}  # fmt: skip
P = ParamSpec("P")


def _drawn(function: Callable[P, Figure | None]) -> Callable[P, str]:
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


def _axes(width: float = 11.2, height: float = 3.9) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure  # see _drawn

    figure = Figure(figsize=(width, height))
    return figure, figure.add_subplot()


# The verdict ---------------------------------------------------------------------------------


@_drawn
def comparison(state: State) -> Figure | None:
    verdict = verdict_of(state)
    rows = [s for s in verdict.standings if s.on(verdict.split).n or s.diverged]
    if len(rows) < 2:
        return None
    rows.sort(key=lambda s: s.label == "baseline")  # the baseline below, the best on top
    scale = Scale(verdict.metric)
    figure, ax = _axes(8.4, 0.9 + 0.66 * len(rows))
    labels = []
    for place, s in enumerate(rows):
        colour = _colour(s, verdict.winner)
        values = scale.factor * np.array(_finals(state, s, verdict.split))
        sample = s.on(verdict.split)
        if sample.mean is not None:
            ax.plot(values, np.full(len(values), place), "o", color=colour, alpha=0.45, ms=6, mew=0)
            mean = scale.factor * sample.mean
            ax.plot([mean, mean], [place - 0.23, place + 0.23], color=colour, lw=2.5)
            if sample.sd is not None:
                half = scale.factor * quantile(sample.n - 1) * sample.sd / math.sqrt(sample.n)
                ax.plot([mean - half, mean + half], [place, place], color=colour, lw=1.2)
            text = f"{scale.spread(sample)}"
            ax.annotate(text, (1.01, place), xycoords=("axes fraction", "data"), va="center",
                        color=colour, fontsize=9)  # fmt: skip
        else:
            ax.annotate("diverged on every seed", (0.5, place), va="center", ha="center",
                        xycoords=("axes fraction", "data"), color=GREY)  # fmt: skip
        title = recipe_title(s.recipe, baseline_recipe(state))
        name = s.label + (" (winner)" if s.label == verdict.winner else "")
        detail = (
            ""
            if title == "baseline"
            else "\n" + textwrap.fill(title, 46, max_lines=2, placeholder=" …")
        )
        labels.append(name + detail)
    ax.set_yticks(range(len(rows)), labels, fontsize=9)
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.grid(axis="y", visible=False)
    ax.margins(x=0.06)
    ax.set_xlabel(
        f"{verdict.split} {scale.axis}; a dot a seed, the line is the mean's 95 % interval"
    )
    return figure


@_drawn
def gains(state: State) -> Figure | None:
    verdict = verdict_of(state)
    rows = [a for a in verdict.ablations if a.gain is not None][:12]
    if not rows:
        return None
    scale = Scale(verdict.metric)
    figure, ax = _axes(8.4, 0.9 + 0.38 * len(rows))
    for place, a in enumerate(rows):
        assert a.gain is not None
        colour = (BLUE if a.gain > 0 else ORANGE) if a.proven else GREY
        gain = scale.factor * a.gain
        ax.barh(place, gain, height=0.62, color=colour, alpha=0.9 if a.proven else 0.6)
        if a.noise is not None:
            wide = scale.factor * a.noise
            ax.plot([gain - wide, gain + wide], [place, place], color=INK, lw=1)
        ax.annotate(scale.signed(a.gain), (1.01, place), xycoords=("axes fraction", "data"),
                    va="center", fontsize=9, color=colour if a.proven else INK)  # fmt: skip
    ax.axvline(0, color=INK, lw=0.8)
    names = [textwrap.shorten(change_words(a), 44, placeholder=" …") for a in rows]
    ax.set_yticks(range(len(rows)), names, fontsize=9)
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.grid(axis="y", visible=False)
    unit = "percentage points of " if scale.share else ""
    ax.set_xlabel(f"gain in {unit}{verdict.split} {scale.words}; grey: within the noise (line)")
    return figure


def _finals(state: State, standing: Standing, split: str) -> list[float]:
    assert state.config is not None
    found = []
    for trial in (state.trials[n] for n in standing.trials if n in state.trials):
        test = (trial.test or {}).get(f"test/{state.config.card.metric}")
        value = test if split == "test" else trial.last(state.metric)
        if trial.status == Status.DONE and value is not None and math.isfinite(value):
            found.append(value)
    return found


def _colour(standing: Standing, winner: str) -> str:
    return ORANGE if standing.label == "baseline" else BLUE if standing.label == winner else GREY


# The search ----------------------------------------------------------------------------------


@_drawn
def history(state: State) -> Figure | None:
    found = _valued(state)
    if not found:
        return None
    assert state.config is not None
    scale = Scale(state.config.card.metric)
    figure, ax = _axes()
    ended = [(t, v) for t, v in found if t.status == Status.DONE]
    stopped = [(t, v) for t, v in found if t.status != Status.DONE]
    low, high = _window([v for _, v in ended] or [v for _, v in found], state)
    size = 5.5 if len(found) <= 100 else 3.5
    for group, colour, alpha, label in (
        (stopped, GREY, 0.6, "stopped early"), (ended, BLUE, 0.75, "trained to the end"),
    ):  # fmt: skip
        inside = [(t.number, v * scale.factor) for t, v in group if low <= v <= high]
        outside = [t.number for t, v in group if not low <= v <= high]
        if inside:
            ax.plot(*zip(*inside, strict=True), "o", color=colour, alpha=alpha, ms=size, mew=0,
                    label=label)  # fmt: skip
        if outside:
            edge, mark = (low, "v") if state.better(1, 0) else (high, "^")
            ax.plot(outside, [edge * scale.factor] * len(outside), mark, color=colour, alpha=0.5,
                    ms=4, mew=0, label=None if inside else f"{label}, off the scale",
                    clip_on=False)  # fmt: skip
    best: float | None = None
    steps: list[tuple[int, float]] = []
    for t, v in ended:
        if best is None or state.better(v, best):
            best = v
            steps.append((t.number, v * scale.factor))
    if steps and best is not None:
        steps.append((max(t.number for t, _ in found), best * scale.factor))
        ax.step(*zip(*steps, strict=True), where="post", color=BLUE, lw=1.6, label="best so far")
    first = state.baseline()
    value = first.last(state.metric) if first else None
    if value is not None and math.isfinite(value):
        ax.axhline(value * scale.factor, color=ORANGE, lw=1.3, ls=(0, (5, 3)), label="baseline")
    pad = 0.04 * (high - low)
    ax.set_ylim((low - pad) * scale.factor, (high + pad) * scale.factor)
    from matplotlib.ticker import MaxNLocator  # see _drawn

    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_xlabel("trial")
    ax.set_ylabel(f"validation {scale.axis}")
    _legend(ax)
    return figure


@_drawn
def curves(state: State) -> Figure | None:
    assert state.config is not None
    scale = Scale(state.config.card.metric)
    found = [t for t in state.search_trials() if len(_points(t, state)) > 0]
    if not found:
        return None
    figure, ax = _axes()
    place = ranks(state)
    order = sorted(found, key=lambda t: place.get(t.number, 0.0))
    best = [t for t in reversed(order) if t.status == Status.DONE][:5]
    top = {t.number for t in best} | {0}
    faint = [t for t in order if t.number not in top]
    alpha = 0.5 if len(faint) < 60 else 0.25
    for t in faint:
        _line(ax, _points(t, state), scale, color=GREY, lw=0.7, alpha=alpha)
    for i, t in reversed(list(enumerate(best))):
        name = f"best, trial {t.number}" if i == 0 else "next four" if i == 1 else None
        if t.number == 0:
            name = None  # drawn as the baseline
        _line(ax, _points(t, state), scale, color=BLUE, lw=2.2 if i == 0 else 1.1,
              alpha=1 if i == 0 else 0.55, label=name)  # fmt: skip
    first = state.baseline()
    if first is not None and _points(first, state):
        _line(ax, _points(first, state), scale, color=ORANGE, lw=1.8, ls=(0, (5, 3)),
              label="baseline")  # fmt: skip
    shown = [v for t in found for _, v in _points(t, state)]
    strong = [v for t in found if t.number in top for _, v in _points(t, state)]
    low, high = _window(strong or shown, state, keep=0.75)
    pad = 0.05 * (high - low)
    ax.set_ylim((low - pad) * scale.factor, (high + pad) * scale.factor)
    ax.set_xlabel("study steps")
    ax.set_ylabel(f"validation {scale.axis}")
    _legend(ax)
    return figure


@_drawn
def importance(found: Sequence[Importance]) -> Figure | None:
    rows = [i for i in found if i.share > 0.002][:10]
    if not rows:
        return None
    figure, ax = _axes(9.4, 0.8 + 0.32 * len(rows))
    shares = [100 * i.share for i in rows]
    ax.barh(range(len(rows)), shares, height=0.62, color=BLUE, alpha=0.85)
    for place, share in enumerate(shares):
        text = f"{share:.0f} %" if share >= 1 else "< 1 %"
        ax.annotate(text, (share, place), xytext=(4, 0), textcoords="offset points", va="center",
                    fontsize=9)  # fmt: skip
    ax.set_yticks(range(len(rows)), [_name(i.name) for i in rows], fontsize=9)
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.set_xlim(0, max(shares) * 1.12)
    ax.grid(axis="y", visible=False)
    ax.set_xlabel("share of the variation between trials that it explains alone (%)")
    return figure


@_drawn
def parallel(state: State, found: Sequence[Importance]) -> Figure | None:
    """At most five axes; the same setting of several methods (their lr) shares one."""
    place = ranks(state)
    trials = [state.trials[n] for n in place]
    assert state.config is not None
    space = Space.from_json(state.config.card.space)
    axes = _merged(found)[:5]
    if len(trials) < 3 or len(axes) < 2:
        return None
    columns = [_column([_lookup(t, names) for t in trials], space, names) for _, names in axes]
    figure, ax = _axes(11.2, 4.2)
    from matplotlib import colormaps  # see _drawn

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


@_drawn
def slices(state: State, found: Sequence[Importance]) -> Figure | None:
    """The six settings that matter most, each against the value."""
    from matplotlib.figure import Figure  # see _drawn

    assert state.config is not None
    space = Space.from_json(state.config.card.space)
    valued = _valued(state)
    names = [i.name for i in found][:6] or [d.name for d in space][:6]
    names = [
        n for n in names if len({str(t.recipe.point.get(n)) for t, _ in valued} - {"None"}) > 1
    ]
    if not names or len(valued) < 3:
        return None
    scale = Scale(state.config.card.metric)
    ended = [v for t, v in valued if t.status == Status.DONE]
    low, high = _window(ended or [v for _, v in valued], state)
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
        ax.set_title(_name(name), fontsize=9)
        pad = 0.06 * (high - low)
        ax.set_ylim((low - pad) * scale.factor, (high + pad) * scale.factor)
    for ax in grid[len(names) :]:
        ax.set_axis_off()
    for row in range(rows):
        grid[3 * row].set_ylabel(scale.axis, fontsize=9)
    return figure


# What they share -----------------------------------------------------------------------------


def _points(trial: Trial, state: State) -> list[tuple[int, float]]:
    return [(s, v) for s, v in trial.values(state.metric) if math.isfinite(v)]


def _valued(state: State) -> list[tuple[Trial, float]]:
    """Search trials with their last finite value."""
    found = []
    for t in state.search_trials():
        points = _points(t, state)
        if points and t.status != Status.DIVERGED:
            found.append((t, points[-1][1]))
    return found


def _window(values: Sequence[float], state: State, *, keep: float = 0.95) -> tuple[float, float]:
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


def _line(ax: Axes, points: Sequence[tuple[int, float]], scale: Scale, **style: object) -> None:
    xs, ys = zip(*points, strict=True)
    marker = "o" if len(points) == 1 else None
    ax.plot(xs, np.array(ys) * scale.factor, marker=marker, ms=3, **style)  # type: ignore[arg-type]


def _legend(ax: Axes) -> None:
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=5, borderaxespad=0, handlelength=1.6)


def _name(name: str) -> str:
    """ "optimizer.adamw.lr" as "adamw lr"; "model.width" as "width"."""
    parts = name.split(".")
    return " ".join(parts[1:]).replace("_", " ") if len(parts) > 1 else name.replace("_", " ")


def _merged(found: Sequence[Importance]) -> list[tuple[str, tuple[str, ...]]]:
    """Axes by their joint importance: (title, names); equal settings of one stage share one."""
    groups: dict[str, list[Importance]] = {}
    for i in found:
        parts = i.name.split(".")
        key = f"{parts[0]}\n{parts[2]}" if len(parts) == 3 else _name(i.name)
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
