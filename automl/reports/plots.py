"""The pictures of what a study found: its verdict and the way there.

comparison   baseline and finalists: every fresh seed a dot, the mean with its interval
gains        what each change of the winner gives, beside the noise
history      values in the order of the search, the incumbent's line, the baseline's
curves       learning curves: all faint, the best and the baseline strong
"""

from __future__ import annotations

import math
import textwrap
from typing import TYPE_CHECKING

import numpy as np

from automl.records import Status
from automl.reports.drawing import (
    BLUE,
    GREY,
    INK,
    ORANGE,
    add_legend,
    draw_line,
    drawn,
    finite_points,
    new_axes,
    trials_with_values,
    visible_range,
)
from automl.reports.importance import ranks
from automl.reports.numerals import Scale
from automl.reports.tables import change_words, recipe_title, verdict_of
from automl.study.comparison import quantile
from automl.study.contenders import baseline_recipe
from automl.study.state import State
from automl.study.verdict import Standing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# The verdict ---------------------------------------------------------------------------------


@drawn
def comparison(state: State) -> Figure | None:
    verdict = verdict_of(state)
    rows = [s for s in verdict.standings if s.on(verdict.split).n or s.diverged]
    if len(rows) < 2:
        return None
    rows.sort(key=lambda s: s.label == "baseline")  # the baseline below, the best on top
    scale = Scale(verdict.metric)
    figure, ax = new_axes(8.4, 0.9 + 0.66 * len(rows))
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
                ends = np.array([mean - half, mean + half])
                ends = ends.clip(0, scale.factor) if scale.share else ends
                ax.plot(ends, [place, place], color=colour, lw=1.2)
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


@drawn
def gains(state: State) -> Figure | None:
    verdict = verdict_of(state)
    rows = [a for a in verdict.ablations if a.gain is not None][:12]
    if not rows:
        return None
    scale = Scale(verdict.metric)
    figure, ax = new_axes(8.4, 0.9 + 0.38 * len(rows))
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


@drawn
def history(state: State) -> Figure | None:
    found = trials_with_values(state)
    if not found:
        return None
    assert state.config is not None
    scale = Scale(state.config.card.metric)
    figure, ax = new_axes()
    ended = [(t, v) for t, v in found if t.status == Status.DONE]
    stopped = [(t, v) for t, v in found if t.status != Status.DONE]
    low, high = visible_range([v for _, v in ended] or [v for _, v in found], state)
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
        if state.violation(t) == 0 and (best is None or state.better(v, best)):
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
    from matplotlib.ticker import MaxNLocator  # see drawn

    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_xlabel("trial")
    ax.set_ylabel(f"validation {scale.axis}")
    add_legend(ax)
    return figure


@drawn
def curves(state: State) -> Figure | None:
    assert state.config is not None
    scale = Scale(state.config.card.metric)
    found = [t for t in state.search_trials() if len(finite_points(t, state)) > 0]
    if not found:
        return None
    figure, ax = new_axes()
    place = ranks(state)
    # Of equals the first is the best, as everywhere else.
    order = sorted(found, key=lambda t: (place.get(t.number, 0.0), -t.number))
    best = [t for t in reversed(order) if t.status == Status.DONE][:5]
    top = {t.number for t in best} | {0}
    faint = [t for t in order if t.number not in top]
    alpha = 0.5 if len(faint) < 60 else 0.25
    for t in faint:
        draw_line(ax, finite_points(t, state), scale, color=GREY, lw=0.7, alpha=alpha)
    for i, t in reversed(list(enumerate(best))):
        name = f"best, trial {t.number}" if i == 0 else "next four" if i == 1 else None
        if t.number == 0:
            name = None  # drawn as the baseline
        draw_line(ax, finite_points(t, state), scale, color=BLUE, lw=2.2 if i == 0 else 1.1,
              alpha=1 if i == 0 else 0.55, label=name)  # fmt: skip
    first = state.baseline()
    if first is not None and finite_points(first, state):
        draw_line(ax, finite_points(first, state), scale, color=ORANGE, lw=1.8, ls=(0, (5, 3)),
              label="baseline")  # fmt: skip
    shown = [v for t in found for _, v in finite_points(t, state)]
    strong = [v for t in found if t.number in top for _, v in finite_points(t, state)]
    low, high = visible_range(strong or shown, state, keep=0.75)
    pad = 0.05 * (high - low)
    ax.set_ylim((low - pad) * scale.factor, (high + pad) * scale.factor)
    ax.set_xlabel("study steps")
    ax.set_ylabel(f"validation {scale.axis}")
    add_legend(ax)
    return figure
