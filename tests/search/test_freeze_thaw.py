"""Forecasts of curves, and who trains on for them."""

from __future__ import annotations

import math

import numpy as np
import pytest

from automl.search.fidelity.curves import forecast
from automl.search.fidelity.freeze_thaw import FreezeThaw
from automl.search.strategy import make_strategy

from .search_problems import SPACE, STEPS, accuracy, search

LOW, HIGH = 10, 90


def power(s: float, end: float, fall: float = 0.1) -> float:
    return end + fall * (1 / math.sqrt(s) - 1)


@pytest.mark.parametrize("end", [0.1, 0.3])
def test_a_forecast_closes_in_on_the_end(end: float) -> None:
    misses, deviations = [], []
    for seen in (5, 15, 40, 80):
        losses = {k / 100: power(k / 100, end) for k in range(5, seen + 1, 5)}
        found = forecast(losses, expected=0.4, spread=0.2)
        spread = found.weights @ (found.deviations**2 + (found.means - found.mean) ** 2)
        misses.append(abs(found.mean - end))
        deviations.append(math.sqrt(float(spread)))
    assert misses[-1] < 0.01
    assert deviations == sorted(deviations, reverse=True)
    assert all(miss < 3 * d + 0.01 for miss, d in zip(misses, deviations, strict=True))


def test_what_is_expected_of_a_curve_is_the_mean_of_what_it_may_gain() -> None:
    found = forecast({0.1: 0.5, 0.2: 0.45, 0.3: 0.43}, expected=0.5, spread=0.1)
    rng = np.random.default_rng(0)
    rows = rng.choice(len(found.weights), 200_000, p=found.weights)
    ends = found.means[rows] + found.deviations[rows] * rng.standard_normal(len(rows))
    gain = float(np.maximum(0.42 - ends, 0).mean())
    assert found.improvement(0.42) == pytest.approx(gain, rel=0.05)
    assert found.improvement(0.42, stretched=2.0) > found.improvement(0.42)


def begun(rule: FreezeThaw, ends: list[float], seconds: float = 1.0) -> None:
    """Trial 0 trains to its end, the others to the first rung."""
    for trial, end in enumerate(ends):
        stop = rule.enter(trial, full=trial == 0)
        rule.paid(trial, stop, seconds * stop)
        steps = range(2, stop + 1, 2)
        rule.report(trial, {s: power(s / HIGH, end, 0.05) for s in steps})


def test_the_curve_that_leads_lowest_is_thawed_first() -> None:
    rule = FreezeThaw(LOW, HIGH, 3)
    begun(rule, [0.3, 0.4, 0.2, 0.5, 0.35, 0.45])
    assert not rule.prefers_new()
    assert rule.next() == (2, LOW, 20)
    assert rule.steps == (10, 20, 30, 60, 90)


def test_what_leads_nowhere_gives_way_to_a_new_trial() -> None:
    rule = FreezeThaw(LOW, HIGH, 3)
    begun(rule, [0.1, 0.42, 0.41, 0.43, 0.4, 0.44])
    assert rule.prefers_new()
    assert rule.next() is not None  # where none may begin, the best of them goes on


def test_of_two_alike_the_cheaper_one_goes_on() -> None:
    rule = FreezeThaw(LOW, HIGH, 3)
    begun(rule, [0.3, 0.4, 0.5, 0.45, 0.5])
    for trial, seconds in ((5, 9.0), (6, 1.0)):
        rule.enter(trial, full=False)
        rule.paid(trial, LOW, seconds * LOW)
        rule.report(trial, {s: power(s / HIGH, 0.2, 0.05) for s in range(2, LOW + 1, 2)})
    assert rule.next() == (6, LOW, 20)
    assert rule.next() == (5, LOW, 20)


def test_every_sampler_can_be_frozen_and_thawed() -> None:
    for sampler in ("random", "tpe", "quasi_random:halton"):
        strategy = make_strategy(
            f"freeze_thaw:{sampler}", SPACE, fidelity=(LOW, STEPS, 3), direction="maximize", seed=0
        )
        every, _ = search(strategy, fulls=8)
        begun_trials = {s.trial for s in every}
        ended = {s.trial for s in every if s.stop == STEPS}
        assert len(begun_trials) > 10
        best = strategy.incumbent()
        assert best is not None
        assert best.number in ended
        assert best.value >= max(accuracy(s.recipe, STEPS) for s in every) - 0.1
