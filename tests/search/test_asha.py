"""Promotions, by hand and against a plain sort."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from automl.search.fidelity.asha import Asha, Rung, rungs
from automl.search.fidelity.cautious import Cautious
from automl.search.fidelity.hyperband import Hyperband
from automl.search.fidelity.median import Median
from automl.search.fidelity.screened import Screened


def enter(rule: Asha | Hyperband | Screened, losses: list[float], *, start: int = 0) -> None:
    """New trials that stop at the first rung, step 10, with these losses."""
    for trial, loss in enumerate(losses, start=start):
        stop = rule.enter(trial, full=False)
        rule.report(trial, {stop: loss})


def test_the_best_third_is_promoted_best_first() -> None:
    rule = Asha(10, 90, 3)
    enter(rule, [0.5, 0.2])
    assert rule.next() is None  # floor(2 / 3) = 0
    enter(rule, [0.9], start=2)
    assert rule.next() == (1, 10, 30)
    assert rule.next() is None
    enter(rule, [0.6, 0.7, 0.8], start=3)
    assert rule.next() == (0, 10, 30)  # floor(6 / 3) = 2: trials 1 and 0


def test_a_newcomer_takes_the_place_of_one_that_waits_in_the_top() -> None:
    rule = Asha(10, 90, 3)
    enter(rule, [0.5, 0.6, 0.7, 0.1])
    assert rule.next() == (3, 10, 30)
    assert rule.next() is None  # trial 0 was the best of three, and is second of four


def test_ties_are_promoted_once_the_earlier_first() -> None:
    rule = Asha(10, 90, 3)
    enter(rule, [0.4] * 6)
    assert rule.next() == (0, 10, 30)
    assert rule.next() == (1, 10, 30)
    assert rule.next() is None


def test_the_highest_rung_is_served_first() -> None:
    rule = Asha(10, 90, 3)
    enter(rule, [0.1 * n for n in range(1, 10)])
    for trial in (0, 1, 2):
        assert rule.next() == (trial, 10, 30)
        rule.report(trial, {20: 0.0, 30: 0.1 * trial})
    enter(rule, [0.01, 0.02, 0.03], start=9)
    assert rule.next() == (0, 30, 90)
    assert rule.next() == (9, 10, 30)


def test_a_trial_that_ends_at_the_last_rung_waits_nowhere() -> None:
    rule = Asha(30, 90, 3)
    enter(rule, [0.1, 0.2, 0.3])
    assert rule.next() == (0, 30, 90)
    rule.report(0, {60: 0.05, 90: 0.04})
    assert rule.next() is None


def test_failed_trials_count_and_are_never_promoted() -> None:
    rule = Asha(10, 90, 3)
    enter(rule, [math.inf, math.inf, math.inf, math.inf, math.inf])
    assert rule.next() is None
    enter(rule, [0.9], start=5)
    assert rule.next() == (5, 10, 30)
    assert rule.next() is None


def test_trials_that_were_never_stopped_are_compared_at_each_rung() -> None:
    rule = Asha(10, 90, 3)
    assert rule.enter(0, full=True) == 90
    rule.report(0, {10: 0.3, 30: 0.2, 90: 0.1})
    enter(rule, [0.4, 0.5], start=1)
    assert rule.next() is None  # the best of three is trial 0, which needs no promotion
    enter(rule, [0.6, 0.7, 0.8], start=3)
    assert rule.next() == (1, 10, 30)


@pytest.mark.parametrize(
    ("given", "steps"),
    [
        ((10, 90, 3), (10, 30, 90)),
        ((6, 52, 3), (6, 18, 52)),
        ((10, 100, 3), (10, 30, 100)),  # 90 of 100 steps is no early stop
        ((1, 16, 2), (1, 2, 4, 8, 16)),
        ((7, 7, 3), (7,)),
    ],
)
def test_rungs_by_hand(given: tuple[int, int, int], steps: tuple[int, ...]) -> None:
    assert rungs(*given) == steps


@given(
    st.lists(
        st.tuples(st.sampled_from([0.1, 0.2, 0.3, 0.4, math.inf]), st.booleans()), max_size=60
    ),
    st.integers(2, 4),
)
def test_a_rung_promotes_as_a_plain_sort_would(events: list[tuple[float, bool]], eta: int) -> None:
    rung = Rung(eta)
    losses: list[tuple[float, int]] = []
    promoted: set[int] = set()
    for trial, (loss, ask) in enumerate(events):
        rung.add(trial, loss)
        losses.append((loss, trial))
        if ask:
            top = sorted(losses)[: len(losses) // eta]
            due = [t for value, t in top if t not in promoted and value < math.inf]
            expected = due[0] if due else None
            assert rung.promote() == expected
            promoted |= {expected} if expected is not None else set()


class _Counted(float):
    """A loss that counts how often it is compared."""

    compared = 0

    def __lt__(self, other: float) -> bool:
        _Counted.compared += 1
        return float(self) < float(other)

    def __neg__(self) -> _Counted:
        return _Counted(-float(self))


def _comparisons(trials: int) -> float:
    """Comparisons for each of the last 100 of so many trials."""
    rung = Rung(3)
    for trial in range(trials):
        if trial == trials - 100:
            _Counted.compared = 0
        rung.add(trial, _Counted(math.sin(trial)))
        rung.promote()
    return _Counted.compared / 100


def test_a_decision_costs_the_logarithm_of_the_trials() -> None:
    few, many = _comparisons(200), _comparisons(12800)
    assert few > 0
    assert many < 3 * few  # 64 times as many trials; log2: 14 against 8


def test_hyperband_spreads_trials_over_brackets_by_their_cost() -> None:
    rule = Hyperband(10, 90, 3)
    stops = [rule.enter(trial, full=False) for trial in range(11)]
    # shares 9/3, 3/2, 1: of eleven trials six, three and two
    assert [stops.count(step) for step in (10, 30, 90)] == [6, 3, 2]


def test_hyperband_compares_within_a_bracket_only() -> None:
    rule = Hyperband(10, 90, 3)
    stops = {trial: rule.enter(trial, full=False) for trial in range(4)}
    assert [stops[t] for t in range(4)] == [10, 30, 90, 10]
    for trial in range(4):
        rule.report(trial, {stops[trial]: 0.1 * trial})
    assert rule.next() is None  # two trials at step 10, one at step 30


def test_cautious_starts_later_once_early_ranks_have_misled() -> None:
    honest, misled = Cautious(10, 90, 3), Cautious(10, 90, 3)
    for trial in range(6):
        for rule, early in ((honest, trial), (misled, -trial)):
            rule.enter(trial, full=True)
            rule.report(trial, {10: 1 + 0.1 * early, 30: 0.5, 90: 0.1 * trial})
    assert honest.enter(6, full=False) == 10
    assert misled.enter(6, full=False) == 30


def test_median_stops_the_worse_half_once_five_have_come() -> None:
    rule = Median(10, 30, 3)
    for trial, loss in enumerate([0.5, 0.4, 0.9, 0.1, 0.6, 0.5]):
        assert rule.enter(trial, full=False) == 10
        rule.report(trial, {10: loss})
    going_on = [rule.next() for _ in range(6)]
    # The first four come before there are five; 0.6 is above the median of five, 0.5 is not.
    assert going_on == [(0, 10, 20), (1, 10, 20), (2, 10, 20), (3, 10, 20), (5, 10, 20), None]
    rule.report(0, {20: math.inf})
    assert rule.next() is None


def test_a_screened_start_sends_the_best_third_to_the_end_once_half_are_in() -> None:
    rule = Screened(10, 90, 3, count=6)
    assert rule.enter(9, full=True) == 90
    rule.report(9, {90: 0.01})  # the baseline is no part of it
    enter(rule, [0.5, 0.2, math.inf, 0.3, 0.4])
    assert rule.next() is None  # the sixth has not begun
    assert rule.enter(5, full=False) == 10
    assert rule.next() == (1, 10, 90)  # and need not be waited for
    assert rule.next() is None  # of five heard of one is a third
    rule.report(5, {10: 0.6})
    assert [rule.next() for _ in range(2)] == [(3, 10, 90), None]
    rule.report(1, {90: 0.1})
    enter(rule, [0.1, 0.7, 0.7], start=6)  # who had nothing to train on screened more
    assert [rule.next() for _ in range(2)] == [(6, 10, 90), None]
    slow = Screened(10, 90, 3, count=6)
    for trial in range(6):
        slow.enter(trial, full=False)
    enter(slow, [0.5, 0.2])  # of two of the first six, and two are too few
    assert slow.next() is None
