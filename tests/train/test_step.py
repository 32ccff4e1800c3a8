"""One update and its bookkeeping, and the weights of members in one buffer."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from automl.errors import RecipeError
from automl.methods.batches._difficulty import difficulty
from automl.recipe import Recipe
from automl.space.ranges import Value
from automl.tasks.task import Split
from automl.train.measure import Judged
from automl.train.packed import Packed, layout_of
from automl.train.step import EngineName, Program

from .small_problem import BATCH, PLAIN, RECIPES, network, small_task

SAM_SWA = "sgd, one cycle, sam, swa"


def program(point: dict[str, Value], *, members: int = 1, steps: int = 20) -> Program:
    recipes = [Recipe(point, steps=steps, seed=k) for k in range(members)]
    made = Program(small_task(), recipes)
    made.begin(made.total)
    return made


def buffers(one: Program) -> list[Tensor]:
    return [b.clone() for b in one.packed.buffers]


# Counting ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("batch_size", "updates"), [(8, 40), (16, 20), (24, 13), (64, 5)])
def test_a_recipe_makes_the_updates_that_see_as_many_samples(batch_size: int, updates: int) -> None:
    one = program({**PLAIN, "batch_size": batch_size})
    assert one.total == updates == round(20 * BATCH / batch_size)
    assert [one.updates_at(s) for s in (0, 20)] == [0, updates]
    assert one.updates_at(7) == round(7 * BATCH / batch_size)


def test_the_schedule_spans_the_recipe_and_not_the_segment() -> None:
    one = program({**PLAIN, "batch_size": 8})
    seen = []
    for _ in range(one.total):
        one.step()
        seen += one.lr()
    assert max(seen) == pytest.approx(1e-2, rel=0.01)
    assert seen[-1] < 1e-3 < seen[len(seen) // 2]


# Choosing and weighing samples ----------------------------------------------------------------


def test_a_curriculum_begins_with_the_easiest_and_ends_with_all() -> None:
    point: dict[str, Value] = {**PLAIN, "batch": "scored", "batch.scored.start": 0.1}
    one = program(point, members=2)
    split = one.task.train
    assert split.x is not None and split.y is not None
    n = len(split)
    easiest = difficulty(split.x, split.y).argsort(stable=True)
    ranks = easiest.argsort()
    drawn = torch.arange(n).expand(2, n)
    assert ranks[one.update.curriculum(one, drawn)].max() < 0.1 * n
    one.clock[0] = one.total // 2
    assert torch.equal(one.update.curriculum(one, drawn)[0], easiest)
    one.step()


def test_a_curriculum_is_refused_where_samples_are_read_one_by_one() -> None:
    task = small_task()
    assert task.train.x is not None and task.train.y is not None
    data: Any = TensorDataset(task.train.x, task.train.y)
    read = Split(dataset=data)
    with pytest.raises(RecipeError, match="batch 'anti' chooses among samples kept in memory"):
        Program(replace(task, train=read), [Recipe({**PLAIN, "batch": "anti"}, steps=3)])
    with pytest.raises(RecipeError, match="this loss needs the classes' shares"):
        Program(replace(task, train=read), [Recipe({**PLAIN, "loss": "class_weights"}, steps=3)])


def test_losses_that_ask_for_more_get_it_and_packs_agree() -> None:
    for name in ("self_paced", "class_weights"):
        points: list[Value] = [0.0, 1.0] if name == "class_weights" else [0.3, 0.9]
        key = {"class_weights": "balance", "self_paced": "start"}[name]
        recipes = [
            Recipe({**PLAIN, "loss": name, f"loss.{name}.{key}": v}, steps=20, seed=1)
            for v in points
        ]
        packs = [Program(small_task(), recipes, engine=e) for e in ("loop", "traced")]
        for pack in packs:
            pack.begin(5)
        for _ in range(5):
            loop, traced = (pack.step() for pack in packs)
            torch.testing.assert_close(loop, traced)
        assert not torch.equal(loop[0], loop[1])


@pytest.mark.parametrize("engine", ["loop", "traced"])
def test_a_batch_in_parts_gives_the_gradient_of_the_whole(engine: EngineName) -> None:
    # 16 samples in 3 parts: 6, 6 and 4, each counted by its size.
    plain: dict[str, Value] = {**PLAIN, "precision": "float64", "batch": "mixup"}
    points = (plain, {**plain, "accumulate": 3})
    # Without batch norm and dropout, for which a part is a batch of its own.
    task = small_task(lambda r: nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 2)))
    whole, parts = (
        Program(task, [Recipe(p, steps=20, seed=s) for s in (1, 2)], engine=engine) for p in points
    )
    for one in (whole, parts):
        one.begin(5)
    for _ in range(5):
        torch.testing.assert_close(parts.step(), whole.step(), rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(parts.packed.w, whole.packed.w, rtol=1e-8, atol=1e-10)
    with pytest.raises(RecipeError, match="accumulate 0: a batch has at least one part"):
        program({**PLAIN, "accumulate": 0})


# Batch norm ----------------------------------------------------------------------------------


def test_sams_second_pass_leaves_running_statistics_as_the_first_made_them() -> None:
    plain, sam = program({**PLAIN}), program({**PLAIN, "gradient": "sam"})
    plain.step()
    sam.step()
    assert sam.pipeline.passes(0) == 2
    for a, b in zip(buffers(plain), buffers(sam), strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(plain.packed.w, sam.packed.w)


def test_an_optimizer_that_looks_again_packs_with_others_and_is_paid_for() -> None:
    # Members 0 and 2 do not lie side by side: their weights are a copy while they step.
    looks: dict[str, Value] = {
        "optimizer": "sophia_h",
        "optimizer.sophia_h.every": 2,
        "precision": "float64",
    }
    plain: dict[str, Value] = {**PLAIN, "precision": "float64"}
    recipes = [Recipe(p, steps=20, seed=s) for s, p in enumerate([looks, plain, looks])]
    task = small_task()
    pack, singles = Program(task, recipes), [Program(task, [r]) for r in recipes]
    for one in (pack, *singles):
        one.begin(20)
        for _ in range(4):
            one.step()
    for k, single in enumerate(singles):
        torch.testing.assert_close(pack.packed.w[k], single.packed.w[0], rtol=1e-9, atol=1e-12)
        assert pack.looked[k] == single.looked[0]
    assert pack.looked == [6.0, 0.0, 6.0]  # two estimates of three passes each


def test_judging_an_average_measures_batch_norm_anew_and_restores_all() -> None:
    one = program(RECIPES[SAM_SWA], members=2)
    for _ in range(15):
        one.step()
    w, before, average = one.packed.w.clone(), buffers(one), one.evaluated()
    assert not torch.equal(average, w)
    x = one.task.train.x
    assert x is not None
    with Judged(one):
        torch.testing.assert_close(one.packed.w, average, rtol=0, atol=0)
        for module in one.packed.modules:
            assert not module.training
            assert isinstance(module, nn.Sequential)
            norm = module[1]
            assert isinstance(norm, nn.BatchNorm1d)
            assert norm.running_mean is not None and norm.running_var is not None
            h = module[0](x)
            torch.testing.assert_close(norm.running_mean, h.mean(0))
            torch.testing.assert_close(norm.running_var, h.var(0))
            assert norm.momentum == 0.1
    assert torch.equal(one.packed.w, w)
    assert all(torch.equal(a, b) for a, b in zip(buffers(one), before, strict=True))
    assert all(m.training for module in one.packed.modules for m in module.modules())


def test_judging_the_weights_themselves_keeps_batch_norms_statistics() -> None:
    one = program({**PLAIN})
    one.step()
    before = buffers(one)
    with Judged(one):
        assert all(torch.equal(a, b) for a, b in zip(buffers(one), before, strict=True))


def test_judging_does_not_disturb_the_training() -> None:
    one, two = program(RECIPES[SAM_SWA]), program(RECIPES[SAM_SWA])
    for _ in range(20):
        one.step()
        with Judged(two) as judged:
            judged.metrics(two.task.valid, "val")
        two.step()
    assert torch.equal(one.packed.w, two.packed.w)


def test_metrics_are_those_of_the_module_on_the_whole_split() -> None:
    one = program({**PLAIN, "batch": "mixup", "loss": "cross_entropy"})
    one.step()
    with Judged(one) as judged:
        (metrics,) = judged.metrics(one.task.valid, "val")
    x, y = one.task.valid.x, one.task.valid.y
    assert x is not None and y is not None
    module = network(one.recipes[0])
    module.load_state_dict(one.packed.state(0))
    with torch.no_grad():
        output = module.eval()(x)
    assert metrics["val/accuracy"] == (output.argmax(1) == y).double().mean().item()
    assert math.isclose(metrics["val/loss"], nn.functional.cross_entropy(output, y), rel_tol=1e-6)


# Weights in one buffer -----------------------------------------------------------------------


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Embedding(5, 4)
        self.inner = nn.Linear(4, 4)
        self.head = nn.Linear(4, 5, bias=False)
        self.head.weight = self.token.weight

    def forward(self, tokens: Tensor) -> Tensor:
        out: Tensor = self.head(self.inner(self.token(tokens)))
        return out


def test_a_weight_of_two_places_is_one_slot_and_gets_both_gradients() -> None:
    torch.manual_seed(0)
    module, plain = Tied(), Tied()
    plain.load_state_dict(module.state_dict())
    layout = layout_of(module)
    assert [(s.name, s.role) for s in layout.slots] == [
        ("token.weight", "embedding"),
        ("inner.weight", "matrix"),
        ("inner.bias", "vector"),
    ]
    assert (layout.size, layout.decayed) == (20 + 16 + 4, 36)
    packed = Packed([module], device=torch.device("cpu"), dtype=torch.float32)
    assert module.head.weight is module.token.weight
    tokens = torch.tensor([[0, 1, 2]])
    for net in (module, plain):
        net(tokens).square().sum().backward()
    assert plain.token.weight.grad is not None
    assert torch.equal(packed.g[0, :20].view(5, 4), plain.token.weight.grad)


def test_weights_are_views_of_their_members_row_and_frozen_ones_are_in_none() -> None:
    frozen, trained = [nn.Linear(2, 3) for _ in range(2)], [nn.Linear(3, 2) for _ in range(2)]
    for layer in frozen:
        layer.requires_grad_(False)
    modules = [nn.Sequential(*layers) for layers in zip(frozen, trained, strict=True)]
    packed = Packed(modules, device=torch.device("cpu"), dtype=torch.float32)
    assert packed.w.shape == (2, 3 * 2 + 2)
    packed.w[1].fill_(7)
    assert torch.equal(trained[1].weight, torch.full((2, 3), 7.0))
    assert trained[0].weight.max() < 1
    assert frozen[1].weight.max() < 1


def test_members_of_other_shapes_are_refused() -> None:
    with pytest.raises(RecipeError, match="differ in the shapes of their weights"):
        Packed([nn.Linear(2, 3), nn.Linear(2, 4)], device=torch.device("cpu"), dtype=torch.float32)
    with pytest.raises(RecipeError, match="no weights to train"):
        Packed([nn.ReLU()], device=torch.device("cpu"), dtype=torch.float32)
