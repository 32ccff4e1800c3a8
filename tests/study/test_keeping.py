"""No checkpoint goes while something needs it, and none stays that a budget has no room for."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from automl.checkpoints import Store
from automl.errors import StudyError
from automl.recipe import Recipe
from automl.records import Report, Segment, Status
from automl.study.keeping import Keeper, budget_bytes
from automl.study.state import State

from ..cli.made_up_study import config

FULL = 90


class Desk:
    """A state that hears what a controller would tell it, and the keeper beside it."""

    def __init__(self, folder: Path, budget: int | None = None) -> None:
        self.store, self.said = Store(folder), list[str]()
        self.keeper = Keeper(self.store, budget, self.said.append)
        self.state = State()
        self.state.apply({"kind": "study", "config": config().to_json(), "at": 0})

    def ask(self, trial: int, start: int, stop: int, parent: tuple[int, int] | None = None) -> None:
        recipe = Recipe({"lr": 0.1 * (trial + 1)}, steps=FULL, seed=0)
        segment = Segment(trial, recipe, start, stop, parent)
        event: dict[str, Any] = {"segment": segment.to_json(), "phase": "search", "label": ""}
        self.state.apply({"kind": "ask", "at": 0, **event})

    def report(self, trial: int, value: float = 0.5) -> None:
        segment = self.state.open[trial]
        self.store.save(trial, segment.stop, {"w": torch.zeros(1000)}, {})
        curve = ((segment.stop, {self.state.metric: value}),)
        report = Report(trial, segment.start, segment.stop, Status.DONE, curve)
        self.state.apply({"kind": "report", "at": 0, "report": report.to_json()})
        self.keeper.ended(self.state, segment)

    def kept(self) -> list[tuple[int, int]]:
        return [(t, s) for t in self.store.trials() for s in self.store.steps(t)]


def test_a_trial_keeps_its_last_checkpoint_while_it_waits_or_is_the_best(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.ask(0, 0, 30)
    desk.report(0)
    desk.ask(0, 30, FULL)
    desk.report(0, 0.5)
    assert desk.kept() == [(0, FULL)]
    desk.ask(1, 0, FULL)
    desk.report(1, 0.4)
    assert desk.kept() == [(0, FULL)]
    desk.ask(2, 0, FULL)
    desk.report(2, 0.6)
    assert desk.kept() == [(2, FULL)]


def test_a_forks_child_holds_its_parents_checkpoint_until_it_has_its_own(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.ask(0, 0, 30)
    desk.report(0)
    desk.ask(1, 30, 60, parent=(0, 30))
    desk.ask(2, 30, 60, parent=(0, 30))
    desk.ask(0, 30, 60)
    desk.report(0)
    assert desk.kept() == [(0, 30), (0, 60)]  # two children still need the first
    desk.report(1)
    assert desk.kept() == [(0, 30), (0, 60), (1, 60)]
    desk.report(2)
    assert desk.kept() == [(0, 60), (1, 60), (2, 60)]


def test_what_an_open_segment_saves_on_its_way_stays(tmp_path: Path) -> None:
    desk = Desk(tmp_path, budget=1)
    desk.ask(0, 0, 30)
    desk.store.save(0, 10, {}, {})
    desk.ask(1, 0, 30)
    desk.report(1)
    assert (0, 10) in desk.kept()


def test_a_budget_keeps_the_newest_that_nothing_needs(tmp_path: Path) -> None:
    desk = Desk(tmp_path, budget=3 * 4500)  # each holds 4,000 bytes and two headers
    desk.ask(0, 0, FULL)
    desk.report(0, 0.9)
    for trial in range(1, 5):
        desk.ask(trial, 0, FULL)
        desk.report(trial, 0.1)
    assert desk.kept() == [(0, FULL), (3, FULL), (4, FULL)]
    assert desk.said == []


def test_a_budget_that_what_is_needed_exceeds_is_told_once_and_costs_nothing(
    tmp_path: Path,
) -> None:
    desk = Desk(tmp_path, budget=5000)
    for trial in range(3):
        desk.ask(trial, 0, 30)
        desk.report(trial)
    assert desk.kept() == [(0, 30), (1, 30), (2, 30)]
    (said,) = desk.said
    assert re.match(
        r"checkpoints take 7.* KiB, more than --checkpoint-budget 4.88 KiB: all that is left", said
    )


def test_a_driver_that_comes_back_counts_what_is_there(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.ask(0, 0, FULL)
    desk.report(0, 0.9)
    desk.store.save(7, 10, {"w": torch.zeros(1000)}, {})  # of a trial that has ended
    again = Keeper(desk.store, 9000, desk.said.append)
    again.begin(desk.state)
    desk.keeper = again
    desk.ask(1, 0, FULL)
    desk.report(1, 0.1)
    assert desk.kept() == [(0, FULL), (1, FULL)]


def test_waiting_trials_lose_theirs_when_the_study_is_over(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.ask(0, 0, 30)
    desk.report(0)
    desk.state.apply({"kind": "verdict", "verdict": {}, "at": 0})
    desk.keeper.concluded(desk.state)
    assert desk.kept() == []


@pytest.mark.parametrize(
    ("text", "size"), [("10g", 10 * 2**30), ("1.5 GiB", 3 * 2**29), ("500M", 500 * 2**20)]
)
def test_a_size_is_read_as_people_write_it(text: str, size: int) -> None:
    assert budget_bytes(text) == size


@pytest.mark.parametrize("text", ["", "ten", "0", "-1g", "1.2.3g", "10x"])
def test_a_size_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(StudyError, match="--checkpoint-budget .*: give a size such as 10g"):
        budget_bytes(text)
