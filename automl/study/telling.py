"""Asking a strategy and telling it what came of that, now and again from the journal."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from automl.aims import Outcome
from automl.errors import StudyError
from automl.recipe import Recipe
from automl.records import FAILURES, Report, Segment, Status
from automl.search.prior import strength
from automl.search.strategy import Failure, Strategy, Values, make_strategy
from automl.space.tree import Space
from automl.study import architecture
from automl.study.budget import Budget
from automl.study.state import State, StudyConfig


def told(report: Report, state: State) -> Values | Failure:
    """What a strategy is told of a report that the state has taken.

    {step: value}, nan where training diverged; Outcomes where more than the metric counts.
    """
    if report.status in FAILURES:
        return Failure(report.status.value, report.message)
    aims, metric = state.aims, state.metric
    curve = [(s, m) for s, m in state.trials[report.trial].curve if s > report.start]
    values: dict[int, float | Outcome]
    if aims.plain:
        values = {step: float(m[metric]) for step, m in curve if metric in m}
        nothing: float | Outcome = math.nan
    else:
        values = {s: aims.outcome(m) for s, m in curve if all(n in m for n in aims.names)}
        nothing = aims.outcome({})
    if report.status == Status.DIVERGED or not values:
        values[report.reached] = nothing
    return values


def next_segment(strategy: Strategy, new: bool, like: Recipe | None) -> Segment | None:
    asked = strategy.ask(1, new=new) if like is None else strategy.ask(1, new=new, like=like)
    return asked[0] if asked else None


def strategy_of(config: StudyConfig, budget: Budget) -> Strategy:
    return make_strategy(
        config.strategy,
        Space.from_json(config.card.space),
        fidelity=config.fidelity,
        direction=config.card.directions,
        seed=config.seed,
        workers=config.workers,
        budget=budget.search_fulls(config),
        portfolio=config.portfolio,
        early_end=not config.spend_all,
        prior=strength(config.prior),
        pool=config.pool,
    )


def retell(strategy: Strategy, events: Sequence[tuple[int, Mapping[str, Any]]]) -> None:
    """Bring a new strategy to where the journal stands.

    Raises:
        StudyError: it asks for something else than it did then (another version of automl).
    """
    state = State()
    for seq, event in events:
        if event["kind"] == "ask" and event["phase"] == "search":
            segment = Segment.from_json(event["segment"])
            like = state.trials[event["like"]].recipe if "like" in event else None
            if next_segment(strategy, event["new"], like) != segment:
                raise StudyError(
                    f"event {seq} of the journal asked for trial {segment.trial} otherwise than "
                    f"this version of automl would; resume it with the version that began it"
                )
        if event["kind"] == "ask" and event["phase"] == architecture.PHASE:
            assert state.config is not None
            architecture.supernet_segment(state.config, strategy)
        handed_out = dict(state.open)
        state.apply(event)
        if event["kind"] == "report":
            report = Report.from_json(event["report"])
            phase = state.trials[report.trial].phase
            if report.trial not in state.open and phase == "search":
                values = told(report, state)
                strategy.tell(handed_out[report.trial], values, seconds=report.seconds)
            elif report.trial not in state.open and phase == architecture.PHASE:
                architecture.learn(strategy, state, report)
