"""Members of a pack are judged together as each of them would be alone."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from automl.recipe import Recipe
from automl.space.ranges import Value
from automl.tasks.task import ModelTask
from automl.train.judged_together import Together
from automl.train.measure import Judged
from automl.train.step import Program

from .small_problem import PLAIN, RECIPES, in_float64, small_task
from .test_engines import MIXED


def trained(task: ModelTask, points: Sequence[dict[str, Value]] = MIXED) -> Program:
    recipes = [Recipe(in_float64(p), steps=40, seed=k) for k, p in enumerate(points)]
    program = Program(task, recipes, engine="traced")
    program.begin(4)
    for _ in range(4):
        program.step()
    return program


def judged(program: Program, together: bool, members: Sequence[int]) -> list[dict[str, float]]:
    task = program.task
    with Judged(program, together=together) as now:
        return now.metrics(task.valid, "val", members)


def test_members_judged_together_have_the_values_of_each_alone_averages_included() -> None:
    program = trained(small_task())
    rows = list(range(len(MIXED)))
    together = judged(program, True, rows)
    assert len({m["val/loss"] for m in together}) == len(rows)
    for k in rows:
        (alone,) = judged(program, False, [k])
        assert together[k] == pytest.approx(alone, rel=1e-9)
    for one, other in zip(judged(program, True, rows[2:]), together[2:], strict=True):
        assert one == pytest.approx(other, rel=1e-9)


def test_a_member_that_is_not_finite_spoils_no_others_values() -> None:
    program = trained(small_task(), points=[PLAIN] * 3)
    calm = judged(program, True, [0, 1, 2])
    program.packed.w[1] = math.nan
    for together in (True, False):
        found = judged(program, together, [0, 1, 2])
        assert math.isnan(found[1]["val/accuracy"])
        assert found[0] == pytest.approx(calm[0]) and found[2] == pytest.approx(calm[2])


class Choosy(nn.Module):
    """Looks at its data, but only where it is judged."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(2, 8), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.one(x)
        if not self.training and h.mean() > 0:
            h = h.tanh()
        out: Tensor = self.two(h.relu())
        return out


def test_what_cannot_be_judged_together_is_judged_one_by_one_and_says_why() -> None:
    program = trained(small_task(lambda recipe: Choosy()), [PLAIN] * 2)
    with Judged(program):
        together = Together(program)
        assert together.outputs(torch.zeros(3, 2, dtype=torch.float64)) is None
        assert "control flow, or a number in it, depends on its data" in together.reason
    assert judged(program, True, [0, 1]) == judged(program, False, [0, 1])


def test_a_users_own_loss_is_told_member_by_member() -> None:
    task = small_task(loss=lambda output, y, _: nn.functional.cross_entropy(output, y))
    recipes = [Recipe(in_float64(RECIPES["muon, larger batch"]), steps=9, seed=k) for k in (1, 2)]
    program = Program(task, recipes)
    found = judged(program, False, [0, 1])
    assert [m["val/loss"] for m in found] == [
        pytest.approx(judged(program, False, [k])[0]["val/loss"]) for k in (0, 1)
    ]
    assert found[0] != found[1]
