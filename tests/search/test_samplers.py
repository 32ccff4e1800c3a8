"""Samplers and the portfolio: what they draw, and what it costs."""

from __future__ import annotations

import time

import pytest

from automl.records import Segment
from automl.registry import family
from automl.search.portfolio import ENTRIES, portfolio
from automl.search.samplers.random import RandomSampler
from automl.search.samplers.tpe import TpeSampler
from automl.search.strategy import Strategy, make_strategy
from automl.space.files import load_space
from automl.space.ranges import Choice, Float, Value
from automl.space.tree import Point, Space

from .search_problems import ETA, FIRST, SPACE, STEPS, error


def make(name: str, *, budget: float | None = None, space: Space = SPACE) -> Strategy:
    return make_strategy(
        name, space, fidelity=(FIRST, STEPS, ETA), direction="minimize", seed=0, budget=budget
    )


def test_tpe_looks_where_losses_are_low() -> None:
    tpe, random = TpeSampler(SPACE, seed=0), RandomSampler(SPACE, seed=0)
    late = {"tpe": 0.0, "random": 0.0}
    for trial in range(60):
        for name, sampler in (("tpe", tpe), ("random", random)):
            point = sampler.suggest(trial).point
            sampler.observe(trial, error(point))
            if trial >= 40:
                late[name] += error(point) / 20
    assert late["tpe"] < 0.75 * late["random"]


def test_tpe_learns_from_points_that_others_chose() -> None:
    good: dict[str, Value] = {
        "optimizer": "sgd",
        "optimizer.sgd.lr": 0.3,
        "optimizer.sgd.nesterov": True,
    }
    tpe = TpeSampler(SPACE, seed=0, startup=10)
    for trial in range(30):
        point = SPACE.complete(good) if trial % 2 else SPACE.default()
        tpe.adopt(trial, point)
        tpe.observe(trial, error(point))
    drawn = [tpe.suggest(trial).point["optimizer"] for trial in range(30, 50)]
    assert drawn.count("sgd") > 14


def test_a_value_that_improves_at_a_later_rung_replaces_the_earlier_one() -> None:
    a, b = TpeSampler(SPACE, seed=0), TpeSampler(SPACE, seed=0)
    for trial in range(20):
        loss = error(a.suggest(trial).point)
        b.suggest(trial)
        a.observe(trial, 1 - loss)
        a.observe(trial, loss)
        b.observe(trial, loss)
    assert a.suggest(20) == b.suggest(20)


def test_trials_that_run_are_avoided() -> None:
    line = Space({"x": Float(0.0, 1.0)})
    tpe = TpeSampler(line, seed=0)
    for trial in range(15):
        x = float(tpe.suggest(trial).point["x"])  # type: ignore[arg-type]
        tpe.observe(trial, (x - 0.5) ** 2)
    pending = [float(tpe.suggest(trial).point["x"]) for trial in range(15, 25)]  # type: ignore[arg-type]
    assert max(pending) - min(pending) > 0.1
    assert len(set(pending)) == 10


def test_tpe_forgets_most_of_a_long_history_and_keeps_its_best() -> None:
    line = Space({"x": Float(0.0, 1.0)})
    tpe = TpeSampler(line, seed=0)
    for trial in range(300):
        tpe.suggest(trial)
        tpe.observe(trial, abs(trial - 7))
    assert len(tpe._told) < 240
    assert set(range(25)) <= set(tpe._told) == set(tpe._rows)
    tpe.observe(150, 3.0)  # perhaps forgotten: no error


def test_a_random_ask_costs_the_same_after_many_trials() -> None:
    strategy = make("random")

    def milliseconds(trials: int) -> float:
        begun = time.process_time()
        for _ in range(trials):
            (segment,) = strategy.ask(1)
            strategy.tell(segment, {STEPS: 0.5})
        return 1e3 * (time.process_time() - begun) / trials

    early = min(milliseconds(200) for _ in range(5))
    milliseconds(5000)
    late = min(milliseconds(200) for _ in range(5))
    assert late < 3 * early
    assert late < 1.0


def test_the_portfolio_names_only_what_the_space_has() -> None:
    points = portfolio(SPACE)
    assert points
    assert SPACE.default() not in points
    for point in points:
        SPACE.validate(point)
    assert len({tuple(p.items()) for p in points}) == len(points)


def test_a_space_of_other_names_has_no_portfolio() -> None:
    assert portfolio(Space({"lr": Float(1e-4, 1.0, log=True)})) == []


@pytest.mark.parametrize("budget", [3.0, 10.0, 50.0])
def test_the_portfolio_may_cost_a_fifth_of_the_budget_or_one_training(budget: float) -> None:
    strategy = make("auto", budget=budget)
    entries = [s for s in strategy.ask(15) if strategy.label(s.trial) == "portfolio"]
    assert entries
    assert sum(s.stop for s in entries) <= max(0.2 * budget, 1) * STEPS
    assert [s.trial for s in entries] == list(range(1, len(entries) + 1))
    if budget < 5:  # something must come to its end beside the baseline
        assert [s.stop for s in entries] == [STEPS]


def test_auto_stops_few_trials_but_where_dimensions_are_many() -> None:
    stopped = {d: sum(s.stop < STEPS for s in asked_of_auto(d)) for d in (8, 24)}
    assert stopped[8] == 12  # the screened ones, of which four go on
    assert 40 <= stopped[24] <= 60


def test_auto_screens_what_its_model_is_shown_first() -> None:
    asked = asked_of_auto(8)
    assert [s.trial for s in asked[:14]] == [*range(13), asked[13].trial]
    assert asked[0].stop == STEPS
    assert {s.stop for s in asked[1:13]} == {FIRST}
    going_on = [s for s in asked if s.start]
    assert {(s.start, s.stop) for s in going_on} == {(FIRST, STEPS)}
    best = sorted(asked[1:13], key=lambda s: at(s.recipe.point))[:4]
    assert [s.trial for s in going_on] == [s.trial for s in best]


def test_auto_screens_more_until_as_many_as_were_wanted_have_ended() -> None:
    strategy = make("auto", space=Space({f"x{i}": Float(0.0, 1.0) for i in range(8)}))
    first = strategy.ask(20)  # as many workers, and nobody has ended
    assert [s.stop for s in first] == [STEPS] + [FIRST] * 19
    for segment in first[1:]:
        strategy.tell(segment, {FIRST: at(segment.recipe.point)})
    again = strategy.ask(19)
    assert [(s.start, s.stop) for s in again] == [(FIRST, STEPS)] * 6 + [(0, FIRST)] * 13
    for segment in again[:4]:
        strategy.tell(segment, {STEPS: at(segment.recipe.point)})
    strategy.tell(first[0], {STEPS: 0.5})
    assert [s.stop for s in strategy.ask(5)] == [STEPS] * 5


def test_auto_comes_back_to_each_branch_until_it_is_known() -> None:
    kinds = [f"k{i}" for i in range(4)]
    branches = {k: {"x": Float(0.0, 1.0)} for k in kinds}
    strategy = make("auto", space=Space({"kind": Choice(branches), "x0": Float(0.0, 1.0)}))
    tried: list[str] = []
    for _ in range(60):
        (segment,) = strategy.ask(1)
        point = segment.recipe.point
        tried.append(str(point["kind"]))
        better = point["kind"] == "k0"
        strategy.tell(segment, {segment.stop: at(point) / 9 + (0.0 if better else 0.9)})
    assert min(tried.count(k) for k in kinds) >= 6
    assert tried.count("k0") > 20


def asked_of_auto(dimensions: int) -> list[Segment]:
    """Sixty segments with one worker; the error is that of the first coordinate."""
    strategy = make("auto", space=Space({f"x{i}": Float(0.0, 1.0) for i in range(dimensions)}))
    asked = []
    for _ in range(60):
        for segment in strategy.ask(1):
            asked.append(segment)
            strategy.tell(segment, {segment.stop: at(segment.recipe.point)})
    return asked


def at(point: Point) -> float:
    return float(point["x0"])  # type: ignore[arg-type]


def test_the_portfolio_names_methods_and_values_that_exist() -> None:
    for entry in ENTRIES:
        for name, options in entry.items():
            stage, *rest = name.split(".")
            for option in options if isinstance(options, tuple) else (options,):
                if rest:
                    assert family(stage).get(rest[0]).ranges[rest[1]].contains(option)
                elif stage == "batch_size":
                    assert load_space("training")["batch_size"].range.contains(option)
                else:
                    assert set(str(option).split("+")) <= set(family(stage).names())
