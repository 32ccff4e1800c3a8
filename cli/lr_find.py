"""`automl lr-find`: a few hundred steps that say which learning rates are worth searching."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .wording import curve

_COLUMNS = 60


def lr_find(
    task: Annotated[
        str,
        typer.Argument(
            metavar="TASK",
            help="digits, table.csv, images/, corpus.txt or task.py.",
            show_default=False,
        ),
    ],
    optimizer: Annotated[
        str, typer.Option(metavar="NAME", help="Whose rate is tested.", show_default=True)
    ] = "adamw",
    sets: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Another value, as in `automl tune`."),
    ] = None,
    target: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Column of a table to predict.")
    ] = None,
    updates: Annotated[
        int, typer.Option(min=20, metavar="N", help="Steps from 1e-6 to 10.", show_default=True)
    ] = 200,
    plot: Annotated[
        Path, typer.Option(metavar="FILE", help="Where the plot goes (SVG).", show_default=True)
    ] = Path("lr-find.svg"),
    device: Annotated[
        str, typer.Option(metavar="NAME", help="Where to train: auto, cpu, cuda or cuda:1.")
    ] = "auto",
) -> None:
    """Find the learning rates that are worth searching.

    Trains on three seeds while the rate rises, and prints the bounds as a --set for `automl tune`.
    """
    from automl.errors import TaskError
    from automl.records import TaskSpec
    from automl.registry import family
    from automl.space.tree import Space

    from .quiet import quiet

    if not plot.absolute().parent.is_dir():
        raise TaskError(f"--plot {plot}: no folder {plot.absolute().parent}")
    family("optimizer").get(optimizer)  # a wrong name is told before anything is read
    chosen = (f"optimizer={optimizer}", *(sets or ()))
    with quiet():
        from automl.reports.range_plot import range_plot
        from automl.tasks.opening import open_task
        from automl.tasks.task import ModelTask
        from automl.train.range_test import range_test

        found = open_task(TaskSpec(task, target=target, device=device, sets=chosen))
        if not isinstance(found, ModelTask):
            raise TaskError(f"{task} trains itself: automl cannot change its rate step by step")
        point = dict(Space.from_json(found.card.space).default())
        seen = range_test(found, point, updates=updates)
        plot.write_text(range_plot(seen), encoding="utf-8")
    low, high = seen.bounds
    step = max(len(seen.losses) // _COLUMNS, 1)
    typer.echo(f"{found.card.name}: {len(seen.rates)} steps of {optimizer} on 3 seeds")
    typer.echo(f"training loss  {curve(seen.losses[::step], _COLUMNS)}")
    typer.echo(
        f"               {seen.rates[0]:<{_COLUMNS // 2}.1g}learning rate, to {seen.rates[-1]:.2g}"
    )
    typer.echo(f"falls fastest at {seen.steepest:.2g}, lies lowest at {seen.lowest:.2g}")
    typer.echo(f"plot  {plot}")
    typer.echo(f"next  automl tune {task} --set optimizer={optimizer} "
               f"--set optimizer.{optimizer}.lr={low:g}..{high:g}")  # fmt: skip
