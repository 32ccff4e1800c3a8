"""Optuna's samplers and pruners, by ask and tell."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from recorded import Problem
from search_peers import first_rung

from automl.space.ranges import Choice, Int, Range
from automl.space.tree import Point


class OptunaPeer:
    """A study in memory. Without a pruner a trial's value is its best epoch, else its last."""

    def __init__(
        self, problem: Problem, seed: int, *, sampler: str, pruner: str, baseline: bool
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        first = first_rung(problem) if pruner.endswith("@9th") else 1
        samplers = {
            "tpe": optuna.samplers.TPESampler,
            "gp": optuna.samplers.GPSampler,
            "cma": optuna.samplers.CmaEsSampler,
        }
        pruners = {
            "none": optuna.pruners.NopPruner,
            "hyperband": lambda: optuna.pruners.HyperbandPruner(min_resource=first),
            "median": lambda: optuna.pruners.MedianPruner(n_warmup_steps=first),
        }
        self._steps, self._prunes = problem.steps, pruner != "none"
        self._study = optuna.create_study(
            direction="maximize",
            sampler=samplers[sampler](seed=seed),
            pruner=pruners[pruner.split("@")[0]](),
        )
        if baseline:
            self._study.enqueue_trial(problem.space.default())
        self._space = {d.name: distribution(d.range) for d in problem.space}
        self._trials: dict[int, Any] = {}

    def begin(self, trial: int) -> tuple[Point, int]:
        self._trials[trial] = self._study.ask(self._space)
        return self._trials[trial].params, 0

    def report(self, trial: int, step: int, score: float) -> bool:
        if not self._prunes:
            return True
        self._trials[trial].report(score, step)
        return step == self._steps or not self._trials[trial].should_prune()

    def end(self, trial: int, scores: Sequence[float]) -> None:
        asked = self._trials.pop(trial)
        if len(scores) < self._steps:  # its value is the last that it reported
            self._study.tell(asked, state=optuna.trial.TrialState.PRUNED)
        else:
            self._study.tell(asked, scores[-1] if self._prunes else max(scores))


def distribution(range_: Range) -> Any:
    """Optuna's form of a range."""
    if isinstance(range_, Choice):
        return CategoricalDistribution(range_.options)
    kind = IntDistribution if isinstance(range_, Int) else FloatDistribution
    return kind(range_.low, range_.high, log=range_.log)
