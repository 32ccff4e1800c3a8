"""A study whose packs take the next trials while they train, told by its journal."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from automl.executors.executor import Refilling
from automl.records import Pack, Progress, Report, Segment, Slot, Vacancy
from automl.space.ranges import Choice, Float
from automl.space.tree import Space
from automl.study.controller import run
from automl.study.journal import Journal
from automl.study.live import Live
from automl.study.preparing import Prepared
from automl.study.state import State, StudyConfig, replay
from automl.tasks.task import ModelTask
from automl.train import segment

from ..train.small_problem import small_task

SPACE = Space(
    {
        "optimizer": Choice(
            {"adamw": {"lr": Float(1e-3, 1e-1, log=True)}, "sgd": {"lr": Float(1e-2, 1, log=True)}}
        ),
        "gradient": Choice(["plain", "sam"]),
        "precision": Choice(["float64"]),
    }
)


class InSlots:
    """One worker in a thread of this process; its packs take new members while they run.

    It makes its steps while the driver waits for news, and no step while the driver thinks: so
    what the driver does falls between the same two steps on any machine.
    """

    def __init__(self, task: ModelTask) -> None:
        self._task = task
        self._news: queue.Queue[list[Report | Vacancy]] = queue.Queue()
        self._turn = threading.Lock()  # who may go on; the driver's, but while it waits
        self._turn.acquire()
        self._answers: queue.Queue[Mapping[int, Segment]] = queue.Queue()
        self._vacancies: list[Vacancy] = []
        self._cancelled: set[int] = set()
        self._out = 0
        self._thread: threading.Thread | None = None

    @property
    def capacity(self) -> int:
        return int(not self._out)

    def submit(self, pack: Pack) -> None:
        self._cancelled.clear()
        self._out = len(pack.segments)
        self._thread = threading.Thread(target=self._train, args=(pack,))
        self._thread.start()

    def _train(self, pack: Pack) -> None:
        training = {s.trial: s for s in pack.segments}

        def more(reports: Sequence[Report], free: Sequence[int]) -> list[tuple[int, Segment]]:
            for report in reports:
                del training[report.trial]
            self._news.put([*reports, Vacancy(0, tuple(training.values()), tuple(free))])
            newcomers = self._answers.get()
            training.update({s.trial: s for s in newcomers.values()})
            return list(newcomers.items())

        def stop() -> set[int]:
            with self._turn:
                return set(self._cancelled)

        self._news.put([*segment.run(pack, self._task, stop=stop, more=more)])

    def reports(self, timeout: float) -> list[Report | Progress]:
        self._turn.release()
        try:
            news = self._news.get(timeout=timeout)
        except queue.Empty:
            return []
        finally:
            self._turn.acquire()
        self._vacancies += [one for one in news if isinstance(one, Vacancy)]
        found: list[Report | Progress] = [one for one in news if isinstance(one, Report)]
        self._out -= len(found)
        return found

    def vacancies(self) -> list[Vacancy]:
        return list(self._vacancies)

    def join(self, vacancy: Vacancy, newcomers: Mapping[int, Segment]) -> None:
        self._vacancies.remove(vacancy)
        self._out += len(newcomers)
        self._answers.put(newcomers)

    def cancel(self, trial: int) -> None:
        self._cancelled.add(trial)

    def close(self) -> None:
        self._turn.release()
        if self._thread:
            self._thread.join()


def study(folder: Path, stop: Callable[[State], bool] = lambda state: False) -> list[Any]:
    """Begin the study in this folder, or go on with it; its events so far."""
    folder.mkdir(exist_ok=True)
    task = small_task()
    task = replace(task, card=replace(task.card, space=SPACE.to_json()))
    config = StudyConfig(
        name="t", task="t", card=task.card, strategy="asha", fidelity=(5, 20, 2),
        budget=("12trials",), seed=3, seeds=1, workers=1, pack="4", refill=True,
        spend_all=True,
    )  # fmt: skip
    journal = Journal(folder / "journal.db", "t", write=True)
    state = replay(event for _, event in journal.events())
    prepared = Prepared(config, folder, journal, "", InSlots(task), Live(folder), state, None)
    try:
        run(prepared, stop=lambda: int(stop(prepared.state)))
        return [event for _, event in journal.events()]
    finally:
        prepared.close()


def asks(events: list[Any]) -> list[Any]:
    return [{n: v for n, v in e.items() if n != "at"} for e in events if e["kind"] == "ask"]


def curves(events: list[Any]) -> dict[int, dict[int, Any]]:
    return {n: dict(t.curve) for n, t in replay(events).trials.items()}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    return study(tmp_path_factory.mktemp("undisturbed"))


def test_the_next_trials_take_the_slots_of_those_that_end(undisturbed: list[Any]) -> None:
    state = State()
    packs: dict[str, set[str]] = {}
    starts: dict[str, set[int]] = {}
    refilled = 0
    for event in undisturbed:
        if event["kind"] == "ask" and event.get("slot"):
            slot = Slot.from_json(event["slot"])
            segment = Segment.from_json(event["segment"])
            taken = [s.place for s in state.slots.values() if s.pack == slot.pack]
            assert slot.place not in taken and slot.place < slot.size <= 4
            packs.setdefault(slot.pack, set()).add(segment.recipe.structure)
            starts.setdefault(slot.pack, set()).add(segment.start)
            if event.get("joined"):
                refilled += 1
                others = {n for n, s in state.slots.items() if s.pack == slot.pack}
                assert others - state.joined  # one that began the pack trains
        state.apply(event)
    smaller = [Slot.from_json(e["slot"]) for e in undisturbed if e["kind"] == "slot"]
    assert smaller and {slot.size for slot in smaller} <= {1, 2}  # what was left of full ones
    assert refilled > 0 and max(map(len, starts.values())) > 1
    assert {len(found) for found in packs.values()} == {1}
    assert state.ended == "done" and not state.open and not state.slots and not state.joined
    assert state.searched == 12
    assert {t.number for t in state.trials.values()} == set(range(len(state.trials)))


def test_one_worker_repeats_a_study_and_a_resumed_one_goes_on(
    undisturbed: list[Any], tmp_path: Path
) -> None:
    assert isinstance(InSlots(small_task()), Refilling)
    folder = tmp_path / "broken"
    first = study(folder, stop=lambda state: len(state.joined) > 0 and len(state.trials) > 5)
    assert first[-1]["status"] == "interrupted"
    state = replay(first)
    assert any(slot.size == 4 for slot in state.slots.values()) and state.open
    kept = asks(first)
    assert kept == asks(undisturbed)[: len(kept)]
    whole = study(folder)
    assert whole[-1]["status"] == "done"
    ours, theirs = curves(whole), curves(undisturbed)
    recipes = [{n: t.recipe for n, t in replay(e).trials.items()} for e in (whole, undisturbed)]
    same = [n for n in ours if n in theirs and recipes[0][n] == recipes[1][n]]
    assert len(same) >= 12
    for n in same:
        for step in ours[n].keys() & theirs[n].keys():
            assert ours[n][step] == pytest.approx(theirs[n][step], rel=1e-9)
