"""Paths through a supernet, asked of one of the strategies that search recipes, too.

    ask the strategy for one operation an edge;  cut the supernet down to that path
    measure batch norm anew;  tell the accuracy on the second half;  the best path stays

A path costs forward passes alone, so hundreds are looked at. One that the strategy asks for again
is told what it had; one with more skips than allowed is told the worst without being looked at.
The strategy is found by its name: it stands in the other tower, and nothing of it but ask and tell
is known here.
Source: Guo et al. 2020, arXiv:1904.00420.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Mapping
from typing import Protocol, cast

from automl.darts.search import Search
from automl.records import Segment
from automl.space.ranges import Choice
from automl.space.tree import Space
from automl.train.seeding import mix

_ASKED_AGAIN = 4  # asks a path that is looked at, at most: a small space is known before


class _Strategy(Protocol):
    def ask(self, n: int) -> list[Segment]: ...

    def tell(self, segment: Segment, values: Mapping[int, float]) -> None: ...


def best_path(
    search: Search, *, evaluations: int, sampler: str, max_skips: int
) -> tuple[dict[str, str], float]:
    """The best of `evaluations` paths by inherited weights, and its score.

    The supernet's candidates are open again afterwards.
    """
    net = search.net
    offered = {
        edge: tuple(n for n in net.open_names(edge) if n != "none") or net.open_names(edge)
        for edge in net.candidates
    }
    strategy = _strategy(sampler, offered, seed=search.settings.seed)
    known: dict[tuple[str, ...], float] = {}
    for _ in range(_ASKED_AGAIN * evaluations):
        (segment,) = strategy.ask(1)
        path = tuple(str(segment.recipe.point[edge]) for edge in offered)
        skips = sum(
            n == "skip" and len(names) > 1 for n, names in zip(path, offered.values(), strict=True)
        )
        if skips <= max_skips and path not in known:
            for edge, name in zip(offered, path, strict=True):
                net.restrict(edge, [name])
            known[path] = search.counted_accuracy()
        strategy.tell(segment, {1: known.get(path, -math.inf)})
        if len(known) == evaluations:
            break
    for edge, names in net.candidates.items():
        net.restrict(edge, names)
    best = max(known, key=lambda p: known[p])
    return dict(zip(offered, best, strict=True)), known[best]


def _strategy(name: str, offered: Mapping[str, tuple[str, ...]], *, seed: int) -> _Strategy:
    space = Space(
        {
            edge: Choice(list(names), default=next((n for n in names if n != "skip"), names[0]))
            for edge, names in offered.items()
        }
    )
    strategies = importlib.import_module("automl.search.strategy")
    made = strategies.make_strategy(
        name, space, fidelity=(1, 1, 3), direction="maximize", seed=mix(seed, "paths") % 2**31
    )
    return cast(_Strategy, made)
