"""Recipe: the complete description of one training run, seed and length included."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from automl.errors import RecipeError
from automl.space.ranges import Value

VERSION = 1

_OWN_METHODS = (
    "batch",
    "parametrization",
    "transform",
    "optimizer",
    "schedule",
    "averaging",
)
_OWN_NUMBERS = ("gradient", "loss")

Changes = tuple[tuple[int, Mapping[str, Value]], ...]  # (from this step on, these values)


@dataclass(frozen=True, slots=True)
class Recipe:
    """How one network is trained.

    `point` holds the active names of a space (`optimizer`, `optimizer.lion.lr` ...), `steps` the
    length of the whole training in study steps (one study step sees as many samples as one
    optimizer step at the task's reference batch size), never that of a segment. `changes` are
    values that take over while it trains, (step, {name: value}) each, the steps rising: numbers
    of a line of descent that population based training has found.

    >>> recipe = Recipe({"optimizer": "sgd", "optimizer.sgd.lr": 0.1}, steps=100)
    >>> recipe.stage("optimizer")
    [('sgd', {'lr': 0.1})]
    >>> Recipe.from_json(recipe.to_json()) == recipe
    True
    """

    point: Mapping[str, Value]
    steps: int
    seed: int = 0
    changes: Changes = ()

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise RecipeError(f"a recipe of {self.steps} steps trains nothing; at least 1")
        object.__setattr__(self, "point", MappingProxyType(dict(self.point)))
        changes = tuple((step, MappingProxyType(dict(values))) for step, values in self.changes)
        object.__setattr__(self, "changes", changes)
        before = 0
        for step, values in changes:
            if not before < step < self.steps:
                raise RecipeError(
                    f"a change from step {step} on: steps must rise, from {before} to {self.steps}"
                )
            for name, value in values.items():
                if name not in self.point:
                    raise RecipeError(f"a change from step {step} on: the point has no '{name}'")
                if not changeable(name, self.point[name]) or not changeable(name, value):
                    raise RecipeError(f"'{name}' cannot change while a network trains")
            before = step

    def __hash__(self) -> int:
        return hash(self.key)

    def at(self, step: int) -> Recipe:
        """What trains from `step` on, until the next change: the values in force, and no changes.

        >>> sgd = Recipe({"optimizer": "sgd", "optimizer.sgd.lr": 0.1}, steps=100)
        >>> sgd.changed(50, {"optimizer.sgd.lr": 0.02}).at(60).point["optimizer.sgd.lr"]
        0.02
        """
        if not self.changes:
            return self
        point = dict(self.point)
        for start, values in self.changes:
            if start <= step:
                point |= values
        return replace(self, point=point, changes=())

    def changed(self, step: int, values: Mapping[str, Value]) -> Recipe:
        """The same up to `step`, and these values from there on.

        Raises:
            RecipeError: the step lies outside the training, or a name cannot change in it.
        """
        before = tuple((at, old) for at, old in self.changes if at < step)
        return replace(self, changes=(*before, (step, values)))

    def lasting(self, steps: int) -> Recipe:
        """The same over another number of steps: changes fall at the same shares of them.

        >>> recipe = Recipe({"loss.x.a": 0.1}, steps=100, changes=((50, {"loss.x.a": 0.2}),))
        >>> recipe.lasting(10).changes[0][0]
        5
        """
        changes: dict[int, dict[str, Value]] = {}
        for at, values in self.changes:
            step = round(at * steps / self.steps)
            if 0 < step < steps:
                changes.setdefault(step, {}).update(values)
        return replace(self, steps=steps, changes=tuple(changes.items()))

    def stage(self, key: str) -> list[tuple[str, dict[str, Value]]]:
        """Methods that fill the stage `key`, in order, each with its own hyperparameters.

        Empty when the recipe leaves the stage out.
        """
        chosen = self.point.get(key)
        if chosen is None:
            return []
        return [(name, self.below(f"{key}.{name}.")) for name in str(chosen).split("+")]

    def below(self, prefix: str) -> dict[str, Value]:
        """Values of the names that begin with `prefix`, without it: `below("model.")`."""
        return {n[len(prefix) :]: v for n, v in self.point.items() if n.startswith(prefix)}

    @property
    def key(self) -> str:
        """Content key: equal recipes, equal keys, in every process. 16 hex digits."""
        return _digest(self.to_json())

    @property
    def point_key(self) -> str:
        """Content key of everything but the seed: two seeds of one recipe share it."""
        return _digest({**self.to_json(), "seed": None})

    @property
    def structure(self) -> str:
        """Key of all that changes code or shapes: recipes that share it can train as one program.

        Members of a pack may differ in the methods of the stages that act on weights and batches
        alone, in the numbers of the gradient's and the loss's, in rates of dropout and in patience.
        """
        return _digest({"shared": self.shared})

    @property
    def padded(self) -> str:
        """The same for structures that differ in the batch size alone, by less than four times.

        Their recipes can train as one program, too, where the samples of a batch do not see each
        other: the smaller batches are filled up with samples that do not count.
        """
        shared = self.shared
        if isinstance(size := shared.get("batch_size"), int):
            shared["batch_size"] = 4 ** -(-(size - 1).bit_length() // 2)  # the next power of 4
        return _digest({"padded": shared})

    @property
    def shared(self) -> dict[str, Value]:
        """The names that make the structure, with their values."""
        return {n: v for n, v in self.point.items() if not _free(n, v)}

    def to_json(self) -> dict[str, Any]:
        data = {
            "version": VERSION,
            "point": dict(self.point),
            "steps": self.steps,
            "seed": self.seed,
        }
        if self.changes:  # left out where there are none: keys of such recipes stay what they were
            data["changes"] = [[step, dict(values)] for step, values in self.changes]
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Recipe:
        """The inverse of `to_json`.

        Raises:
            RecipeError: another version, or not a recipe.
        """
        if data.get("version") != VERSION:
            raise RecipeError(
                f"a recipe of version {data.get('version')}; this automl reads {VERSION}"
            )
        try:
            return cls(
                point=dict(data["point"]),
                steps=int(data["steps"]),
                seed=int(data["seed"]),
                changes=tuple((int(step), values) for step, values in data.get("changes", ())),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise RecipeError(f"not a recipe: {error}") from None


def changeable(name: str, value: Value) -> bool:
    """Whether a number may change while the network trains: it makes no code, shape or state.

    Whole numbers are counts and periods, which state is kept by; a parametrization acts once.

    >>> changeable("optimizer.adamw.lr", 1e-3), changeable("model.width", 64.0)
    (True, False)
    """
    stage = name.partition(".")[0]
    return isinstance(value, float) and stage != "parametrization" and _free(name, value)


def _free(name: str, value: Value) -> bool:
    """Whether members of one pack may differ in this name."""
    if name == "patience":
        return True
    stage, *rest = name.split(".")
    if stage in _OWN_METHODS:
        return True
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and bool(rest) and (stage in _OWN_NUMBERS or "drop" in rest[-1])


def _digest(data: Mapping[str, Any]) -> str:
    text = json.dumps(data, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
