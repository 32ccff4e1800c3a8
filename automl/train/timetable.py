"""What the members' schedules say for the coming updates, as tensors made once."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

import torch
from torch import Tensor

from automl.methods.stages import Schedule
from automl.space.ranges import Value
from automl.train.lanes import Lane, Stage, stages_of

_FIRST_MOMENTUM = ("momentum", "b1")  # what a schedule that moves it calls it, by optimizer


@dataclass
class Timetable:
    """Rows [k, 1] by update for a pack: the factor on all rates, and what optimizers are given.

    A schedule multiplies its member's "lr"; one that moves the momentum too replaces it.
    """

    schedules: Sequence[Lane]
    optimizers: Sequence[Lane]
    size: int
    total: int  # updates of the whole training
    _first: int = 0
    _factors: list[Tensor] = field(default_factory=list)
    _rates: list[Tensor] = field(default_factory=list)
    _given: list[dict[str, list[Tensor]]] = field(default_factory=list)

    def begin(self, updates: range, like: Tensor) -> None:
        """Make the rows of these updates, of the dtype and on the device of `like`."""
        self._first = updates.start
        policies = [_policy(self.schedules, k) for k in range(self.size)]
        self._factors = _table([p.factors(updates, self.total) for p in policies], like)
        self._given = []
        self._rates = [f.clone() for f in self._factors]
        for lane in self.optimizers:
            (stage,), own = lane.stages, [policies[k] for k in lane.rows]
            tables = {"factor": [lane.take(f) for f in self._factors]}
            if "lr" in stage.hyper:
                rates = [
                    [lr * f for f in p.factors(updates, self.total)]
                    for p, lr in zip(own, _values(stage, "lr"), strict=True)
                ]
                tables["lr"] = _table(rates, like)
                for whole, own_rates in zip(self._rates, tables["lr"], strict=True):
                    whole[lane.rows] = own_rates
            momentum = next((n for n in _FIRST_MOMENTUM if n in stage.hyper), None)
            if momentum is not None and any(p.schedule.momentum for p in own):
                moved = [
                    p.momenta(updates, self.total, value)
                    for p, value in zip(own, _values(stage, momentum), strict=True)
                ]
                tables[momentum] = _table(moved, like)
            self._given.append(tables)

    def factor(self, update: int) -> Tensor:
        """[k, 1]: each member's factor on its rates."""
        return self._factors[update - self._first]

    def rate(self, update: int) -> Tensor:
        """[k, 1]: each member's learning rate times the factor; the factor where it has none."""
        return self._rates[update - self._first]

    def given(self, lane: int, update: int) -> dict[str, Tensor]:
        """What this update changes of the hyperparameters of an optimizers' lane, [n, 1] each."""
        return {n: rows[update - self._first] for n, rows in self._given[lane].items()}

    def lr(self, member: int, update: int) -> float:
        """A member's learning rate; nan where its optimizer has none."""
        ((stage, place),) = stages_of(self.optimizers, member)
        if "lr" not in stage.hyper:
            return math.nan
        policy = _policy(self.schedules, member)
        (factor,) = policy.factors(range(update, update + 1), self.total)
        return _values(stage, "lr")[place] * factor


@dataclass(frozen=True)
class _Policy:
    schedule: Schedule
    values: Mapping[str, Value]

    def factors(self, updates: range, total: int) -> list[float]:
        return self._of(self.schedule.factor, updates, total)

    def momenta(self, updates: range, total: int, constant: float) -> list[float]:
        moved = self.schedule.momentum
        return self._of(moved, updates, total) if moved else [constant] * len(updates)

    def _of(self, policy: Callable[..., float], updates: range, total: int) -> list[float]:
        return [policy(u, total, **self.values) for u in updates]


def _policy(schedules: Sequence[Lane], member: int) -> _Policy:
    ((stage, place),) = stages_of(schedules, member)
    return _Policy(cast(Schedule, stage.method), stage.values[place])


def _values(stage: Stage, name: str) -> list[float]:
    return [float(cast(float, v[name])) for v in stage.values]


def _table(members: Sequence[Sequence[float]], like: Tensor) -> list[Tensor]:
    """[n, 1] for each update, of n members' values."""
    table = torch.tensor(members, dtype=like.dtype, device=like.device)
    return list(table.T.contiguous().unsqueeze(2).unbind(0)) if table.numel() else []
