"""The methods of a stage, for members of a pack that may have chosen different ones.

Members with the same methods at a stage form a lane: the optimizer's lanes, say, are four members
under AdamW and two under Muon. All share one forward and backward pass; then each lane's methods
act on its rows of the [k, ...] tensors, in place where these lie side by side, else on a copy.
Lanes of one stage never see each other's rows, so the order among them means nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import cast

import torch
from torch import Tensor

from automl.errors import RecipeError
from automl.methods.stages import Batch, Layout, Optimizer, State, hyper_tensors
from automl.recipe import Recipe
from automl.registry import Method, family
from automl.space.ranges import Value

_NEEDED = ("loss", "gradient", "optimizer", "schedule")  # stages that no member goes without


@dataclass
class Stage:
    """A method in its place: each member's values, the same as tensors [n, 1], and its state."""

    key: str  # "optimizer", "transform.0" ... : names its state in a checkpoint
    method: Method
    values: list[Mapping[str, Value]]
    hyper: dict[str, Tensor]
    state: State = field(default_factory=dict)


@dataclass
class Lane:
    """The n members `rows` of a pack of `size`, and the methods that they share, in order.

    samples: of their batches, where the pack's are larger; None: all.
    """

    rows: list[int]
    size: int
    stages: list[Stage]
    samples: int | None = None

    def __post_init__(self) -> None:
        self._first, self._last = self.rows[0], self.rows[-1] + 1
        self._whole = len(self.rows) == self.size
        self._view = self._last - self._first == len(self.rows)
        self._index: Tensor | None = None  # made on the device, once

    def take(self, x: Tensor) -> Tensor:
        """The lane's rows of x [k, ...]: x itself, a view of it, or a copy."""
        if self._whole:
            return x
        return x[self._first : self._last] if self._view else x.index_select(0, self.at(x))

    def put(self, x: Tensor, part: Tensor) -> None:
        """Write back what `take` gave, once it has been changed in place."""
        if not self._view:
            x.index_copy_(0, self.at(x), part)

    def at(self, x: Tensor) -> Tensor:
        """The lane's rows [n], on x's device."""
        if self._index is None or self._index.device != x.device:
            self._index = torch.tensor(self.rows, device=x.device)
        return self._index

    def take_batch(self, batch: Batch) -> Batch:
        """The members' own batches."""
        mixed = [None if a is None else self.take_samples(a) for a in (batch.y2, batch.weight)]
        return Batch(self.take_samples(batch.x), self.take_samples(batch.y), *mixed)

    def take_samples(self, x: Tensor) -> Tensor:
        """The lane's rows of x [k, b, ...], and of these the members' own samples."""
        return self.take(x)[:, : self.samples]

    def put_samples(self, x: Tensor, part: Tensor) -> None:
        """Write what was made of `take_samples(x)` into x."""
        x[:, : self.samples].index_copy_(0, self.at(x), part)

    def keep(self, members: Sequence[int]) -> Lane | None:
        """The lane in a pack of these members only; None when none of its own is among them."""
        places = sorted((members.index(r), i) for i, r in enumerate(self.rows) if r in members)
        if not places:
            return None
        own = [i for _, i in places]
        stages = [
            replace(
                s,
                values=[s.values[i] for i in own],
                hyper={n: h[own] for n, h in s.hyper.items()},
                state={n: x[own] for n, x in s.state.items()},
            )
            for s in self.stages
        ]
        return Lane([place for place, _ in places], len(members), stages, self.samples)


def lanes_of(
    key: str,
    recipes: Sequence[Recipe],
    weights: Tensor,
    layout: Layout,
    absent: str,
    sizes: Sequence[int],
) -> list[Lane]:
    """The lanes of one stage; "none" is left out where that costs nothing.

    Args:
        weights: first ones [k, p], as the methods of this stage see them.
        absent: the method of a recipe that leaves the stage out.
        sizes: samples of each member's batch. Members of methods that see batches share a lane
            where they share their size, too.

    Raises:
        RecipeError: a recipe names no method where one is needed.
        MethodError: a recipe names a method that does not exist.
    """
    chosen = [r.stage(key) or [(absent, {})] for r in recipes]
    chains: dict[tuple[tuple[str, ...], int | None], list[int]] = {}
    for k, chain in enumerate(chosen):
        names = tuple(name for name, _ in chain)
        sees = key == "batch" or (key == "optimizer" and _looks(names))
        chains.setdefault((names, sizes[k] if sees else None), []).append(k)
    lanes = []
    for (names, size), rows in chains.items():
        lane = Lane(rows, len(recipes), [], None if size == max(sizes) else size)
        w = lane.take(weights)
        for i, name in enumerate(names):
            if name == "none":
                continue
            method = family(key).get(name)
            defaults = {h: r.default for h, r in method.ranges.items()}
            values: list[Mapping[str, Value]] = [{**defaults, **chosen[k][i][1]} for k in rows]
            hyper = hyper_tensors(values, device=w.device, dtype=w.dtype)
            init = getattr(method, "init", None)
            state = init(w, layout) if init else {}
            place = f"{key}.{i}" if family(key).chained else key
            lane.stages.append(Stage(place, method, values, hyper, state))
        if lane.stages:
            lanes.append(lane)
        elif key in _NEEDED:
            raise RecipeError(f"the recipe names no {key}")
    return lanes


def _looks(optimizers: Sequence[str]) -> bool:
    methods = [family("optimizer").get(name) for name in optimizers if name != "none"]
    return any(cast(Optimizer, method).looks for method in methods)


def stages_of(lanes: Sequence[Lane], member: int) -> Iterator[tuple[Stage, int]]:
    """The stages of one member, each with the member's place in its lane."""
    for lane in lanes:
        if member in lane.rows:
            place = lane.rows.index(member)
            yield from ((stage, place) for stage in lane.stages)


def merged(lanes: Sequence[Lane], whole: Batch, parts: Sequence[Batch]) -> Batch:
    """One batch of what each lane made of its members' part of `whole`."""
    if len(parts) == 1 and len(lanes[0].rows) == lanes[0].size:
        return parts[0]
    x, y = whole.x.clone(), whole.y.clone()
    for lane, part in zip(lanes, parts, strict=True):
        lane.put_samples(x, part.x)
        lane.put_samples(y, part.y)
    mixed = [(lane, p) for lane, p in zip(lanes, parts, strict=True) if p.y2 is not None]
    if not mixed:
        return Batch(x, y)
    # Members that mix nothing: weight 1, and a second target that counts 0.
    y2, weight = y.clone(), whole.x.new_ones(y.shape[:2])
    if not weight.is_floating_point():
        weight = weight.to(mixed[0][1].weight.dtype)  # type: ignore[union-attr]
    for lane, part in mixed:
        assert part.y2 is not None and part.weight is not None
        lane.put_samples(y2, part.y2)
        lane.put_samples(weight, part.weight)
    return Batch(x, y, y2, weight)
