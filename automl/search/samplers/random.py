"""Random search: points drawn uniformly on each dimension's own scale, whatever came back.

The yardstick for every other sampler, and hard to beat with many workers and few results.
Source: Bergstra and Bengio 2012, JMLR 13.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from automl.search.paired import Suggestion
from automl.space.tree import Point, Space


class RandomSampler:
    """Draws from `space`; learns nothing."""

    def __init__(self, space: Space, *, seed: int) -> None:
        self._space = space
        self._rng = np.random.default_rng(seed)

    def suggest(self, trial: int) -> Suggestion:
        return Suggestion(self._space.sample(self._rng))

    def suggest_like(self, trial: int, fixed: Point) -> Suggestion:
        return Suggestion(self._space.sample(self._rng, fixed))

    def adopt(self, trial: int, point: Point) -> None:
        pass

    def observe(self, trial: int, loss: float, curve: Mapping[float, float] | None = None) -> None:
        pass
