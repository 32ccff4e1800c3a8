"""train_best.py: the winning recipe as one plain-torch file that runs without automl."""

from __future__ import annotations

from automl.records import TaskCard
from automl.reports.recipe_file import RecipeFile


def write_text(file: RecipeFile, card: TaskCard) -> str | None:
    return None
