"""Strategies: the whole search behind two calls, `ask` and `tell`, and the names they go by.

A strategy decides which segment of training comes next, and learns from what it brought. It
never trains, reads no clock and touches no storage, so recorded curves can drive it as well as
real workers. The same results told in the same order give the same asks, in any process: a
driver that was killed builds its strategy anew and repeats the recorded calls.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from automl.aims import Outcome
from automl.errors import StrategyError
from automl.recipe import Recipe
from automl.records import Segment
from automl.search import catalogue
from automl.search.catalogue import CATALOGUE, Fidelity, Setting, look_up
from automl.search.paired import Failure, Trial, Values
from automl.search.prescreen import Pool
from automl.space.tree import Point, Space

__all__ = [
    "Failure",
    "Fronted",
    "Outcome",
    "Strategy",
    "Trial",
    "Values",
    "default_fidelity",
    "make_strategy",
    "strategies",
]

ETA = 3
_FIRST_RUNG = 9  # a full training over this: ranks before a tenth of it mislead


class Strategy(Protocol):
    """What to train next.

    `ask(n)` gives up to n segments to run now; fewer, or none, mean: wait for results. With
    `new=False` only trials that have begun are continued, be it under a new number (a fork);
    new ones share the structure of `like` where the strategy can see to it (`Recipe.structure`).
    `tell` takes {step: value} of a segment that was asked, by its trial; nan, like a Failure, is
    the worst value and ends the trial. Made for several directions, or for constraints, it is told
    {step: Outcome} instead. `seconds` is what the segment took, 0 where nobody knows.
    """

    def ask(self, n: int, *, new: bool = True, like: Recipe | None = None) -> list[Segment]: ...

    def tell(self, segment: Segment, values: Values | Failure, *, seconds: float = 0.0) -> None: ...

    def incumbent(self) -> Trial | None:
        """The best finished trial; before one has finished, the best at the highest step."""

    def label(self, trial: int) -> str:
        """Why the trial was begun, for people: "baseline", "portfolio", or nothing."""

    def reserve(self, recipe: Recipe, label: str) -> int:
        """The number of a trial that is not the strategy's own: it is told nothing of it."""

    def enqueue(self, point: Point, label: str) -> None:
        """Begin a trial at `point` next, trained to the end."""

    @property
    def queued(self) -> int:
        """Trials that were enqueued and have not begun."""


@runtime_checkable
class Ending(Protocol):
    """A strategy that may end before its budget does; `ask` then gives no new trials."""

    def ended(self) -> str:
        """Why, for people; "" while it goes on."""


@runtime_checkable
class Fronted(Protocol):
    """A strategy of several objectives, or of one under constraints."""

    def front(self) -> list[Trial]:
        """Trials at the furthest step that keep the constraints and that none of them beats in
        every objective; the best in the first objective leads."""


def make_strategy(
    name: str,
    space: Space,
    *,
    fidelity: Fidelity,
    direction: str | Sequence[str],
    seed: int,
    workers: int = 1,
    budget: float | None = None,
    portfolio: Sequence[Point] | None = None,
    pool: Pool | None = None,
    early_end: bool = False,
    prior: float = 0.0,
) -> Strategy:
    """The strategy called `name` on `space`.

    Args:
        fidelity: (min_steps, max_steps, eta): first rung, full training, and the factor between
            rungs, of which 1 in eta trials trains on; see `default_fidelity`.
        direction: "maximize" or "minimize" the value that is told; a sequence of them, one an
            objective, where Outcomes are told: several values, or one under constraints.
        seed: of everything random; equal seeds, equal asks.
        workers: segments that run at the same time, usually.
        budget: full trainings that the search can expect to spend.
        portfolio: points that did well elsewhere, best bets first, for a strategy that begins with
            such; the shipped ones when None.
        early_end: begin no more trials once next to nothing is expected of them, where the
            strategy can tell (`Ending`).
        prior: from 0 to 1, how often new trials are drawn near the defaults for as long as that
            pays (`automl.search.prior`).
        pool: networks that a proxy has scored, of which the best are tried first.

    Raises:
        StrategyError: an unknown name, or a fidelity or direction that cannot be.
    """
    look_up(name)
    low, high, eta = fidelity
    if not 1 <= low <= high:
        raise StrategyError(f"fidelity: first rung {low} must lie in 1..{high}")
    if eta < 2:
        raise StrategyError(f"fidelity: eta {eta} must be at least 2")
    several = () if isinstance(direction, str) else tuple(direction)
    for one in [direction] if isinstance(direction, str) else direction:
        if one not in ("maximize", "minimize"):
            raise StrategyError(f"direction '{one}'; write maximize or minimize")
    if not several and not isinstance(direction, str):
        raise StrategyError("no direction; write maximize or minimize, once an objective")
    setting = Setting(
        space,
        fidelity,
        direction == "maximize",
        seed,
        workers,
        budget,
        portfolio,
        pool,
        early_end,
        prior=prior,
        several=several,
    )
    return catalogue.strategy(name, setting)


def strategies() -> dict[str, str]:
    """Names of all strategies, each with one line that says what it does."""
    return {name: entry.about for name, entry in CATALOGUE.items()}


def default_fidelity(max_steps: int, eval_steps: int) -> Fidelity:
    """Rungs for a full training of `max_steps` that is evaluated every `eval_steps`.

    The first rung is the first evaluation at or after a ninth of the training: earlier ranks
    have next to nothing to do with the final ones.

    >>> default_fidelity(900, 50)
    (100, 900, 3)
    """
    low = math.ceil(max_steps / _FIRST_RUNG / eval_steps) * eval_steps
    return min(low, max_steps), max_steps, ETA
