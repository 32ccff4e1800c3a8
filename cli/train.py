"""`automl train`: one recipe, in the foreground, through the same door as every trial."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def train(
    recipe: Annotated[
        Path, typer.Argument(metavar="RECIPE.toml", help="A recipe file, such as best.toml.")
    ],
    task: Annotated[
        str | None,
        typer.Option(
            metavar="TASK",
            help="Train on this, as in `automl tune`.  [default: the recipe's own task]",
        ),
    ] = None,
    target: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Column of a table to predict.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="Another seed than the recipe's.")
    ] = None,
    save: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the weights (safetensors) there.")
    ] = None,
    device: Annotated[
        str | None, typer.Option(metavar="NAME", help="Where to train: auto, cpu, cuda or cuda:1.")
    ] = None,
) -> None:
    """Train one recipe and print its curve and its final metrics."""
    from .quiet import quiet

    with quiet():
        _train(recipe, task=task, target=target, seed=seed, save=save, device=device)


def _train(
    file: Path,
    *,
    task: str | None,
    target: str | None,
    seed: int | None,
    save: Path | None,
    device: str | None,
) -> None:
    import tempfile
    from dataclasses import replace

    from automl.checkpoints import TENSORS, Store
    from automl.errors import CheckpointError, TaskError
    from automl.executors.processes import Processes
    from automl.records import Pack, Progress, Report, Segment, Status
    from automl.reports.export import without_training_state
    from automl.reports.numerals import Scale, duration, short
    from automl.reports.recipe_file import read_recipe

    found = read_recipe(file)
    spec = found.spec
    if task is not None:
        # Only the recipe comes along: another task has its own columns, metric and length.
        spec = replace(spec, source=task, command=False, metric_regex=None, target=None)
    spec = replace(spec, target=target or spec.target, device=device or spec.device)
    if save is not None and not save.absolute().parent.is_dir():
        raise CheckpointError(f"{save}: no folder {save.absolute().parent}")
    with tempfile.TemporaryDirectory(prefix="automl-train-") as place:
        executor = Processes(spec, workers=1, logs=Path(place) / "logs", stall_seconds=600.0)
        try:
            card = executor.card
            steps = found.recipe.steps if task is None else card.steps
            recipe = found.recipe.lasting(steps)
            recipe = recipe if seed is None else replace(recipe, seed=seed)
            scale = Scale(card.metric)
            typer.echo(f"{card.name}: {card.about}; {steps} steps on {card.device}")
            executor.submit(
                Pack((Segment(0, recipe, 0, steps),), str(Path(place) / "checkpoints"), test=True)
            )
            report = None
            while report is None:
                for news in executor.reports(1.0):
                    if isinstance(news, Progress):
                        value = news.metrics.get(f"val/{card.metric}")
                        loss = news.metrics.get("train/loss")
                        typer.echo(
                            f"step {news.step:>{len(str(steps))}}/{steps}  "
                            f"train loss {short(loss)}  "
                            f"validation {scale.words} {scale.value(value)}"
                        )
                    elif isinstance(news, Report):
                        report = news
        finally:
            executor.close()
        if report.status is not Status.DONE:
            raise TaskError(f"training ended as '{report.status}': {report.message}")
        typer.echo(f"\ntrained in {duration(report.seconds)}")
        last = dict(report.curve[-1][1]) if report.curve else {}
        for name, value in {**last, **(report.test or {})}.items():
            split, _, metric = name.partition("/")
            typer.echo(f"{name:<20} {Scale(metric or split).value(value)}")
        if save is not None:
            checkpoint = Store(f"{place}/checkpoints").folder(0, report.reached) / TENSORS
            save.write_bytes(without_training_state(checkpoint.read_bytes()) or b"")
            typer.echo(f"weights {save}")
