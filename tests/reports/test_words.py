"""What a study says in plain text."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import pytest

from automl.recipe import Recipe
from automl.reports import tables
from automl.study.comparison import Difference
from automl.study.state import State, replay
from automl.study.verdict import judge

MakeStudy = Callable[..., State]


def test_the_verdict_fits_one_screen_without_long_floats(made_up: MakeStudy) -> None:
    for state in (made_up(40), made_up(3), made_up(40, verdict=False), made_up(60, metric="rmse")):
        lines = tables.verdict_lines(state)
        assert 2 <= len(lines) <= 20
        assert not re.search(r"\d\.\d{7,}", "\n".join(lines))


def test_the_first_line_is_the_verdict_with_its_proof(made_up: MakeStudy) -> None:
    first = tables.verdict_lines(made_up(40))[0]
    assert first.startswith("muon + mixup (and 5 smaller changes) beats the baseline: ")
    assert re.search(
        r"test accuracy 98\.\d\d % ± 0\.\d\d against 97\.\d\d % ± 0\.\d\d, \+1\.\d\d points, "
        r"95 % interval \+0\.\d\d \.\. \+1\.\d\d, p < 0\.001, 3 seeds each\.$",
        first,
    )


def test_every_change_stands_with_its_gain_and_its_noise(made_up: MakeStudy) -> None:
    lines = tables.verdict_lines(made_up(40))
    row = next(line for line in lines if "optimizer adamw -> muon" in line)
    assert re.search(r"\+0\.\d\d points  helps \(noise ± 0\.\d\d, 1 seed\)", row)
    assert any("within the noise" in line for line in lines)


def test_each_outcome_has_its_sentence(made_up: MakeStudy) -> None:
    state = made_up(40)
    verdict = judge(state)

    def said(**changes: object) -> str:
        changed = replace(verdict, **changes)  # type: ignore[arg-type]
        return " ".join([tables.verdict_sentence(state, changed),
                         *tables.verdict_notes(state, changed)])  # fmt: skip

    tie = Difference(0.001, -0.002, 0.004, 0.4)
    assert "not proven better" in said(outcome="tied", difference=tie)
    assert "up to 0.40 points better or 0.20 points worse" in said(outcome="tied", difference=tie)
    worse = Difference(-0.003, -0.005, -0.001, 0.01)
    assert "worse than the baseline" in said(outcome="worse", difference=worse)
    assert "The baseline is kept." in said(outcome="worse", difference=worse)
    alone = Difference(0.01)
    text = said(outcome="not measured", difference=alone, reason="one seed")
    assert "not measured" in text
    assert "one seed" in text
    text = said(outcome="baseline", winner="baseline", rival="finalist 1")
    assert "Nothing beats the baseline" in text
    assert "diverged on all 3" in said(
        outcome="better", difference=None, reason="the baseline diverged on all 3 seeds"
    )
    assert "No test split" in said(optimism=None)


def test_an_interrupted_study_claims_nothing(made_up: MakeStudy) -> None:
    first = tables.verdict_lines(made_up(40, verdict=False))[0]
    assert first.startswith("Not measured: no training on fresh seeds")


def test_an_empty_journal_is_an_empty_study() -> None:
    assert tables.verdict_lines(replay([])) == ["The study is empty."]


@pytest.mark.parametrize(
    ("point", "title"),
    [
        ({"optimizer": "adamw", "optimizer.adamw.lr": 1e-3, "schedule": "cosine"}, "baseline"),
        ({"optimizer": "muon", "optimizer.muon.lr": 0.01, "schedule": "wsd"}, "muon, wsd"),
        ({"optimizer": "adamw", "optimizer.adamw.lr": 3e-3, "schedule": "cosine"},
         "adamw lr 0.003"),
        ({"optimizer": "schedule_free", "optimizer.schedule_free.lr": 0.01}, "schedule_free"),
        ({"optimizer": "adamw", "optimizer.adamw.lr": 1e-3, "schedule": "cosine",
          "batch": "flip+mixup", "batch_size": 32, "model.width": 8},
         "flip+mixup, batch size 32, width 8"),
    ],
)  # fmt: skip
def test_a_title_names_what_differs(point: dict[str, object], title: str) -> None:
    base = Recipe({"optimizer": "adamw", "optimizer.adamw.lr": 1e-3, "schedule": "cosine"}, steps=9)
    assert tables.recipe_title(Recipe(point, steps=9), base) == title  # type: ignore[arg-type]


def test_a_loop_of_the_users_own_is_titled_by_its_numbers() -> None:
    base = Recipe({"lr": 0.1, "depth": 2}, steps=9)
    assert tables.recipe_title(Recipe({"lr": 0.25, "depth": 2}, steps=9), base) == "lr 0.25"
    assert tables.recipe_title(base) == "lr 0.1, depth 2"


def test_a_trial_is_shown_with_what_differs_marked(made_up: MakeStudy) -> None:
    lines = tables.trial_lines(made_up(40), 1)
    assert lines[0].startswith("trial 1 (search): muon")
    assert any(re.search(r"\* optimizer +muon +\(baseline adamw\)", line) for line in lines)
    assert any(re.search(r"^    loss +cross_entropy$", line) for line in lines)
