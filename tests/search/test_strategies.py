"""What every strategy promises, whatever its name."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections import Counter, deque
from pathlib import Path
from typing import Any

import pytest

from automl.errors import StrategyError
from automl.records import Segment
from automl.search.strategy import (
    Ending,
    Failure,
    Strategy,
    default_fidelity,
    make_strategy,
    strategies,
)
from automl.space.ranges import Choice, Float
from automl.space.tree import Space

from .search_problems import ETA, FIRST, SPACE, STEPS, accuracy, answer, search

# Nevergrad is slow to import and to ask: `de` stands for all of its optimizers.
NAMES = [n for n in strategies() if n not in ("pso", "nevergrad")]
ALL = pytest.mark.parametrize("name", NAMES)
ROOT = Path(__file__).parents[2]


def make(
    name: str, *, direction: str = "maximize", seed: int = 0, space: Space = SPACE
) -> Strategy:
    return make_strategy(
        name, space, fidelity=(FIRST, STEPS, ETA), direction=direction, seed=seed, workers=3
    )


def asks(name: str, *, rounds: int = 30) -> list[Segment]:
    """Three workers, results told in turn, one segment behind; some diverge, some fail."""
    strategy = make(name)
    running: deque[Segment] = deque()
    every: list[Segment] = []
    for _ in range(rounds):
        new = strategy.ask(3 - len(running))
        every += new
        running += new
        segment = running.popleft()
        strategy.tell(segment, answer(segment))
    return every


@ALL
def test_points_hold_active_names_inside_their_ranges(name: str) -> None:
    for segment in asks(name):
        SPACE.validate(segment.recipe.point)
        assert segment.recipe.steps == STEPS


@ALL
def test_trial_0_is_the_baseline_and_is_never_stopped(name: str) -> None:
    strategy = make(name)
    (first,) = strategy.ask(1)
    assert first.trial == 0
    assert first.recipe.point == SPACE.default()
    assert (first.start, first.stop, first.parent) == (0, STEPS, None)
    assert strategy.label(0) == "baseline"


@pytest.fixture(scope="module")
def elsewhere() -> dict[str, list[Segment]]:
    """What each strategy asks for in another process, with hashes of its own."""
    code = (
        "import json; from tests.search.test_strategies import NAMES, asks; "
        "print(json.dumps({n: [s.to_json() for s in asks(n)] for n in NAMES}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, list[dict[str, Any]]] = json.loads(done.stdout)
    return {name: [Segment.from_json(s) for s in asked] for name, asked in found.items()}


@ALL
def test_equal_results_give_equal_asks_in_another_process(
    name: str, elsewhere: dict[str, list[Segment]]
) -> None:
    assert elsewhere[name] == asks(name)


@ALL
def test_repeating_the_recorded_calls_restores_a_strategy(name: str) -> None:
    calls: list[tuple[str, object, object]] = []
    first = make(name)
    running: deque[Segment] = deque()
    for _ in range(30):
        asked = first.ask(3 - len(running), new=len(calls) % 4 != 3)
        calls.append(("ask", 3 - len(running), len(calls) % 4 != 3))
        running += asked
        if running:
            segment = running.popleft()
            first.tell(segment, answer(segment))
            calls.append(("tell", segment, answer(segment)))
    second = make(name)
    for call, a, b in calls:
        if call == "ask":
            second.ask(a, new=b)  # type: ignore[arg-type]
        else:
            second.tell(a, b)  # type: ignore[arg-type]
    assert second.incumbent() == first.incumbent()
    assert [second.ask(1) for _ in range(5)] == [first.ask(1) for _ in range(5)]


@ALL
def test_seeds_differ_in_what_they_ask(name: str) -> None:
    points = [[dict(s.recipe.point) for s in make(name, seed=seed).ask(8)][-1] for seed in (0, 1)]
    assert points[0] != points[1]


@ALL
def test_a_batch_of_asks_holds_distinct_recipes(name: str) -> None:
    segments = make(name).ask(12)
    assert [s.trial for s in segments] == list(range(12))
    assert len({s.recipe.key for s in segments}) == 12
    points = Counter(json.dumps(dict(s.recipe.point), sort_keys=True) for s in segments)
    assert max(points.values()) == 1


@ALL
def test_a_point_that_comes_again_gets_another_seed(name: str) -> None:
    tiny = Space({"optimizer": Choice(["adamw", "sgd"])})
    strategy = make(name, space=tiny)
    keys = []
    for _ in range(20):
        for segment in strategy.ask(1):
            if segment.start == 0:
                keys.append(segment.recipe.key)
            strategy.tell(segment, {segment.stop: 0.5})
    assert len(set(keys)) == len(keys)


@ALL
def test_segments_continue_where_their_trial_stopped(name: str) -> None:
    reached: dict[int, Segment] = {}
    ends: set[tuple[int, int]] = set()
    for segment in asks(name, rounds=60):
        before = reached.get(segment.trial)
        if before is None and segment.start > 0:  # a fork goes on from another's checkpoint
            assert segment.parent in ends
            assert segment.parent is not None
            parent = reached[segment.parent[0]].recipe
            changed = dict(segment.recipe.changes[-1][1])
            assert segment.recipe == parent.changed(segment.start, changed)
        elif before is None:
            assert (segment.start, segment.parent) == (0, None)
        else:
            assert segment.start == before.stop
            assert segment.parent == (segment.trial, segment.start)
            assert segment.recipe == before.recipe
        assert segment.start < segment.stop <= STEPS
        reached[segment.trial] = segment
        ends.add((segment.trial, segment.stop))


@ALL
def test_failed_and_diverged_trials_are_never_continued_nor_best(name: str) -> None:
    strategy = make(name)
    bad: set[int] = set()
    for _ in range(40):
        for segment in strategy.ask(1):
            assert segment.trial not in bad
            back = answer(segment)
            if isinstance(back, Failure) or any(math.isnan(v) for v in back.values()):
                bad.add(segment.trial)
            strategy.tell(segment, back)
    best = strategy.incumbent()
    assert bad
    assert best is not None
    assert best.number not in bad


@ALL
def test_a_search_where_everything_fails_goes_on_without_an_incumbent(name: str) -> None:
    strategy = make(name)
    for _ in range(20):
        (segment,) = strategy.ask(1)
        assert segment.start == 0
        strategy.tell(segment, Failure("timeout"))
    assert strategy.incumbent() is None


@ALL
def test_minimizing_the_negative_is_maximizing(name: str) -> None:
    up, down = make(name), make(name, direction="minimize")
    for _ in range(25):
        (a,), (b,) = up.ask(1), down.ask(1)
        assert a == b
        steps = range(a.start + 10, a.stop + 1, 10)
        up.tell(a, {s: accuracy(a.recipe, s) for s in steps})
        down.tell(b, {s: -accuracy(b.recipe, s) for s in steps})
    best, lowest = up.incumbent(), down.incumbent()
    assert best is not None
    assert lowest is not None
    assert (best.number, best.value) == (lowest.number, -lowest.value)


@ALL
def test_no_new_trial_begins_when_none_is_wanted(name: str) -> None:
    strategy = make(name)
    for segment in strategy.ask(9):
        strategy.tell(segment, {segment.stop: accuracy(segment.recipe, segment.stop)})
    assert all(segment.start > 0 for segment in strategy.ask(9, new=False))


@ALL
def test_the_incumbent_is_the_best_of_those_that_finished(name: str) -> None:
    strategy = make(name)
    done: dict[int, float] = {}
    for _ in range(40):
        for segment in strategy.ask(1):
            value = accuracy(segment.recipe, segment.stop)
            strategy.tell(segment, {segment.stop: value})
            if segment.stop == STEPS:
                done[segment.trial] = value
            best = strategy.incumbent()
            assert best is not None
            assert best.step == STEPS
            assert best.value == max(done.values())


@ALL
def test_better_than_the_baseline_after_fifteen_trainings(name: str) -> None:
    strategy = make(name)
    search(strategy, fulls=15, workers=3)
    best = strategy.incumbent()
    assert best is not None
    assert best.number != 0


@ALL
def test_every_strategy_says_in_one_line_what_it_does(name: str) -> None:
    about = strategies()[name]
    assert about
    assert "\n" not in about
    assert len(about) < 90


def test_before_a_trial_has_finished_the_best_at_the_highest_step_leads() -> None:
    strategy = make("asha")
    _, low, high = strategy.ask(3)
    strategy.tell(low, {10: 0.3})
    strategy.tell(high, {10: 0.4})
    best = strategy.incumbent()
    assert best is not None
    assert (best.number, best.step, best.value) == (2, 10, 0.4)


def test_a_result_of_a_trial_that_does_not_run_is_refused() -> None:
    strategy = make("random")
    (segment,) = strategy.ask(1)
    strategy.tell(segment, {STEPS: 0.5})
    with pytest.raises(StrategyError, match="trial 0 was told a result, but runs no segment"):
        strategy.tell(segment, {STEPS: 0.5})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "ashaa"}, "no strategy named 'ashaa'; nearest: 'asha'"),
        ({"fidelity": (20, 10, 3)}, "first rung 20 must lie in 1..10"),
        ({"fidelity": (1, 10, 1)}, "eta 1 must be at least 2"),
        ({"direction": "up"}, "direction 'up'; write maximize or minimize"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(change: dict[str, object], message: str) -> None:
    given: dict[str, object] = {
        "name": "asha",
        "fidelity": (10, 90, 3),
        "direction": "maximize",
        **change,
    }
    with pytest.raises(StrategyError, match=message):
        make_strategy(given.pop("name"), SPACE, seed=0, **given)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("max_steps", "eval_steps", "first"), [(900, 50, 100), (1000, 50, 150), (52, 1, 6), (5, 5, 5)]
)
def test_the_first_rung_is_an_evaluation_past_a_tenth(
    max_steps: int, eval_steps: int, first: int
) -> None:
    low, high, _ = default_fidelity(max_steps, eval_steps)
    assert (low, high) == (first, max_steps)
    assert low % eval_steps == 0
    assert low >= max_steps / 10


@pytest.mark.parametrize("early_end", [True, False])
def test_auto_ends_where_nothing_more_is_to_be_expected(early_end: bool) -> None:
    space = Space({"x": Float(0.0, 1.0), "y": Float(0.0, 1.0)})
    strategy = make_strategy(
        "auto", space, fidelity=(9, 9, 3), direction="minimize", seed=0, early_end=early_end
    )
    asked = 0
    while asked < 45 and (segments := strategy.ask(1)):
        (segment,) = segments
        x, y = (float(segment.recipe.point[n]) for n in ("x", "y"))  # type: ignore[arg-type]
        strategy.tell(segment, {9: (x - 0.3) ** 2 + (y - 0.7) ** 2})
        asked += 1
    assert isinstance(strategy, Ending)
    assert (20 <= asked < 45) == early_end
    assert bool(strategy.ended()) == early_end
    best = strategy.incumbent()
    assert best is not None and best.value < 1e-3
