"""What a search is after: objectives, and constraints that a recipe must keep.

    --objective val/accuracy --objective params:min      NAME, or NAME:min, NAME:max
    --constraint "latency<5ms" --constraint "val/f1>0.8" NAME<VALUE UNIT; <= and >= as well

A name is a metric (val/accuracy, or accuracy; train/loss) or a measure of what a recipe costs:

    params    numbers that are trained
    latency   one forward pass of one sample, median, one thread                      ms
    size      bytes of the trained weights
    memory    weights, gradients, optimizer state and what a training batch's
              forward pass keeps for the backward one                                 MiB
    seconds   of training                                                             s
    passes    forward-backward passes, in study steps

They stand in the curves of Reports beside the metrics, as "cost/params" ..., where they are asked
for. A constraint is broken by (value - bound) / |bound|, the sum of which is a recipe's violation:
0 when all are kept. Whatever its objectives, a recipe that breaks one never beats one that keeps
them all; of two that break some, the smaller violation is better.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from automl.errors import TaskError
from automl.registry import nearest

COST = "cost/"  # of measures in curves, before their names
_COUNTS = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9}
_BYTES = {"B": 1.0, "kB": 1e3, "MB": 1e6, "GB": 1e9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_PLAIN = {"": 1.0, "%": 0.01}
UNITS: dict[str, dict[str, float]] = {  # of each measure, and what one of them is in its own
    "params": _COUNTS,
    "latency": {"us": 1e-3, "ms": 1.0, "s": 1e3},
    "size": _BYTES,
    "memory": {unit: bytes_ / 2**20 for unit, bytes_ in _BYTES.items()},
    "seconds": {"ms": 1e-3, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0},
    "passes": _COUNTS,
}
OWN_UNIT = {"latency": "ms", "size": "B", "memory": "MiB", "seconds": "s"}
BY_DRIVER = ("seconds", "passes")  # measures that every report holds anyway
_DIRECTIONS = {"min": "minimize", "max": "maximize", "minimize": "minimize", "maximize": "maximize"}
_BOUND = re.compile(
    r"^\s*([^<>=\s]+)\s*(<=|>=|<|>)\s*([-+]?[0-9.]+(?:[eE][-+]?\d+)?)\s*([A-Za-z%]*)\s*$"
)
_TIE = 1e-12  # violation of a value that lies on a bound which it must not touch


@dataclass(frozen=True, slots=True)
class Objective:
    """A name as it stands in curves, and which way it is better."""

    name: str  # "val/accuracy", "cost/params"
    direction: str  # "maximize" | "minimize"

    def loss(self, value: float) -> float:
        return -value if self.direction == "maximize" else value


@dataclass(frozen=True, slots=True)
class Constraint:
    """`name` stays below (or above) `bound`, which is in the name's own unit."""

    name: str
    sense: str  # "<", "<=", ">", ">="
    bound: float
    text: str  # as typed

    def violation(self, value: float) -> float:
        """0 where it is kept, else how far beyond the bound, as a share of it; nan breaks it.

        >>> Constraint("cost/params", "<=", 100.0, "").violation(150.0)
        0.5
        """
        if math.isnan(value):
            return math.inf
        over = self.bound - value if self.sense[0] == ">" else value - self.bound
        if over == 0 and "=" not in self.sense:
            return _TIE
        return max(over, 0.0) / (abs(self.bound) or 1.0)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a recipe is worth at a step: a value an objective, and how far it breaks bounds."""

    values: tuple[float, ...]
    violation: float = 0.0


@dataclass(frozen=True, slots=True)
class Aims:
    """All that a study is after; its first objective is the metric of the task."""

    objectives: tuple[Objective, ...]
    constraints: tuple[Constraint, ...] = ()

    @property
    def plain(self) -> bool:
        """One objective and no constraint: what a search is after unless it is told more."""
        return len(self.objectives) == 1 and not self.constraints

    @property
    def several(self) -> bool:
        return len(self.objectives) > 1

    @property
    def directions(self) -> tuple[str, ...]:
        return tuple(o.direction for o in self.objectives)

    @property
    def names(self) -> tuple[str, ...]:
        """Everything that must stand in the curves, in order, each once."""
        names = [o.name for o in self.objectives] + [c.name for c in self.constraints]
        return tuple(dict.fromkeys(names))

    @property
    def measures(self) -> tuple[str, ...]:
        """The measures among them: "params", "latency" ..."""
        return tuple(n.removeprefix(COST) for n in self.names if n.startswith(COST))

    def outcome(self, metrics: Mapping[str, float]) -> Outcome:
        """What a point of a curve is worth; nan for what it does not hold."""
        values = tuple(float(metrics.get(o.name, math.nan)) for o in self.objectives)
        return Outcome(values, self.violation(metrics))

    def violation(self, metrics: Mapping[str, float]) -> float:
        return sum(c.violation(metrics.get(c.name, math.nan)) for c in self.constraints)

    def losses(self, metrics: Mapping[str, float]) -> tuple[float, ...]:
        """Values turned so that lower is better."""
        return tuple(o.loss(metrics.get(o.name, math.nan)) for o in self.objectives)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Aims:
        return cls(
            tuple(Objective(**o) for o in data["objectives"]),
            tuple(Constraint(**c) for c in data["constraints"]),
        )


def read_objective(text: str) -> tuple[str, str | None]:
    """ "params:min" as its name and direction; None where none is stated.

    Raises:
        TaskError: no name, or an unknown direction.
    """
    name, colon, way = text.strip().partition(":")
    if not name:
        raise TaskError(f"--objective '{text}': write NAME, NAME:min or NAME:max")
    if colon and way not in _DIRECTIONS:
        raise TaskError(f"--objective {text}: '{way}' is no direction; write {name}:min or :max")
    return name, _DIRECTIONS[way] if colon else None


def read_constraint(text: str) -> Constraint:
    """ "latency<5ms" with its bound in the name's own unit.

    Raises:
        TaskError: it cannot be read, or its unit does not measure that.
    """
    found = _BOUND.match(text)
    try:
        amount = float(found[3]) if found else math.nan
    except ValueError:
        amount = math.nan
    if found is None or not math.isfinite(amount):
        raise TaskError(f"--constraint '{text}': write NAME<VALUE, such as 'latency<5ms'")
    name, sense, unit = found[1], found[2], found[4]
    units = UNITS.get(name, _PLAIN)
    if unit not in units:
        shown = ", ".join(u for u in units if u)
        said = f"'{unit}' is no unit of {name}; use" if unit else f"{found[3]} what?"
        raise TaskError(f"--constraint '{text}': {said} {shown}")
    return Constraint(name, sense, amount * units[unit], text.strip())


def first_metric(objectives: Sequence[str]) -> str | None:
    """The metric that trainings are judged by: the first objective, without "val/".

    Raises:
        TaskError: the first objective is no metric, or one is given twice.
    """
    names = [read_objective(text)[0] for text in objectives]
    twice = next((n for i, n in enumerate(names) if n in names[:i]), None)
    if twice is not None:
        raise TaskError(f"--objective {twice} is given twice")
    if not names:
        return None
    first = names[0].removeprefix("val/")
    if first.startswith("test/"):
        raise TaskError(f"--objective {first}: the search never sees the test split")
    if names[0] in UNITS or "/" in first:
        raise TaskError(
            f"--objective {names[0]} comes first; begin with the metric that trainings are judged "
            "by, such as val/accuracy"
        )
    return first


def unknown_name(option: str, name: str, metrics: Sequence[str]) -> TaskError:
    """No such objective; what there is."""
    known = [*(f"val/{m}" for m in metrics), "train/loss", *UNITS]
    near = nearest(name, [*known, *metrics])
    listed = ", ".join(known)
    return TaskError(f"{option} {name}: no such metric or measure{near}; there are: {listed}")


def plain_name(name: str) -> str:
    """A curve's name for people: "accuracy", "params", "train loss"."""
    return name.removeprefix(COST).removeprefix("val/").replace("/", " ").replace("_", " ")
