"""What the members of a pack must share: everything of a recipe that changes code or shapes."""

from __future__ import annotations

from collections.abc import Hashable

from automl.recipe import Recipe
from automl.space.ranges import Value


def structure(recipe: Recipe) -> Hashable:
    """Recipes of equal structure train as one program: numbers of their methods may differ."""
    return tuple(sorted(_shared(name, value) for name, value in recipe.point.items()))


def _shared(name: str, value: Value) -> tuple[str, str]:
    free = name.count(".") == 2 and not name.startswith("architecture.")
    return name, "" if free and isinstance(value, int | float) else repr(value)
