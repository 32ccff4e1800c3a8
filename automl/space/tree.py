"""Space: what may vary, as flat dotted names with the conditions under which each is active.

A choice between sub-spaces opens the names below it: with `optimizer = "lion"` the point also
holds `optimizer.lion.lr`, and `optimizer.sgd.lr` is absent. A point holds active names only.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from automl.errors import SpaceError
from automl.registry import nearest
from automl.space.ranges import Choice, Range, Value, range_from_json

Point = Mapping[str, Value]
Condition = tuple[str, tuple[Value, ...]]  # a name, and the values of it that open this dimension


@dataclass(frozen=True, slots=True)
class Dimension:
    """One name of a space; active when every condition holds. A condition's name stands earlier."""

    name: str
    range: Range
    when: tuple[Condition, ...] = ()

    def active(self, point: Point) -> bool:
        """Whether `point`, complete up to this dimension, has it."""
        return all(name in point and point[name] in values for name, values in self.when)


class Space:
    """A tree of ranges, kept flat and in order: a dimension stands after what it depends on.

    >>> from automl.space.ranges import Choice, Float
    >>> space = Space({"optimizer": Choice({"sgd": {"lr": Float(1e-3, 1, log=True, default=0.1)},
    ...                                     "none": {}})})
    >>> space.default()
    {'optimizer': 'sgd', 'optimizer.sgd.lr': 0.1}
    """

    def __init__(self, ranges: Mapping[str, Range] | Sequence[Dimension]) -> None:
        if isinstance(ranges, Mapping):
            ranges = tuple(_flatten(ranges, prefix="", when=()))
        self.dimensions: tuple[Dimension, ...] = tuple(ranges)
        self._by_name = {d.name: d for d in self.dimensions}
        if len(self._by_name) < len(self.dimensions):
            raise SpaceError("a space names a dimension twice")

    def __len__(self) -> int:
        return len(self.dimensions)

    def __iter__(self) -> Iterator[Dimension]:
        return iter(self.dimensions)

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    def __getitem__(self, name: str) -> Dimension:
        if name not in self._by_name:
            raise SpaceError(f"no hyperparameter '{name}'{nearest(name, self._by_name)}")
        return self._by_name[name]

    def names(self) -> tuple[str, ...]:
        return tuple(self._by_name)

    def default(self) -> dict[str, Value]:
        """The baseline's point: every active dimension at its default."""
        return self.complete({})

    def complete(self, partial: Point) -> dict[str, Value]:
        """`partial`, with defaults for the active names it lacks and without inactive ones."""
        point: dict[str, Value] = {}
        for d in self.dimensions:
            if d.active(point):
                point[d.name] = partial.get(d.name, d.range.default)
        return point

    def validate(self, point: Point) -> None:
        """Check that `point` holds exactly the active names, each inside its range.

        Raises:
            SpaceError: naming the first name that does not fit.
        """
        for name in point:
            self[name]
        for d in self.dimensions:
            if not d.active(point):
                if d.name in point:
                    raise SpaceError(f"{d.name} is set, but {_conditions(d.when)} does not hold")
            elif d.name not in point:
                raise SpaceError(f"{d.name} is missing")
            elif not d.range.contains(point[d.name]):
                raise SpaceError(f"{d.name} = {point[d.name]} lies outside {describe(d.range)}")

    def sample(self, rng: np.random.Generator, fixed: Point | None = None) -> dict[str, Value]:
        """A point drawn uniformly on each dimension's own scale, but for what is fixed."""
        return self.decode(rng.random(len(self.dimensions)), fixed)

    def encode(self, point: Point) -> np.ndarray:
        """Places in the unit cube [d], float64; inactive dimensions stand at their default."""
        return np.array(
            [d.range.encode(point.get(d.name, d.range.default)) for d in self.dimensions]
        )

    def decode(self, unit: np.ndarray, fixed: Point | None = None) -> dict[str, Value]:
        """The point at places `unit` [d]; places of inactive dimensions are ignored.

        `fixed` names keep their values.
        """
        point: dict[str, Value] = {}
        known = fixed or {}
        for d, u in zip(self.dimensions, unit.tolist(), strict=True):
            if d.active(point):
                drawn = d.range.decode(min(max(u, 0.0), 1.0))
                point[d.name] = known.get(d.name, drawn)
        return point

    def replace(self, name: str, new: Range) -> Space:
        """This space with another range for `name`; what depended on lost options goes too."""
        self[name]
        kept: list[Dimension] = []
        for d in self.dimensions:
            range_ = new if d.name == name else d.range
            when = tuple((n, _still_open(n, v, name, new)) for n, v in d.when)
            open_ = all(values for _, values in when)
            parents = all(n in {k.name for k in kept} for n, _ in when)
            if open_ and parents:
                kept.append(Dimension(d.name, range_, when))
        return Space(kept)

    def size(self) -> float:
        """Number of distinct points when no dimension is real; infinity otherwise. Upper bound."""
        total = 1.0
        for d in self.dimensions:
            if isinstance(d.range, Choice):
                total *= len(d.range.options)
            elif isinstance(d.range.low, int) and isinstance(d.range.high, int):
                total *= d.range.high - d.range.low + 1
            elif d.range.low < d.range.high:
                return float("inf")
        return total

    def to_json(self) -> list[dict[str, Any]]:
        return [
            {"name": d.name, **d.range.to_json(), "when": [[n, list(v)] for n, v in d.when]}
            for d in self.dimensions
        ]

    @classmethod
    def from_json(cls, data: Iterable[Mapping[str, Any]]) -> Space:
        return cls(
            [
                Dimension(d["name"], range_from_json(d), tuple((n, tuple(v)) for n, v in d["when"]))
                for d in data
            ]
        )


def describe(range_: Range) -> str:
    """A range in its text form, as `--set` and space files read it."""
    if isinstance(range_, Choice):
        return "|".join(str(o) for o in range_.options)
    if range_.low == range_.high:
        return f"{range_.low:g}"
    return f"{'log ' if range_.log else ''}{range_.low:g}..{range_.high:g}"


def _flatten(
    ranges: Mapping[str, Range], *, prefix: str, when: tuple[Condition, ...]
) -> Iterator[Dimension]:
    for key, range_ in ranges.items():
        name = prefix + key
        yield Dimension(name, range_, when)
        if isinstance(range_, Choice):
            for option, sub in range_.subspaces.items():
                yield from _flatten(
                    sub, prefix=f"{name}.{option}.", when=(*when, (name, (option,)))
                )


def _still_open(
    name: str, values: tuple[Value, ...], changed: str, new: Range
) -> tuple[Value, ...]:
    return tuple(v for v in values if new.contains(v)) if name == changed else values


def _conditions(when: Iterable[Condition]) -> str:
    return " and ".join(f"{n} = {'|'.join(str(v) for v in values)}" for n, values in when)
