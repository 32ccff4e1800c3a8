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


_AHEAD = 64  # updates whose rows are made at once


@dataclass
class Timetable:
    """Rows [k, 1] for the update at hand: the factor on all rates, and what optimizers are given.

    A schedule multiplies its member's "lr"; one that moves the momentum too replaces it. Each
    member stands at its own update of its own training.
    """

    schedules: Sequence[Lane]
    optimizers: Sequence[Lane]
    totals: Sequence[int]  # updates of each member's whole training
    _turn: int = -1
    _factors: list[Tensor] = field(default_factory=list)
    _rates: list[Tensor] = field(default_factory=list)
    _given: list[dict[str, list[Tensor]]] = field(default_factory=list)

    def forget(self) -> None:
        """Make new rows at the next turn: the members stand elsewhere."""
        self._turn, self._factors = -1, []

    def turn(self, clock: Sequence[int], like: Tensor) -> None:
        """Go on to the update that each member makes now, which `clock` says.

        Args:
            like: of the rows' dtype and device.
        """
        self._turn += 1
        if self._turn >= len(self._factors):
            self._turn = 0
            self._make([range(u, u + _AHEAD) for u in clock], like)

    def _make(self, each: Sequence[range], like: Tensor) -> None:
        policies = [_policy(self.schedules, k) for k in range(len(self.totals))]
        factors = [p.factors(u, n) for p, u, n in zip(policies, each, self.totals, strict=True)]
        whole = _table(factors, like)
        rates = whole.clone()
        self._given = []
        for lane in self.optimizers:
            (stage,) = lane.stages
            tables = {"factor": whole[:, lane.rows]}
            if "lr" in stage.hyper:
                own = [
                    [lr * f for f in factors[k]]
                    for k, lr in zip(lane.rows, _values(stage, "lr"), strict=True)
                ]
                tables["lr"] = rates[:, lane.rows] = _table(own, like)
            momentum = next((n for n in _FIRST_MOMENTUM if n in stage.hyper), None)
            if momentum is not None and any(policies[k].schedule.momentum for k in lane.rows):
                moved = [
                    policies[k].momenta(each[k], self.totals[k], value)
                    for k, value in zip(lane.rows, _values(stage, momentum), strict=True)
                ]
                tables[momentum] = _table(moved, like)
            self._given.append({n: list(table.unbind()) for n, table in tables.items()})
        self._factors, self._rates = list(whole.unbind()), list(rates.unbind())

    def factor(self) -> Tensor:
        """[k, 1]: each member's factor on its rates."""
        return self._factors[self._turn]

    def rate(self) -> Tensor:
        """[k, 1]: each member's learning rate times the factor; the factor where it has none."""
        return self._rates[self._turn]

    def names(self, lane: int) -> list[str]:
        """The hyperparameters of an optimizers' lane that updates change."""
        return list(self._given[lane])

    def given(self, lane: int) -> list[Tensor]:
        """What this update makes of them, [n, 1] each."""
        return [rows[self._turn] for rows in self._given[lane].values()]

    def lr(self, member: int, update: int) -> float:
        """A member's learning rate; nan where its optimizer has none."""
        ((stage, place),) = stages_of(self.optimizers, member)
        if "lr" not in stage.hyper:
            return math.nan
        policy = _policy(self.schedules, member)
        (factor,) = policy.factors(range(update, update + 1), self.totals[member])
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
        # Beyond its end a slot stays at the last update: nobody trains in it any more.
        known = [policy(u, total, **self.values) for u in updates if u < total]
        last = known[-1:] or [policy(total - 1, total, **self.values)]
        return known + last * (len(updates) - len(known))


def _policy(schedules: Sequence[Lane], member: int) -> _Policy:
    ((stage, place),) = stages_of(schedules, member)
    return _Policy(cast(Schedule, stage.method), stage.values[place])


def _values(stage: Stage, name: str) -> list[float]:
    return [float(cast(float, v[name])) for v in stage.values]


def _table(members: Sequence[Sequence[float]], like: Tensor) -> Tensor:
    """Of n members' values in u updates, [u, n, 1]."""
    table = torch.tensor(members, dtype=like.dtype, device=like.device)
    return table.T.contiguous().unsqueeze(2)
