"""Roles, ratios and initialization of plain modules, told from their shapes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from automl.errors import RecipeError
from automl.methods.stages import Growth
from automl.recipe import Recipe
from automl.space.ranges import Value
from automl.train.growth import growths, width_of

from .small_problem import PLAIN, small_task


class Mixed(nn.Module):
    """All kinds of layers whose sizes follow one number."""

    def __init__(self, width: int, depth: int = 1, kernel: int = 3) -> None:
        super().__init__()
        self.token = nn.Embedding(7, width)
        self.place = nn.Parameter(torch.randn(1, 5, width))
        self.mix = nn.MultiheadAttention(width, 2)
        self.grow = nn.Linear(width, 4 * width)
        self.shrink = nn.Linear(4 * width, width)
        self.conv = nn.Conv1d(width, width, kernel)
        self.apart = nn.Conv1d(width, width, kernel, groups=width)
        self.back = nn.ConvTranspose1d(width, 3, 2)
        self.norm = nn.LayerNorm(width)
        self.deep = nn.Sequential(*[nn.Linear(5, 5) for _ in range(depth)])
        self.head = nn.Linear(width, 2)

    def forward(self, x: Tensor) -> Tensor:
        raise AssertionError("growth is told from the shapes of weights alone")


def grown(
    build: Callable[[Recipe], nn.Module], *, base: int = 16, argument: str = "auto", **model: Value
) -> Mapping[str, Growth]:
    point = {**PLAIN, **{f"model.{n}": v for n, v in model.items()}}
    return growths(small_task(build), Recipe(point, steps=20), argument=argument, base=base)


def mixed(recipe: Recipe) -> nn.Module:
    return Mixed(**recipe.below("model."))  # type: ignore[arg-type]


def test_roles_and_ratios_of_layers_follow_from_shapes_alone() -> None:
    found = grown(mixed, width=64)
    told = {n: (g.role, g.inputs, g.outputs) for n, g in found.items()}
    assert told["token.weight"] == ("input", 1, 4)
    assert told["place"] == ("vector", 1, 4)
    assert told["mix.in_proj_weight"] == ("hidden", 4, 4)
    assert told["mix.out_proj.weight"] == ("hidden", 4, 4)
    assert told["grow.weight"] == told["shrink.weight"] == ("hidden", 4, 4)
    assert told["conv.weight"] == ("hidden", 4, 4)
    assert told["apart.weight"] == ("input", 1, 4)  # one channel each: its fan-in is the kernel's
    assert told["back.weight"] == ("output", 4, 1)
    assert told["norm.weight"] == told["norm.bias"] == told["grow.bias"] == ("vector", 1, 4)
    assert told["deep.0.weight"] == told["head.bias"] == ("fixed", 1, 1)
    assert told["head.weight"] == ("output", 4, 1)


def test_the_models_own_initialization_is_measured() -> None:
    def constant(recipe: Recipe) -> nn.Module:
        width = int(str(recipe.point["model.width"]))
        net = nn.Sequential(nn.Linear(2, width), nn.Linear(width, width), nn.Linear(width, 2))
        nn.init.normal_(net[1].weight, std=0.02)  # type: ignore[arg-type]
        nn.init.zeros_(net[2].weight)  # type: ignore[arg-type]
        return net

    spreads = {n: g.spread for n, g in grown(constant, width=64).items()}
    assert spreads == {
        "0.weight": 0, "0.bias": 0, "1.weight": 0, "1.bias": 0.5, "2.weight": 0, "2.bias": 0.5,
    }  # fmt: skip
    assert grown(mixed, width=64)["shrink.weight"].spread == 0.5


def test_the_width_is_found_among_depths_and_kernels() -> None:
    point = {**PLAIN, "model.width": 32, "model.depth": 2, "model.kernel": 3, "model.rate": 0.5}
    task = replace(small_task(mixed), arguments=lambda r: {"model.act": "relu"})

    def build(recipe: Recipe) -> nn.Module:
        model = recipe.below("model.")
        return Mixed(**{n: int(str(v)) for n, v in model.items() if n not in ("rate", "act")})

    found = width_of(replace(task, build=build), Recipe(point, steps=20))
    assert (found.name, found.value) == ("model.width", 32)


def two(recipe: Recipe) -> nn.Module:
    one, other = (int(str(recipe.point[f"model.{n}"])) for n in ("first", "second"))
    return nn.Sequential(nn.Linear(2, one), nn.Linear(one, other), nn.Linear(other, 2))


def test_of_two_widths_one_must_be_named() -> None:
    with pytest.raises(RecipeError, match="several arguments .*: first, second; name one"):
        grown(two, first=32, second=64)
    found = grown(two, first=32, second=64, argument="first")
    assert found["1.weight"].role == "output"  # as far as `first` goes
    assert found == grown(two, first=32, second=64, argument="model.first")


def tied(recipe: Recipe) -> nn.Module:
    net = nn.Sequential(nn.Embedding(7, width := int(str(recipe.point["model.width"]))),
                        nn.Linear(width, 7, bias=False))  # fmt: skip
    net[1].weight = net[0].weight
    return net


def odd(recipe: Recipe) -> nn.Module:
    if int(str(recipe.point["model.width"])) == 16:
        raise ValueError("not 16")
    return nn.Linear(2, int(str(recipe.point["model.width"])))


@pytest.mark.parametrize(
    ("build", "given", "line"),
    [
        (lambda r: nn.Linear(2, 2), {"depth": 3}, "no whole-number argument that changes"),
        (two, {"first": 8, "second": 8, "argument": "third"}, "'third' is no whole.*: first"),
        (tied, {"width": 32}, "the output layer shares the embedding's weights"),
        (odd, {"width": 32}, "the model is built at model.width = 16 and 64, .*ValueError: not 16"),
    ],
)  # fmt: skip
def test_what_cannot_be_told_is_one_line(
    build: Callable[[Recipe], nn.Module], given: dict[str, int], line: str
) -> None:
    with pytest.raises(RecipeError, match=line) as refused:
        grown(build, **given)  # type: ignore[arg-type]
    assert "\n" not in str(refused.value)
