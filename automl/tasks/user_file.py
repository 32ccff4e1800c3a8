"""A Python file of the user's: `model`, `data` and `metric`, or `train(trial)`.

    model     a class or function that returns a torch module; arguments annotated with a range
              are searched:  def model(width: "log 16..256" = 64, act: "relu|gelu" = "relu")
    data      (x, y); or ((x, y), (x, y)) and perhaps a third pair for train, validation and
              test; or a dict of such pairs; or a torch dataset instead of a pair; or a
              function that returns one of these
    metric    a name ("accuracy", "rmse" ...) or metric(outputs, targets) -> float
    optional  loss(output, target), test_data, epochs, batch_size, maximize = False, and
              teacher, a module or teacher(x) -> outputs, for --set loss=distillation

    train(trial)  a loop of one's own, with `space`, `metric` and `steps` beside it

The file imports nothing of ours. What is wrong in it is told in one line, with the line's number.
"""

from __future__ import annotations

import hashlib
import inspect
import math
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Literal

import torch
from torch import Tensor, nn

from automl.errors import SpaceError, TaskError
from automl.methods.stages import Hyper, Shape
from automl.recipe import Recipe
from automl.records import TaskSpec
from automl.space.files import load_space
from automl.space.ranges import Choice, Range, Value, parse_range
from automl.tasks.aiming import further_metrics
from automl.tasks.fitting import Found, all_of, card_for, plainly
from automl.tasks.metrics import Metric, direction_of, metric_for
from automl.tasks.task import Evaluate, ModelTask, Task
from automl.tasks.teacher import Teacher, of_module, read_teacher, without_teacher
from automl.tasks.user_code import blame, line_of, load_module
from automl.tasks.user_data import read_splits
from automl.tasks.user_dataset import first_samples
from automl.tasks.user_loop import loop_task, setting

_EPOCHS = 20.0


def open_user_file(spec: TaskSpec) -> Task:
    """The task of a Python file.

    Raises:
        TaskError: "task.py:14: what was found; what would be right".
    """
    path = Path(spec.source).resolve()
    module = load_module(path)
    if hasattr(module, "model"):
        return _model_task(spec, path, module)
    if hasattr(module, "train"):
        return loop_task(spec, path, module)
    raise TaskError(
        f"{path.name}: no name 'model'; a task file has model, data, metric, or train(trial)"
    )


# A model ------------------------------------------------------------------------------------


def _model_task(spec: TaskSpec, path: Path, module: ModuleType) -> ModelTask:
    for name in ("data", "metric"):
        if not hasattr(module, name):
            raise TaskError(
                f"{path.name}: no name '{name}'; a task file has model, data and metric"
            )
    if callable(getattr(module, "augment", None)):
        raise TaskError(
            f"{path.name}:{line_of(module.augment)}: augment is not used; choose augmentation with "
            "--set batch=none,flip_crop, or draw it in a torch dataset"
        )
    splits = read_splits(path, module)
    with blame(path, line_of(module.data), "data cannot be read"):
        x, y = first_samples(splits["train"], 256)
    target = _kind_of_target(y)
    line = line_of(module.model)
    make = module.model
    searched = _arguments(path, make, line)
    extra = dict(searched)
    batch_size = int(setting(path, module, "batch_size", 64, at_least=1))
    if hasattr(module, "batch_size") and spec.space is None:
        sizes = dict.fromkeys((max(batch_size // 2, 1), batch_size, 2 * batch_size))
        extra["batch_size"] = Choice(list(sizes), default=batch_size)
    loss = "loss=mse,huber" if target == "values" else "loss=cross_entropy"
    mixing = ["batch=none,mixup"] if x.is_floating_point() and target != "tokens" else []
    own_sets, teacher_file = without_teacher(spec.sets)
    taught = teacher_file is not None or hasattr(module, "teacher")
    if taught and target != "values":
        loss = "loss=distillation"
    sets = [*([] if hasattr(module, "loss") else [loss]), *mixing, *own_sets]
    space = load_space(spec.space or "training", sets=sets, extra=extra)
    if "architecture" in space:
        place = f"--space {spec.space}" if spec.space else "--set architecture"
        raise TaskError(f"{place}: {path.name} brings its own model; use training, or quick")
    with blame(path, line, "model(...) fails"):
        net = make(**{n[len("model.") :]: r.default for n, r in searched.items()})
    if not isinstance(net, nn.Module):
        what = "None" if net is None else f"a {type(net).__name__}"
        raise TaskError(f"{path.name}:{line}: model(...) returned {what}, not a torch module")
    output = _forward(path, line, net, x[:2])
    own_loss = _own_loss(module.loss) if hasattr(module, "loss") else None
    if own_loss is None:
        outputs = _outputs(path, line, output, y, target)
    else:  # what fits together is the loss's to say
        outputs = int(output.shape[-1]) if output.ndim > 1 else 1
    metric, evaluate = _metric(path, module, spec, target)
    further = further_metrics(spec, metric.name, target)
    evaluate = all_of([evaluate, *(plainly(m) for m in further)])
    if own_loss is not None:
        with blame(path, line_of(module.loss), "loss fails"):
            float(own_loss(output, y[:2], {}).mean())
        _pairs(path, "loss", module.loss, output, y[:2])
    with blame(path, line_of(module.metric), "metric fails"):
        evaluate(output, y[:2])
    if callable(module.metric) and spec.metric is None:
        _pairs(path, "metric", module.metric, output, y[:2])
    shape = Shape(
        _kind_of_input(x), tuple(x.shape[1:]), outputs, target,
        outputs if target == "tokens" else 0,
    )  # fmt: skip
    numbers = "a number" if outputs == 1 else f"{outputs} numbers"
    kind = {
        "classes": f"{int(y.max()) + 1} classes",
        "values": f"{numbers} to predict",
        "tokens": f"one of {outputs} tokens to predict at each place",
    }[target]
    count = len(splits["train"])
    found = Found(
        name=path.stem,
        shape=shape,
        splits=splits,
        about=f"{path.name}: {count:,} training samples of {_by(x.shape[1:])}, {kind}",
        space="training",
        epochs=setting(path, module, "epochs", _EPOCHS, at_least=0.01),
        batch_size=batch_size,
        code_fingerprint=hashlib.sha256(path.read_bytes()).hexdigest()[:16],
    )

    def build(recipe: Recipe) -> nn.Module:
        built: nn.Module = make(**recipe.below("model."))
        return built

    card = card_for(spec, found, metric.name, metric.direction, space, taught=taught)
    train, valid, test = splits["train"], splits["valid"], splits.get("test")
    teacher = None
    if teacher_file is not None:
        teacher = read_teacher(teacher_file, build, card.device)
    elif hasattr(module, "teacher"):
        teacher = _own_teacher(path, module, x[:2], output, card.device)
    return ModelTask(
        card,
        shape,
        train,
        valid,
        test,
        build,
        own_loss,
        evaluate,
        teacher,
        arguments=_arguments_of(make),
    )


def _arguments_of(make: Callable[..., object]) -> Callable[[Recipe], dict[str, Value]]:
    plain = {
        f"model.{n}": a.default
        for n, a in inspect.signature(make).parameters.items()
        if isinstance(a.default, str | int | float) and a.kind is not a.POSITIONAL_ONLY
    }
    return lambda recipe: plain | {f"model.{n}": v for n, v in recipe.below("model.").items()}


def _own_teacher(path: Path, module: ModuleType, x: Tensor, output: Tensor, device: str) -> Teacher:
    """The file's `teacher`, tried once."""
    own, line = module.teacher, line_of(module.teacher)
    if not callable(own):
        raise TaskError(
            f"{path.name}: teacher is a {type(own).__name__}; give a torch module or a function"
        )
    teacher = of_module(own, device) if isinstance(own, nn.Module) else Teacher(own)
    with blame(path, line, "teacher fails"):
        found = teacher.teach(x.to(device))
    shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
    if shape != tuple(output.shape):
        raise TaskError(
            f"{path.name}:{line}: teacher returned {shape} for 2 samples, the model returns "
            f"{tuple(output.shape)}; make them alike"
        )
    return teacher


def _own_loss(
    loss: Callable[[Tensor, Tensor], Tensor],
) -> Callable[[Tensor, Tensor, Hyper], Tensor]:
    return lambda output, target, hyper: torch.as_tensor(loss(output, target), device=output.device)


def _pairs(
    path: Path, name: str, own: Callable[[Tensor, Tensor], object], output: Tensor, y: Tensor
) -> None:
    """Refuse a function that pairs each output with every target.

    [n, 1] against [n] is no error in torch, it makes n x n differences. Both as [n] shows it.
    """
    if not y.is_floating_point() or output.numel() != len(y) or y.numel() != len(y):
        return
    outputs, targets = torch.tensor([0.1, 0.9]), torch.tensor([0.0, 1.0])
    try:
        found = torch.as_tensor(own(outputs.view_as(output), targets.view_as(y))).float().mean()
        right = torch.as_tensor(own(outputs, targets)).float().mean()
    except Exception:  # not made for [n] alone, so not taken in by it
        return
    if torch.isfinite(right) and not torch.allclose(found, right):
        raise TaskError(
            f"{path.name}:{line_of(own)}: {name} pairs outputs of shape {tuple(output.shape)} with "
            f"targets of shape {tuple(y.shape)} all with all; bring both to one shape first"
        )


def _arguments(path: Path, make: Callable[..., object], line: int) -> dict[str, Range]:
    """Ranges of the annotated arguments, as "model.NAME"."""
    found: dict[str, Range] = {}
    for name, argument in inspect.signature(make).parameters.items():
        note = argument.annotation
        missing = argument.default is inspect.Parameter.empty
        if isinstance(note, str):
            note = note.strip("'\"")  # `from __future__ import annotations` quotes it once more
        if isinstance(note, str) and (".." in note or ("|" in note and "'" not in note)):
            try:
                found[f"model.{name}"] = parse_range(
                    note, default=None if missing else argument.default
                )
            except SpaceError as error:
                raise TaskError(f"{path.name}:{line}: model's argument {name}: {error}") from None
        elif missing and argument.kind not in (argument.VAR_KEYWORD, argument.VAR_POSITIONAL):
            raise TaskError(
                f"{path.name}:{line}: model's argument {name} has neither a range nor a default; "
                f'write {name}: "16..256" = 64'
            )
    return found


def _forward(path: Path, line: int, net: nn.Module, x: Tensor) -> Tensor:
    net.eval()
    with torch.no_grad(), blame(path, line, f"the model fails on x of shape {tuple(x.shape)}"):
        output = net(x)
    if not isinstance(output, Tensor):
        raise TaskError(
            f"{path.name}:{line}: the model returned a {type(output).__name__}, not a tensor"
        )
    return output


def _outputs(path: Path, line: int, output: Tensor, y: Tensor, target: str) -> int:
    """Width of the last layer, checked against the targets."""
    place, shape = f"{path.name}:{line}", tuple(output.shape)
    if target == "values":
        if output.shape != y[:2].shape:
            raise TaskError(
                f"{place}: the model returned a {shape} output for targets of shape "
                f"{tuple(y[:2].shape)}; make them alike"
            )
        return int(y.shape[1])
    classes = int(y.max()) + 1
    if target == "classes" and bool((y == y[0]).all()):
        raise TaskError(f"{path.name}: data holds only one class, {int(y[0])}; at least two")
    if output.shape[:-1] != y[:2].shape or output.shape[-1] < classes:
        raise TaskError(
            f"{place}: the model returned a {shape} output for 2 samples, but the data has "
            f"{classes} classes; make the last layer {classes} wide"
        )
    return int(output.shape[-1])


def _metric(path: Path, module: ModuleType, spec: TaskSpec, target: str) -> tuple[Metric, Evaluate]:
    own = module.metric
    asked = None if spec.metric == getattr(own, "__name__", None) else spec.metric
    if asked is not None or isinstance(own, str):
        try:
            metric = metric_for(asked or own, target)
        except TaskError as error:
            place = "--metric" if asked else f"{path.name}: metric"
            raise TaskError(f"{place}: {error}") from None
        if metric.name == "loss" and hasattr(module, "loss"):
            return metric, lambda o, t: {"loss": _own_loss(module.loss)(o, t, {}).mean()}
        return metric, lambda o, t: {metric.name: metric.value(o, t)}
    if not callable(own):
        raise TaskError(f"{path.name}: metric is a {type(own).__name__}; give a name or a function")
    name = getattr(own, "__name__", "metric")
    direction = direction_of(name, getattr(module, "maximize", None))
    metric = Metric(name, direction, (target,), own)

    def evaluate(outputs: Tensor, targets: Tensor) -> dict[str, Tensor | float]:
        o = outputs.cpu()  # so that it may use numpy
        # Many a metric raises at nan; a diverged trial is a value, not an error.
        return {name: float(own(o, targets.cpu())) if torch.isfinite(o).all() else math.nan}

    return metric, evaluate


def _kind_of_target(y: Tensor) -> Literal["classes", "values", "tokens"]:
    if y.is_floating_point():
        return "values"
    return "classes" if y.ndim == 1 else "tokens"


def _kind_of_input(x: Tensor) -> Literal["vector", "image", "tokens"]:
    if not x.is_floating_point():
        return "tokens"
    return "image" if x.ndim == 4 else "vector"


def _by(shape: torch.Size) -> str:
    return "x".join(str(n) for n in shape) + (" features" if len(shape) == 1 else "")
