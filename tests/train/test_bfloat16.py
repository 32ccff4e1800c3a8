"""Training in bfloat16: activations alone are rounded; packed and alone, the same within that."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from automl.checkpoints import Store
from automl.recipe import Recipe
from automl.space.files import load_space
from automl.space.ranges import Value
from automl.train.measure import Judged
from automl.train.segment import run
from automl.train.step import EngineName, Program

from .small_problem import IMAGES, PLAIN, pack, picture_task, segment, small_task

ROUNDING = 2**-8  # of bfloat16, relative


def trained(
    points: list[dict[str, Value]], engine: EngineName, precision: str, steps: int
) -> tuple[Tensor, Program]:
    task = picture_task() if "flip_crop" in str(points[0].get("batch")) else small_task()
    recipes = [
        Recipe({**p, "precision": precision}, steps=40, seed=k) for k, p in enumerate(points)
    ]
    program = Program(task, recipes, engine=engine)
    program.begin(steps)
    losses = [program.step() for _ in range(steps)]
    return torch.stack(losses) if losses else program.losses, program


@pytest.mark.parametrize(
    "point", [PLAIN, IMAGES["adam, flip and crop, cutmix, batch norm"]], ids=["vector", "image"]
)
def test_a_pack_trains_as_its_members_alone_within_the_rounding(point: dict[str, Value]) -> None:
    points = [{**point, f"optimizer.{point['optimizer']}.lr": lr} for lr in (1e-2, 5e-3, 2e-3)]
    packed, pack = trained(points, "traced", "bfloat16", 20)
    alone, loop = trained(points, "loop", "bfloat16", 20)
    exact, _ = trained(points, "loop", "float32", 20)
    assert packed[0] == pytest.approx(alone[0], rel=ROUNDING)
    assert packed == pytest.approx(alone, rel=8 * ROUNDING)
    assert packed == pytest.approx(exact, rel=8 * ROUNDING)
    assert not torch.equal(alone, exact)  # it is bfloat16 indeed
    engine: Any = pack.update.engine
    assert all(trace.images for trace in engine._made.values())
    static, _ = trained(points, "graphed", "bfloat16", 20)
    assert torch.equal(static, packed)  # the same operations
    with Judged(pack, together=True) as together, Judged(loop) as each:
        for member in range(3):
            (one,), (own,) = (j.metrics(pack.task.valid, "val", [member]) for j in (together, each))
            assert one["val/loss"] == pytest.approx(own["val/loss"], rel=8 * ROUNDING)


@pytest.mark.parametrize("gradient", ["plain", "sam"])
def test_gradients_agree_within_the_rounding(gradient: str) -> None:
    points: list[dict[str, Value]] = [{"optimizer": "sgd", "gradient": gradient}] * 2
    moved = []
    engines: tuple[EngineName, ...] = ("traced", "loop")
    for engine in engines:
        _, program = trained(points, engine, "bfloat16", 0)
        before = program.packed.w.clone()
        program.begin(1)
        program.step()
        moved.append(program.packed.w - before)
    assert (moved[0] - moved[1]).norm() < 16 * ROUNDING * moved[1].norm()


def test_weights_and_states_are_kept_in_float32(tmp_path: Path) -> None:
    points = [{**PLAIN, "precision": "bfloat16", "averaging": "ema"}] * 2
    one, two = (segment(p, trial=k, seed=k) for k, p in enumerate(points))
    run(pack(tmp_path, one, two), small_task())
    for trial in (0, 1):
        tensors, _ = Store(tmp_path).load(trial, 20)
        kept = {x.dtype for x in tensors.values() if x.is_floating_point()}
        assert kept == {torch.float32, torch.float64}  # the sums of losses are float64


def test_precision_is_searched_where_a_person_says_so() -> None:
    space = load_space("digits", sets=["precision=float32,bfloat16"])
    assert space.default()["precision"] == "float32"
    assert "precision" not in load_space("digits").default()
