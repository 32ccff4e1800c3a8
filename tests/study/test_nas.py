"""--nas in a study: what it finds is tried next, and an unknown search is refused."""

from __future__ import annotations

import pytest

from automl.errors import StudyError
from automl.recipe import Recipe
from automl.search.strategy import make_strategy
from automl.space.ranges import Choice, Float
from automl.space.tree import Space
from automl.study.architecture import checked_nas


def test_what_is_enqueued_comes_next_and_numbers_leave_no_gap() -> None:
    space = Space({"lr": Float(1e-3, 1.0, log=True, default=0.1), "act": Choice(["a", "b"])})
    strategy = make_strategy("random", space, fidelity=(10, 10, 3), direction="maximize", seed=0)
    strategy.ask(1)
    assert strategy.reserve(Recipe({"nas": "darts"}, steps=5), "supernet darts") == 1
    strategy.enqueue({"lr": 0.5, "act": "b"}, "derived")
    assert strategy.queued == 1
    (segment,) = strategy.ask(1)
    assert (segment.trial, dict(segment.recipe.point)) == (2, {"lr": 0.5, "act": "b"})
    assert [strategy.label(n) for n in range(3)] == ["baseline", "supernet darts", "derived"]
    assert strategy.queued == 0


def test_an_unknown_search_is_refused_with_its_nearest() -> None:
    assert checked_nas("pc-darts") == "pc-darts"
    with pytest.raises(StudyError, match="--nas dart: no such search; nearest: 'darts'; beta"):
        checked_nas("dart")
