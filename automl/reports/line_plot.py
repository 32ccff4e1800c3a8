"""The numbers of a recipe that change while it trains, over the steps: what a population found."""

from __future__ import annotations

from typing import TYPE_CHECKING

from automl.reports.drawing import BLUE, GREY, drawn
from automl.reports.setting_plots import setting_name
from automl.reports.tables import winner_recipe
from automl.space.ranges import Choice
from automl.space.tree import Space
from automl.study.state import State

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLUMNS, _MOST = 3, 12


@drawn
def line(state: State) -> Figure | None:
    """A panel a number, those that change by most of their range first; None where none does."""
    from matplotlib.figure import Figure  # see drawn

    recipe = winner_recipe(state)
    if recipe is None or not recipe.changes or state.config is None:
        return None
    space = Space.from_json(state.config.card.space)
    turns = [0, *(at for at, _ in recipe.changes), recipe.steps]
    names = dict.fromkeys(n for _, values in recipe.changes for n in values if n in space)
    values = {n: [float(str(recipe.at(at).point[n])) for at in turns[:-1]] for n in names}

    def span(name: str) -> float:
        places = [space[name].range.encode(v) for v in values[name]]
        return min(places) - max(places)

    shown = sorted(values, key=span)[:_MOST]
    if not shown:
        return None
    columns = min(_COLUMNS, len(shown))
    rows = -(-len(shown) // columns)
    figure = Figure(figsize=(3.7 * columns, 1.9 * rows + 0.3), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True).ravel()
    for ax, name in zip(grid, shown, strict=False):
        for at in turns[1:-1]:
            ax.axvline(at, color=GREY, lw=0.6, alpha=0.4)
        ax.stairs(values[name], turns, baseline=None, color=BLUE, lw=1.8)
        range_ = space[name].range
        if not isinstance(range_, Choice) and range_.log:
            ax.set_yscale("log")
        ax.margins(y=0.12)
        ax.set_title(setting_name(name), fontsize=9)
        ax.tick_params(labelsize=8)
    for ax in grid[len(shown) :]:
        ax.set_axis_off()
    figure.supxlabel("step", fontsize=9)
    return figure
