"""Nevergrad's optimizers, by ask and tell; every training goes to its end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import nevergrad
from recorded import Problem

from automl.space.ranges import Choice, Int
from automl.space.tree import Point


class NevergradPeer:
    """The registry's optimizer `name`; it minimizes."""

    def __init__(self, problem: Problem, fulls: int, seed: int, workers: int, *, name: str) -> None:
        parts = {}
        for d in problem.space:
            if isinstance(d.range, Choice):
                parts[d.name] = nevergrad.p.Choice(list(d.range.options))
                continue
            kind = nevergrad.p.Log if d.range.log else nevergrad.p.Scalar
            part = kind(lower=d.range.low, upper=d.range.high)
            parts[d.name] = part.set_integer_casting() if isinstance(d.range, Int) else part
        space = nevergrad.p.Instrumentation(**{f"x{i}": p for i, p in enumerate(parts.values())})
        space.random_state.seed(seed)
        self._names = list(parts)
        self._search = nevergrad.optimizers.registry[name](space, budget=fulls, num_workers=workers)
        self._asked: dict[int, Any] = {}

    def begin(self, trial: int) -> tuple[Point, int]:
        self._asked[trial] = asked = self._search.ask()
        return dict(zip(self._names, asked.kwargs.values(), strict=True)), 0

    def report(self, trial: int, step: int, score: float) -> bool:
        return True

    def end(self, trial: int, scores: Sequence[float]) -> None:
        self._search.tell(self._asked.pop(trial), -max(scores))
