"""Whole generations for an evolution strategy, from results that come one by one; and restarts.

An engine wants `population_size` losses at once. Here trials are told in any order and many run at
the same time: as many as have reported make a generation, whichever they were asked for, so that
stragglers count in the next one. A failed trial counts as worse than the worst of its generation.

    same     when the engine has come to rest: again from a random mean, same population
    ipop     the same with twice the population each time
    bipop    a large regime (twice the population each time) and a small one
             (lambda_s = lambda_0 (lambda_l / 2 lambda_0)^(u^2), sigma_s = sigma 10^(-2u),
             u uniform), whichever has spent fewer trials
Sources: Auger and Hansen 2005 (IPOP); Hansen 2009, GECCO companion (BIPOP).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

Raw = Any  # what an engine wants to be told again: its own affair


class Engine(Protocol):
    """An evolution strategy on the unit cube; it minimizes."""

    @property
    def population_size(self) -> int: ...

    def ask(self) -> tuple[Any, Raw]:
        """A place to try, and what to tell of it."""

    def tell(self, solutions: Sequence[tuple[Raw, float]]) -> None: ...

    def foreign(self, place: np.ndarray) -> Raw | None:
        """What to tell of a place that somebody else chose; None: nothing."""

    def should_stop(self) -> bool: ...


class Start(Protocol):
    """Makes an engine; no mean: the prior's."""

    def __call__(
        self, *, mean: np.ndarray | None, sigma: float, seed: int, population_size: int | None
    ) -> Engine: ...


class Generations:
    """An engine and its successors. `d` places; `restart` is "same", "ipop" or "bipop"."""

    def __init__(
        self, start: Start, d: int, *, sigma: float, seed: int, restart: str = "same"
    ) -> None:
        self._start, self._d, self._sigma, self._restart = start, d, sigma, restart
        self._seed = seed
        self._rng = np.random.default_rng([seed, 7])
        self._runs = 0
        self.engine = start(mean=None, sigma=sigma, seed=seed, population_size=None)
        self._first = self._large = self.engine.population_size
        self._small = False  # the present regime
        self._spent = {False: 0, True: 0}
        self._asked: dict[int, tuple[int, Raw]] = {}  # trial -> (run, raw)
        self._told: dict[int, float] = {}  # of the coming generation: trial -> loss

    def began(self, trial: int, raw: Raw | None) -> None:
        """`trial` was begun at what the engine calls `raw`."""
        if raw is not None:
            self._asked[trial] = self._runs, raw

    def observe(self, trial: int, loss: float) -> None:
        """The trial's loss; another one replaces it until its generation is complete."""
        if trial not in self._asked:
            return
        self._told[trial] = loss
        if len(self._told) >= self.engine.population_size:
            self._turn()

    def _turn(self) -> None:
        """Tell the engine a generation; begin anew if it has come to rest."""
        told, self._told = self._told, {}
        finite = [x for x in told.values() if x < math.inf]
        worst = max(finite) + max(max(finite) - min(finite), 1.0) if finite else 1.0
        solutions = [
            (self._asked.pop(trial)[1], loss if loss < math.inf else worst)
            for trial, loss in told.items()
        ]
        self.engine.tell(solutions)
        self._spent[self._small] += len(solutions)
        if self.engine.should_stop():
            self._anew()

    def _anew(self) -> None:
        self._runs += 1
        self._asked = {}  # an engine knows only what it drew itself
        size, sigma = self._first, self._sigma
        self._small = self._restart == "bipop" and self._spent[True] < self._spent[False]
        if self._small:
            u = float(self._rng.random())
            size = math.floor(self._first * (0.5 * self._large / self._first) ** (u * u))
            sigma = self._sigma * 10 ** (-2 * u)
        elif self._restart != "same":
            self._large = size = 2 * self._large
        self.engine = self._start(
            mean=self._rng.random(self._d),
            sigma=sigma,
            seed=self._seed + self._runs,
            population_size=max(size, 4),
        )
