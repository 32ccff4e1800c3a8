"""What `train_best.py` says of values that take over while it trains: two tables by update.

CHANGES = {90: {"optimizer": {"lr": 0.002}, "batch.1": {"alpha": 0.1}}}     see `plain_loop.change`
models = {90: lambda: mlp(...)}                                 the network with its new dropout
"""

from __future__ import annotations

from automl.recipe import Recipe
from automl.records import TaskCard
from automl.registry import FAMILIES
from automl.reports.recipe_file import RecipeFile
from automl.space.ranges import Value


def changes_of(recipe: Recipe, card: TaskCard) -> str:
    """The first table; "" where nothing takes over."""
    rows = []
    for step, values in recipe.changes:
        places: dict[str, dict[str, Value]] = {}
        for name, value in values.items():
            stage, *rest = name.split(".")
            if stage in FAMILIES and stage != "architecture":
                places.setdefault(_place(recipe, stage, rest[0]), {})[rest[1]] = value
        inside = ", ".join(f'"{place}": {_numbers(v)}' for place, v in places.items())
        rows.append(f"    {_update(recipe, card, step)}: {{{inside}}},\n")
    if not rows:
        return ""
    about = "# By update: what takes over there, up to the next change."
    return f"\n{about}\nCHANGES = {{\n{''.join(rows)}}}"


def models_of(file: RecipeFile, card: TaskCard) -> dict[int, str]:
    """The second table: by update, the call that makes the network."""
    from automl.reports.task_parts import part_for  # late: it imports the tasks, and so torch

    before, found = part_for(file.spec, card, file.recipe).model, {}
    for step, _ in file.recipe.changes:
        model = part_for(file.spec, card, file.recipe.at(step)).model
        if model != before:
            found[_update(file.recipe, card, step)] = before = model
    return found


def _place(recipe: Recipe, stage: str, method: str) -> str:
    """What the script calls the method's place: "optimizer", "batch.1"."""
    if not FAMILIES[stage].chained:
        return stage
    return f"{stage}.{[n for n, _ in recipe.stage(stage) if n != 'none'].index(method)}"


def _numbers(values: dict[str, Value]) -> str:
    return "{" + ", ".join(f'"{n}": {v!r}' for n, v in values.items()) + "}"


def _update(recipe: Recipe, card: TaskCard, step: int) -> int:
    size = int(recipe.point.get("batch_size") or card.batch_size)
    return round(step * card.batch_size / size)
