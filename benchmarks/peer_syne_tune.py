"""Syne Tune's schedulers: ASHA with random points, BOHB with its density estimates.

Their simulator wants a table of all configurations; here the scheduler itself is driven, told
every epoch as the tuner tells it.
"""

from __future__ import annotations

import datetime
import logging
import warnings
from collections.abc import Sequence
from typing import Any

from recorded import Problem
from search_peers import first_rung
from syne_tune import config_space
from syne_tune.backend.trial_status import Trial
from syne_tune.optimizer import baselines
from syne_tune.optimizer.scheduler import SchedulerDecision

from automl.space.ranges import Choice, Int, Range
from automl.space.tree import Point


class SyneTunePeer:
    """The scheduler `name` of `syne_tune.optimizer.baselines`; of the stopping kind."""

    def __init__(self, problem: Problem, seed: int, *, name: str) -> None:
        logging.getLogger("syne_tune").setLevel(logging.ERROR)
        warnings.filterwarnings("ignore", "After 0.17", FutureWarning)  # statsmodels, of its luck
        self._scheduler = getattr(baselines, name)(
            {d.name: _domain(d.range) for d in problem.space},
            metric="score",
            time_attr="step",
            max_t=problem.steps,
            do_minimize=False,
            random_seed=seed,
            grace_period=first_rung(problem),
        )
        self._steps = problem.steps
        self._trials: dict[int, Trial] = {}

    def begin(self, trial: int) -> tuple[Point, int] | None:
        suggested = self._scheduler.suggest()
        if suggested is None:
            return None
        made = Trial(trial, suggested.config, datetime.datetime.now(datetime.UTC))
        self._trials[trial] = made
        self._scheduler.on_trial_add(made)
        return dict(suggested.config), 0

    def report(self, trial: int, step: int, score: float) -> bool:
        if step == self._steps:
            return False
        found = {"score": score, "step": step}
        decision = self._scheduler.on_trial_result(self._trials[trial], found)
        return bool(decision == SchedulerDecision.CONTINUE)

    def end(self, trial: int, scores: Sequence[float]) -> None:
        made = self._trials.pop(trial)
        if len(scores) == self._steps:
            found = {"score": scores[-1], "step": self._steps}
            self._scheduler.on_trial_complete(made, found)
        else:
            self._scheduler.on_trial_remove(made)


def _domain(range_: Range) -> Any:
    if isinstance(range_, Choice):
        return config_space.choice(list(range_.options))
    if isinstance(range_, Int):
        kind = config_space.lograndint if range_.log else config_space.randint
    else:
        kind = config_space.loguniform if range_.log else config_space.uniform
    return kind(range_.low, range_.high)
