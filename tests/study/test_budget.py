"""Budgets: what can be typed, and what the verdict keeps of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from automl.errors import BudgetError
from automl.recipe import Recipe
from automl.records import Report, Segment, Status, TaskCard
from automl.study.budget import Budget
from automl.study.state import State, StudyConfig, replay

CARD = TaskCard(
    name="t", kind="vector", metric="accuracy", direction="maximize", space=[], steps=100,
    eval_steps=10, batch_size=64,
)  # fmt: skip


def config(*budget: str, workers: int = 1) -> StudyConfig:
    return StudyConfig(
        name="t", task="t", pack="off", card=CARD, strategy="random", fidelity=(10, 100, 3),
        budget=budget, seed=0, seeds=3, workers=workers, full_seconds=2.0,
    )  # fmt: skip


def after(
    config: StudyConfig, trainings: int, *, seconds: float = 2.0, phases: tuple[str, ...] = ()
) -> State:
    """A study that has trained so many recipes to the end, one after the other.

    One trial of each of `phases` has begun besides.
    """
    events: list[dict[str, Any]] = [{"kind": "study", "config": config.to_json(), "at": 0.0}]
    for n in range(trainings):
        recipe = Recipe({}, steps=100, seed=n)
        segment = Segment(n, recipe, 0, 100)
        report = Report(n, 0, 100, Status.DONE, ((100, {"val/accuracy": 0.5}),), seconds, 100)
        at = n * seconds
        asked = {"kind": "ask", "segment": segment.to_json(), "phase": "search", "label": ""}
        events.append({**asked, "at": at})
        events.append({"kind": "report", "report": report.to_json(), "at": at + seconds})
    for n, phase in enumerate(phases, trainings):
        segment = Segment(n, Recipe({}, steps=100), 0, 100)
        asked = {"kind": "ask", "segment": segment.to_json(), "phase": phase, "label": ""}
        events.append({**asked, "at": trainings * seconds})
    return replay(events)


@pytest.mark.parametrize(
    ("texts", "budget"),
    [
        (["30m"], Budget(seconds=1800)),
        (["2h,100trials"], Budget(seconds=7200, trials=100)),
        (["20full", "1.5h"], Budget(seconds=5400, fulls=20)),
        (["1trial"], Budget(trials=1)),
    ],
)
def test_amounts_are_read(texts: list[str], budget: Budget) -> None:
    assert Budget.parse(texts) == budget


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fast", "budget 'fast': write a time"),
        ("0trials", "holds nothing"),
        ("1.5trials", "whole numbers"),
        ("30m,1h", "seconds is given twice"),
        ("-3m", "write a time"),
        ("", "write a time"),
    ],
)
def test_a_wrong_amount_says_what_to_write(text: str, message: str) -> None:
    with pytest.raises(BudgetError, match=message):
        Budget.parse([text])


def test_trials_are_counted_and_the_verdict_comes_on_top() -> None:
    study = config("5trials")
    budget = Budget.parse(study.budget)
    assert budget.new_trials(after(study, 4))
    assert not budget.new_trials(after(study, 5))
    assert budget.allowance(after(study, 5)) == 4 * 3 + 6


def test_a_supernet_keeps_room_for_the_trials_that_it_will_bring() -> None:
    point = {"nas": "random", "nas.random.cells": 3}
    card = replace(CARD, supernet={"point": point, "steps": 1, "passes": 0.0})
    study = replace(config("5trials"), card=card)
    budget = Budget.parse(study.budget)
    assert budget.new_trials(after(study, 1, phases=("supernet",)))
    assert not budget.new_trials(after(study, 2, phases=("supernet",)))
    assert not budget.new_trials(after(study, 2))  # it is still to come
    ended = after(study, 2, phases=("supernet",))
    ended.open.clear()
    assert budget.new_trials(ended)


def test_the_verdict_keeps_what_it_wants_but_never_more_than_two_fifths() -> None:
    large, small = config("100full"), config("20full")
    assert Budget.parse(large.budget).search_fulls(large) == 100 - 18
    assert Budget.parse(small.budget).search_fulls(small) == 12
    assert Budget.parse(small.budget).searching(after(small, 11))
    assert not Budget.parse(small.budget).searching(after(small, 12))
    assert Budget.parse(small.budget).allowance(after(small, 12)) == 8


@pytest.mark.parametrize(
    ("budget", "seeds"), [("5full", 1), ("10full", 2), ("40full", 3), ("10s", 1), ("1trial", 3)]
)
def test_a_small_budget_has_few_fresh_seeds(budget: str, seeds: int) -> None:
    study = config(budget)
    assert Budget.parse([budget]).verdict_seeds(study) == seeds


def test_what_is_under_way_counts_as_spent() -> None:
    study = config("20full")
    budget = Budget.parse(study.budget)
    state = after(study, 11, phases=("search",))
    assert not budget.searching(state)
    state.open.clear()  # it was lost: the search takes its place
    assert budget.searching(state)


def test_time_is_shared_by_the_workers() -> None:
    study = config("2m", workers=2)
    budget = Budget.parse(study.budget)
    # 18 trainings of 2 s on two workers take 18 s of the 120.
    assert budget.searching(after(study, 50))
    assert not budget.searching(after(study, 52))
    assert budget.allowance(after(study, 55)) == pytest.approx(10)


def test_a_driver_that_was_away_spends_no_time() -> None:
    study = config("1h")
    begun = {"kind": "study", "config": study.to_json(), "at": 0.0}
    end = {"kind": "end", "status": "interrupted", "message": "", "at": 10.0}
    state = replay([begun, end, {"kind": "resume", "at": 5000.0}])
    assert state.wall_seconds == 10.0


def test_a_segment_is_open_until_it_counts_once() -> None:
    study = config("5trials")
    recipe = Recipe({}, steps=100)
    segment = Segment(0, recipe, 0, 100)
    state = replay([{"kind": "study", "config": study.to_json(), "at": 0.0}])
    asked = {"kind": "ask", "segment": segment.to_json(), "phase": "search", "label": "", "at": 1}
    state.apply(asked)
    for attempt in (1, 2):
        lost = Report(0, 0, 0, Status.LOST)
        state.apply({"kind": "report", "report": lost.to_json(), "at": 1 + attempt})
        assert state.open == {0: segment}
    third = Report(0, 0, 0, Status.LOST, message="exit -9")
    state.apply({"kind": "report", "report": third.to_json(), "at": 5})
    assert state.open == {}
    assert state.trials[0].failed
