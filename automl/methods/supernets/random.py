"""Random cells: no supernet, the yardstick of all that have one.

    `cells` architectures, each edge's operation uniform over its candidates but "none"

They enter the study as so many trials, about as many as a search costs. In small spaces the best of
a few random cells is hard to beat; a search that does not is not worth its price.
Source: Li and Talwalkar 2019, arXiv:1902.07638.
"""

from __future__ import annotations

from automl.methods.stages import SupernetMethod
from automl.space.ranges import Int

METHOD = SupernetMethod(
    ranges={"cells": Int(1, 100, default=4)},
    learns=False,
    selection="random",
    when="to see what a search is worth",
    source="arXiv:1902.07638",
)
