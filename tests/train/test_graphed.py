"""The update that a CUDA graph captures: a plain one, on static memory, without its host.

No GPU is needed: what would be captured is called here, with the inputs that a replay would get.
Tensors of the meta device stand in for another device: a number that is read from one, or a CPU
tensor that meets one, raises.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from automl.errors import RecipeError
from automl.recipe import Recipe
from automl.registry import family
from automl.space.ranges import Value
from automl.tasks.task import ModelTask
from automl.tasks.teacher import Teacher
from automl.train.graphed import Graphed
from automl.train.hostless import Hostless
from automl.train.inputs import Inputs
from automl.train.step import EngineName, Program

from .small_problem import IMAGES, PLAIN, in_float64, picture_task, small_task

STEPS = 20
TASK, PICTURED = small_task(), picture_task()  # whose traces are shared
LOOKS = "an optimizer looks at each network's loss more than once"
DUE = "reads a number from a tensor"
CHOSEN = "picks out a number of values that depends on its data"
DECLINED = {
    "cautious": DUE, "m3": DUE, "simmering": DUE, "shampoo": CHOSEN, "soap": CHOSEN,
    **dict.fromkeys(("ekfac", "kfac", "lbfgs", "lm_ma_es", "sophia_g", "sophia_h"), LOOKS),
}  # fmt: skip
OPTIMIZERS = sorted(family("optimizer").names())
SERVED = [name for name in OPTIMIZERS if name not in DECLINED]
# All other stages, in lanes whose rows lie side by side and in others.
STAGES: list[dict[str, Value]] = [
    {**PLAIN, "batch": "mixup", "averaging": "ema"},
    {**PLAIN, "transform": "clip_norm+noise", "schedule": "one_cycle"},
    {"optimizer": "sgd", "batch": "feature_noise+mixup", "averaging": "swa"},
    {**PLAIN, "transform": "independent_decay", "batch": "batch_warmup"},
    {"optimizer": "sgd", "transform": "masking+skip", "batch": "scored+swap"},
]
PICTURES: list[dict[str, Value]] = [
    {**IMAGES["adam, flip and crop, cutmix, batch norm"], "loss.cross_entropy.smoothing": 0.3},
    {**IMAGES["adam, flip and crop, cutmix, batch norm"], "batch": "cutout+color_jitter"},
    {**IMAGES["adam, flip and crop, cutmix, batch norm"], "batch": "trivial_augment"},
]


def trained(
    points: Sequence[dict[str, Value]],
    engine: EngineName,
    task: ModelTask | None = None,
    steps: int = STEPS,
) -> tuple[Tensor, Program]:
    recipes = [Recipe(in_float64(p), steps=40, seed=3 + k) for k, p in enumerate(points)]
    program = Program(task or TASK, recipes, engine=engine)
    program.begin(steps)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a refusal is read below
        losses = torch.stack([program.step() for _ in range(steps)])
    return losses, program


def reason_of(program: Program) -> str:
    assert program.update.graphed is not None
    return program.update.graphed.reason


def assert_same(points: Sequence[dict[str, Value]], task: ModelTask | None = None) -> Program:
    losses, own = trained(points, "graphed", task)
    expected, plain = trained(points, "traced", task)
    torch.testing.assert_close(losses, expected, rtol=1e-9, atol=1e-12)
    for k in range(len(points)):
        state = plain.state(k)
        for name, x in own.state(k).items():
            torch.testing.assert_close(x, state[name], rtol=1e-9, atol=1e-9)
    assert own.looked == plain.looked
    assert own.clock == plain.clock
    return own


def test_an_update_on_static_memory_is_the_plain_one_under_every_optimizer() -> None:
    points = [{**PLAIN, "optimizer": name} for name in SERVED for _ in range(2)]
    assert not reason_of(assert_same(points))


@pytest.mark.parametrize("name", DECLINED)
def test_an_optimizer_that_needs_the_host_declines_by_name(name: str) -> None:
    losses, program = trained([{**PLAIN, "optimizer": name}] * 2, "graphed", steps=3)
    assert DECLINED[name] in reason_of(program)
    expected, _ = trained([{**PLAIN, "optimizer": name}] * 2, "traced", steps=3)
    torch.testing.assert_close(losses, expected, rtol=1e-9, atol=1e-12)


def test_every_stage_has_its_own_draws_and_schedules() -> None:
    program = assert_same([{**p, "gradient": "gsam", "accumulate": 2} for p in STAGES])
    assert not reason_of(program)
    assert not reason_of(assert_same(PICTURES, PICTURED))


def test_members_that_join_get_a_graph_of_their_own_company() -> None:
    programs = [trained(STAGES[:3], name, steps=5)[1] for name in ("graphed", "traced")]
    for program in programs:
        program.seat({1: Recipe(in_float64(STAGES[1]), steps=40, seed=9)})
        for _ in range(5):
            program.step()
        program.keep([2, 1])
        program.begin(20)
        for _ in range(5):
            program.step()
    assert not reason_of(programs[0])
    torch.testing.assert_close(programs[0].packed.w, programs[1].packed.w, rtol=1e-9, atol=1e-12)


class Elsewhere(TorchFunctionMode):
    """Within it copies of tensors have no values, and lie on the meta device."""

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if getattr(function, "__name__", "") != "__deepcopy__":
            return function(*args, **(kwargs or {}))
        x, memo = args
        if id(x) not in memo:
            with torch._C.DisableTorchFunction():
                like = torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device="meta")
            memo[id(x)] = like
        return memo[id(x)]


@pytest.mark.parametrize("kind", ["optimizers", "stages", "pictures"])
def test_an_update_touches_no_other_device(kind: str) -> None:
    every = [{**PLAIN, "optimizer": name} for name in SERVED]
    points = {"optimizers": every, "stages": STAGES, "pictures": PICTURES}[kind]
    _, program = trained(points, "graphed", PICTURED if kind == "pictures" else None, steps=1)
    assert not reason_of(program)
    kept: list[object] = [*program.recipes, program.task, program.update.graphed]
    kept += [s.method for lanes in program.pipeline.every() for lane in lanes for s in lane.stages]
    with Elsewhere():
        other = copy.deepcopy(program, {id(x): x for x in kept})
    meta = other.update.draws._device = torch.device("meta")
    engine: Any = other.update.engine
    for trace in engine._made.values():  # what the trace itself makes
        for node in trace.program.graph.nodes:
            if "device" in node.kwargs:
                node.kwargs = {**node.kwargs, "device": meta}
        trace.program.recompile()
    with other.update.inputs.kept(), torch.no_grad(), Hostless():
        assert other.update.make(other).device == meta


def test_what_needs_the_host_is_refused_with_its_place() -> None:
    x, mask = torch.arange(3.0), torch.tensor([True, False, True])
    for waits in (
        lambda: x.sum().item(), lambda: x.tolist(), lambda: bool(x.any()), lambda: x.numpy(),
        lambda: x[mask], lambda: x[[0, 2]], lambda: x.nonzero(), lambda: torch.rand(2),
        lambda: torch.tensor([1.0]), lambda: x.new_tensor([1.0]), lambda: x + x.to("meta"),
        lambda: torch.linalg.cholesky(torch.eye(2)), lambda: torch.linalg.eigh(torch.eye(2)),
    ):  # fmt: skip
        with pytest.raises(RecipeError, match=r"test_graphed\.py, line \d+: "), Hostless():
            waits()
    with Hostless():
        assert torch.where(mask, 1 - x / 2, 0.0).cumsum(0)[x.long()].shape == (3,)


def test_a_replay_that_differs_is_never_used() -> None:
    w, calls = torch.zeros(2), list[int]()

    def update() -> Tensor:
        calls.append(1)
        return w.add_(float(len(calls))).clone()  # a number of the host's own, frozen by a graph

    graphed = Graphed(update, Inputs(), lambda: [w], torch.device("cpu"))
    with pytest.warns(UserWarning, match="no CUDA graph: a replay differs from a plain update"):
        assert graphed().tolist() == [1, 1]  # what the plain update made
    assert w.tolist() == [1, 1]
    graphed()
    assert len(calls) == 4


def test_state_in_new_memory_is_never_used() -> None:
    state = {"w": torch.zeros(2)}

    def update() -> Tensor:
        state["w"] = state["w"] + 1
        return state["w"].clone()

    graphed = Graphed(update, Inputs(), lambda: [state["w"]], torch.device("cpu"))
    with pytest.warns(UserWarning, match="keeps its state in other memory"):
        assert graphed().tolist() == [1, 1]
    assert graphed().tolist() == [2, 2]


def test_a_teacher_is_paid_for_in_every_update() -> None:
    task = replace(TASK, teacher=Teacher(nn.Linear(2, 2).double(), weights=100))
    program = assert_same([{**PLAIN, "loss": "distillation"}] * 2, task)
    assert not reason_of(program) and program.looked[0] > 0
