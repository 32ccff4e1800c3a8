"""Distillation: a teacher from a recipe file, one from a task file, and what is wrong with them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from automl.checkpoints import Store
from automl.errors import MethodError, TaskError
from automl.methods.stages import Loss
from automl.recipe import Recipe
from automl.records import Pack, Report, Segment, Status, TaskSpec
from automl.registry import family
from automl.reports.recipe_file import RecipeFile, write_text
from automl.space.tree import Space
from automl.tasks.opening import open_task
from automl.tasks.task import ModelTask, Split
from automl.train.segment import run

FEW = 60  # samples that keep their label


def digits(*sets: str, epochs: float | None = None) -> ModelTask:
    spec = TaskSpec("digits", sets=("architecture=mlp", *sets), epochs=epochs, device="cpu")
    task = open_task(spec)
    assert isinstance(task, ModelTask)
    return task


def recipe(task: ModelTask, **values: object) -> Recipe:
    point = Space.from_json(task.card.space).default() | values
    return Recipe(point, steps=task.card.steps, seed=0)  # type: ignore[arg-type]


def trained(task: ModelTask, own: Recipe, folder: Path) -> Report:
    (report,) = run(Pack((Segment(0, own, 0, own.steps),), str(folder), True), task)
    assert report.status is Status.DONE, report.message
    return report


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe file of digits with its weights beside it, as a study leaves them."""
    folder = tmp_path_factory.mktemp("teacher")
    task = digits(epochs=10)
    own = recipe(task)
    report = trained(task, own, folder / "checkpoints")
    tensors, _ = Store(folder / "checkpoints").load(0, report.reached)
    kept = {n.removeprefix("model/"): x for n, x in tensors.items() if n.startswith("model/")}
    save_file(kept, folder / "best.safetensors")
    (folder / "best.toml").write_text(write_text(RecipeFile(TaskSpec("digits"), own)))
    return folder / "best.toml"


def test_a_trained_network_teaches_a_small_one_whose_labels_are_wrong(
    teacher: Path, tmp_path: Path
) -> None:
    task = digits(f"teacher={teacher}", epochs=8)
    assert Space.from_json(task.card.space).default()["loss"] == "distillation"
    assert task.train.x is not None and task.train.y is not None
    wrong = task.train.y.clone()
    generator = torch.Generator().manual_seed(0)
    wrong[FEW:] = torch.randint(10, (len(wrong) - FEW,), generator=generator)
    unlabelled = replace(task, train=Split(task.train.x, wrong))
    small = {
        "architecture.mlp.width": 32, "architecture.mlp.depth": 1, "optimizer.adamw.lr": 1e-2,
    }  # fmt: skip
    own = recipe(task, **small, **{"loss.distillation.share": 0.95})
    taught = trained(unlabelled, own, tmp_path / "taught")
    plain = trained(unlabelled, recipe(digits(epochs=8), **small), tmp_path / "plain")
    assert taught.test is not None and plain.test is not None
    assert taught.test["test/accuracy"] > 0.85
    assert plain.test["test/accuracy"] < taught.test["test/accuracy"] - 0.2


def test_the_teachers_forward_is_paid_for(teacher: Path, tmp_path: Path) -> None:
    task = digits(f"teacher={teacher}", epochs=1)
    own = recipe(task)  # the teacher's own network: a third of a pass more
    report = trained(task, own, tmp_path)
    assert report.passes == pytest.approx(4 / 3 * own.steps)


def test_members_of_a_pack_and_parts_of_a_batch_are_taught_alike(teacher: Path) -> None:
    from automl.train.step import Program

    task = digits(f"teacher={teacher}", epochs=1)
    base = replace(recipe(task, precision="float64"), steps=9)
    pair = [replace(base, seed=seed) for seed in (1, 2)]
    pack = Program(task, pair, engine="traced")
    alone = [Program(task, [r]) for r in pair]
    parts = Program(task, [replace(pair[0], point={**pair[0].point, "accumulate": 3})])
    for program in (pack, *alone, parts):
        program.begin(3)
        for _ in range(3):
            program.step()
    for k, program in enumerate(alone):
        torch.testing.assert_close(pack.packed.w[k], program.packed.w[0], rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(parts.packed.w, alone[0].packed.w, rtol=1e-9, atol=1e-12)


def loss(output: Tensor, taught: Tensor, **hyper: float) -> Tensor:
    method = family("loss").get("distillation")
    assert isinstance(method, Loss)
    numbers = {n: torch.tensor(v, dtype=torch.float64) for n, v in hyper.items()}
    return method.value(output, torch.tensor([2]), {**numbers, "teacher": taught})


def test_a_copy_of_the_teacher_has_nothing_to_learn_from_it() -> None:
    z = torch.tensor([[1.0, -2.0, 0.5]], dtype=torch.float64, requires_grad=True)
    value = loss(z, z.detach(), temperature=3.0, share=1.0)
    (slope,) = torch.autograd.grad(value.sum(), z)
    assert value.item() == pytest.approx(0)
    assert slope.abs().max() < 1e-12
    labels = loss(z, z.detach(), temperature=3.0, share=0.0)
    assert labels.item() == pytest.approx(-torch.log_softmax(z, 1)[0, 2].item())


def test_at_a_high_temperature_the_outputs_themselves_are_matched() -> None:
    z = torch.tensor([[1.0, -2.0, 0.4]], dtype=torch.float64, requires_grad=True)
    taught = torch.tensor([[0.0, 1.0, -0.5]], dtype=torch.float64)
    (slope,) = torch.autograd.grad(loss(z, taught, temperature=1e4, share=1.0).sum(), z)
    centred = (z - z.mean()) - (taught - taught.mean())
    torch.testing.assert_close(slope, centred.detach() / 3, rtol=1e-3, atol=1e-4)


TASK = """
import torch
from torch import nn

x = torch.randn(200, 4, generator=torch.Generator().manual_seed(0))
data = (x, (x[:, 0] > 0).long())
metric = "accuracy"
epochs = 8


def model(width: "8|16" = 8):
    return nn.Sequential(nn.Linear(4, width), nn.ReLU(), nn.Linear(width, 2))

"""
KNOWS = "def teacher(x):\n    return torch.stack([-9 * x[:, 0], 9 * x[:, 0]], 1)\n"


def test_a_task_file_may_hold_the_teacher(tmp_path: Path) -> None:
    (tmp_path / "task.py").write_text(TASK + KNOWS)
    task = open_task(TaskSpec(str(tmp_path / "task.py"), device="cpu"))
    assert isinstance(task, ModelTask)
    own = recipe(task, **{"optimizer.adamw.lr": 0.1})
    assert own.point["loss"] == "distillation"
    assert trained(task, own, tmp_path / "checkpoints").curve[-1][1]["val/accuracy"] > 0.8


@pytest.mark.parametrize(
    ("sets", "error", "words"),
    [
        (("loss=distillation",), MethodError, "needs a teacher: --set teacher="),
        (("teacher=nowhere.toml",), TaskError, "nowhere.toml: No such file"),
        (("teacher={text}",), TaskError, "not a recipe file"),
        (("teacher={other}",), TaskError, "does not fit this task's data"),
        (("teacher={bare}",), TaskError, "bare.safetensors: No such file"),
    ],
)
def test_what_is_wrong_with_a_teacher_is_one_line(
    sets: tuple[str], error: type[Exception], words: str, teacher: Path, tmp_path: Path
) -> None:
    (tmp_path / "text.toml").write_text("about = 3\n")
    (tmp_path / "bare.toml").write_text(teacher.read_text())
    (tmp_path / "other.toml").write_text(teacher.read_text())
    save_file({"0.weight": torch.zeros(3)}, tmp_path / "other.safetensors")
    files = {name: tmp_path / f"{name}.toml" for name in ("text", "other", "bare")}
    with pytest.raises(error, match=words):
        digits(*(s.format(**files) for s in sets))


@pytest.mark.parametrize(
    ("own", "words"),
    [
        ("teacher = 3\n", "teacher is a int"),
        ("def teacher(x):\n    return x\n", r"teacher returned \(2, 4\) for 2 samples"),
        ("def teacher(x):\n    return x.nothing\n", "task.py:15: AttributeError"),
    ],
)
def test_what_is_wrong_with_a_files_teacher_is_one_line(
    own: str, words: str, tmp_path: Path
) -> None:
    (tmp_path / "task.py").write_text(TASK + own)
    with pytest.raises(TaskError, match=words):
        open_task(TaskSpec(str(tmp_path / "task.py")))
