"""What stands around a sampler hides nothing of what the sampler can do and is to hear."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from automl.aims import Outcome
from automl.search.fidelity.full import Full
from automl.search.paired import Alike, Paired, Sampler, Sated, Suggestion
from automl.search.prescreen import Candidate, Pool, Prescreened
from automl.search.prior import Believing
from automl.search.strategy import make_strategy
from automl.search.wrapping import ManyLosses, Wrapping, innermost
from automl.space.ranges import Float
from automl.space.tree import Point, Space

SPACE = Space({"x": Float(0.0, 1.0), "architecture": Float(0.0, 1.0, default=0.5)})
POOL = Pool("naswot", tuple(Candidate({"architecture": i / 10}, {"naswot": i, "params": -i})
                            for i in range(10)))  # fmt: skip


class Whole:
    """A sampler of the whole contract that notes what it hears, and is sated after five losses."""

    def __init__(self) -> None:
        self.heard: list[tuple[Any, ...]] = []

    def suggest(self, trial: int) -> Suggestion:
        return self.suggest_like(trial, {})

    def suggest_like(self, trial: int, fixed: Point) -> Suggestion:
        self.heard.append(("suggest", trial, dict(fixed)))
        return Suggestion({**SPACE.default(), **fixed})

    def adopt(self, trial: int, point: Point) -> None:
        self.heard.append(("adopt", trial, dict(point)))

    def observe(self, trial: int, loss: float, curve: Mapping[float, float] | None = None) -> None:
        self.heard.append(("observe", trial, loss, curve))

    def observe_losses(self, trial: int, losses: Sequence[float], violation: float) -> None:
        self.heard.append(("losses", trial, tuple(losses), violation))

    def sated(self) -> bool:
        return len([w for w in self.heard if w[0] == "observe"]) >= 5


def believing(inner: Sampler, strength: float = 0.0) -> Wrapping:
    return Believing(SPACE, inner, strength=strength, seed=0, full=False)


def prescreened(inner: Sampler) -> Wrapping:
    return Prescreened(inner, POOL)


WRAPPERS: dict[str, Callable[[Sampler], Wrapping]] = {
    "prior": believing,
    "prescreen": prescreened,
    "both": lambda inner: prescreened(believing(inner)),
}


def test_every_wrapper_there_is_stands_here() -> None:
    assert {type(wrap(Whole())) for wrap in WRAPPERS.values()} == set(Wrapping.__subclasses__())


@pytest.mark.parametrize("name", WRAPPERS)
def test_all_that_is_said_comes_through(name: str) -> None:
    inner = Whole()
    outer = WRAPPERS[name](inner)
    assert isinstance(outer, Alike) and isinstance(outer, Sated) and isinstance(outer, ManyLosses)
    assert innermost(outer) is inner
    outer.adopt(0, SPACE.default())
    assert outer.suggest_like(1, {"architecture": 0.3}).point["architecture"] == 0.3
    outer.observe(1, 0.2, {0.1: 0.5, 1.0: 0.2})
    outer.observe(0, math.inf)
    outer.observe_losses(1, (0.2, 0.4), 0.0)
    assert inner.heard == [
        ("adopt", 0, SPACE.default()),
        ("suggest", 1, {"architecture": 0.3}),
        ("observe", 1, 0.2, {0.1: 0.5, 1.0: 0.2}),
        ("observe", 0, math.inf, None),
        ("losses", 1, (0.2, 0.4), 0.0),
    ]


@pytest.mark.parametrize("name", WRAPPERS)
def test_a_search_still_ends_early(name: str) -> None:
    outer = WRAPPERS[name](Whole())
    search = Paired(SPACE, outer, Full(1, 9, 3), steps=9, maximize=False, seed=0, early_end=True)
    for trial in range(5):
        assert not search.ended()
        (segment,) = search.ask(1)
        assert segment.trial == trial
        search.tell(segment, {9: 1.0})
    assert search.ended()
    assert search.ask(1) == []


def test_a_drawn_point_is_adopted_by_the_sampler_inside() -> None:
    inner = Whole()
    suggested = prescreened(believing(inner, strength=1.0)).suggest(1)
    assert suggested.label == "prior"
    assert inner.heard == [("adopt", 1, dict(suggested.point))]


def test_several_losses_reach_nsga_behind_a_prior_that_never_draws() -> None:
    points = []
    for prior in (0.0, 1e-12):
        search = make_strategy(
            "nsga2", SPACE, fidelity=(9, 9, 3), direction=["minimize", "minimize"], seed=1,
            prior=prior,
        )  # fmt: skip
        for _ in range(70):
            (segment,) = search.ask(1)
            x, y = (float(str(segment.recipe.point[n])) for n in SPACE.default())
            search.tell(segment, {9: Outcome((x + y, (1 - x) ** 2 + y), 0.0)})
        points.append([t.recipe.point for t in search.front()])  # type: ignore[attr-defined]
    assert points[0] == points[1]
