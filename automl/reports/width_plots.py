"""Pictures of what a network's width changes: how far outputs move, and which rates are best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from automl.reports.drawing import drawn, new_axes
from automl.train.coordinates import Moved

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@drawn
def coordinate_plot(found: Mapping[str, Mapping[int, Mapping[str, Moved]]]) -> Figure:
    """Movement of each layer's outputs over the width, a panel a parametrization."""
    figure, axes = _panels(list(found))
    for ax, (name, moved) in zip(axes, found.items(), strict=True):
        widths = sorted(moved)
        layers = list(moved[widths[0]])
        for colour, layer in zip(_colours(len(layers)), layers, strict=True):
            ax.loglog(widths, [moved[w][layer].moved for w in widths], "o-", color=colour,
                      lw=1.8, ms=4, label=layer or "model")  # fmt: skip
        _widths(ax, widths, name)
        ax.set_xlabel("width")
    axes[0].set_ylabel("rms of an output's change")
    axes[-1].legend(fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    return figure


@drawn
def rates_plot(
    found: Mapping[str, Mapping[int, Sequence[float]]], rates: Sequence[float], value: str
) -> Figure:
    """A curve a width of `value` over the learning rate, a panel a parametrization; best marked."""
    figure, axes = _panels(list(found))
    for ax, (name, by_width) in zip(axes, found.items(), strict=True):
        for colour, width in zip(_colours(len(by_width)), sorted(by_width), strict=True):
            values = np.array(by_width[width])
            best = int(np.nanargmin(values))
            ax.semilogx(rates, values, color=colour, lw=1.8, label=f"width {width}")
            ax.semilogx(rates[best], values[best], "o", color=colour, ms=6)
        ax.set_title(name, loc="left", fontsize=10)
        ax.set_xlabel("learning rate")
    finite = np.array([v for by in found.values() for row in by.values() for v in row])
    low = float(np.nanmin(finite))
    high = float(np.nanquantile(finite, 0.85))
    if low > 0 and high > 10 * low:
        axes[0].set_yscale("log")
        axes[0].set_ylim(0.8 * low, high)
    else:
        axes[0].set_ylim(low - 0.05 * abs(low), high)
    axes[0].set_ylabel(value)
    axes[-1].legend(fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def _panels(names: Sequence[str]) -> tuple[Figure, Sequence[Axes]]:
    """As many panels side by side, in our look, with one vertical axis."""
    figure, first = new_axes(4.6 * len(names), 3.6)
    first.remove()
    return figure, figure.subplots(1, len(names), sharey=True, squeeze=False)[0]


def _widths(ax: Axes, widths: Sequence[int], name: str) -> None:
    ax.set_xticks(widths, [str(w) for w in widths])
    ax.minorticks_off()
    ax.set_title(name, loc="left", fontsize=10)


def _colours(count: int) -> Sequence[tuple[float, ...]]:
    """From dark to bright, in their order, for the colour-blind too."""
    from matplotlib import colormaps

    return [colormaps["viridis"](0.9 * i / max(count - 1, 1)) for i in range(count)]
