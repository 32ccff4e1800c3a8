"""What a verdict says of the trainings that it asked for."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from automl.records import Status
from automl.study.verdict import Verdict, judge, next_trials

from .judged_study import NAN, Study, config, searched


@pytest.fixture
def study() -> Study:
    """A search that has found two points better than the baseline, and two worse."""
    return searched(config())


def test_a_clear_gain_is_better_and_measured_on_the_test_split(study: Study) -> None:
    study.judge(40)
    found = study.finish(
        {"finalist 1": (0.980, 0.982, 0.981), "*": (0.950, 0.952, 0.951)}, test_shift=-0.01
    )
    assert (found.outcome, found.winner, found.keep, found.split) == (
        "better", "finalist 1", "finalist 1", "test"
    )  # fmt: skip
    assert found.difference is not None
    assert found.difference.value == pytest.approx(0.03)
    expected = stats.ttest_ind((0.970, 0.972, 0.971), (0.940, 0.942, 0.941), equal_var=False)
    assert found.difference.low == pytest.approx(expected.confidence_interval(0.95).low, abs=1e-6)
    assert found.optimism == pytest.approx(0.01)
    assert found.luck == pytest.approx(0.98 - 0.981)
    assert Verdict.from_json(json.loads(json.dumps(found.to_json()))) == found


def test_overlapping_values_are_tied_and_say_what_could_hide(study: Study) -> None:
    found = study.finish({"finalist 1": (0.98, 0.95, 0.97), "*": (0.96, 0.94, 0.975)})
    assert found.outcome == "tied"
    assert found.difference is not None
    assert found.difference.high is not None
    assert found.hidden == pytest.approx(found.difference.high)
    assert found.ties == ("finalist 2", "finalist 3")


def test_the_baseline_can_win(study: Study) -> None:
    found = study.finish({"baseline": (0.98, 0.981, 0.982), "*": (0.95, 0.951, 0.952)})
    assert (found.outcome, found.winner, found.keep) == ("baseline", "baseline", "baseline")
    assert found.rival.startswith("finalist")
    assert found.ablations == ()


def test_a_winner_that_fails_on_test_is_not_kept(study: Study) -> None:
    while plans := [p for p in next_trials(study.state) if p.phase == "verdict"]:
        for plan in plans:
            final = plan.label == "finalist 1"
            jitter = plan.recipe.seed % 7 * 1e-4
            study.train(plan, 0.98 if final else 0.95, test=(0.90 if final else 0.96) + jitter)
    found = judge(study.state)
    assert (found.outcome, found.winner, found.keep) == ("worse", "finalist 1", "baseline")
    assert found.difference is not None
    assert found.difference.value < 0


def test_smaller_is_better_where_the_metric_says_so() -> None:
    made = searched(config(direction="minimize"))
    found = made.finish(
        {"finalist 1": (0.20, 0.21, 0.22), "*": (0.30, 0.31, 0.32)}, test_shift=0.05
    )
    assert found.outcome == "better"
    assert found.difference is not None
    assert found.difference.value == pytest.approx(0.1)
    assert found.optimism == pytest.approx(0.05)  # test loss is higher: validation flatters


def test_one_seed_is_not_measured() -> None:
    found = searched(config(seeds=1)).finish({"finalist 1": (0.99,), "*": (0.9,)})
    assert found.outcome == "not measured"
    assert "two seeds" in found.reason
    assert found.difference is not None
    assert found.difference.value == pytest.approx(0.09)
    assert [a.noise for a in found.ablations] == [None] * 3
    assert not any(a.proven for a in found.ablations)


def test_equal_values_on_few_samples_prove_nothing() -> None:
    # 1/12 of a step squared is kept as variance: one sample of ten apart is within it
    made = searched(config(test=10))
    while plans := [p for p in next_trials(made.state) if p.phase == "verdict"]:
        for plan in plans:
            made.train(plan, 0.98 if plan.label == "finalist 1" else 0.9, test=0.9)
    found = judge(made.state)
    assert found.outcome == "tied"
    assert found.difference is not None
    assert found.difference.p == pytest.approx(1.0)
    assert found.difference.high == pytest.approx(
        0.1 / math.sqrt(12) * math.sqrt(2 / 3) * 2.776, 1e-3
    )


def test_a_diverged_final_ranks_last(study: Study) -> None:
    found = study.finish({"finalist 1": (0.99, NAN, 0.99), "finalist 2": (0.96, 0.97, 0.98),
                          "*": (0.95, 0.951, 0.952)})  # fmt: skip
    assert found.winner == "finalist 2"
    assert [s.label for s in found.standings][-1] == "finalist 1"
    assert found.standings[-1].diverged == 1


def test_a_baseline_that_always_diverges_has_lost(study: Study) -> None:
    found = study.finish({"baseline": (NAN,), "*": (0.9, 0.91, 0.92)})
    assert found.outcome == "better"
    assert found.difference is None
    assert "diverged on all 3" in found.reason


@pytest.mark.parametrize("status", [Status.OUT_OF_MEMORY, Status.USER_CODE, Status.DIVERGED])
def test_finals_that_all_fail_are_no_verdict(study: Study, status: Status) -> None:
    for plan in next_trials(study.state):
        study.train(plan, NAN, status=status)
    assert judge(study.state).outcome == "not measured"
    assert next_trials(study.state) == []


def test_nothing_trained_at_all_is_no_verdict() -> None:
    made = Study(config())
    assert next_trials(made.state) == []
    found = judge(made.state)
    assert (found.outcome, found.winner) == ("not measured", "")
    assert "no trial was trained to its last step" in found.reason
    assert Verdict.from_json(json.loads(json.dumps(found.to_json()))) == found


def test_an_interrupted_study_shows_what_the_search_saw(study: Study) -> None:
    found = judge(study.state)
    assert (found.outcome, found.winner) == ("not measured", "incumbent")
    assert [s.validation.mean for s in found.standings] == [0.98, 0.95]


@settings(max_examples=25)
@given(shift=st.floats(-0.2, 0.2), scale=st.floats(1e-4, 0.05), seed=st.integers(0, 99))
def test_a_study_never_claims_both_ways(shift: float, scale: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    draw: Callable[[float], tuple[float, ...]] = lambda m: tuple(rng.normal(m, scale, 3).tolist())  # noqa: E731
    found = searched(replace(config())).finish({"finalist 1": draw(0.7 + shift), "*": draw(0.7)})
    better = found.outcome == "better"
    if found.difference is not None and found.difference.low is not None:
        assert better == (found.winner != "baseline" and found.difference.low > 0)
    assert len(found.standings[0].trials) == 3  # also of one that was out, and came back
