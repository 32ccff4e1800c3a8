"""Fronts, their order and their volume, against brute force and by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from automl.search.hypervolume import hypervolume
from automl.search.pareto import crowding, dominates, front_of, fronts, knee, order
from automl.search.samplers.nsga3 import directions, spread

# Few values, so that ties and equal rows are frequent.
ROWS = st.integers(1, 3).flatmap(
    lambda m: st.lists(st.tuples(*[st.integers(0, 5)] * m), min_size=1, max_size=25)
)


def peeled(rows: list[tuple[int, ...]]) -> list[int]:
    """Fronts one after the other, from the definition."""
    left, found, k = set(range(len(rows))), [0] * len(rows), 0
    while left:
        best = {i for i in left if not any(dominates(rows[j], rows[i]) for j in left)}
        for i in best:
            found[i] = k
        left -= best
        k += 1
    return found


@given(ROWS)
def test_fronts_are_those_of_the_definition(rows: list[tuple[int, ...]]) -> None:
    assert fronts(np.array(rows, dtype=float)).tolist() == peeled(rows)


@given(ROWS)
def test_the_front_is_whom_nobody_dominates(rows: list[tuple[int, ...]]) -> None:
    found = front_of(rows, [0.0] * len(rows))
    assert sorted(found) == [i for i, k in enumerate(peeled(rows)) if k == 0]
    assert [rows[i] for i in found] == sorted(rows[i] for i in found)


@given(ROWS, st.data())
def test_constraints_come_before_fronts_and_fronts_before_room(
    rows: list[tuple[int, ...]], data: st.DataObject
) -> None:
    n = len(rows)
    broken = data.draw(st.lists(st.sampled_from([0.0, 0.0, 0.5, 2.0]), min_size=n, max_size=n))
    ranked = order(rows, broken)
    assert sorted(ranked) == list(range(n))
    kept = [i for i in range(n) if broken[i] == 0]
    place = dict(zip(kept, peeled([rows[i] for i in kept]), strict=True))
    keys = [(broken[i], place.get(i, 0)) for i in ranked]
    assert keys == sorted(keys)


def test_crowding_by_hand() -> None:
    # (0,4) (1,2) (4,0): the middle one has 4/4 of room in each of the two.
    assert crowding(np.array([[0.0, 4.0], [1.0, 2.0], [4.0, 0.0]])).tolist() == [
        math.inf,
        2.0,
        math.inf,
    ]


def test_the_knee_is_what_bulges_furthest_to_the_optimum() -> None:
    # Scaled (0, 1), (1/9, .1), (1, 0); two more rows in the plane change nothing.
    assert knee([(0.0, 100.0), (1.0, 10.0), (9.0, 0.0)]) == 1
    assert knee([(0.0, 100.0), (4.5, 50.0), (1.0, 10.0), (9.0, 0.0)]) == 2
    convex = [(x, (1 - x**0.5) ** 2) for x in np.linspace(0, 1, 9).tolist()]
    assert knee(convex) == 2  # sums are 1 - 2 x^.5 + 2 x, least at x = 1/4
    assert knee([(-7 * b, 1000 * a) for a, b in convex]) is None  # turned round: it bulges away


@pytest.mark.parametrize(
    "front",
    [
        [],
        [(3.0, 3.0)],
        [(0.0, 1.0), (1.0, 0.0)],
        [(1.0, 2.0), (1.0, 2.0)],
        [(0.0, 0.0, 1.0), (1.0, 1.0, 0.0), (1.0, 1.0, 0.0)],
        [(0.0, 1.0), (0.9, 0.9), (1.0, 0.0)],  # concave
        [(0.1 * i, 1.0 - 0.1 * i) for i in range(11)],  # a line
        [(1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (0.6, 0.6, 0.6)],
        [(1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (0.2, 0.3, 0.5)],
    ],
)
def test_a_front_that_does_not_bulge_has_no_knee(front: list[tuple[float, ...]]) -> None:
    assert knee(front) is None


def test_the_knee_of_three_losses_and_of_ties() -> None:
    corners = [(1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)]
    assert knee([*corners, (0.4, 0.4, 0.1), (0.2, 0.2, 0.3)]) == 4
    # Nobody is at a corner: the plane is that of the sum 1.5, not 1.
    loose = [(0.0, 0.5, 1.0), (1.0, 0.0, 0.5), (0.5, 1.0, 0.0)]
    assert knee([*loose, (0.4, 0.4, 0.4)]) == 3
    # The best of one loss may be it, where others give up far more.
    assert knee([(0.0, 0.2, 0.2), (1.0, 0.0, 0.5), (0.5, 1.0, 0.0)]) == 0
    flat = [(0.0, 7.0, 1.0), (0.2, 7.0, 0.2), (0.2, 7.0, 0.2), (1.0, 7.0, 0.0)]
    assert knee(flat) == 1  # the first of equal ones; the loss that never differs is no matter


@given(
    st.integers(1, 3).flatmap(
        lambda m: st.lists(st.tuples(*[st.integers(0, 6)] * m), min_size=1, max_size=12)
    )
)
def test_the_volume_is_that_of_the_cells_below(rows: list[tuple[int, ...]]) -> None:
    m, top = len(rows[0]), 5  # some rows lie beyond the reference
    cells = np.stack(np.meshgrid(*[np.arange(top)] * m, indexing="ij"), axis=-1).reshape(-1, m)
    below = np.zeros(len(cells), dtype=bool)
    for row in rows:
        below |= (cells >= np.array(row)).all(axis=1)
    assert hypervolume(np.array(rows, dtype=float), (float(top),) * m) == below.sum()


def test_volumes_by_hand_and_the_limit_of_three() -> None:
    assert hypervolume(np.array([[1.0, 2.0], [2.0, 1.0]]), (3.0, 3.0)) == 3.0
    # A cube of 8 and, outside it, a slab of 1 x 1 x 3 of which 1 x 1 x 2 is in the cube.
    rows = np.array([[1.0, 1.0, 1.0], [2.0, 2.0, 0.0]])
    assert hypervolume(rows, (3.0, 3.0, 3.0)) == 9.0
    assert hypervolume(np.zeros((0, 2)), (1.0, 1.0)) == 0.0
    with pytest.raises(ValueError, match="two or three"):
        hypervolume(np.zeros((1, 4)), (1.0,) * 4)


def test_directions_sum_to_one_and_niches_keep_both_ends() -> None:
    for m in (1, 2, 3, 4):
        assert directions(m).sum(axis=1) == pytest.approx(1.0)
    line = np.linspace(0, 1, 60)
    kept = spread(np.stack([line, 1 - line], axis=1), 20)
    assert len(kept) == 20 == len(set(kept))
    assert {0, 59} <= set(kept)
    assert max(np.diff(sorted(kept))) <= 5  # evenly: 60 rows over 20 directions
