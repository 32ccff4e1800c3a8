"""What each kind of task gives to `train_best.py`: its loading, its model, its metric."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

from automl.errors import TaskError
from automl.recipe import Recipe
from automl.records import TaskCard, TaskSpec
from automl.reports.sources import Root, root_of
from automl.reports.train_script import Part, architecture
from automl.tasks import images, table, user_code, user_data
from automl.tasks.digits import load_digits_tensors
from automl.tasks.fitting import three_splits
from automl.tasks.metrics import METRICS

_LOADING = "automl.reports.loading"
_USERS_LOSS = """


def user_loss(output, target, hyper):
    return torch.as_tensor(task.loss(output, target))"""


def part_for(spec: TaskSpec, card: TaskCard, recipe: Recipe) -> Part:
    """The part of the script that belongs to the task.

    Raises:
        TaskError: a task of a kind that no script can be made of.
    """
    place = Path(spec.source)
    file = f"Path({json.dumps(str(place.resolve()))})"
    if spec.source == "digits":
        roots = (root_of(load_digits_tensors), root_of(three_splits))
        return _part(card, recipe, "three_splits(*load_digits_tensors())", roots)
    if place.suffix in table.SUFFIXES and spec.target is not None:
        metric = f", metric={json.dumps(spec.metric)}" if spec.metric else ""
        return _table(card, recipe, f"load_table({file}, {json.dumps(spec.target)}{metric})")
    if place.is_dir():
        largest = images._RESIDENT_BYTES
        if sum(card.sizes.values()) * 4 * _values(card) > largest:
            raise TaskError(f"{place.name} holds more images than fit into {largest >> 30} GiB")
        return _part(card, recipe, f"image_splits({file})", ((_LOADING, "image_splits"),))
    if card.kind == "tokens" and place.suffix != ".py":
        return _part(card, recipe, f"text_splits({file})", ((_LOADING, "text_splits"),))
    if place.suffix == ".py":
        return _users_model(spec, card, recipe, file)
    raise TaskError(f"no script can be made for the task {spec.source}")


def _part(card: TaskCard, recipe: Recipe, load: str, roots: tuple[Root, ...]) -> Part:
    """A task of one of our networks."""
    networks, call = architecture(recipe, _shape(card))
    metric = root_of(METRICS[card.metric].value)
    return Part(
        roots=(*roots, ("automl.methods.stages", "Shape"), *networks, metric),
        load=f"return {load}",
        model=call,
        metric=f"{metric[1]}(outputs, targets)",
    )


def _table(card: TaskCard, recipe: Recipe, load: str) -> Part:
    part = _part(card, recipe, f"{load}.splits", (root_of(table.load_table),))
    if card.shape["target"] != "values":
        return part
    name = part.metric.split("(")[0]
    return replace(
        part,
        prepare=f"table = {load}  # its target is standardized; the metric is in its own unit",
        metric=f"{name}(outputs * table.std + table.mean, targets * table.std + table.mean)",
    )


def _users_model(spec: TaskSpec, card: TaskCard, recipe: Recipe, file: str) -> Part:
    """Their model, data, metric and perhaps loss, by importing their file."""
    given = ", ".join(f"{n}={v!r}" for n, v in recipe.below("model.").items())
    roots = [root_of(user_code.load_module), root_of(user_data.read_splits)]
    setup = f"FILE = {file}\ntask = load_module(FILE)  # model, data and metric are yours"
    metric = "task.metric(outputs, targets)"
    if card.metric in METRICS:
        known = root_of(METRICS[card.metric].value)
        roots.append(known)
        ours = f"{known[1]}(outputs, targets)"
        metric = ours if spec.metric else f"{metric} if callable(task.metric) else {ours}"
    if not recipe.stage("loss"):
        setup += _USERS_LOSS
    return Part(
        roots=tuple(roots),
        load="return read_splits(FILE, task)",
        model=f"task.model({given})",
        metric=metric,
        setup=setup,
    )


def _shape(card: TaskCard) -> str:
    """The constructor call of the card's shape."""
    s = card.shape
    if not s:
        raise TaskError("its data has no shape that one of our networks is built for")
    text = f'Shape("{s["kind"]}", {tuple(s["features"])}, {s["outputs"]}, "{s["target"]}"'
    return text + (f", {s['vocabulary']})" if s.get("vocabulary") else ")")


def _values(card: TaskCard) -> int:
    """Numbers in one sample."""
    return math.prod(card.shape["features"])
