"""muP against the published table, by hand; and what every parametrization promises."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from itertools import product
from pathlib import Path
from typing import cast

import pytest
import torch
from torch import Tensor, nn

from automl.checkpoints import Store
from automl.methods.stages import Growth, Optimizer, Parametrization, Scaling
from automl.recipe import Recipe
from automl.records import Pack, Segment
from automl.registry import family
from automl.space.ranges import Value
from automl.train.coordinates import coordinates, slopes
from automl.train.packed import layout_of
from automl.train.scales import factors_of
from automl.train.segment import run
from automl.train.step import Program

from ..train.small_problem import small_task

NAMES = family("parametrization").names()
MUP: dict[str, Value] = {"parametrization": "mup", "parametrization.mup.base": 16}


def three_layers(recipe: Recipe) -> nn.Module:
    width = int(str(recipe.point.get("model.width", 64)))
    return nn.Sequential(
        nn.Linear(2, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 2)
    )


TASK = small_task(three_layers)


def recipe(optimizer: str = "adamw", **point: Value) -> Recipe:
    more = {n.replace("__", "."): v for n, v in point.items()}
    return Recipe({"optimizer": optimizer, "model.width": 64, **MUP, **more}, steps=20)


# Table 8 of arXiv:2203.03466 at width n, up to constants: initial variance, factor on the layer's
# output, rate of SGD, rate of Adam. fan_in of the hidden and the output layer is n, so is fan_out
# of the input and the hidden one.
TABLE_8: dict[str, Callable[[float], tuple[float, float, float, float]]] = {
    "input": lambda n: (1.0, 1.0, n, 1.0),
    "hidden": lambda n: (1 / n, 1.0, 1.0, 1 / n),
    "output": lambda n: (1.0, 1 / n, n, 1.0),
}


@pytest.mark.parametrize("layer", TABLE_8)
def test_three_layers_have_the_multipliers_of_the_published_table(layer: str) -> None:
    # A layer f*W x with rate c on W is a layer w x, w = f*W: sd(w) = f*sd(W); W moves by
    # c*g_W = c*f*g_w under SGD and by c under Adam, w by f times that.
    ratio = {"input": ("0", 1, 4), "hidden": ("2", 4, 4), "output": ("4", 4, 1)}[layer]
    name = f"{ratio[0]}.weight"
    (v, f, sgd, adam), (v0, f0, sgd0, adam0) = TABLE_8[layer](64.0), TABLE_8[layer](16.0)
    sd = f * math.sqrt(v) / (f0 * math.sqrt(v0))
    rates = {"sgd": f * f * sgd / (f0 * f0 * sgd0), "adamw": f * adam / (f0 * adam0)}
    torch_sd = 1.0 if layer == "input" else 0.5  # 1/sqrt(fan_in), four times the fan-in
    for optimizer, rate in rates.items():
        start, a, _ = factors_of(TASK, recipe(optimizer), layout_of(three_layers(recipe())))[name]
        assert start * torch_sd == pytest.approx(sd)
        assert (a * a if optimizer == "sgd" else a) == pytest.approx(rate)


def test_by_hand_sixteen_to_sixty_four() -> None:
    found = factors_of(TASK, recipe("adamw"), layout_of(three_layers(recipe())))
    assert found["0.weight"] == pytest.approx((1, 1, 2))
    assert found["2.weight"] == pytest.approx((1, 1 / 4, 1))
    assert found["4.weight"] == pytest.approx((1 / 2, 1 / 4, 1 / 2))
    assert found["2.bias"] == pytest.approx((2, 1, 2))  # torch draws it within 1/sqrt(64)
    found = factors_of(TASK, recipe("sgd"), layout_of(three_layers(recipe())))
    assert [found[f"{i}.weight"][1] ** 2 for i in (0, 2, 4)] == pytest.approx([4, 1, 1 / 4])
    assert found["0.bias"][1] ** 2 == pytest.approx(4)
    found = factors_of(TASK, recipe("muon"), layout_of(three_layers(recipe())))
    # 0.2*sqrt(larger)*orthogonal has the norm that a 64 x 64 matrix wants times sqrt(64).
    assert [found[f"{i}.weight"][1] for i in (0, 2, 4)] == pytest.approx([1, 1 / 2, 1 / 4])


def test_a_step_of_the_trainer_moves_each_layer_as_the_table_says() -> None:
    # Adam's first step moves every weight by lr; SGD's by lr*g; decay shrinks all by lr*wd.
    values: dict[str, dict[str, Value]] = {
        "adamw": {"optimizer__adamw__lr": 1e-3, "optimizer__adamw__wd": 0.0},
        "sgd": {"optimizer__sgd__wd": 0.0, "optimizer__sgd__momentum": 0.0},
    }
    for optimizer, given in values.items():
        program = Program(TASK, [recipe(optimizer, precision="float64", **given)])
        first, g = program.packed.w.clone(), _gradient(program)
        program.begin(1)
        program.step()
        moved = (first - program.packed.w)[0]
        for slot in program.packed.layout.slots:
            part = slice(slot.offset, slot.offset + slot.numel)
            a = factors_of(TASK, program.recipes[0], program.packed.layout)[slot.name][1]
            wanted = 0.1 * a * a * g[part] if optimizer == "sgd" else 1e-3 * a * g[part].sign()
            far = g[part].abs() > 1e-4  # from 0, where Adam's eps shows
            torch.testing.assert_close(moved[part][far], wanted[far], rtol=2e-3, atol=1e-12)


def _gradient(program: Program) -> Tensor:
    """[p] of the first batch."""
    kept = program.packed.w.clone()
    program.begin(1)
    batch = program.update.feed.batch(0)
    loss = nn.functional.cross_entropy(program.packed.modules[0](batch.x[0]), batch.y[0])
    parameters = dict(program.packed.modules[0].named_parameters())
    parts = torch.autograd.grad(loss, [parameters[s.name] for s in program.packed.layout.slots])
    assert torch.equal(kept, program.packed.w)
    return torch.cat([p.reshape(-1) for p in parts])


def test_a_decay_shrinks_every_width_alike() -> None:
    for optimizer, wd in (("adamw", "optimizer.adamw.wd"), ("lion", "optimizer.lion.wd")):
        moved = []
        for decay in (0.0, 0.5):
            point = {**recipe(optimizer).point, wd: decay, f"optimizer.{optimizer}.lr": 1e-2}
            program = Program(TASK, [Recipe({**point, "precision": "float64"}, steps=20)])
            first = program.packed.w.clone()
            program.begin(1)
            program.step()
            moved.append(program.packed.w)
        d = program.packed.layout.decayed
        torch.testing.assert_close((moved[0] - moved[1])[:, :d], 0.5 * 1e-2 * first[:, :d])


# What activations do ---------------------------------------------------------------------------

WIDTHS = (32, 128, 512)
# Of the optimizers whose steps muP scales: how far the outputs of layers may drift with the width.
CHECKED = ("adamw", "sgd", "muon", "shampoo", "soap", "lion", "schedule_free_sgd", "sophia_g")


def drift(optimizer: str, parametrization: str) -> dict[str, float]:
    point: dict[str, Value] = {
        "optimizer": optimizer, "parametrization": parametrization, "model.width": 32,
        "parametrization.mup.base": 32,
    }  # fmt: skip
    one = Recipe(point, steps=20)
    return slopes({w: coordinates(TASK, one, width="model.width", at=w, updates=4) for w in WIDTHS})


@pytest.mark.parametrize("optimizer", CHECKED)
def test_outputs_move_alike_at_all_widths_under_mup_only(optimizer: str) -> None:
    standard, mup = drift(optimizer, "standard"), drift(optimizer, "mup")
    assert max(map(abs, standard.values())) > 0.4  # over a sixteenfold width more than threefold
    assert all(-0.3 < s < 0.2 for s in mup.values()), mup


# The family's promises -------------------------------------------------------------------------

every = pytest.mark.parametrize(
    ("name", "optimizer"), list(product(NAMES, ("adamw", "sgd", "muon", "schedule_free_adamw")))
)


def point_of(name: str, optimizer: str, **more: Value) -> dict[str, Value]:
    base: dict[str, Value] = {"parametrization.mup.base": 16} if name == "mup" else {}
    return {"optimizer": optimizer, "model.width": 48, "parametrization": name, **base, **more}


@every
def test_a_member_of_a_mixed_pack_equals_its_own_run(name: str, optimizer: str) -> None:
    points = [
        point_of(n, o, precision="float64", transform="clip_norm")
        for n, o in ((name, optimizer), ("mup", "adamw"), ("standard", "sgd"))
    ]
    recipes = [Recipe(p, steps=20, seed=i) for i, p in enumerate(points)]
    packed, alone = Program(TASK, recipes, engine="traced"), Program(TASK, recipes[:1])
    for program in (packed, alone):
        program.begin(8)
        for _ in range(8):
            program.step()
    torch.testing.assert_close(packed.evaluated()[:1], alone.evaluated(), rtol=0, atol=1e-10)
    packed.keep([0, 2])
    torch.testing.assert_close(packed.evaluated()[:1], alone.evaluated(), rtol=0, atol=1e-10)


@every
def test_a_resumed_training_equals_the_unbroken_one(
    name: str, optimizer: str, tmp_path: Path
) -> None:
    one = Recipe.from_json(Recipe(point_of(name, optimizer), steps=20).to_json())
    for trial, stops in ((0, (20,)), (1, (7, 20))):
        start = 0
        for stop in stops:
            at = Segment(trial, one, start, stop, (trial, start) if start else None)
            (report,) = run(Pack((at,), str(tmp_path)), TASK)
            assert report.reached == stop, report.message
            start = stop
    whole, resumed = (Store(str(tmp_path)).load(trial, 20)[0] for trial in (0, 1))
    assert all(torch.equal(whole[n], resumed[n]) for n in whole)


@pytest.mark.parametrize("name", NAMES)
def test_at_the_base_width_it_is_the_standard_network(name: str) -> None:
    point = {**point_of(name, "adamw", precision="float64"), "model.width": 16}
    plain = {n: v for n, v in point.items() if not n.startswith("parametrization")}
    ends = []
    for p in (point, plain):
        program = Program(TASK, [Recipe(p, steps=20)])
        program.begin(10)
        for _ in range(10):
            program.step()
        ends.append(program.packed.w)
    torch.testing.assert_close(*ends, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_every_factor_is_a_positive_number(name: str) -> None:
    method = cast(Parametrization, family("parametrization").get(name))
    growths = [
        Growth("hidden", 4.0, 4.0, 4.0, 4.0, 0.5), Growth("output", 0.5, 1.0, 1.0, 0.5, 0.5),
        Growth("input", 1.0, 4.0, 2.0, 4.0), Growth("fixed"),
    ]  # fmt: skip
    scalings: tuple[Scaling, ...] = ("entry", "gradient", "matrix", "own")
    for growth in growths:
        assert 0 < method.start(growth) < math.inf
        assert all(0 < method.rate(growth, s) < math.inf for s in scalings)


def test_every_optimizer_belongs_to_a_class() -> None:
    found: Mapping[str, str] = {
        n: cast(Optimizer, family("optimizer").get(n)).scaling for n in family("optimizer").names()
    }
    assert set(found.values()) == {"entry", "gradient", "matrix", "own"}
    assert {n for n, s in found.items() if s == "matrix"} >= {"muon", "namo", "namo_d"}
