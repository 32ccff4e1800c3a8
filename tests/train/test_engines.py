"""A pack traced as one program trains each member as the member alone would be trained."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from automl.errors import RecipeError
from automl.methods.stages import Architecture, Shape
from automl.recipe import Recipe
from automl.registry import family
from automl.space.ranges import Value
from automl.tasks.task import ModelTask, Split
from automl.train.data import chunks
from automl.train.judged_together import Together
from automl.train.measure import Judged
from automl.train.step import EngineName, Program

from .small_problem import (
    IMAGES,
    PLAIN,
    RECIPES,
    in_float64,
    picture_task,
    small_task,
    task_of,
)

STEPS = 20
SAM_SWA = "sgd, one cycle, sam, swa"


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def built(recipe: Recipe, shape: Shape) -> nn.Module:
    ((name, values),) = recipe.stage("architecture")
    method = family("architecture").get(name)
    assert isinstance(method, Architecture)
    return method.network(shape, values)


def task_for(kind: str) -> ModelTask:
    """A task of our own architectures: two classes, or seven tokens."""
    if kind == "tokens":
        shape = Shape("tokens", (6,), 7, "tokens", vocabulary=7)
        text = torch.randint(7, (60, 7), generator=torch.Generator().manual_seed(0))
        split = Split(text[:, :-1], text[:, 1:])
        base = replace(small_task(), shape=shape, train=split, valid=split, test=None)
    else:
        base = picture_task() if kind == "image" else small_task()
    return replace(base, build=lambda recipe: built(recipe, base.shape))


def architectures() -> Iterator[tuple[str, str, dict[str, Value]]]:
    """Every architecture on every kind of data, small, with each of its norms."""
    for name in family("architecture").names():
        method = family("architecture").get(name)
        assert isinstance(method, Architecture)
        small: dict[str, Value] = {}
        if "width" in method.ranges:
            small["width"] = 8 if "cells" in method.ranges else 16
        if "cells" in method.ranges:
            small["cells"] = 2
        if "depth" in method.ranges:
            small["depth"] = 1
        for rate in ("dropout", "drop_path"):
            if rate in method.ranges:
                small[rate] = 0.3
        norms = getattr(method.ranges.get("norm"), "options", [None])
        for kind in method.kinds:
            for norm in norms:
                yield name, kind, small if norm is None else {**small, "norm": norm}


ARCHITECTURES = list(architectures())


def trained(
    task: ModelTask,
    points: Sequence[dict[str, Value]],
    engine: EngineName,
    *,
    seeds: Sequence[int],
    steps: int = STEPS,
) -> tuple[Tensor, Program]:
    """Losses [steps, k] of a training of these members."""
    recipes = [Recipe(in_float64(p), steps=40, seed=s) for p, s in zip(points, seeds, strict=True)]
    program = Program(task, recipes, engine=engine)
    program.begin(steps)
    return torch.stack([program.step() for _ in range(steps)]), program


def assert_equal(a: Program, b: Program, members: list[int] | None = None) -> None:
    """Weights to keep, and buffers, within 1e-9 of the largest of their member."""
    rows = members or list(range(len(b.recipes)))
    ours, theirs = a.evaluated()[rows], b.evaluated()
    scale = theirs.abs().amax(1, keepdim=True)
    torch.testing.assert_close(ours / scale, theirs / scale, rtol=0, atol=1e-9)
    for x, y in zip(a.packed.buffers, b.packed.buffers, strict=True):
        torch.testing.assert_close(x[rows], y, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("name", "kind", "values"),
    ARCHITECTURES,
    ids=[f"{n}-{k}-{v.get('norm', '')}" for n, k, v in ARCHITECTURES],
)
def test_traced_pack_equals_the_loop(name: str, kind: str, values: dict[str, Value]) -> None:
    point: dict[str, Value] = {**PLAIN, "architecture": name, "batch_size": 8}
    # Before batch norm a bias has no gradient but rounding, which a smaller eps makes much of.
    point["optimizer.adamw.eps"] = 1e-6
    point |= {f"architecture.{name}.{n}": v for n, v in values.items()}
    task = task_for(kind)
    other = {**point, "optimizer.adamw.lr": 3e-3, f"architecture.{name}.dropout": 0.0}
    if "drop_path" in values:
        other[f"architecture.{name}.drop_path"] = 0.0
    seeds = [0, 1, 2]
    losses, pack = trained(task, [point, other, point], "traced", seeds=seeds)
    expected, loop = trained(task, [point, other, point], "loop", seeds=seeds)
    torch.testing.assert_close(losses, expected, rtol=1e-9, atol=1e-12)
    assert_equal(pack, loop)
    assert math.isfinite(losses[-1].sum().item())
    with Judged(pack, together=True) as judged, Judged(loop) as each:
        x, _ = next(chunks(task.valid, pack.device, pack.dtype))
        # torch vectorizes a GRU's kernel only on the way to its gradients.
        assert (Together(pack).outputs(x) is None) == (name == "gru")
        found, alone = (j.metrics(task.valid, "val", [0, 1, 2]) for j in (judged, each))
    for one, own in zip(found, alone, strict=True):
        assert one == pytest.approx(own, rel=1e-9)


def numbers_of(point: dict[str, Value]) -> list[dict[str, Value]]:
    """The recipe, and two with other numbers: rates, and every hyperparameter that is written."""
    ours: list[dict[str, Value]] = []
    for factor in (1.0, 0.5, 0.8):
        free = {n: v for n, v in point.items() if n.count(".") == 2 and isinstance(v, float)}
        lr = {f"optimizer.{point['optimizer']}.lr": 0.003 * factor}
        ours.append({**point, **lr, **{n: v * factor for n, v in free.items()}})
    return ours


@pytest.mark.parametrize("name", [*RECIPES, *IMAGES])
def test_each_member_has_its_own_numbers_whatever_its_company_and_place(name: str) -> None:
    plain, points = task_of(name), numbers_of({**RECIPES, **IMAGES}[name])

    def build(recipe: Recipe) -> nn.Module:
        # A bias before batch norm has a gradient of rounding alone, which some optimizers follow.
        model = plain.build(recipe)
        model.get_parameter("0.bias").requires_grad_(False)
        return model

    task = replace(plain, build=build)
    _, pack = trained(task, points, "traced", seeds=[3, 4, 5])
    _, other = trained(task, [points[2], points[0]], "traced", seeds=[5, 3])
    for k, (point, seed) in enumerate(zip(points, (3, 4, 5), strict=True)):
        _, alone = trained(task, [point], "loop", seeds=[seed])
        assert_equal(pack, alone, [k])
    assert_equal(other, trained(task, [points[2]], "loop", seeds=[5])[1], [0])


def test_dropout_draws_what_the_member_alone_draws_at_its_own_rate() -> None:
    def build(recipe: Recipe) -> nn.Module:
        rate = float(str(recipe.point["optimizer.adamw.wd"]))  # a number that members may differ in
        return nn.Sequential(
            nn.Unflatten(1, (2, 1)), nn.Conv1d(2, 8, 1), nn.Dropout1d(rate), nn.Flatten(),
            nn.Linear(8, 8), nn.Dropout(rate), nn.Linear(8, 2),
        )  # fmt: skip

    task = small_task(build)
    points = [{**PLAIN, "optimizer.adamw.wd": rate} for rate in (0.0, 0.2, 0.7)]
    losses, _ = trained(task, points, "traced", seeds=[1, 1, 1])
    expected, _ = trained(task, points, "loop", seeds=[1, 1, 1])
    torch.testing.assert_close(losses, expected, rtol=1e-9, atol=1e-12)
    assert len({round(x, 6) for x in losses[0].tolist()}) == 3


class Odd(nn.Module):
    """Tied weights, a frozen layer of each member's own, a buffer that moves, a shared layer."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(2, 6, bias=False)
        self.frozen = nn.Linear(6, 6).requires_grad_(False)
        self.drop = nn.Dropout(0.2)
        self.out = nn.Linear(6, 2, bias=False)
        self.out.weight = nn.Parameter(self.embed.weight.detach().T.contiguous())
        self.again = self.embed
        self.register_buffer("mean", torch.zeros(6))

    def forward(self, x: Tensor) -> Tensor:
        h = self.drop(torch.tanh(self.frozen(self.embed(x)))) + self.drop(self.again(x))
        mean = self.mean
        assert isinstance(mean, Tensor)
        if self.training:
            mean.lerp_(h.detach().mean(0), 0.1)
        out: Tensor = self.out(h - mean)
        return out


def test_shared_and_frozen_layers_and_own_buffers_are_each_members_own() -> None:
    task = small_task(lambda recipe: Odd())
    _, pack = trained(task, [PLAIN, PLAIN], "traced", seeds=[1, 2])
    _, loop = trained(task, [PLAIN, PLAIN], "loop", seeds=[1, 2])
    assert_equal(pack, loop)
    first, second = (m.get_buffer("mean") for m in pack.packed.modules)
    assert not torch.equal(first, second)


def test_a_diverged_member_never_touches_the_others() -> None:
    points = [{**PLAIN, "optimizer.adamw.lr": lr} for lr in (1e-2, math.nan, 1e-2)]
    losses, pack = trained(small_task(), points, "traced", seeds=[1, 2, 3])
    _, others = trained(small_task(), [PLAIN, PLAIN], "traced", seeds=[1, 3])
    assert not losses[-1, 1].isfinite()
    torch.testing.assert_close(
        pack.packed.w[[0, 2]], others.packed.w, rtol=1e-12, atol=0, equal_nan=True
    )


def test_members_that_leave_change_nothing_for_those_that_stay() -> None:
    recipes = [Recipe(in_float64(PLAIN), steps=40, seed=k) for k in range(4)]
    pack = Program(small_task(), recipes, engine="traced")
    pack.begin(STEPS)
    for update in range(STEPS):
        if update in (5, 10):
            pack.keep([0, 2, 3] if update == 5 else [1])
            pack.begin(STEPS)
        pack.step()
    _, alone = trained(small_task(), [PLAIN], "loop", seeds=[2])
    assert_equal(pack, alone)


MIXED: list[dict[str, Value]] = [
    {**RECIPES[SAM_SWA], "gradient": "plain"},
    {**PLAIN, "batch": "mixup", "averaging": "ema", "averaging.ema.forget": 0.1},
    {"optimizer": "muon", "schedule": "wsd", "transform": "clip_norm"},
    {"optimizer": "schedule_free_adamw", "batch": "feature_noise"},
    {**PLAIN, "optimizer.adamw.lr": 3e-3, "batch": "feature_noise", "schedule": "one_cycle"},
    # Those that change weights beside the step, in lanes whose rows do not lie side by side.
    {**PLAIN, "transform": "independent_decay", "transform.independent_decay.decay": 1e-2,
     "averaging": "lookahead"},
    {**PLAIN, "batch": "scored+mixup"},
    {**PLAIN, "transform": "independent_decay", "averaging": "lookahead", "batch": "batch_warmup"},
]  # fmt: skip


@pytest.mark.parametrize("engine", ["loop", "traced"])
def test_members_of_other_methods_share_one_pass_and_keep_their_own_results(
    engine: EngineName,
) -> None:
    task, seeds = small_task(), range(5, 5 + len(MIXED))
    _, pack = trained(task, MIXED, engine, seeds=seeds)
    kept, rates = pack.evaluated(), pack.lr()
    for k, (point, seed) in enumerate(zip(MIXED, seeds, strict=True)):
        _, alone = trained(task, [point], "loop", seeds=[seed])
        assert_equal(pack, alone, [k])
        assert rates[k] == pytest.approx(alone.lr()[0])
        assert pack.pipeline.passes(k) == alone.pipeline.passes(0)
        state, expected = pack.state(k), alone.state(0)
        assert state.keys() == expected.keys()
        for name, tensor in expected.items():
            torch.testing.assert_close(state[name], tensor, rtol=1e-7, atol=1e-9)
    pack.keep([4, 2])
    assert torch.equal(pack.evaluated(), kept[[4, 2]])


def test_what_members_may_differ_in_is_no_part_of_their_structure() -> None:
    points = [*MIXED, {**PLAIN, "model.dropout": 0.3}, {**PLAIN, "model.dropout": 0.1}]
    assert len({Recipe(p, steps=9, seed=i).structure for i, p in enumerate(points[1:5])}) == 1
    assert Recipe(points[-2], steps=9).structure == Recipe(points[-1], steps=5).structure
    for other in ({"batch_size": 8}, {"gradient": "sam"}, {"model.width": 4}, {"loss": "huber"}):
        assert Recipe({**PLAIN, **other}, steps=9).structure != Recipe(PLAIN, steps=9).structure


def test_models_that_do_not_run_one_program_are_refused() -> None:
    class Scaled(nn.Linear):
        scale = 1.0

        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) * self.scale

    def build(recipe: Recipe) -> nn.Module:
        model = Scaled(2, 2)
        model.scale = 1.0 + recipe.seed
        return model

    with pytest.raises(RecipeError, match="members of a pack differ in their models"):
        trained(small_task(build), [PLAIN, PLAIN], "traced", seeds=[1, 2])
