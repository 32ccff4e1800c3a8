"""What `explain` and `compare` say, against figures taken from the trials by hand."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import pytest

from automl.errors import StudyError
from automl.reports.comparing import best_after, compare_lines, difference
from automl.reports.explaining import explain_lines, path, stages
from automl.reports.tables import verdict_of
from automl.study.state import State

MakeStudy = Callable[..., State]


def test_the_path_rises_from_the_first_trial_to_the_incumbent(made_up: MakeStudy) -> None:
    state = made_up(40)
    steps = path(state)
    values = [t.last(state.metric) for t, _ in steps]
    assert values == sorted(values, key=lambda v: v or 0.0)
    assert steps[-1][0] is state.incumbent()
    gains = sum(gain for _, gain in steps)
    assert (values[-1] or 0) - (values[0] or 0) == pytest.approx(gains)


def test_what_the_stages_spent_and_gained_is_what_the_search_did(made_up: MakeStudy) -> None:
    state = made_up(40)
    found = stages(state)
    searched = state.search_trials()
    assert sum(s.trials for s in found) == len(searched)
    assert sum(s.fulls for s in found) == pytest.approx(sum(t.passes for t in searched) / 540)
    assert sum(s.gain or 0.0 for s in found) == pytest.approx(sum(g for _, g in path(state)))


def test_an_explanation_names_what_mattered(made_up: MakeStudy) -> None:
    lines = explain_lines(made_up(60))
    rows = [line for line in lines if re.match(r"  \S+ +\d+ %", line)]
    assert "optimizer" in rows[0] and "muon" in rows[0]
    assert any(line.startswith("  trial 0 ") and "baseline" in line for line in lines)


def test_few_trials_are_said_to_tell_nothing(made_up: MakeStudy) -> None:
    assert "fewer than 10 trials" in explain_lines(made_up(3))[0]


def test_studies_stand_beside_each_other_at_equal_cost(made_up: MakeStudy) -> None:
    one, other = made_up(40), made_up(20, seed=1)
    assert other.config is not None
    other.config = replace(other.config, name="other", strategy="random")
    lines = compare_lines([one, other])
    assert [line.split()[0] for line in lines[2:5]] == ["STUDY", "digits-1", "other"]
    whole = best_after(one, 1e9)
    best = one.incumbent()
    assert best is not None and whole == best.last(one.metric)
    assert best_after(one, 0.0) is None
    found = difference(other, one)
    assert found is not None and found.measured
    assert any(line.startswith("other against digits-1: ") for line in lines)


def test_an_error_that_falls_is_better(made_up: MakeStudy) -> None:
    one, other = made_up(40, metric="rmse"), made_up(12, seed=3, metric="rmse")
    found, back = difference(one, other), difference(other, one)
    assert found is not None and back is not None and found.value == pytest.approx(-back.value)
    means = [v.standing(v.keep) for v in map(verdict_of, (one, other))]
    a, b = (s.test.mean for s in means if s is not None)
    assert a is not None and b is not None and found.value == pytest.approx(b - a)


def test_studies_of_different_things_do_not_compare(made_up: MakeStudy) -> None:
    with pytest.raises(StudyError, match="do not compare: the metric differs"):
        compare_lines([made_up(12), made_up(12, metric="rmse")])
