"""The shipped spaces on the tasks they are for: a plain baseline, and points that all train."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from automl.errors import MethodError, TaskError
from automl.methods.stages import Shape
from automl.recipe import Recipe
from automl.records import Pack, Segment, Status, TaskSpec
from automl.registry import family
from automl.space.files import load_space, shipped
from automl.space.ranges import Choice
from automl.space.tree import Space
from automl.tasks.fitting import Found, model_task, three_splits
from automl.tasks.opening import open_task
from automl.tasks.task import ModelTask
from automl.train.segment import run

SHAPES = {
    "table": Shape("vector", (5,), 3, "classes"),
    "vision": Shape("image", (3, 16, 16), 3, "classes"),
    "digits": Shape("image", (1, 8, 8), 3, "classes"),
    "text": Shape("tokens", (16,), 6, "tokens", 6),
}
SHAPES |= {
    "networks_images": SHAPES["vision"],
    "networks_tables": SHAPES["table"],
    "networks_texts": SHAPES["text"],
}


def task_of(space: str) -> ModelTask:
    """60 random samples of the kind that the space is for; images for those for any kind."""
    shape = SHAPES.get(space, SHAPES["digits"])
    generator = torch.Generator().manual_seed(0)
    if shape.kind == "tokens":
        x = torch.randint(shape.vocabulary, (60, *shape.features), generator=generator)
        y = x.roll(-1, 1)
    else:
        x = torch.randn(60, *shape.features, generator=generator)
        y = torch.randint(shape.outputs, (60,), generator=generator)
    usual = space if space in SHAPES else "digits"
    found = Found("small", shape, three_splits(x, y), "", usual, epochs=4, batch_size=16)
    return model_task(TaskSpec("small", space=space), found)


@pytest.mark.parametrize("name", shipped())
def test_a_space_says_who_it_is_for(name: str) -> None:
    about = shipped()[name]
    assert about.endswith(".")
    assert 30 < len(about) < 110


@pytest.mark.parametrize("name", shipped())
def test_the_baseline_is_adamw_with_warmup_and_cosine_and_no_tricks(name: str) -> None:
    point = load_space(name).default()
    assert point["optimizer"] == "adamw"
    assert point["schedule"] == "cosine"
    assert point.get("gradient", "plain") == "plain"
    assert point.get("averaging", "none") == "none"
    assert point.get("batch", "none") == "none"
    assert not any("smoothing" in n and v for n, v in point.items())
    assert not any("dropout" in n and v for n, v in point.items())


@pytest.mark.parametrize("name", sorted(SHAPES))
def test_every_method_of_a_space_serves_its_kind(name: str) -> None:
    space, shape = load_space(name), SHAPES[name]
    for stage in ("batch", "architecture"):
        options = space[stage].range
        assert isinstance(options, Choice)
        for method in {m for o in options.options for m in str(o).split("+")}:
            kinds = family(stage).get(method).kinds  # type: ignore[attr-defined]
            assert shape.kind in kinds, f"{stage} {method}"


@pytest.mark.parametrize("stage", ["batch", "architecture"])
def test_each_method_is_in_a_shipped_space(stage: str) -> None:
    spaces = [load_space(name) for name in SHAPES]
    ranges = [space[stage].range for space in spaces]
    options = [str(o) for r in ranges if isinstance(r, Choice) for o in r.options]
    # Curricula need the data in memory and a reason: they are asked for by name.
    asked = {n for n in family(stage).names() if getattr(family(stage).get(n), "choose", None)}
    # A cell is what an architecture search fills; as it stands a convnet learns far faster.
    if stage == "architecture":
        parts = {n: getattr(family(stage).get(n), "parts", {}) for n in family(stage).names()}
        asked |= {"cells", *(n for n, p in parts.items() if "operation" in p.values())}
    assert {m for o in options for m in o.split("+")} == set(family(stage).names()) - asked


@pytest.mark.parametrize("name", shipped())
def test_points_drawn_from_a_space_train(name: str, tmp_path: Path) -> None:
    if name == "training":  # for the user's own model, which the other methods do not choose
        task, space = task_of("quick"), load_space(name, sets=("loss=cross_entropy",))
    else:
        task = task_of(name)
        space = Space.from_json(task.card.space)
    rng = np.random.default_rng(4)
    for trial, point in enumerate([space.default(), *[space.sample(rng) for _ in range(5)]]):
        recipe = Recipe(point, steps=task.card.steps, seed=trial)
        segment = Segment(trial, recipe, 0, task.card.steps)
        (report,) = run(Pack((segment,), str(tmp_path)), task)
        assert report.status in (Status.DONE, Status.DIVERGED), (point, report.message)


def test_a_set_can_bring_in_a_method_that_the_space_leaves_out() -> None:
    space = load_space("digits", sets=("optimizer=rmsprop", "batch=feature_noise"))
    point = space.default()
    assert (point["optimizer"], point["batch"]) == ("rmsprop", "feature_noise")
    assert "batch.feature_noise.sigma" in point


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sets": ("architecture=transformer",)}, "'transformer' is for tokens, not for image"),
        ({"sets": ("batch=none,flip_crop+token_drop",)}, "'token_drop' is for tokens, not for im"),
        (
            {"sets": ("loss=mse",)},
            "'mse' is for values, not for classes; use one of: class_weights, ",
        ),
        ({"space": "text"}, "is for tokens, not for image"),
    ],
)
def test_a_method_made_for_other_samples_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(MethodError, match=re.escape(message)):
        open_task(TaskSpec("digits", **options))


@pytest.mark.parametrize("epochs", [0.0, -1.0])
def test_a_training_of_no_epochs_is_refused(epochs: float) -> None:
    with pytest.raises(TaskError, match="--epochs"):
        open_task(TaskSpec("digits", epochs=epochs))
