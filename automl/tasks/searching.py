"""What --nas adds to a task: an architecture with cells in its space, and the supernet's job.

The supernet is a recipe like any other, so that it travels, trains and resumes as a trial does:

    nas = "darts", nas.darts.epochs = 20 ...    the method and its hyperparameters
    architecture = "cells", its numbers          as the space has them by default
    architecture.cells.e01 = "skip|conv3"        an edge: the candidates, joined
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from automl.errors import TaskError
from automl.methods.stages import Architecture, SupernetMethod
from automl.registry import family
from automl.space.files import load_space
from automl.space.overrides import narrowed
from automl.space.ranges import Choice, Value
from automl.space.tree import Dimension, Space

BATCH = 64  # of the supernet's updates
WATCHED, WATCH_PASSES = 128, 6.0  # samples for the sharpness; a gradient, and five products of it
_JOINT = "|"


def method_name(typed: str) -> str:
    """The method's name of what was typed after --nas: "pc-darts" is pc_darts."""
    return typed.replace("-", "_")


def with_cells(source: str, sets: Sequence[str], kind: str, nas: str) -> tuple[str, ...]:
    """`sets` without those of the search, and with an architecture that has cells.

    Raises:
        TaskError: none is made for such samples, or the one asked for has no cells.
    """
    fitting = [n for n in family("architecture").names() if _searchable(n, kind)]
    if not fitting:
        raise TaskError(f"--nas {nas}: no architecture of cells is made for {kind} data")
    plain = tuple(s for s in sets if not s.strip().startswith("nas."))
    asked = [s.partition("=")[2] for s in plain if s.partition("=")[0].strip() == "architecture"]
    if asked:
        names = [n.strip() for n in asked[-1].replace("|", ",").split(",")]
        if not any(n in fitting for n in names):
            raise TaskError(
                f"--nas {nas}: --set architecture={asked[-1].strip()} holds no cells to find; "
                f"add one of: {', '.join(fitting)}"
            )
        return plain
    space = load_space(source)
    present = space["architecture"].range if "architecture" in space else None
    options = [str(o) for o in present.options] if isinstance(present, Choice) else []
    if any(o in fitting for o in options):
        return plain
    return (f"architecture={','.join([*options, fitting[0]])}", *plain)


def supernet_plan(
    space: Space, sets: Sequence[str], typed: str, *, samples: int, batch_size: int
) -> dict[str, Any]:
    """The supernet's job, for the card: "point", "steps" (updates) and "passes" (study steps).

    Raises:
        TaskError: an unknown method or hyperparameter.
    """
    nas = method_name(typed)
    method = family("nas").get(nas)
    assert isinstance(method, SupernetMethod)
    own = Space([Dimension(f"nas.{nas}.{n}", r) for n, r in method.ranges.items()])
    for text in sets:
        name, _, value = text.partition("=")
        if name.strip().startswith("nas."):
            own = narrowed(own, name.strip(), value.strip())
    options = space["architecture"].range
    assert isinstance(options, Choice)
    name = next(str(o) for o in options.options if _cells(str(o)) is not None)
    cells = _cells(name)
    assert cells is not None
    prefix = f"architecture.{name}."
    whole = space.complete({"architecture": name})
    numbers = {n: v for n, v in whole.items() if n.startswith(prefix)}
    for edge in cells.edges:
        candidates = space[prefix + edge].range
        assert isinstance(candidates, Choice)
        numbers[prefix + edge] = _JOINT.join(str(o) for o in candidates.options)
    point: dict[str, Value] = {"nas": nas, **own.default(), "architecture": name, **numbers}
    job = SupernetJob.of(point)
    passes = job.passes(samples) / batch_size
    return {"point": point, "steps": job.steps(samples), "passes": passes}


@dataclass(frozen=True)
class SupernetJob:
    """A supernet's recipe, read."""

    nas: str
    method: SupernetMethod
    hyper: Mapping[str, Value]
    architecture: str
    numbers: Mapping[str, Value]  # of the architecture, without its edges
    candidates: Mapping[str, tuple[str, ...]]

    @classmethod
    def of(cls, point: Mapping[str, Value]) -> SupernetJob:
        nas, name = str(point["nas"]), str(point["architecture"])
        method = family("nas").get(nas)
        assert isinstance(method, SupernetMethod)
        cells = _cells(name)
        assert cells is not None
        head, prefix = f"nas.{nas}.", f"architecture.{name}."
        values = {n.removeprefix(prefix): v for n, v in point.items() if n.startswith(prefix)}
        return cls(
            nas,
            method,
            {n.removeprefix(head): v for n, v in point.items() if n.startswith(head)},
            name,
            {n: v for n, v in values.items() if n not in cells.edges},
            {edge: tuple(str(values[edge]).split(_JOINT)) for edge in cells.edges},
        )

    @property
    def selection(self) -> str:
        return self.method.selection or str(self.hyper["selection"])

    def number(self, name: str, default: int) -> int:
        """A whole number among the hyperparameters."""
        return int(str(self.hyper.get(name, default)))

    def per_epoch(self, samples: int) -> int:
        return math.ceil(samples // 2 / BATCH)

    def steps(self, samples: int) -> int:
        """Updates of the whole job: the search, and the training between decisions."""
        if self.selection == "random":
            return 1
        epochs = self.number("epochs", 1)
        if self.selection == "perturbation":
            epochs += len(self.candidates) * self.number("fine_tune", 0)
        return max(1, epochs * self.per_epoch(samples))

    def passes(self, samples: int) -> float:
        """Samples through one candidate an edge, forward and backward, as expected."""
        if self.selection == "random":
            return 0.0
        counts = [len(names) for names in self.candidates.values()]
        width = 1.0 if self.method.single else sum(counts) / len(counts)
        width /= self.number("parts", 1)
        an_update = 5.0 if self.number("order", 1) == 2 else 2.0 if self.method.learns else 1.0
        epoch = samples / 2 * width
        total = self.number("epochs", 1) * epoch * (an_update + 2 / 3)
        if self.hyper.get("watch"):
            seen = min(WATCHED, samples / 2)
            total += self.number("epochs", 1) * seen * width * WATCH_PASSES
        if self.selection == "perturbation":  # while one edge after the other is decided
            total += sum(counts) * epoch * 2 / 3 / 2
            total += len(counts) * self.number("fine_tune", 0) * epoch
        if self.selection == "paths":
            total += self.number("evaluations", 0) * samples / 3
        return total


def _cells(name: str) -> Any:
    found = family("architecture").get(name)
    return found.cells if isinstance(found, Architecture) else None


def _searchable(name: str, kind: str) -> bool:
    found = family("architecture").get(name)
    return isinstance(found, Architecture) and found.cells is not None and kind in found.kinds
