"""--prior: new trials drawn near the defaults, for as long as these prove better than the others.

    drawn     every active number from a normal around its default, on its own scale, with standard
              deviation `_SPREAD` of its range, turned back at the edges; every choice is its
              default with probability 1/2, else any other option
    share     of new trials that are drawn so:    strength ((won + 1) / (drawn + 1))^2
    won       their losses that are below the median of all other trials' losses; none before
              there are others

A default is a belief about where good values lie; trial 0 and the portfolio believe in it once, a
strength from 0 to 1 believes on. With a wrong prior nothing is won, and of t trials only about
(3 strength t)^(1/3) are drawn in vain; a right one is heeded until the sampler itself proposes
better. Whatever the sampler, it learns from these trials as from its own.
Source: the idea of a share that evidence takes back is that of PriorBand, Mallik et al. 2023,
arXiv:2306.12370; the rule is ours.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from automl.errors import StrategyError
from automl.registry import nearest
from automl.search.paired import Sampler, Suggestion
from automl.search.wrapping import Wrapping
from automl.space.ranges import Choice, Range, Value
from automl.space.tree import Point, Space

_SPREAD = 0.15
_LIKELY = 0.5  # a choice's default
_LEVELS = {"off": 0.0, "weak": 0.3, "strong": 0.8}


def strength(text: str) -> float:
    """--prior as typed, 0 to 1.

    >>> strength("weak"), strength("0.5")
    (0.3, 0.5)

    Raises:
        StrategyError: neither a level nor a number from 0 to 1.
    """
    try:
        value = _LEVELS[text] if text in _LEVELS else float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        close = nearest(text, _LEVELS)
        raise StrategyError(
            f"--prior {text}: give off, weak, strong or a number from 0 to 1{close}"
        )
    return value


class Believing(Wrapping):
    """A sampler beside draws from the prior."""

    def __init__(
        self, space: Space, sampler: Sampler, *, strength: float, seed: int, full: bool
    ) -> None:
        """`full`: what is drawn trains to its end, whatever the rungs say."""
        super().__init__(sampler)
        self._space = space
        self._full = full
        self._strength = strength
        self._rng = np.random.default_rng([seed, 7])
        self._drawn: set[int] = set()
        self._losses: dict[int, float] = {}

    def _note(self, trial: int, loss: float, curve: Mapping[float, float] | None) -> None:
        self._losses[trial] = loss

    def _next(self, trial: int, fixed: Point | None) -> Suggestion:
        if self._rng.random() < self._share():
            self._drawn.add(trial)
            point = self._draw(fixed or {})
            self.sampler.adopt(trial, point)
            return Suggestion(point, "prior", self._full)
        return super()._next(trial, fixed)

    def _share(self) -> float:
        """Of new trials that are drawn from the prior; those that run count as not won.

        Trial 0 stands on neither side: it is the prior's own point.
        """
        others = [v for t, v in self._losses.items() if t and t not in self._drawn]
        bar = float(np.median(others)) if others else -math.inf
        won = sum(self._losses.get(t, math.inf) < bar for t in self._drawn)
        return self._strength * ((won + 1) / (len(self._drawn) + 1)) ** 2

    def _draw(self, fixed: Point) -> dict[str, Value]:
        wanted = dict(fixed)
        for d in self._space:
            wanted.setdefault(d.name, self._near(d.range))
        return self._space.complete(wanted)

    def _near(self, range_: Range) -> Value:
        if isinstance(range_, Choice):
            others = [o for o in range_.options if o != range_.default]
            if not others or self._rng.random() < _LIKELY:
                return range_.default
            return others[int(self._rng.integers(len(others)))]
        place = range_.encode(range_.default) + _SPREAD * float(self._rng.standard_normal())
        return range_.decode(1 - abs(1 - abs(place) % 2))
