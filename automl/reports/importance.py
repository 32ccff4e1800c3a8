"""Which hyperparameters matter: functional analysis of variance over a random forest (fANOVA).

A forest predicts each trial's rank from its place in the unit cube. A tree is constant on boxes,
so its variance over the cube, and how much of it one dimension explains alone, are sums:

    f_i(x) = sum over boxes open at x in dimension i of value * volume without i
    share of i = Var f_i / Var f                   mean over the trees

What dimensions explain only together is in no bar, so bars need not add up to 1. A conditional
dimension (`optimizer.lion.lr`) is judged by a forest on the trials where it is active, and counts
by the part of the whole variance that lies among them.

Trials stopped early count too: a trial ranks by the rung that it reached, then by its value there,
and a diverged one last. Ranks and not values: one diverged loss would else explain everything.
Source: Hutter, Hoos and Leyton-Brown 2014, PMLR 32:754.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from automl.records import Status
from automl.space.ranges import Choice
from automl.space.tree import Condition, Dimension, Space
from automl.study.state import State, Trial

ENOUGH = 10  # trials below which a forest says nothing
_TREES = 64
_MOST = 1500  # trials: a forest does not improve beyond, but slows


@dataclass(frozen=True, slots=True)
class Importance:
    """One hyperparameter's share of the variance, in [0, 1]."""

    name: str
    share: float
    trials: int  # that had it


def importances(state: State) -> list[Importance]:
    """All searched hyperparameters, the most important first; [] below ten trials."""
    if state.config is None:
        return []
    space = Space.from_json(state.config.card.space)
    ranked = ranks(state)
    # A portfolio's or a late exploit's trial counts like any other; the newest tell the most.
    # One whose values changed stands at no one place.
    fixed = [n for n in sorted(ranked) if not state.trials[n].recipe.changes]
    trials = [state.trials[n] for n in fixed[-_MOST:]]
    if len(trials) < ENOUGH:
        return []
    values = np.array([ranked[t.number] for t in trials])
    found = []
    for dimensions in _together(space).values():
        rows = [i for i, t in enumerate(trials) if dimensions[0].name in t.recipe.point]
        if len(rows) < ENOUGH:
            found += [Importance(d.name, 0.0, len(rows)) for d in dimensions]
            continue
        active = [d for d in space if all(d.name in trials[i].recipe.point for i in rows)]
        x = np.array([[d.range.encode(trials[i].recipe.point[d.name]) for d in active]
                      for i in rows])  # fmt: skip
        y = values[rows]
        total = float(values.var()) * len(values)
        weight = min(float(y.var()) * len(rows) / total, 1.0) if total > 0 else 0.0
        shares = dict(zip((d.name for d in active), fanova(x, y), strict=True))
        found += [Importance(d.name, weight * shares[d.name], len(rows)) for d in dimensions]
    return sorted(found, key=lambda i: -i.share)


def ranks(state: State) -> dict[int, float]:
    """Rank of each search trial that has been heard of, from 0 (worst) to 1; ties share theirs."""

    def key(t: Trial) -> tuple[float, float]:
        value = t.last(state.metric)
        if t.status == Status.DIVERGED or value is None or not math.isfinite(value):
            return (-1.0, 0.0)
        return (float(t.reached), value if state.better(1, 0) else -value)

    heard = [t for t in state.search_trials() if t.curve or t.status == Status.DIVERGED]
    keys = {t.number: key(t) for t in heard if not t.failed}
    order = sorted(keys.values())
    first = {k: i for i, k in reversed(list(enumerate(order)))}
    last = {k: i for i, k in enumerate(order)}
    scale = max(len(order) - 1, 1)
    return {n: (first[k] + last[k]) / 2 / scale for n, k in keys.items()}


def fanova(x: np.ndarray, y: np.ndarray) -> list[float]:
    """Share of the variance that each dimension explains alone.

    Args:
        x: places in the unit cube [n, d].
        y: values [n].
    """
    from sklearn.ensemble import RandomForestRegressor  # a second to import; only reports pay it

    varies = [i for i in range(x.shape[1]) if np.ptp(x[:, i]) > 0]
    shares = np.zeros(x.shape[1])
    if not varies or np.ptp(y) == 0:
        return [float(s) for s in shares]
    forest = RandomForestRegressor(_TREES, min_samples_leaf=2, random_state=0).fit(x[:, varies], y)
    trees = [_tree_shares(e.tree_, len(varies)) for e in forest.estimators_]
    known = [t for t in trees if t is not None]
    if known:
        shares[varies] = np.mean(known, axis=0)
    return [float(s) for s in shares]


def _together(space: Space) -> dict[tuple[Condition, ...], list[Dimension]]:
    """Searched dimensions by the condition that opens them."""
    groups: dict[tuple[Condition, ...], list[Dimension]] = {}
    for d in space:
        varies = (
            len(d.range.options) > 1 if isinstance(d.range, Choice) else d.range.low < d.range.high
        )
        if varies:
            groups.setdefault(d.when, []).append(d)
    return groups


def _tree_shares(tree: object, dimensions: int) -> np.ndarray | None:
    """Shares [d] of one fitted tree; None when it is constant."""
    low, high, value = _boxes(tree, dimensions)
    width = high - low
    volume = width.prod(axis=1)
    mean = float(volume @ value)
    variance = float(volume @ value**2) - mean**2
    if variance <= 1e-12:
        return None
    shares = np.empty(dimensions)
    for i in range(dimensions):
        edges = np.unique(np.concatenate([low[:, i], high[:, i]]))
        # Each box adds its part where it opens and takes it back where it closes.
        part = value * volume / width[:, i]
        change = np.zeros(len(edges))
        np.add.at(change, np.searchsorted(edges, low[:, i]), part)
        np.add.at(change, np.searchsorted(edges, high[:, i]), -part)
        marginal = np.cumsum(change)[:-1]
        shares[i] = np.diff(edges) @ (marginal - mean) ** 2
    return shares / variance


def _boxes(tree: object, dimensions: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Leaves of a tree as boxes: low [l, d], high [l, d], value [l]."""
    left, right = tree.children_left, tree.children_right  # type: ignore[attr-defined]
    feature, threshold = tree.feature, tree.threshold  # type: ignore[attr-defined]
    lows, highs, values = [], [], []
    stack = [(0, np.zeros(dimensions), np.ones(dimensions))]
    while stack:
        node, low, high = stack.pop()
        if left[node] < 0:
            lows.append(low)
            highs.append(high)
            values.append(float(tree.value[node].ravel()[0]))  # type: ignore[attr-defined]
            continue
        i, cut = feature[node], threshold[node]
        below, above = high.copy(), low.copy()
        below[i], above[i] = cut, cut
        stack += [(left[node], low, below), (right[node], above, high)]
    return np.array(lows), np.array(highs), np.array(values)
