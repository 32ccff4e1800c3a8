"""Population based training and PB2: who is copied, from which checkpoint, and what copies try."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator

import numpy as np
import pytest

from automl.records import Segment
from automl.search.fidelity.exploring import Perturbing, movable
from automl.search.fidelity.pb2 import Bandit
from automl.search.paired import Failure
from automl.search.pareto import Loss
from automl.search.strategy import Strategy, make_strategy
from automl.space.ranges import Choice, Float
from automl.space.tree import Point, Space

from .search_problems import SPACE, accuracy

STEPS, EVERY = 200, 10
TOY = Space({"loss.toy.h0": Float(0.0, 1.0, default=1.0), "loss.toy.h1": Float(0.0, 1.0)})
POLES = Space({"loss.toy.h0": Choice([0.0, 1.0])})  # h1 is the rest to 1
BOTH = pytest.mark.parametrize("name", ["pbt", "pb2"])


def made(name: str, space: Space = TOY, *, budget: float = 11.0, seed: int = 0) -> Strategy:
    return make_strategy(
        name, space, fidelity=(EVERY, STEPS, 3), direction="maximize", seed=seed, budget=budget
    )


class Toy:
    """The toy of Jaderberg et al.: theta climbs a surrogate that h0, h1 bend; Q is the truth.

    A copy that goes on from a checkpoint which is no longer needed fails, as it would in a store.
    """

    def __init__(self) -> None:
        self.kept: dict[tuple[int, int], tuple[float, float]] = {}

    def train(self, segment: Segment, running: list[Segment]) -> float:
        """Q at the segment's end; `running` have been handed out and not ended."""
        a, b = self.kept[segment.parent] if segment.parent else (0.9, 0.9)
        for step in range(segment.start, segment.stop):
            point = segment.recipe.at(step).point
            h = float(str(point["loss.toy.h0"]))
            a -= 0.02 * 2 * h * a
            b -= 0.02 * 2 * float(str(point.get("loss.toy.h1", 1 - h))) * b
        self.kept[segment.trial, segment.stop] = a, b
        needed = {s.parent for s in running}
        before = (segment.trial, segment.start)
        if before not in needed:
            self.kept.pop(before, None)
        return 1.2 - (a * a + b * b)


def driven(strategy: Strategy, *, fulls: float, workers: int, seed: int = 0) -> list[Segment]:
    """All segments asked, which end in any order."""
    rng, toy = random.Random(seed), Toy()
    running: list[Segment] = []
    every: list[Segment] = []
    paid = 0
    while paid < fulls * STEPS:
        asked = strategy.ask(workers - len(running))
        running += asked
        assert running
        every += asked
        segment = running.pop(rng.randrange(len(running)))
        value = toy.train(segment, running)
        strategy.tell(segment, {segment.stop: value})
        paid += segment.stop - segment.start
    return every


@BOTH
def test_the_toy_of_the_paper_is_solved_by_copies_alone(name: str) -> None:
    # Whoever holds h = (1, 0) or (0, 1) to the end comes to 0.39; both must be held in turn.
    strategy = made(name, POLES)
    driven(strategy, fulls=11, workers=1)
    best = strategy.incumbent()
    assert best is not None
    assert best.value > 1.0
    plain = made("quasi_random", POLES)
    driven(plain, fulls=11, workers=1)
    alone = plain.incumbent()
    assert alone is not None
    assert alone.value == pytest.approx(0.39, abs=1e-4)


@BOTH
@pytest.mark.parametrize("workers", [1, 3, 20])
def test_copies_begin_where_a_checkpoint_still_is(name: str, workers: int) -> None:
    every = driven(made(name), fulls=24, workers=workers, seed=workers)
    forks = [s for s in every if s.parent and s.parent[0] != s.trial]
    assert len(forks) > 5
    for fork in forks:
        assert fork.parent is not None
        (parent,) = {s.recipe.key: s.recipe for s in every if s.trial == fork.parent[0]}.values()
        assert fork.recipe.seed == parent.seed
        assert fork.recipe.changes[:-1] == parent.changes
        assert fork.recipe.changes[-1][0] == fork.start == fork.parent[1]
        TOY.validate(fork.recipe.at(fork.start).point)
        assert fork.recipe.at(fork.start).point != parent.at(fork.start).point


def test_a_population_that_has_come_to_one_step_goes_on_as_one_pack() -> None:
    strategy = made("pbt", SPACE)
    (first,) = strategy.ask(1)
    strategy.tell(first, {STEPS: 0.5})
    (one,) = strategy.ask(1)
    rest = [s for _ in range(9) for s in strategy.ask(1, like=one.recipe)]
    members = [one, *rest]
    assert {(s.start, s.stop, s.recipe.structure) for s in members} == {
        (0, EVERY, one.recipe.structure)
    }
    for s in members:
        strategy.tell(s, {EVERY: accuracy(s.recipe, EVERY)})
    onward = [s for _ in range(10) for s in strategy.ask(1, like=one.recipe)]
    assert {(s.start, s.stop, s.recipe.structure) for s in onward} == {
        (EVERY, 2 * EVERY, one.recipe.structure)
    }
    forks = [s for s in onward if s.parent and s.parent[0] != s.trial]
    assert len(forks) == 2
    ranked = sorted(members, key=lambda s: -accuracy(s.recipe, EVERY))
    assert {s.parent[0] for s in forks if s.parent} <= {s.trial for s in ranked[:2]}
    gone = {s.trial for s in members} - {s.trial for s in onward}
    assert gone == {s.trial for s in ranked[-2:]}


def test_a_member_that_fails_is_replaced_and_given_up_where_nobody_can_be_copied() -> None:
    strategy = made("pbt")
    first, *members = strategy.ask(11)
    strategy.tell(first, {STEPS: 0.5})
    for s in members[:4]:
        strategy.tell(s, Failure("out of memory"))
    for place, s in enumerate(members[4:]):
        strategy.tell(s, {EVERY: 0.1 * place})
    onward = strategy.ask(10, new=False)
    assert not {s.trial for s in onward} & {s.trial for s in members[:4]}
    assert len(onward) == 10
    fixed = Space({"loss.toy.h0": Float(0.5, 0.5), "batch_size": Choice([32, 64])})
    still = made("pbt", fixed)
    first, *members = still.ask(11)
    for s in members:
        still.tell(s, Failure("out of memory") if s is members[0] else {EVERY: 0.5})
    assert {s.trial for s in still.ask(10, new=False)} == {s.trial for s in members[1:]}


def test_only_numbers_that_may_change_while_training_are_moved() -> None:
    space = Space(
        {
            "optimizer": Choice({"sgd": {"lr": Float(1e-4, 1.0, log=True, default=0.1),
                                         "period": Float(2.0, 2.0)}}),
            "loss": Choice({"x": {"smoothing": Choice([0.0, 0.1, 0.2])}}),
            "model.width": Float(0.5, 2.0),
            "batch_size": Choice([32, 64]),
        }
    )  # fmt: skip
    point = space.default()
    names = ["optimizer.sgd.lr", "loss.x.smoothing"]
    assert [d.name for d in movable(space, point)] == names
    perturbing = Perturbing(space, seed=0)
    factors, steps = set(), set()
    for _ in range(200):
        found = perturbing.explore(point, 10, [])
        assert found
        assert set(found) <= set(names)
        factors.add(round(float(found.get("optimizer.sgd.lr", 0.1)) / 0.1, 3))  # type: ignore[arg-type]
        steps.add(found.get("loss.x.smoothing", 0.0))
    assert {0.8, 1.2} < factors
    assert steps == {0.0, 0.1}


def test_a_number_near_one_moves_by_what_it_lacks() -> None:
    space = Space({"optimizer.x.b2": Float(0.9, 0.9999, default=0.99)})
    perturbing = Perturbing(space, seed=1)
    found = [perturbing.explore(space.default(), 1, [])["optimizer.x.b2"] for _ in range(60)]
    assert {0.992, 0.988} < set(found)


def told(bandit: Bandit, at: range) -> Iterator[float]:
    """Members that try anything; what gains most moves from 0.2 to 0.8 in the course of `at`."""
    rng = np.random.default_rng(0)
    for t in at:
        peak = 0.2 + 0.6 * t / at.stop
        for _ in range(6):
            x = float(rng.random())
            point: Point = {"loss.toy.h0": x, "loss.toy.h1": 0.5}
            bandit.learn(point, 10 * t, 0.0, (x - peak) ** 2 / t)
        yield peak


def test_the_bandit_follows_what_gains_now() -> None:
    bandit = Bandit(TOY, seed=0)
    peaks = list(told(bandit, range(1, 9)))
    found = []
    others: list[Point] = []
    for _ in range(6):
        values = bandit.explore({"loss.toy.h0": 0.5, "loss.toy.h1": 0.5}, 90, others)
        others.append({"loss.toy.h0": 0.5, "loss.toy.h1": 0.5, **values})
        found.append(float(others[-1]["loss.toy.h0"]))  # type: ignore[arg-type]
    assert abs(float(np.median(found)) - peaks[-1]) < 0.2
    assert len(set(found)) == 6
    assert all(math.isfinite(x) for x in found)


def test_of_two_losses_copies_go_for_one_or_the_other() -> None:
    # The first loss falls at h0 = 0.1, the second at 0.9; a third never moves, nor does h1 matter.
    bandit, rng = Bandit(TOY, seed=0), np.random.default_rng(0)
    for t in range(1, 6):
        for x, y in rng.random((8, 2)).tolist():
            after = ((x - 0.1) ** 2, (x - 0.9) ** 2, 7.0)
            point: Point = {"loss.toy.h0": x, "loss.toy.h1": y}
            bandit.learn(point, 10 * t, Loss(0.0, (1.0, 1.0, 7.0)), Loss(0.0, after))
    here: Point = {"loss.toy.h0": 0.5, "loss.toy.h1": 0.5}
    tried = [float(str({**here, **bandit.explore(here, 60, [])}["loss.toy.h0"])) for _ in range(20)]
    assert min(tried) < 0.25 and max(tried) > 0.75
