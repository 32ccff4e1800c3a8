"""From a supernet to one operation an edge.

    argmax          the strongest candidate by alpha, never "none"
    perturbation    edges in random order: of an edge's candidates keep that without whose share
                    the supernet's loss is highest, train on for a while, go to the next edge

    random          no supernet: the yardstick

Alpha is not an operation's worth in the derived network; what its removal costs comes nearer.
A supernet that was trained path by path is read in `paths.py`.
Both leave at most `max_skips` skips: argmax gives the weakest skips to their runner-up,
perturbation stops offering them.
The published perturbation asks for accuracy; its program offers loss too. A few hundred samples
tell by accuracy many candidates apart not at all, or by one sample.
Source: Liu et al. 2019, arXiv:1806.09055; Wang et al. 2021, arXiv:2108.04392, with its program's
sota/cnn/projection.py (perturbation; there "none" may be kept, too); Chen et al. 2019,
arXiv:1904.12760 (at most two skips).
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from automl.darts.search import FINE_TUNING, Search
from automl.darts.supernet import Supernet
from automl.train.seeding import KeyedDraws, mix

MAX_SKIPS = 2


def argmax(net: Supernet, *, max_skips: int = MAX_SKIPS) -> dict[str, str]:
    """Each edge's strongest operation."""
    chosen, strengths = {}, {}
    for edge, alpha in net.alphas().items():
        weights = dict(zip(net.candidates[edge], alpha.softmax(0).tolist(), strict=True))
        ranked = sorted(_offered(net.open_names(edge)), key=lambda n: -weights[n])
        chosen[edge], strengths[edge] = ranked[0], (weights, ranked)
    skips = [e for e, name in chosen.items() if name == "skip" and len(strengths[e][1]) > 1]
    skips.sort(key=lambda e: -strengths[e][0]["skip"])
    for edge in skips[max_skips:]:
        chosen[edge] = strengths[edge][1][1]
    return chosen


class Perturbation:
    """Decides edge by edge, training between; the supernet ends with one candidate on each.

    Args:
        search: one that has run; it is trained on.
        fine_tune: epochs after each edge.
        chosen, updates: what was decided and trained before, to go on from.
    """

    def __init__(
        self,
        search: Search,
        *,
        max_skips: int = MAX_SKIPS,
        fine_tune: int = 2,
        chosen: Mapping[str, str] | None = None,
        updates: int = 0,
    ) -> None:
        self._search, self._max_skips = search, max_skips
        self._interval = fine_tune * search.per_epoch
        self.chosen: dict[str, str] = dict(chosen or {})
        self.updates = updates
        edges = list(search.net.candidates)
        draws = KeyedDraws([mix(search.settings.seed, "edges")]).at(0)
        self._order = [edges[i] for i in draws.permutation(len(edges))[0].tolist()]

    @property
    def finished(self) -> bool:
        done = len(self.chosen) == len(self._order)
        return done and self.updates == len(self._order) * self._interval

    def step(self) -> None:
        """Decide the next edge if it is due, then train for one update."""
        if self.updates >= len(self.chosen) * self._interval and len(self.chosen) < len(
            self._order
        ):
            self._decide(self._order[len(self.chosen)])
        if self._interval:
            self._search.tune(FINE_TUNING + self.updates)
            self.updates += 1

    def _decide(self, edge: str) -> None:
        net = self._search.net
        names = _offered(net.open_names(edge))
        if sum(name == "skip" for name in self.chosen.values()) >= self._max_skips:
            names = tuple(n for n in names if n != "skip") or names
        self.chosen[edge] = _most_missed(self._search, edge, names)
        net.restrict(edge, [self.chosen[edge]])


def perturbation(
    search: Search, *, max_skips: int = MAX_SKIPS, fine_tune: int = 2
) -> dict[str, str]:
    """All of `Perturbation` at once."""
    deciding = Perturbation(search, max_skips=max_skips, fine_tune=fine_tune)
    while not deciding.finished:
        deciding.step()
    return deciding.chosen


def _most_missed(search: Search, edge: str, names: tuple[str, ...]) -> str:
    if len(names) == 1:
        return names[0]
    return max(names, key=lambda n: search.loss_without(edge, n))


def random_cells(
    candidates: Mapping[str, Sequence[str]], count: int, *, seed: int
) -> list[dict[str, str]]:
    """Cells drawn uniformly, without "none"."""
    rng = random.Random(mix(seed, "cells"))
    return [
        {e: rng.choice(_offered(tuple(n))) for e, n in candidates.items()} for _ in range(count)
    ]


def _offered(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(n for n in names if n != "none") or names
