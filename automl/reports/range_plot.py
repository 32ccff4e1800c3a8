"""The picture of a learning-rate range test."""

from __future__ import annotations

from typing import TYPE_CHECKING

from automl.reports.drawing import BLUE, GREEN, ORANGE, drawn, new_axes
from automl.train.range_test import RangeTest

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@drawn
def range_plot(found: RangeTest) -> Figure:
    """Smoothed loss over the rate; the bounds to search are shaded."""
    figure, ax = new_axes(8.4, 3.9)
    ax.semilogx(found.rates, found.losses, color=BLUE, lw=2)
    ax.axvspan(*found.bounds, color=GREEN, alpha=0.12, lw=0)
    for rate, words, colour in (
        (found.steepest, "steepest", ORANGE),
        (found.lowest, "lowest", GREEN),
    ):
        ax.axvline(rate, color=colour, lw=1.2)
        side = "right" if words == "steepest" else "left"
        ax.annotate(f"{words} {rate:.2g}", (rate, 1.01), xycoords=("data", "axes fraction"),
                    ha=side, color=colour, fontsize=9)  # fmt: skip
    finite = found.losses[: found.losses.index(min(found.losses)) + 1]
    ax.set_ylim(0, 1.3 * max(finite))
    ax.set_xlabel(f"learning rate of {found.optimizer}; the shaded part is worth searching")
    ax.set_ylabel("training loss, smoothed")
    return figure
