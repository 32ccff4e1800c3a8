"""Members of other batch sizes in one pack: each is trained as on batches of its own size."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from automl.errors import RecipeError
from automl.recipe import Recipe
from automl.space.ranges import Value
from automl.tasks.task import ModelTask, Split
from automl.train.declining import pads
from automl.train.probing import probe, tried
from automl.train.step import EngineName, Program

from .small_problem import PLAIN, in_float64, network, samples, small_task
from .test_engines import ARCHITECTURES, task_for
from .test_slots import CASES, assert_same, stepped

STEPS = 20  # updates
SIZES = (8, 16, 5, 13)
TOGETHER = 16


def built(recipe: Recipe) -> nn.Module:
    """Without batch norm; what the second dropout draws comes after what the first has drawn."""
    rate = float(str(recipe.point.get("model.dropout", 0.2)))
    return nn.Sequential(
        nn.Linear(2, 12), nn.Tanh(), nn.Dropout(rate), nn.Linear(12, 12), nn.ReLU(),
        nn.Dropout(0.3), nn.Linear(12, 2),
    )  # fmt: skip


TASK = small_task(built)


def packs() -> Iterator[list[Recipe]]:
    """Every method of the families of the training step, at one batch size or another."""
    alike: dict[object, list[Recipe]] = {}
    for k, case in enumerate(CASES):
        sizes = SIZES[:2] if "gradient" in case else SIZES[k % len(SIZES) :][:1]
        for size in sizes:
            point = in_float64({**case, "batch_size": size, "model.dropout": 0.1 * (k % 4)})
            recipe = Recipe(point, steps=40, seed=k)
            alike.setdefault(case.get("gradient"), []).append(recipe)
    del alike["predictive_coding"]
    for recipes in alike.values():
        yield from (recipes[i : i + TOGETHER] for i in range(0, len(recipes), TOGETHER))


def named(recipes: list[Recipe]) -> str:
    return f"{recipes[0].point.get('gradient', recipes[0].point['optimizer'])}-{len(recipes)}"


@pytest.mark.parametrize("recipes", list(packs()), ids=named)
def test_members_of_other_batch_sizes_keep_their_own_results(recipes: list[Recipe]) -> None:
    pack = stepped(Program(TASK, recipes, engine="traced"), STEPS)
    for k, recipe in enumerate(recipes):
        # Soap's first axes are those of a matrix of deficient rank: rounding chooses them.
        if recipe.point["optimizer"] != "soap":
            assert_same(pack, k, stepped(Program(TASK, [recipe]), STEPS))


@pytest.mark.parametrize("engine", ["loop", "traced"])
def test_a_newcomer_may_have_larger_batches_than_anyone_before(engine: EngineName) -> None:
    def recipe(seed: int, size: int) -> Recipe:
        return Recipe(in_float64({**PLAIN, "batch_size": size}), steps=40, seed=seed)

    pack = stepped(Program(TASK, [recipe(1, 8), recipe(2, 6)], engine=engine), 7)
    pack.seat({1: recipe(3, 16)})
    stepped(pack, 4)
    assert_same(pack, 0, stepped(Program(TASK, [recipe(1, 8)]), 11))
    assert_same(pack, 1, stepped(Program(TASK, [recipe(3, 16)]), 4))
    assert [pack.updates_at(10, k) for k in (0, 1)] == [20, 10]
    pack.keep([0])
    stepped(pack, 5)
    assert_same(pack, 0, stepped(Program(TASK, [recipe(1, 8)]), 16))


def _own_loss(output: Tensor, target: Tensor, hyper: object) -> Tensor:
    return nn.functional.cross_entropy(output, target)


class _Read(torch.utils.data.Dataset[tuple[Tensor, Tensor]]):
    def __init__(self) -> None:
        self._x, self._y = samples(100, 0)

    def __len__(self) -> int:
        return len(self._x)

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        return self._x[i], self._y[i]


@pytest.mark.parametrize(
    ("task", "more", "words"),
    [
        (small_task(network), {}, "batch norm"),
        (TASK, {"accumulate": 2}, "accumulate"),
        (replace(TASK, loss=_own_loss), {}, "a loss of the task's own"),
        (TASK, {"loss": "self_paced"}, "a loss that weighs samples by each other"),
        (TASK, {"gradient": "predictive_coding"}, "a gradient of whole batches"),
        (replace(TASK, train=Split(dataset=_Read())), {}, "data that is read sample by sample"),
    ],
    ids=["norm", "accumulate", "loss", "weigh", "chain", "read"],
)
def test_what_would_see_the_padding_is_refused(
    task: ModelTask, more: dict[str, Value], words: str
) -> None:
    recipes = [Recipe({**PLAIN, **more, "batch_size": n}, steps=9) for n in (8, 16)]
    with pytest.raises(RecipeError, match=f"differ in their batch size, with {words}"):
        Program(task, recipes)


class _Noisy(nn.Linear):
    """Noise from torch's own generator, which depends on how much of it is drawn."""

    def forward(self, x: Tensor) -> Tensor:
        h = super().forward(x)
        return h + 0.1 * torch.randn_like(h)


class _Centred(nn.Linear):
    """Samples see each other, and no name says so."""

    def forward(self, x: Tensor) -> Tensor:
        h = super().forward(x)
        return h - h.mean(0)


def test_a_model_is_tried_on_padded_batches_and_what_fills_them_must_not_show() -> None:
    recipe = Recipe({**PLAIN, "batch_size": 16}, steps=9)
    assert pads(TASK, recipe)
    assert pads(TASK, replace(recipe, point={**recipe.point, "batch": "mixup"}))
    for layer in (_Noisy, _Centred):
        task = small_task(lambda recipe, layer=layer: nn.Sequential(layer(2, 2)))  # type: ignore[misc]
        assert not pads(task, recipe)
    assert not pads(small_task(network), recipe)
    assert not pads(TASK, Recipe(PLAIN, steps=9))  # the batch size is no part of the recipe


@pytest.mark.parametrize("name", ["mlp", "transformer", "min_gru"])
def test_our_networks_without_batch_norm_are_padded(name: str) -> None:
    kind, values = next(
        (k, v) for n, k, v in ARCHITECTURES if n == name and v.get("norm") != "batch"
    )
    point: dict[str, Value] = {**PLAIN, "architecture": name, "batch_size": 8}
    point |= {f"architecture.{name}.{n}": v for n, v in values.items()}
    assert pads(task_for(kind), Recipe(point, steps=9))


def test_a_worker_tells_what_padding_costs() -> None:
    recipe = Recipe({**PLAIN, "batch_size": 16}, steps=9)
    assert 0 < probe(TASK, recipe, 4).padded <= 1
    assert 0 < tried(TASK, recipe, 4).padded <= 1
    assert probe(small_task(network), recipe, 4).padded == 0
