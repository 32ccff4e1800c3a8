"""Ray Tune's ASHA with its Optuna searcher: who decides, without the cluster that would train.

Tune's controller runs actors on a clock of its own; the scheduler and the searcher are told here
what it would tell them.
"""

from __future__ import annotations

from collections.abc import Sequence

from peer_optuna import distribution
from ray.tune.experiment import Trial
from ray.tune.schedulers import ASHAScheduler, TrialScheduler
from ray.tune.search.optuna import OptunaSearch
from recorded import Problem
from search_peers import first_rung

from automl.space.tree import Point


class RayPeer:
    """ASHA of the stopping kind (a quarter goes on) over Optuna's TPE."""

    def __init__(self, problem: Problem, seed: int) -> None:
        space = {d.name: distribution(d.range) for d in problem.space}
        self._search = OptunaSearch(space=space, metric="score", mode="max", seed=seed)
        self._asha = ASHAScheduler(
            metric="score", mode="max", max_t=problem.steps, grace_period=first_rung(problem)
        )
        self._steps = problem.steps
        self._trials: dict[int, Trial] = {}

    def begin(self, trial: int) -> tuple[Point, int]:
        self._trials[trial] = made = Trial("recorded", trial_id=str(trial), stub=True)
        point = self._search.suggest(made.trial_id)
        assert point is not None  # the searcher knows no end
        self._asha.on_trial_add(None, made)
        return point, 0

    def report(self, trial: int, step: int, score: float) -> bool:
        found = {"score": score, "training_iteration": step}
        self._search.on_trial_result(str(trial), found)
        if step == self._steps:
            return False
        decision = self._asha.on_trial_result(None, self._trials[trial], found)
        return bool(decision == TrialScheduler.CONTINUE)

    def end(self, trial: int, scores: Sequence[float]) -> None:
        found = {"score": scores[-1], "training_iteration": len(scores)}
        made = self._trials.pop(trial)
        self._search.on_trial_complete(made.trial_id, found)
        self._asha.on_trial_complete(None, made, found)
