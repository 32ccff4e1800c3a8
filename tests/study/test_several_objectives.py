"""A study of several objectives: the front, the verdict's further words, and its resumption."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from automl.aims import Aims, Constraint, Objective
from automl.executors.simulated import Simulated
from automl.recipe import Recipe
from automl.records import Progress, Report, TaskCard
from automl.reports import aim_words, front_plots, page, tables
from automl.reports.recipe_file import of_trial
from automl.space.ranges import Choice, Float, Int
from automl.space.tree import Space
from automl.study.controller import run
from automl.study.journal import Journal
from automl.study.live import Live
from automl.study.preparing import Prepared
from automl.study.state import State, StudyConfig, replay
from automl.study.verdict import Verdict, judge
from automl.tracking import words

SPACE = Space(
    {
        "optimizer": Choice({"sgd": {"lr": Float(1e-3, 1, log=True)}, "lion": {}}),
        "model.width": Int(8, 128, log=True, default=100),
    }
)
AIMS = Aims(
    (Objective("val/accuracy", "maximize"), Objective("cost/params", "minimize")),
    (Constraint("cost/params", "<", 90.0, "params<90"), Constraint("cost/passes", "<=", 90.0, "")),
)
CARD = TaskCard(
    name="t", kind="vector", metric="accuracy", direction="maximize", space=SPACE.to_json(),
    steps=90, eval_steps=10, batch_size=64, aims=AIMS, sizes={"valid": 100, "test": 100},
)  # fmt: skip
CONFIG = StudyConfig(
    name="t", task="t", objectives=("accuracy", "params"), constraints=("params<90",), pack="off",
    card=CARD, strategy="auto", fidelity=(10, 90, 3), budget=("24trials",), seed=0, seeds=2,
    workers=1, spend_all=True,
)  # fmt: skip


def measure(recipe: Recipe, step: int) -> tuple[dict[str, float], float]:
    """Accuracy grows with width and steps; params are the width; luck is the seed's."""
    width = recipe.point["model.width"]
    assert isinstance(width, int)
    luck = recipe.seed % 97 / 9700
    accuracy = 0.5 + 0.3 * (width / 128) ** 0.5 + 0.1 * step / 90 + luck
    metrics = {"val/accuracy": accuracy, "train/loss": 1 - accuracy, "cost/params": float(width)}
    return metrics, step / 100


class Executor:
    """Made-up curves in virtual time, and a test split, too."""

    def __init__(self) -> None:
        self._inner = Simulated(measure, workers=1)
        self.submit, self.cancel = self._inner.submit, self._inner.cancel
        self.close = self._inner.close

    @property
    def capacity(self) -> int:
        return self._inner.capacity

    def reports(self, timeout: float) -> list[Report | Progress]:
        return [
            replace(r, test={"test/accuracy": r.curve[-1][1]["val/accuracy"]}) if r.curve else r
            for r in self._inner.reports(timeout)
        ]


class Killed(BaseException):
    """The driver is, right after a number of appends to its journal."""


class Mortal(Journal):
    """A journal whose writer lives for so many appends."""

    life = -1  # for ever

    def append(self, events: Sequence[Mapping[str, Any]]) -> int:
        last = super().append(events)
        self.life -= 1
        if self.life == 0:
            raise Killed
        return last


def driven(
    folder: Path, *, reports: int = 10**6, life: int = -1, strategy: str = "auto", **more: Any
) -> State:
    """The study in `folder` begun or taken up, until so many reports came in."""
    folder.mkdir(exist_ok=True)
    url = str(folder / "journal.db")
    journal, live = Mortal(url, "t", write=True), Live(folder)
    journal.life = life
    state = replay(event for _, event in journal.events())
    config = state.config or replace(CONFIG, strategy=strategy, **more)
    heard: list[Any] = []
    prepared = Prepared(config, folder, journal, url, Executor(), live, state, None)

    def listen(event: Any) -> None:
        heard.extend([event] if event["kind"] == "report" else [])

    try:
        return run(prepared, listen=listen, stop=lambda: int(len(heard) >= reports))
    finally:
        prepared.close()


def fingerprint(state: State) -> list[Any]:
    return [
        (t.number, t.recipe.key, t.phase, t.label, t.status, t.passes, t.curve)
        for t in state.trials.values()
    ]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, State]:
    folder = tmp_path_factory.mktemp("unbroken")
    return folder, driven(folder)


@pytest.mark.parametrize("strategy", ["auto", "asha"])
def test_a_study_that_is_stopped_again_and_again_repeats_the_unbroken_one(
    strategy: str, tmp_path: Path, unbroken: tuple[Path, State]
) -> None:
    whole = unbroken[1] if strategy == "auto" else driven(tmp_path / "whole", strategy=strategy)
    for _ in range(4):
        driven(tmp_path / "broken", reports=7, strategy=strategy)
    state = driven(tmp_path / "broken", strategy=strategy)
    assert state.ended == whole.ended == "done"
    assert fingerprint(state) == fingerprint(whole)


def test_a_driver_killed_after_any_append_loses_nothing(tmp_path: Path) -> None:
    small: Any = {"strategy": "asha", "budget": ("3trials",), "spend_all": False}
    whole = driven(tmp_path / "whole", **small)
    for life in itertools.count(1):
        folder = tmp_path / str(life)
        try:
            driven(folder, life=life, **small)
        except Killed:
            state = driven(folder, **small)
        else:
            break
        assert (state.ended, fingerprint(state)) == ("done", fingerprint(whole)), life
    assert life > 15  # every append has had its turn


def test_the_incumbent_keeps_the_constraints_and_leads_the_front(
    unbroken: tuple[Path, State],
) -> None:
    state = unbroken[1]
    base, best, front = state.baseline(), state.incumbent(), state.front()
    assert base is not None and state.violation(base) > 0  # width 100
    assert best is not None and state.violation(best) == 0
    assert front[0] is best
    widths = [int(str(t.recipe.point["model.width"])) for t in front]
    assert widths == sorted(widths, reverse=True)
    assert all(state.violation(t) == 0 for t in front)
    better = [t for t in state.finished() if t.last(state.metric) > best.last(state.metric)]  # type: ignore[operator]
    assert better and all(state.violation(t) > 0 for t in better)
    assert words.ranking(state)[0] is best
    assert words.ranking(state)[-1] in better


def test_passes_are_counted_from_step_0_over_all_segments(unbroken: tuple[Path, State]) -> None:
    for trial in unbroken[1].finished():
        assert trial.curve[-1][1]["cost/passes"] == trial.reached
        passes = [m["cost/passes"] for _, m in trial.curve]
        assert passes == pytest.approx([s for s, _ in trial.curve])


def test_the_verdict_says_what_else_counts_and_survives_json(
    unbroken: tuple[Path, State],
) -> None:
    state = unbroken[1]
    verdict = judge(state)
    assert Verdict.from_json(verdict.to_json()) == verdict
    params, bound, _ = verdict.further
    assert (params.name, params.direction) == ("cost/params", "minimize")
    assert params.baseline.mean == 100.0
    assert bound.baseline_broken and not bound.broken
    assert [p.trial for p in verdict.front] == [t.number for t in state.front()]
    assert verdict.keep != "baseline"
    middle = state.compromise()
    assert middle is not None
    assert [p.trial for p in verdict.front if p.compromise] == [middle.number]
    notes = " ".join(tables.verdict_notes(state, verdict))
    assert f"Its compromise: trial {middle.number} (accuracy " in notes
    assert "against 100 of the baseline" in notes
    assert re.search(r"It keeps params<90 \(\d\d\); the baseline breaks it \(100\)\.", notes)
    assert f"Front of {len(state.front())} recipes: trial {state.front()[0].number} " in notes


def test_page_and_files_show_the_front(unbroken: tuple[Path, State]) -> None:
    _, state = unbroken
    html = page.render(state)
    assert "Objectives against each other" in html
    assert "accuracy maximized; params minimized; params&lt;90" in html
    assert html.count("<svg") >= 5
    picture = html[html.index('id="front"') : html.index('id="search"')]
    for label in ("on the front", "breaks a constraint", "baseline", "kept", "compromise"):
        assert label in picture
    rows = tables.trials_rows(state)
    assert {r["trial"] for r in rows if r["front"]} == {t.number for t in state.front()}
    volumes = [v for _, v in front_plots.volumes(state)]
    assert all(b >= a - 1e-12 for a, b in itertools.pairwise(volumes))
    assert 0 < volumes[-1] <= 1
    last = state.front()[-1]
    assert of_trial(state, last.number).score["cost/params"] == last.recipe.point["model.width"]
    assert "on the front" in tables.trial_lines(state, last.number)
    assert any("breaks params<90 (100)" in line for line in tables.trial_lines(state, 0))
    assert aim_words.front_words(state).startswith(f"front of {len(state.front())} recipes; best ")
    middle = state.compromise()
    assert middle is not None and f"{middle.number} (compromise)" in html
    assert "on the front: the compromise" in tables.trial_lines(state, middle.number)
    assert f"; compromise trial {middle.number} (accuracy " in aim_words.front_words(state)
    width = last.recipe.point["model.width"]
    assert aim_words.place_words(state, last).endswith(f" %, params {width}")
    assert aim_words.place_words(state, state.trials[0]) == ""
