"""SMAC3's random forest, with every training to its end or under its Hyperband, by ask and tell."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ConfigSpace import Categorical, ConfigurationSpace, Float, Integer
from recorded import Problem
from search_peers import first_rung
from smac import HyperparameterOptimizationFacade, MultiFidelityFacade, Scenario
from smac.runhistory import TrialInfo, TrialValue

from automl.space.ranges import Choice, Int, Range
from automl.space.tree import Point


class SmacPeer:
    """The facade of `kind`, "hpo" or "multi-fidelity". It minimizes.

    A configuration that comes again with a larger budget goes on from where it stood.
    """

    def __init__(self, problem: Problem, fulls: int, seed: int, *, kind: str) -> None:
        self._notes = tempfile.TemporaryDirectory(prefix="smac-")  # it writes some, unasked
        space = ConfigurationSpace(seed=seed)
        space.add(*(_part(d.name, d.range) for d in problem.space))
        whole = kind == "hpo"
        scenario = Scenario(
            space,
            output_directory=Path(self._notes.name),
            deterministic=True,
            n_trials=fulls if whole else fulls * problem.steps,
            min_budget=None if whole else first_rung(problem),
            max_budget=None if whole else problem.steps,
            seed=seed,
        )
        facade = HyperparameterOptimizationFacade if whole else MultiFidelityFacade
        self._smac = facade(scenario, _never, overwrite=True, logging_level=50)
        self._steps = problem.steps
        self._asked: dict[int, TrialInfo] = {}
        self._trained: dict[Any, int] = {}  # configuration -> steps

    def begin(self, trial: int) -> tuple[Point, int] | None:
        try:
            info = self._smac.ask()
        except StopIteration:
            return None
        self._asked[trial] = info
        start = min(self._trained.get(info.config, 0), self._stop(info) - 1)
        return dict(info.config), start

    def report(self, trial: int, step: int, score: float) -> bool:
        return step < self._stop(self._asked[trial])

    def end(self, trial: int, scores: Sequence[float]) -> None:
        info = self._asked.pop(trial)
        self._trained[info.config] = len(scores)
        self._smac.tell(info, TrialValue(cost=-max(scores)), save=False)

    def _stop(self, info: TrialInfo) -> int:
        return self._steps if info.budget is None else round(info.budget)


def _never(config: Any, seed: int = 0, budget: float | None = None) -> float:
    raise RuntimeError("asked and told, never called")


def _part(name: str, range_: Range) -> Any:
    if isinstance(range_, Choice):
        return Categorical(name, list(range_.options))
    kind = Integer if isinstance(range_, Int) else Float
    return kind(name, (range_.low, range_.high), log=range_.log)
