"""`def train(trial)` in a file of the user's: a loop of their own, and the names beside it.

space    {"lr": "log 1e-5..1e-1 = 1e-3", "act": ["relu", "gelu"], "decay": 0.5}
metric   which of the reported names counts; maximize = False where less is better
steps    of a full training, as the loop counts them; 1 unless stated
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

from automl.errors import SpaceError, TaskError
from automl.records import TaskCard, TaskSpec
from automl.space.overrides import narrowed
from automl.space.ranges import Range, parse_range
from automl.space.tree import Space
from automl.tasks.aiming import aims_of, maximized
from automl.tasks.fitting import device_for
from automl.tasks.metrics import direction_of
from automl.tasks.task import LoopTask


def loop_task(spec: TaskSpec, path: Path, module: ModuleType) -> LoopTask:
    if spec.space is not None:
        raise TaskError(f"--space {spec.space}: a loop's ranges stand in its file, as space = ...")
    named = getattr(module, "space", None)
    if not isinstance(named, Mapping) or not named:
        raise TaskError(
            f"{path.name}: train(trial) needs a space beside it: "
            'space = {"lr": "log 1e-5..1e-1 = 1e-3"}'
        )
    ranges: dict[str, Range] = {}
    for name, text in named.items():
        try:
            options = text if isinstance(text, list | tuple) else [text]
            ranges[str(name)] = parse_range("|".join(str(o) for o in options))
        except SpaceError as error:
            raise TaskError(f"{path.name}: space, {name}: {error}") from None
    metric = spec.metric or getattr(module, "metric", None)
    if not isinstance(metric, str):
        raise TaskError(
            f"{path.name}: no metric; say which reported name counts: metric = 'accuracy'"
        )
    direction = direction_of(metric, getattr(module, "maximize", maximized(spec)))
    steps = max(round(spec.epochs or setting(path, module, "steps", 1, at_least=1)), 1)
    card = TaskCard(
        name=path.stem,
        kind="loop",
        metric=metric,
        direction=direction,
        space=with_sets(Space(ranges), spec.sets).to_json(),
        steps=steps,
        eval_steps=1,
        batch_size=1,
        about=f"{path.name}: a training loop of your own, {steps} steps",
        code_fingerprint=hashlib.sha256(path.read_bytes()).hexdigest()[:16],
        device=device_for(spec),
        aims=aims_of(spec, metric=metric, direction=direction),
    )
    return LoopTask(card, module.train)


def with_sets(space: Space, sets: tuple[str, ...]) -> Space:
    """A space without stages, with `--set` applied."""
    for text in sets:
        name, equals, value = text.partition("=")
        if not equals:
            raise SpaceError(f"--set {text}: write NAME=VALUE, NAME=LOW..HIGH or NAME=A,B")
        try:
            space = narrowed(space, name.strip(), value.strip())
        except SpaceError as error:
            raise SpaceError(f"--set {name.strip()}: {error}") from None
    return space


def setting(path: Path, module: ModuleType, name: str, usual: float, *, at_least: float) -> float:
    """A number that the file may state."""
    value = module.__dict__.get(name, usual)
    if not isinstance(value, int | float) or isinstance(value, bool) or value < at_least:
        raise TaskError(f"{path.name}: {name} = {value!r}; give a number, such as {usual:g}")
    return value
