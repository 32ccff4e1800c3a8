"""What each kind of task gives to `train_best.py`: its loading, its model, its metric."""

from __future__ import annotations

from automl.errors import TaskError
from automl.recipe import Recipe
from automl.records import TaskCard, TaskSpec
from automl.reports.sources import root_of
from automl.reports.train_script import Part, architecture
from automl.tasks.digits import load_digits_tensors
from automl.tasks.fitting import three_splits
from automl.tasks.metrics import METRICS


def part_for(spec: TaskSpec, card: TaskCard, recipe: Recipe) -> Part:
    """The part of the script that belongs to the task.

    Raises:
        TaskError: a task of a kind that no script can be made of.
    """
    if spec.source == "digits":
        return _digits(card, recipe)
    raise TaskError(f"no script for the task {spec.source}")


def _digits(card: TaskCard, recipe: Recipe) -> Part:
    model, call = architecture(recipe, _shape(card))
    metric = root_of(METRICS[card.metric].value)
    return Part(
        roots=(
            root_of(load_digits_tensors),
            root_of(three_splits),
            ("automl.methods.stages", "Shape"),
            model,
            metric,
        ),
        load="return three_splits(*load_digits_tensors())",
        model=call,
        metric=f"{metric[1]}(outputs, targets)",
    )


def _shape(card: TaskCard) -> str:
    """The constructor call of the card's shape."""
    s = card.shape
    if not s:
        raise TaskError("its data has no shape that one of our networks is built for")
    text = f'Shape("{s["kind"]}", {tuple(s["features"])}, {s["outputs"]}, "{s["target"]}"'
    return text + (f", {s['vocabulary']})" if s.get("vocabulary") else ")")
