"""From a supernet to one operation an edge.

    argmax          the strongest candidate by alpha, never "none"
    perturbation    edges in random order: of an edge's candidates keep that whose removal costs the
                    supernet most accuracy, train the weights for a while, go to the next edge

Alpha is not an operation's worth in the derived network; what its removal costs comes nearer.
Both leave at most `max_skips` skips: argmax gives the weakest skips to their runner-up,
perturbation stops offering them.
Source: Liu et al. 2019, arXiv:1806.09055; Wang et al. 2021, arXiv:2108.04392 (perturbation);
Chen et al. 2019, arXiv:1904.12760 (at most two skips).
"""

from __future__ import annotations

from automl.darts.recalibrate import accuracy
from automl.darts.search import Search
from automl.darts.supernet import Supernet
from automl.train.seeding import KeyedDraws, mix

MAX_SKIPS = 2
_FINE_TUNING = 1 << 20  # updates from here on are those of fine-tuning: batches of their own


def argmax(net: Supernet, *, max_skips: int = MAX_SKIPS) -> dict[str, str]:
    """Each edge's strongest operation."""
    chosen, strengths = {}, {}
    for edge, alpha in net.alphas().items():
        weights = dict(zip(net.candidates[edge], alpha.softmax(0).tolist(), strict=True))
        ranked = sorted(_offered(tuple(weights)), key=lambda n: -weights[n])
        chosen[edge], strengths[edge] = ranked[0], (weights, ranked)
    skips = [e for e, name in chosen.items() if name == "skip" and len(strengths[e][1]) > 1]
    skips.sort(key=lambda e: -strengths[e][0]["skip"])
    for edge in skips[max_skips:]:
        chosen[edge] = strengths[edge][1][1]
    return chosen


def perturbation(
    search: Search, *, max_skips: int = MAX_SKIPS, fine_tune: int = 2
) -> dict[str, str]:
    """Decide edge by edge; the supernet ends with one candidate on each.

    Args:
        search: one that has run; its weights are trained on.
        fine_tune: epochs between edges.
    """
    net = search.net
    chosen: dict[str, str] = {}
    edges = list(net.candidates)
    order = KeyedDraws([mix(search.settings.seed, "edges")]).at(0).permutation(len(edges))[0]
    update = _FINE_TUNING
    for i in order.tolist():
        edge = edges[i]
        names = _offered(net.candidates[edge])
        if sum(name == "skip" for name in chosen.values()) >= max_skips:
            names = tuple(n for n in names if n != "skip") or names
        chosen[edge] = _most_missed(search, edge, names)
        net.restrict(edge, [chosen[edge]])
        for _ in range(fine_tune * search.per_epoch):
            search.train_weights(update)
            update += 1
    return chosen


def _most_missed(search: Search, edge: str, names: tuple[str, ...]) -> str:
    net, present = search.net, search.net.open_names(edge)
    if len(present) == 1:
        return present[0]
    left = {}
    for name in names:
        net.restrict(edge, [n for n in present if n != name])
        left[name] = accuracy(net, *search.valid, measure=search.train[0])
    net.restrict(edge, present)
    return min(left, key=lambda n: left[n])


def _offered(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(n for n in names if n != "none") or names
