"""From data to a ModelTask: the splits, the length of a full training, the card."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import cast

import torch
from torch import Tensor

from automl.errors import MethodError, TaskError
from automl.methods.stages import Architecture, BatchMethod, Loss, Shape
from automl.recipe import Recipe
from automl.records import TaskCard, TaskSpec
from automl.registry import family
from automl.space.files import load_space
from automl.space.ranges import Choice, Value
from automl.space.tree import Space
from automl.tasks.aiming import aims_of, further_metrics
from automl.tasks.metrics import Metric, metric_for
from automl.tasks.searching import supernet_plan, with_cells
from automl.tasks.task import Evaluate, ModelTask, Split
from automl.tasks.teacher import read_teacher, without_teacher

SPLIT_SEED = 0  # the same split in every study, so that studies compare
_SHARES = (0.6, 0.2, 0.2)  # train, valid, test
_EVALUATIONS = 12  # a full training: enough for a curve and for rungs


@dataclass(frozen=True)
class Found:
    """What a kind of task found: samples by split, their shape, and how to speak of them."""

    name: str
    shape: Shape
    splits: Mapping[str, Split]  # "train", "valid" and perhaps "test"
    about: str
    space: str  # the shipped space that suits it
    epochs: float  # of a full training
    batch_size: int = 64
    code_fingerprint: str = ""
    classes: tuple[str, ...] = ()


def model_task(
    spec: TaskSpec,
    found: Found,
    *,
    evaluate: Callable[[Metric], Evaluate] | None = None,
) -> ModelTask:
    """The task of one of our architectures on what was found."""
    metric = metric_for(spec.metric, found.shape.target)
    sets, teacher = without_teacher(spec.sets)
    if spec.nas is not None:
        sets = with_cells(spec.space or found.space, sets, found.shape.kind, spec.nas)
    space = load_space(
        spec.space or found.space, sets=(_losses(found.shape, taught=teacher is not None), *sets)
    )

    usual = load_space(found.space).default()

    def chosen(recipe: Recipe) -> tuple[str, dict[str, Value]]:
        # A space of training methods only, such as "quick", leaves the network as it is.
        whole = recipe if recipe.stage("architecture") else replace(recipe, point=usual)
        ((name, hyper),) = whole.stage("architecture")
        # A recipe kept from before a network got another hyperparameter still builds.
        ranges = family("architecture").get(name).ranges
        return name, {n: r.default for n, r in ranges.items()} | hyper

    def build(recipe: Recipe) -> torch.nn.Module:
        name, hyper = chosen(recipe)
        return cast(Architecture, family("architecture").get(name)).network(found.shape, hyper)

    def arguments(recipe: Recipe) -> dict[str, Value]:
        name, hyper = chosen(recipe)
        return {"architecture": name} | {f"architecture.{name}.{n}": v for n, v in hyper.items()}

    scored = all_of(
        [
            evaluate(m) if evaluate else plainly(m)
            for m in (metric, *further_metrics(spec, metric.name, found.shape.target))
        ]
    )
    taught = teacher is not None
    card = card_for(spec, found, metric.name, metric.direction, space, taught=taught)
    if spec.nas is not None:
        samples = len(found.splits["train"])
        plan = supernet_plan(
            space, spec.sets, spec.nas, samples=samples, batch_size=found.batch_size
        )
        card = replace(card, supernet=plan)
    train, valid = found.splits["train"], found.splits["valid"]
    known = read_teacher(teacher, build, card.device) if teacher else None
    test = found.splits.get("test")
    return ModelTask(
        card, found.shape, train, valid, test, build, None, scored, known, arguments=arguments
    )


def plainly(metric: Metric) -> Evaluate:
    """A metric of outputs and targets as they are."""
    return lambda o, t: {metric.name: metric.value(o, t)}


def all_of(parts: Sequence[Evaluate]) -> Evaluate:
    """All the metrics that the parts give."""
    return lambda o, t: {name: value for part in parts for name, value in part(o, t).items()}


def card_for(
    spec: TaskSpec,
    found: Found,
    metric: str,
    direction: str,
    space: Space,
    *,
    taught: bool = False,
) -> TaskCard:
    """The card: a full training is `epochs` walks through the training split.

    Raises:
        MethodError: the space holds a method that cannot serve this shape.
    """
    check_methods(space, found.shape, taught=taught)
    epochs = spec.epochs or found.epochs
    wanted = max(round(epochs * len(found.splits["train"]) / found.batch_size), 1)
    every = max(wanted // _EVALUATIONS, 1)
    return TaskCard(
        name=found.name,
        kind=found.shape.kind,
        metric=metric,
        direction=direction,
        space=space.to_json(),
        steps=max(wanted // every, 1) * every,
        eval_steps=every,
        batch_size=found.batch_size,
        sizes={name: len(split) for name, split in found.splits.items()},
        about=found.about,
        code_fingerprint=found.code_fingerprint,
        data_fingerprint=fingerprint(found.splits),
        device=device_for(spec),
        shape=asdict(found.shape),
        classes=found.classes,
        aims=aims_of(spec, metric=metric, direction=direction, target=found.shape.target),
    )


def check_methods(space: Space, shape: Shape, *, taught: bool = False) -> None:
    """See that every augmentation, network and loss of a space is made for such samples.

    Raises:
        MethodError: naming the method, what it serves, and those that would do.
    """
    losses = space["loss"].range if "loss" in space else None
    for name in losses.options if isinstance(losses, Choice) else ():
        if not taught and "teacher" in cast(Loss, family("loss").get(str(name))).needs:
            raise MethodError(
                f"loss '{name}' needs a teacher: --set teacher=runs/NAME/best.toml, or a `teacher` "
                "in the task file"
            )
    for key, asked in (("batch", shape.kind), ("architecture", shape.kind), ("loss", shape.target)):
        options = space[key].range if key in space else None
        for chain in options.options if isinstance(options, Choice) else ():
            for name in str(chain).split("+"):
                served = _serves(key, name)
                if asked not in served:
                    fitting = [n for n in family(key).names() if asked in _serves(key, n)]
                    raise MethodError(
                        f"{key} '{name}' is for {' and '.join(served)}, not for {asked}; "
                        f"use one of: {', '.join(fitting)}"
                    )


def _serves(key: str, name: str) -> tuple[str, ...]:
    method = family(key).get(name)
    if isinstance(method, Loss):
        return method.targets
    assert isinstance(method, BatchMethod | Architecture)
    return method.kinds


def three_splits(x: Tensor, y: Tensor) -> dict[str, Split]:
    """Train, valid and test, 60/20/20; stratified where y holds classes."""
    parts = split_indices(y)
    return {
        name: Split(x[i], y[i]) for name, i in zip(("train", "valid", "test"), parts, strict=True)
    }


def split_indices(y: Tensor, shares: tuple[float, ...] = _SHARES) -> list[Tensor]:
    """Indices of each share, drawn with a fixed seed.

    Each class is shared out alike, and has at least one of its samples in the first share.
    """
    generator = torch.Generator().manual_seed(SPLIT_SEED)
    order = torch.randperm(len(y), generator=generator)
    if y.dtype == torch.int64 and y.ndim == 1:
        _, label, count = y.unique(return_inverse=True, return_counts=True)
        order = order[label[order].argsort(stable=True)]  # class by class
        label = label[order]
        rank = torch.arange(len(y)) - (count.cumsum(0) - count)[label]
        # How far along its class each sample stands: a cut takes the same part of every class.
        order = order[((rank + 0.5) / count[label]).argsort(stable=True)]
    cuts = [round(sum(shares[: i + 1]) * len(y)) for i in range(len(shares) - 1)]
    parts = torch.tensor_split(order, cuts)
    return [part.sort().values for part in parts]


def device_for(spec: TaskSpec) -> str:
    """The device that was asked for; "auto" is a GPU where there is one.

    Raises:
        TaskError: CUDA was asked for and is missing.
    """
    if spec.device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if spec.device.startswith("cuda") and not torch.cuda.is_available():
        raise TaskError(f"--device {spec.device}: torch finds no CUDA device; use --device cpu")
    return spec.device


def fingerprint(splits: Mapping[str, Split]) -> str:
    """Content hash of the samples, 16 hex digits."""
    digest = hashlib.sha256()
    for name in sorted(splits):
        for tensor in (splits[name].x, splits[name].y):
            if tensor is not None:
                digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def _losses(shape: Shape, *, taught: bool = False) -> str:
    """The loss stage for a target, which a space file leaves to the data."""
    if taught and shape.target != "values":
        return "loss=distillation"
    return "loss=mse,huber" if shape.target == "values" else "loss=cross_entropy"
