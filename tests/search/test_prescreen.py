"""Prescreening: the best-scored are tried first, for as long as the scores prove right."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping

import numpy as np
import pytest

from automl.search.prescreen import (
    FACTOR,
    FEWEST,
    Candidate,
    Pool,
    drawn,
    spearman,
    trust,
)
from automl.search.strategy import Strategy, make_strategy
from automl.space.ranges import Choice, Float, Int, Value
from automl.space.tree import Point, Space

SPACE = Space(
    {
        "architecture": Choice({"net": {"width": Int(1, 400, default=1)}}),
        "lr": Float(1e-3, 1.0, log=True, default=0.1),
    }
)
Score = Callable[[Mapping[str, Value]], float]


def width(point: Point) -> float:
    return float(str(point["architecture.net.width"]))


def luck(point: Point) -> float:
    return float(np.random.default_rng(int(width(point))).random())


def pool(score: Score, *, params: Score = luck, count: int = 80) -> Pool:
    found = [
        Candidate(p, {"naswot": score(p), "params": params(p)}) for p in drawn(SPACE, count, seed=0)
    ]
    return Pool("naswot", tuple(found), 1.5)


def searched(strategy: Strategy, trials: int) -> list[tuple[str, float]]:
    """(label, width) of each trial; what is found is the width."""
    out = []
    for _ in range(trials):
        (segment,) = strategy.ask(1)
        point = segment.recipe.point
        out.append((strategy.label(segment.trial), width(point)))
        strategy.tell(segment, {9: width(point)})
    return out


def made(pool: Pool | None, name: str = "random") -> Strategy:
    return make_strategy(
        name, SPACE, fidelity=(9, 9, 3), direction="maximize", seed=3, budget=20, pool=pool
    )


def test_networks_are_drawn_once_each_and_alike_for_a_seed() -> None:
    points = drawn(SPACE, 30, seed=1)
    assert len({p["architecture.net.width"] for p in points}) == 30
    assert points == drawn(SPACE, 30, seed=1)
    assert points != drawn(SPACE, 30, seed=2)
    assert "lr" not in points[0]
    few = SPACE.replace("architecture.net.width", Int(1, 3, default=1))
    assert len(drawn(few, 30, seed=1)) == 3


def test_the_best_of_four_is_tried_then_one_blind() -> None:
    given = pool(width)
    (base, *rest) = searched(made(given), 7)
    assert base == ("baseline", 1.0)
    at, wanted = 0, []
    for turn in range(6):
        taken = given.candidates[at : at + (FACTOR if turn % 2 == 0 else 1)]
        at += len(taken)
        label = "prescreened" if turn % 2 == 0 else "drawn blind"
        wanted.append((label, max(width(c.point) for c in taken)))
    assert rest == wanted


@pytest.mark.parametrize("name", ["random", "tpe", "auto", "gp", "asha"])
def test_a_proxy_that_proves_right_is_kept_beside_the_samplers_own_choice(name: str) -> None:
    found = searched(made(pool(width), name), 36)
    labels = [label for label, _ in found]
    begun = labels.index("prescreened")
    assert "drawn blind" in labels[: begun + FEWEST]
    late = labels[begun + FEWEST + 1 :]
    assert set(late) == {"prescreened", ""}
    assert abs(late.count("prescreened") - late.count("")) <= 1


@pytest.mark.parametrize(
    "given",
    [
        pytest.param(pool(luck), id="chance"),
        pytest.param(pool(lambda p: -width(p)), id="backwards"),
        pytest.param(
            pool(lambda p: width(p) + 300 * luck(p), params=width), id="params are better"
        ),
    ],
)
def test_a_proxy_that_proves_wrong_is_dropped(given: Pool) -> None:
    labels = [label for label, _ in searched(made(given), 30)]
    assert labels[1 : FEWEST + 1] == ["prescreened", "drawn blind"] * (FEWEST // 2)
    assert set(labels[FEWEST + 1 :]) == {""}


def test_an_empty_pool_leaves_the_sampler_alone() -> None:
    labels = [label for label, _ in searched(made(pool(width, count=12)), 12)]
    assert labels[1:4] == ["prescreened", "drawn blind", "prescreened"]
    assert set(labels[4:]) == {""}


def test_what_was_written_down_gives_the_same_search() -> None:
    given = pool(lambda p: -math.inf if width(p) < 9 else math.nan if width(p) > 300 else width(p))
    again = Pool.from_json(json.loads(json.dumps(given.to_json())))
    assert searched(made(again), 20) == searched(made(given), 20)
    assert again.scores_of({**given.candidates[3].point, "lr": 0.5}) == again.candidates[3].scores


def test_results_are_compared_where_enough_trials_have_come() -> None:
    scores = [{"naswot": float(i), "params": 0.0} for i in range(20)]
    values = [{0.1: float(i), 1.0: float(-i)} if i < 9 else {0.1: float(i)} for i in range(20)]
    found = trust("naswot", list(zip(scores, values, strict=True)))
    assert (found.trained, found.share) == (20, 0.1)
    assert found.correlation == pytest.approx(1.0)
    assert found.trusted
    # Once enough are at the end, only the end counts.
    values = [{0.1: float(i), 1.0: float(-i)} for i in range(20)]
    found = trust("naswot", list(zip(scores, values, strict=True)))
    assert found.share == 1.0
    assert found.correlation == pytest.approx(-1.0)
    assert not found.trusted


def test_failed_trials_are_the_worst() -> None:
    results = [({"naswot": i, "params": 0.0}, {1.0: float(i)}) for i in range(3, 15)]
    failed = [({"naswot": 0.0, "params": 0.0}, {0.2: -math.inf})] * 3
    found = trust("naswot", [*results, *failed])
    assert found.trained == 15
    assert found.correlation == pytest.approx(1.0)


def test_rank_correlation_shares_the_ranks_of_ties() -> None:
    assert spearman([1, 2, 2, 4], [10, 30, 30, 99]) == pytest.approx(1.0)
    assert spearman([1, 2, 3], [3, 2, 1]) == pytest.approx(-1.0)
    assert spearman([1, 1, 1], [3, 2, 1]) == 0.0
    assert spearman([math.nan, 2, 3], [1, 2, 3]) == pytest.approx(1.0)
