"""--nas in a study: one supernet trial, and what it finds as trials that compete.

trial 0     the baseline, as ever
trial 1     the supernet, of phase "supernet": no contender, but the budget pays for it
then        each architecture that it derived, at the default recipe, trained to the end; from
            there the strategy searches that recipe, and cells besides, as it does everything
"""

from __future__ import annotations

import math
from itertools import count

from automl.errors import StudyError
from automl.recipe import Recipe
from automl.records import Report, Segment, Status
from automl.registry import family, nearest
from automl.search.strategy import Strategy
from automl.space.tree import Space
from automl.study.budget import Budget
from automl.study.state import State, StudyConfig

PHASE = "supernet"
_AT_LEAST = 2  # full trainings beside the supernet: the baseline and what is found


def checked_nas(typed: str | None) -> str | None:
    """What --nas was given.

    Raises:
        StudyError: there is no such search.
    """
    names = [n.replace("_", "-") for n in family("nas").names()]
    if typed is None or typed.replace("_", "-") in names:
        return typed
    near = nearest(typed, names)
    raise StudyError(f"--nas {typed}: no such search{near}; {', '.join(names)}")


def check_budget(config: StudyConfig, budget: Budget) -> None:
    """See that the search can pay for the supernet and for training what it finds.

    Raises:
        StudyError: it cannot.
    """
    plan = config.card.supernet
    if plan is None:
        if config.spec.nas is not None:
            raise StudyError(f"--nas {config.spec.nas}: the task brings its own model or loop")
        return
    if budget.trials is None and budget.search_fulls(config) < _AT_LEAST:
        cost = plan["passes"] / config.card.steps
        fulls = next(n for n in count(1) if Budget(fulls=n).search_fulls(config) >= _AT_LEAST)
        seconds = math.ceil(fulls * config.full_seconds / config.workers)
        epochs = f"nas.{plan['point']['nas']}.epochs"
        now = int(plan["point"].get(epochs, 1))
        fewer = f", or fewer epochs (--set {epochs}={now // 2})" if now > 1 else ""
        raise StudyError(
            f"--nas {config.spec.nas} costs about as much as {cost:.1f} full trainings, and the "
            "baseline, what is found and the final comparison come on top: give at least "
            f"--budget {fulls}full (about {seconds} s here){fewer}"
        )


def due(state: State) -> bool:
    """Whether the supernet is to be asked for: right after the baseline."""
    assert state.config is not None
    return state.config.card.supernet is not None and 0 in state.trials and not state.supernet()


def supernet_segment(config: StudyConfig, strategy: Strategy) -> Segment:
    """The supernet as a trial, under the strategy's next number."""
    plan = config.card.supernet
    assert plan is not None
    recipe = Recipe(plan["point"], steps=plan["steps"], seed=config.seed)
    return Segment(strategy.reserve(recipe, label(config)), recipe, 0, recipe.steps)


def label(config: StudyConfig) -> str:
    return f"supernet {config.spec.nas}"


def learn(strategy: Strategy, state: State, report: Report) -> None:
    """Let what a supernet found compete."""
    if report.status != Status.DONE or report.found is None:
        return
    assert state.config is not None
    space = Space.from_json(state.config.card.space)
    points = report.found["points"]
    for number, found in enumerate(points, 1):
        which = f" {number}" if len(points) > 1 else ""
        strategy.enqueue(space.complete(found), f"derived{which}")
