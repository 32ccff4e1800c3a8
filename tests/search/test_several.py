"""Several objectives and constraints, with every kind of sampler and rule."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from automl.aims import Outcome
from automl.errors import StrategyError
from automl.records import Segment
from automl.search.fidelity.asha import Asha
from automl.search.fidelity.median import Median
from automl.search.fidelity.ranked import RankedAsha, RankedCautious, RankedMedian, ranked
from automl.search.fidelity.weighed import WeighedFreezeThaw
from automl.search.pareto import Loss, dominates
from automl.search.scalarizing import draw_weights, scalarized
from automl.search.strategy import Failure, Fronted, Strategy, make_strategy

from .search_problems import ETA, FIRST, SPACE, STEPS, accuracy

BOTH = ("maximize", "minimize")


def made(name: str, *, directions: Sequence[str] = BOTH, seed: int = 0) -> Strategy:
    return make_strategy(
        name, SPACE, fidelity=(FIRST, STEPS, ETA), direction=directions, seed=seed, budget=20.0
    )


def outcome(segment: Segment, step: int) -> Outcome:
    """Accuracy and depth; beyond depth 3 a constraint is broken."""
    depth = segment.recipe.point["model.depth"]
    assert isinstance(depth, int)
    return Outcome((accuracy(segment.recipe, step), float(depth)), max(depth - 3, 0) / 3)


def asks(strategy: Strategy, trials: int) -> list[Segment]:
    every: list[Segment] = []
    while len(every) < trials:
        (segment,) = strategy.ask(1)
        every.append(segment)
        if segment.trial % 7 == 6:
            strategy.tell(segment, Failure("user code"))
        elif segment.trial % 5 == 4:
            strategy.tell(segment, {segment.stop: Outcome((math.nan, 1.0))})
        else:
            steps = range(segment.start + 10, segment.stop + 1, 10)
            strategy.tell(segment, {s: outcome(segment, s) for s in steps})
    return every


@pytest.mark.parametrize(
    "name", ["auto", "gp", "bohb", "median", "freeze_thaw:tpe", "nsga2", "nsga3", "cma_es"]
)
def test_a_strategy_told_outcomes_repeats_itself_and_knows_its_front(name: str) -> None:
    strategy = made(name)
    assert asks(strategy, 30) == asks(made(name), 30)
    assert isinstance(strategy, Fronted)
    front, best = strategy.front(), strategy.incumbent()
    assert front and best is not None
    assert best.number == front[0].number
    losses = []
    for trial in front:
        assert trial.outcome is not None and trial.outcome.violation == 0
        SPACE.validate(trial.recipe.point)
        losses.append((-trial.outcome.values[0], trial.outcome.values[1]))
    assert not any(dominates(a, b) for a in losses for b in losses)


def test_an_infeasible_trial_never_wins_whatever_its_value() -> None:
    strategy = made("random", directions=("maximize",))
    values = [(0.2, 3.0), (0.99, 0.1), (0.1, 0.0), (0.5, 0.0), (1.0, 0.01)]
    for value, violation in values:
        (segment,) = strategy.ask(1)
        strategy.tell(segment, {STEPS: Outcome((value,), violation)})
        best = strategy.incumbent()
        assert best is not None
        expected = {0: 0, 1: 1, 2: 2, 3: 3, 4: 3}[segment.trial]
        assert best.number == expected
    assert isinstance(strategy, Fronted)
    assert [t.number for t in strategy.front()] == [3]


def test_what_is_told_must_fit_what_was_asked_for() -> None:
    for name, directions, value in (
        ("random", BOTH, 0.5),
        ("random", BOTH, Outcome((0.5,))),
    ):
        strategy = made(name, directions=directions)
        (segment,) = strategy.ask(1)
        with pytest.raises(StrategyError, match="an Outcome of 2 values is wanted"):
            strategy.tell(segment, {STEPS: value})
    plain = make_strategy("random", SPACE, fidelity=(1, 1, 3), direction="minimize", seed=0)
    (segment,) = plain.ask(1)
    with pytest.raises(StrategyError, match="takes numbers"):
        plain.tell(segment, {1: Outcome((1.0,))})
    with pytest.raises(StrategyError, match="'up'; write maximize or minimize"):
        made("random", directions=("up",))
    with pytest.raises(StrategyError, match="no direction"):
        made("random", directions=())


# One loss of many -------------------------------------------------------------------------------


def test_weights_are_tenths_that_sum_to_one_and_reach_the_corners() -> None:
    rng = np.random.default_rng(0)
    drawn = [draw_weights(rng, 2) for _ in range(300)]
    assert {round(10 * float(w[0])) for w in drawn} == set(range(11))
    assert all(w.sum() == pytest.approx(1.0) for w in drawn)
    assert draw_weights(rng, 1).tolist() == [1.0]


def test_the_scalar_by_hand() -> None:
    # Scaled by the front: (0, 1), (1, 0), (.5, .5); then one far behind it, one that breaks a
    # constraint, and one that failed. Weights 1 and 0: the first loss, and 0.05 of the sum.
    losses = np.array([[0, 2], [2, 0], [1, 1], [4, 4], [1, 1], [math.inf, math.inf]], dtype=float)
    broken = np.array([0.0, 0.0, 0.0, 0.0, 1.0, math.inf])
    first = scalarized(losses, broken, np.array([1.0, 0.0]))
    assert first[:4].tolist() == pytest.approx([0 + 0.05, 1 + 0.05, 0.5 + 0.05, 2 + 0.05 * 4])
    assert first[4] == pytest.approx(2.2 + 1 + math.log(2))
    assert first[5] == math.inf


# Rules by place ---------------------------------------------------------------------------------


def parted(*losses: float, violation: float = 0.0) -> Loss:
    return Loss(0.0, losses, violation)


def test_the_best_places_of_a_rung_are_promoted_again_as_others_come() -> None:
    rule = RankedAsha(10, 90, 3)
    first = [parted(0.0, 9.0), parted(9.0, 0.0), parted(9.5, 9.5)]
    for trial, loss in enumerate(first):
        rule.enter(trial, full=False)
        rule.report(trial, {10: loss})
    assert rule.next() == (0, 10, 30)  # both ends have infinite room; the earlier first
    assert rule.next() is None
    late = [parted(8.0, 8.0), parted(-1.0, -1.0, violation=0.1), math.inf]
    for trial, worse in enumerate(late, start=3):
        rule.enter(trial, full=False)
        rule.report(trial, {10: worse})
    assert rule.next() == (1, 10, 30)  # two of six; the one that breaks a constraint is no rival
    assert rule.next() is None


def test_the_median_rule_keeps_the_better_half_of_the_places() -> None:
    rule = RankedMedian(10, 30, 3)
    losses = [parted(i, 9 - i) for i in (0, 9, 4, 5)] + [parted(20, 20), parted(2, 2)]
    for trial, loss in enumerate(losses):
        rule.enter(trial, full=False)
        rule.report(trial, {10: loss})
    going_on = [found[0] for found in iter(rule.next, None)]
    assert going_on == [0, 1, 2, 3, 5]  # four before there are enough; then the fifth is last


def test_rules_without_a_form_of_their_own_hear_one_number() -> None:
    assert ranked(Asha) is RankedAsha
    assert ranked(Median) is RankedMedian

    def another(low: int, high: int, eta: int) -> Asha:
        return Asha(low, high, eta)

    assert ranked(another) is another


def test_early_places_that_mislead_raise_the_first_rung() -> None:
    rule = RankedCautious(10, 90, 3)
    for trial in range(6):
        rule.enter(trial, full=True)
        rule.report(trial, {10: parted(trial, trial), 90: parted(-trial, -trial)})
    assert rule.enter(6, full=False) == 30


@pytest.mark.parametrize("name", ["pbt", "pb2"])
def test_a_population_copies_who_is_on_the_front(name: str) -> None:
    strategy = made(name)
    copied = []
    told: dict[int, dict[int, Outcome]] = {}
    while len(told) < 30 and (asked := strategy.ask(1)):
        (segment,) = asked
        start = segment.start
        if segment.parent is not None and segment.parent[0] != segment.trial:
            rivals = [t for t, known in told.items() if start in known]
            losses = [(-told[t][start].values[0], told[t][start].values[1]) for t in rivals]
            kept = [told[t][start].violation == 0 for t in rivals]
            mine = rivals.index(segment.parent[0])
            copied.append(kept[mine] and not any(
                dominates(x, losses[mine]) for x, k in zip(losses, kept, strict=True) if k
            ))  # fmt: skip
        told.setdefault(segment.trial, {})[segment.stop] = outcome(segment, segment.stop)
        strategy.tell(segment, {segment.stop: outcome(segment, segment.stop)})
    assert len(copied) > 3
    assert sum(copied) > 0.8 * len(copied)
    assert isinstance(strategy, Fronted) and strategy.front()


def thawed(segments: int) -> int:
    """Who goes on of four that wait, after so many segments that failed."""
    rule = WeighedFreezeThaw(10, 90, 3)
    rule.enter(0, full=True)
    rule.report(0, {90: parted(5.0, 5.0)})
    for trial, ends in enumerate([(0.0, 9.0), (9.0, 0.0), (8.0, 8.0), (8.5, 8.5)], start=1):
        rule.enter(trial, full=False)
        rule.report(trial, {5: parted(*ends), 10: parted(*ends)})
    for trial in range(5, 5 + segments):
        rule.enter(trial, full=False)
        rule.report(trial, {10: math.inf})
    found = rule.next()
    assert found is not None and found[1:] == (10, 20)
    return found[0]


def test_each_part_of_the_front_has_its_turn_to_be_thawed() -> None:
    went_on = [thawed(segments) for segments in range(12)]
    assert set(went_on) == {1, 2}
