"""Recipe: the complete description of one training run, seed and length included."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class Recipe:
    """How one network is trained.

    `point` holds the active names of a space (`optimizer`, `optimizer.lion.lr` ...), `steps` the
    length of the whole training in study steps (one study step sees as many samples as one
    optimizer step at the task's reference batch size), never that of a segment.

    >>> recipe = Recipe({"optimizer": "sgd", "optimizer.sgd.lr": 0.1}, steps=100)
    >>> recipe.stage("optimizer")
    [('sgd', {'lr': 0.1})]
    >>> Recipe.from_json(recipe.to_json()) == recipe
    True
    """

    point: Mapping[str, Value]
    steps: int
    seed: int = 0

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise RecipeError(f"a recipe of {self.steps} steps trains nothing; at least 1")
        object.__setattr__(self, "point", MappingProxyType(dict(self.point)))

    def __hash__(self) -> int:
        return hash(self.key)

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
    def shared(self) -> dict[str, Value]:
        """The names that make the structure, with their values."""
        return {n: v for n, v in self.point.items() if not _free(n, v)}

    def to_json(self) -> dict[str, Any]:
        return {
            "version": VERSION,
            "point": dict(self.point),
            "steps": self.steps,
            "seed": self.seed,
        }

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
            return cls(point=dict(data["point"]), steps=int(data["steps"]), seed=int(data["seed"]))
        except (KeyError, TypeError, ValueError) as error:
            raise RecipeError(f"not a recipe: {error}") from None


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
