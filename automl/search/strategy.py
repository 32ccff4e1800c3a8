"""Strategies: the whole search behind two calls, `ask` and `tell`, and the names they go by.

A strategy decides which segment of training comes next, and learns from what it brought. It
never trains, reads no clock and touches no storage, so recorded curves can drive it as well as
real workers. The same results told in the same order give the same asks, in any process: a
driver that was killed builds its strategy anew and repeats the recorded calls.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from automl.errors import StrategyError
from automl.recipe import Recipe
from automl.records import Segment
from automl.registry import nearest
from automl.search.fidelity.asha import Asha, rungs
from automl.search.fidelity.cautious import Cautious
from automl.search.fidelity.full import Full
from automl.search.fidelity.hyperband import Hyperband
from automl.search.paired import Failure, Paired, Rule, Sampler, Trial
from automl.search.portfolio import portfolio as shipped
from automl.search.prescreen import Pool, Prescreened
from automl.search.samplers.random import RandomSampler
from automl.space.tree import Point, Space

__all__ = ["Failure", "Strategy", "Trial", "default_fidelity", "make_strategy", "strategies"]

Fidelity = tuple[int, int, int]  # min_steps, max_steps, eta

ETA = 3
_FIRST_RUNG = 9  # a full training over this: ranks before a tenth of it mislead


class Strategy(Protocol):
    """What to train next.

    `ask(n)` gives up to n segments to run now; fewer, or none, mean: wait for results. With
    `new=False` only trials that have begun are continued; new ones share the structure of `like`
    where the strategy can see to it (`Recipe.structure`). `tell` takes {step: value} of a segment
    that was asked, by its trial; nan, like a Failure, is the worst value and ends the trial.
    """

    def ask(self, n: int, *, new: bool = True, like: Recipe | None = None) -> list[Segment]: ...

    def tell(self, segment: Segment, values: Mapping[int, float] | Failure) -> None: ...

    def incumbent(self) -> Trial | None:
        """The best finished trial; before one has finished, the best at the highest step."""

    def label(self, trial: int) -> str:
        """Why the trial was begun, for people: "baseline", "portfolio", or nothing."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What every strategy is made from; `budget` in full trainings, None when nobody knows."""

    space: Space
    fidelity: Fidelity
    maximize: bool
    seed: int
    workers: int
    budget: float | None
    portfolio: Sequence[Point] | None
    pool: Pool | None


def make_strategy(
    name: str,
    space: Space,
    *,
    fidelity: Fidelity,
    direction: str,
    seed: int,
    workers: int = 1,
    budget: float | None = None,
    portfolio: Sequence[Point] | None = None,
    pool: Pool | None = None,
) -> Strategy:
    """The strategy called `name` on `space`.

    Args:
        fidelity: (min_steps, max_steps, eta): first rung, full training, and the factor between
            rungs, of which 1 in eta trials trains on; see `default_fidelity`.
        direction: "maximize" or "minimize" the value that is told.
        seed: of everything random; equal seeds, equal asks.
        workers: segments that run at the same time, usually.
        budget: full trainings that the search can expect to spend.
        portfolio: points that did well elsewhere, best bets first, for a strategy that begins with
            such; the shipped ones when None.
        pool: networks that a proxy has scored, of which the best are tried first.

    Raises:
        StrategyError: an unknown name, or a fidelity or direction that cannot be.
    """
    if name not in _STRATEGIES:
        raise StrategyError(f"no strategy named '{name}'{nearest(name, _STRATEGIES)}")
    low, high, eta = fidelity
    if not 1 <= low <= high:
        raise StrategyError(f"fidelity: first rung {low} must lie in 1..{high}")
    if eta < 2:
        raise StrategyError(f"fidelity: eta {eta} must be at least 2")
    if direction not in ("maximize", "minimize"):
        raise StrategyError(f"direction '{direction}'; write maximize or minimize")
    setting = Setting(
        space, fidelity, direction == "maximize", seed, workers, budget, portfolio, pool
    )
    return _STRATEGIES[name][1](setting)


def strategies() -> dict[str, str]:
    """Names of all strategies, each with one line that says what it does."""
    return {name: about for name, (about, _) in _STRATEGIES.items()}


def default_fidelity(max_steps: int, eval_steps: int) -> Fidelity:
    """Rungs for a full training of `max_steps` that is evaluated every `eval_steps`.

    The first rung is the first evaluation at or after a ninth of the training: earlier ranks
    have next to nothing to do with the final ones.

    >>> default_fidelity(900, 50)
    (100, 900, 3)
    """
    low = math.ceil(max_steps / _FIRST_RUNG / eval_steps) * eval_steps
    return min(low, max_steps), max_steps, ETA


def _auto(setting: Setting) -> Strategy:
    from automl.search.auto import AutoSampler  # late, see _tpe_sampler

    sampler = AutoSampler(
        setting.space,
        shipped(setting.space) if setting.portfolio is None else setting.portfolio,
        seed=setting.seed,
        budget=setting.budget,
        rungs=_shares(setting),
    )
    return _paired(setting, sampler, rule=Cautious)


def _gp(setting: Setting) -> Strategy:
    from automl.search.samplers.gp import GpSampler  # late: SciPy's parts cost a third of a second

    return _paired(setting, GpSampler(setting.space, seed=setting.seed))


def _shares(setting: Setting) -> tuple[float, ...]:
    steps = rungs(*setting.fidelity)
    return tuple(step / steps[-1] for step in steps)


def _random(setting: Setting) -> Strategy:
    return _paired(setting, RandomSampler(setting.space, seed=setting.seed))


def _tpe(setting: Setting) -> Strategy:
    return _paired(setting, _tpe_sampler(setting))


def _asha(setting: Setting) -> Strategy:
    return _paired(setting, _tpe_sampler(setting), rule=Asha)


def _hyperband(setting: Setting) -> Strategy:
    return _paired(setting, _tpe_sampler(setting), rule=Hyperband)


def _paired(
    setting: Setting,
    sampler: Sampler,
    *,
    rule: Callable[[int, int, int], Rule] = Full,
) -> Strategy:
    if setting.pool is not None:
        sampler = Prescreened(setting.space, sampler, setting.pool)
    return Paired(
        setting.space,
        sampler,
        rule(*setting.fidelity),
        steps=setting.fidelity[1],
        maximize=setting.maximize,
        seed=setting.seed,
    )


def _tpe_sampler(setting: Setting) -> Sampler:
    # Late: Optuna costs half a second, which random search and --help need not pay.
    from automl.search.samplers.tpe import TpeSampler

    return TpeSampler(setting.space, seed=setting.seed)


_STRATEGIES: dict[str, tuple[str, Callable[[Setting], Strategy]]] = {
    "auto": (
        "the best we know: good recipes first, then our GP, few trials trained to the end",
        _auto,
    ),
    "gp": ("a Gaussian process (ours), every trial trained to the end", _gp),
    "tpe": ("Optuna's TPE, every trial trained to the end", _tpe),
    "asha": ("TPE; at each rung the best third trains on (ASHA)", _asha),
    "hyperband": ("TPE; brackets of rungs that start early and late (Hyperband)", _hyperband),
    "random": ("points drawn at random, every trial trained to the end", _random),
}
