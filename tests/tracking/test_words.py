"""Names, tags and numbers that a person meets in MLflow, and the saved view."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from automl.recipe import Recipe
from automl.records import Segment, Status
from automl.study.state import State, Trial, replay
from automl.tracking import mirror, view, words

from .made_up import ask, recipe, report, search, study, study_event

ROOT = Path(__file__).parents[2]


def _trial(point: dict[str, Any], **more: Any) -> Trial:
    fields = {"number": 17, "phase": "search", "label": "", **more}
    return Trial(recipe=Recipe(point, steps=90, seed=5), **fields)


def test_a_run_is_named_by_what_a_person_compares() -> None:
    point = {"optimizer": "muon", "schedule": "wsd", "averaging": "none", "batch": "mixup"}
    assert words.run_name(_trial(point), best=False) == "trial 017 muon wsd mixup"
    assert words.run_name(_trial(point), best=True) == "★ trial 017 muon wsd mixup"
    assert words.run_name(_trial(point, label="baseline"), best=False) == "trial 017 baseline"
    final = _trial(point, label="finalist 2", phase="verdict")
    assert words.run_name(final, best=False) == "trial 017 finalist 2 seed 5"
    assert words.run_name(_trial({"lr": 0.1}), best=False) == "trial 017"


@pytest.mark.parametrize(
    "point",
    [{"optimizer": "lion", "optimizer.lion.lr": 0.001}, {"lr": 0.001, "momentum": 0.9}],
)
def test_every_optimizer_has_its_learning_rate_on_the_same_axis(point: dict[str, Any]) -> None:
    named = words.params(Recipe(point, steps=90))
    assert (named["lr"], named["lr_log10"]) == ("0.001", "-3.000")
    assert set(point) <= set(named)


def test_a_recipe_without_learning_rate_has_no_such_axis() -> None:
    assert "lr_log10" not in words.params(Recipe({"optimizer": "sgd", "lr": "auto"}, steps=90))
    assert "lr_log10" not in words.params(Recipe({"lr": 0.0}, steps=90))


@pytest.mark.parametrize(
    ("reached", "said"),
    [(0, "start"), (9, "start"), (10, "rung 1"), (29, "rung 1"), (30, "rung 2"), (90, "full")],
)
def test_the_rung_says_how_far_a_trial_came(reached: int, said: str) -> None:
    assert words.rung(reached, (10, 90, 3)) == said


def test_a_fidelity_without_rungs_ends_too() -> None:
    assert words.rung(50, (90, 90, 1)) == "start"
    assert words.rung(90, (90, 90, 1)) == "full"


def test_infinities_become_nan_and_values_short() -> None:
    assert math.isnan(words.shown(math.inf))
    assert math.isnan(words.shown(math.nan))
    assert words.shown(0.98491460718) == 0.984915


def test_names_that_mlflow_refuses_are_mended() -> None:
    assert words.key("val/f1[macro]?") == "val/f1_macro__"
    assert words.quoted("it's") == '"it\'s"'


def test_the_winner_is_the_one_that_the_verdict_keeps() -> None:
    events = study()
    searched = replay(search())
    best = words.winner(searched)
    assert best is searched.incumbent()
    assert best is not None
    other = next(t for t in words.ranking(searched) if t is not best)
    kept = {"label": "x", "recipe": replace(other.recipe, seed=77).to_json()}
    events[-2]["verdict"] = {"outcome": "better", "keep": "x", "standings": [kept]}
    winner = words.winner(replay(events))
    assert winner is not None
    assert winner.number == other.number


def _two_trials(direction: str) -> State:
    events = [study_event(direction=direction)]
    for n in (0, 1):
        segment = Segment(n, recipe(n), 0, 90)
        events += [ask(n, segment), report(n, segment)]
    bad = Segment(2, recipe(2), 0, 90)
    return replay([*events, ask(3, bad), report(3, bad, Status.DIVERGED)])


@pytest.mark.parametrize(("direction", "order"), [("maximize", [1, 0]), ("minimize", [0, 1])])
def test_ranks_follow_the_direction_and_leave_out_the_diverged(
    direction: str, order: list[int]
) -> None:
    state = _two_trials(direction)
    assert [t.number for t in words.ranking(state)] == order
    page = view.read_view(view.saved_view(state)[1])
    assert page["orderByAsc"] is (direction == "minimize")


def test_the_first_line_of_the_note_names_the_winner() -> None:
    state = replay(study())
    assert state.config is not None
    first = words.note(state, state.config).splitlines()[0]
    assert first == (
        "**Study digits**: ★ trial 009 adamw wsd, val/accuracy 0.9197 (baseline 0.89), "
        "best of 12 trials; on fresh seeds: **better**"
    )


def test_a_study_with_nothing_finished_has_a_note_and_a_view() -> None:
    state = replay([study_event()])
    assert state.config is not None
    assert words.note(state, state.config).startswith("**Study digits**")
    charts = view.read_view(view.saved_view(state)[1])["compareRunCharts"]
    assert [c["type"] for c in charts] == ["LINE", "SCATTER", "SCATTER"]


def test_the_saved_view_round_trips_and_shows_what_varies() -> None:
    tag, value = view.saved_view(replay(study()))
    page = view.read_view(value)
    assert tag == "mlflow.sharedViewState." + view.share_key("digits")
    assert view.share_key("digits") in view.query("digits")
    assert page["orderByKey"] == "metrics.`val/accuracy`"
    assert page["searchFilter"] == (
        "tags.`automl.kind` = 'trial' and tags.`automl.study` = 'digits' "
        "and tags.`automl.phase` = 'search'"
    )
    assert "params.`optimizer`" in page["selectedColumns"]
    assert "params.`averaging`" not in page["selectedColumns"]  # the same in every trial
    parallel, curves, *_ = page["compareRunCharts"]
    assert parallel["selectedParams"] == ["optimizer", "schedule", "lr_log10", "batch_size"]
    assert curves["selectedYAxisMetricKey"] == "val/accuracy"


def test_addresses_fall_back_to_the_front_page(tmp_path: Path) -> None:
    assert mirror.page_url("http://x:5000", tmp_path) == "http://x:5000"
    (tmp_path / mirror.ADDRESS).write_text("{broken")
    assert mirror.study_url("http://x:5000", tmp_path) == "http://x:5000"
    assert "orderByAsc=true" in view.plain_query("s", "val/loss", maximize=False)


def test_the_handle_of_the_mirror_loads_neither_mlflow_nor_torch() -> None:
    code = "import sys, automl.tracking.mirror, automl.tracking.view; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert not {"mlflow", "torch", "optuna"} & set(done.stdout.split())
