"""What every sampler promises, as tests that yours can inherit.

    from automl.testing.samplers import SamplerContract

    class TestMine(SamplerContract):
        def make(self, space, *, seed):
            return MySampler(space, seed=seed)

pytest finds the tests of the base class. `make` must give a new sampler with no results; the class
must be importable by its name (another process does). Losses are those of `error` below:
synthetic, cheap, with conditions, whole numbers and choices. A sampler of one's own is driven
by `automl.search.paired.Paired`, together with a fidelity rule. One that takes several losses as
they are inherits `ManyLossesContract`.
"""

from __future__ import annotations

import math
import multiprocessing
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import cache

from automl.search.paired import Sampler
from automl.search.wrapping import ManyLosses
from automl.space.ranges import Choice, Float, Int, Value
from automl.space.tree import Point, Space

TREE = Space(
    {
        "optimizer": Choice(
            {
                "adamw": {
                    "lr": Float(1e-5, 1e-1, log=True, default=1e-3),
                    "wd": Float(1e-4, 0.5, log=True, default=1e-2),
                },
                "sgd": {
                    "lr": Float(1e-4, 1.0, log=True, default=0.1),
                    "nesterov": Choice([True, False]),
                },
            }
        ),
        "schedule": Choice({"cosine": {}, "one_cycle": {"share": Float(0.1, 0.5)}}),
        "batch_size": Choice([32, 64, 128], default=64),
        "model.depth": Int(1, 4),
        "model.fixed": Float(0.5, 0.5),
    }
)
LINE = Space({"x": Float(0.0, 1.0)})
OPTIONS = Space({"activation": Choice(["relu", "gelu"]), "norm": Choice(["batch", "layer"])})

Told = list[tuple[int, float]]  # (trial, loss), in the order in which they came
Points = list[dict[str, Value]]


def error(point: Point) -> float:
    """Loss on TREE: 0 for sgd with lr 10^-0.5 and depth 3, larger for everything else."""
    sgd = point["optimizer"] == "sgd"
    lr = point["optimizer.sgd.lr" if sgd else "optimizer.adamw.lr"]
    depth = point["model.depth"]
    assert isinstance(lr, float) and isinstance(depth, int)
    off = abs(math.log10(lr) + (0.5 if sgd else 2.5)) / 4
    return off + (0.0 if sgd else 0.1) + 0.05 * abs(depth - 3)


def loss_of(trial: int, point: Point) -> float:
    """`error`, but every fifth trial diverges; samplers are told infinity then."""
    return math.inf if trial % 5 == 4 else error(point)


def drive(sampler: Sampler, space: Space, *, trials: int = 40, workers: int = 3) -> Points:
    """The points of a search with `workers` trials at a time; trial 0 is adopted, as always.

    A trial is told twice, as at two rungs: first half of the trials' losses are doubled, then
    the loss itself.
    """
    points: Points = []
    running: deque[int] = deque()
    for trial in range(trials):
        if trial == 0:
            points.append(space.default())
            sampler.adopt(0, points[0])
        else:
            points.append(dict(sampler.suggest(trial).point))
        running.append(trial)
        if len(running) == workers:
            done = running.popleft()
            loss = loss_of(done, points[done]) if "optimizer" in points[done] else float(done % 7)
            if done % 2 and loss < math.inf:
                sampler.observe(done, 2 * loss, {0.5: 2 * loss})
            sampler.observe(done, loss, {1.0: loss})
    return points


class SamplerContract(ABC):
    """Promises of a sampler; inherit it and write `make`."""

    trials = 40  # of the longer searches below; more for a sampler that starts slowly

    @abstractmethod
    def make(self, space: Space, *, seed: int) -> Sampler:
        """A new sampler on `space`."""

    def test_points_hold_exactly_the_active_names_inside_their_ranges(self) -> None:
        for space in (TREE, LINE, OPTIONS):
            for point in drive(self.make(space, seed=0), space, trials=self.trials):
                space.validate(point)

    def test_equal_seeds_and_results_give_equal_points(self) -> None:
        first = drive(self.make(TREE, seed=3), TREE, trials=self.trials)
        assert drive(self.make(TREE, seed=3), TREE, trials=self.trials) == first

    def test_another_process_gives_equal_points(self) -> None:
        here = drive(self.make(TREE, seed=1), TREE, trials=self.trials)
        assert _elsewhere().submit(_driven, type(self), self.trials).result() == here

    def test_seeds_differ_in_what_they_draw(self) -> None:
        a, b = (drive(self.make(TREE, seed=s), TREE, trials=self.trials) for s in (0, 1))
        assert a != b

    def test_a_sampler_made_anew_and_told_the_same_goes_on_as_the_first(self) -> None:
        first, second = self.make(TREE, seed=2), self.make(TREE, seed=2)
        drive(first, TREE, trials=17)
        drive(second, TREE, trials=17)  # the replay of a driver that was killed
        assert [first.suggest(t).point for t in (17, 18, 19)] == [
            second.suggest(t).point for t in (17, 18, 19)
        ]

    def test_a_search_where_everything_fails_goes_on(self) -> None:
        sampler = self.make(TREE, seed=0)
        seen = []
        for trial in range(self.trials):
            seen.append(dict(sampler.suggest(trial).point))
            sampler.observe(trial, math.inf, {0.5: math.inf})
        assert len({tuple(p.items()) for p in seen}) > self.trials / 2

    def test_failures_do_not_keep_it_from_learning_of_what_works(self) -> None:
        sampler = self.make(TREE, seed=0)
        best = math.inf
        for trial in range(2 * self.trials):
            point = sampler.suggest(trial).point
            loss = loss_of(trial, point)
            best = min(best, loss)
            sampler.observe(trial, loss, {1.0: loss})
        assert best < error(TREE.default())

    def test_equal_losses_are_no_error(self) -> None:
        sampler = self.make(TREE, seed=0)
        for trial in range(self.trials):
            TREE.validate(sampler.suggest(trial).point)
            sampler.observe(trial, 0.5)

    def test_trials_that_run_are_not_drawn_again(self) -> None:
        sampler = self.make(LINE, seed=0)
        for trial in range(15):
            point = sampler.suggest(trial).point
            sampler.observe(trial, abs(_x(point) - 0.5))
        running = [_x(sampler.suggest(trial).point) for trial in range(15, 25)]
        assert len(set(running)) == 10
        assert max(running) - min(running) > 1e-4

    def test_results_may_come_in_any_order_or_never(self) -> None:
        sampler = self.make(TREE, seed=0)
        points = {trial: sampler.suggest(trial).point for trial in range(30)}
        for trial in sorted(points, key=lambda t: (t * 7) % 30):
            if trial % 3:
                sampler.observe(trial, error(points[trial]))
        for trial in range(30, 45):
            TREE.validate(sampler.suggest(trial).point)

    def test_points_that_somebody_else_chose_are_welcome(self) -> None:
        sampler = self.make(TREE, seed=0)
        good: Mapping[str, Value] = {"optimizer": "sgd", "optimizer.sgd.lr": 0.3}
        for trial in range(self.trials):
            point: Point = TREE.complete(good if trial % 2 else {})
            sampler.adopt(trial, point)
            sampler.observe(trial, error(point))
        TREE.validate(sampler.suggest(self.trials).point)

    def test_a_space_of_few_points_is_no_trap(self) -> None:
        sampler = self.make(OPTIONS, seed=0)
        seen = set()
        for trial in range(self.trials):
            point = sampler.suggest(trial).point
            seen.add(tuple(point.items()))
            sampler.observe(trial, float(trial % 3))
        assert len(seen) > 1


class ManyLossesContract(SamplerContract):
    """Promises of a sampler that takes several losses as they are (`search.several.ManyLosses`)."""

    def test_it_takes_several_losses_and_repeats_itself(self) -> None:
        first = drive_many(self.make(TREE, seed=5), trials=self.trials)
        assert drive_many(self.make(TREE, seed=5), trials=self.trials) == first
        for point in first:
            TREE.validate(point)

    def test_it_goes_on_where_every_trial_breaks_a_constraint(self) -> None:
        points = drive_many(self.make(TREE, seed=0), trials=self.trials, broken=0.5)
        assert len({tuple(p.items()) for p in points}) > self.trials / 2


def drive_many(sampler: Sampler, *, trials: int, broken: float = 0.0) -> Points:
    """A search for a small error and a small depth, told as two losses; every fifth trial fails.

    `broken`: by how much every trial breaks a constraint.
    """
    assert isinstance(sampler, ManyLosses)
    points: Points = []
    for trial in range(trials):
        points.append(dict(sampler.suggest(trial).point))
        depth = points[trial]["model.depth"]
        assert isinstance(depth, int)
        if loss_of(trial, points[trial]) == math.inf:
            sampler.observe_losses(trial, (math.inf, math.inf), math.inf)
        else:
            sampler.observe_losses(trial, (error(points[trial]), float(depth)), broken)
    return points


def _x(point: Point) -> float:
    value = point["x"]
    assert isinstance(value, float)
    return value


def _driven(contract: type[SamplerContract], trials: int) -> Points:
    return drive(contract().make(TREE, seed=1), TREE, trials=trials)


@cache
def _elsewhere() -> ProcessPoolExecutor:
    """Another process, with hashes of its own; kept for all samplers of a test run."""
    return ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))
