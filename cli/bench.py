"""`automl bench packs`: what training trials together gains, on this machine and for a task."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .table import aligned

if TYPE_CHECKING:
    from automl.recipe import Recipe
    from automl.records import Packing, TaskCard

bench = typer.Typer(
    rich_markup_mode=None,
    add_completion=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    help="Measure what packs of trials gain on this machine.",
)


@bench.callback()
def _root() -> None:
    """Measure what packs of trials gain on this machine."""


@bench.command()
def packs(
    task: Annotated[
        str, typer.Argument(metavar="TASK", help="As in `automl tune`: digits, table.csv, task.py.")
    ],
    target: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Column of a table to predict.")
    ] = None,
    sets: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="Measure this instead of the baseline: architecture=convnet, batch_size=32.",
        ),
    ] = None,
    largest: Annotated[
        int, typer.Option(min=2, max=1024, metavar="K", help="Members at most.", show_default=True)
    ] = 64,
    device: Annotated[
        str, typer.Option(metavar="NAME", help="Where to train: auto, cpu, cuda or cuda:1.")
    ] = "auto",
    compiling: Annotated[
        bool,
        typer.Option(
            "--compile", help="Measure a compiled pack too: 10 to 30 CPU seconds more, on a CPU."
        ),
    ] = False,
) -> None:
    """Compare packs of like-shaped trials with a trial that trains alone.

    Packs of 2, 4, 8 and so on, until another doubling gains less than a tenth: where `automl tune`
    stops, too.
    """
    from .quiet import quiet

    with quiet():
        lines = _measured(
            task,
            target=target,
            sets=sets or [],
            largest=largest,
            device=device,
            trainings=math.inf if compiling else 0.0,
        )
    typer.echo("\n".join(lines))


def _measured(
    task: str,
    *,
    target: str | None,
    sets: list[str],
    largest: int,
    device: str,
    trainings: float,
) -> list[str]:
    import tempfile
    from dataclasses import replace

    from automl.errors import TaskError
    from automl.executors.processes import Processes
    from automl.recipe import Recipe
    from automl.records import Pack, Report, Segment, Status, TaskSpec
    from automl.space.tree import Space

    spec = TaskSpec(source=task, target=target, sets=tuple(sets), device=device)
    with tempfile.TemporaryDirectory(prefix="automl-bench-") as place:
        executor = Processes(spec, workers=1, logs=Path(place) / "logs", stall_seconds=600.0)
        try:
            card = executor.card
            if card.kind in ("loop", "command"):
                raise TaskError(f"{card.name} trains itself: its trials cannot be packed")
            recipe = Recipe(Space.from_json(card.space).default(), steps=card.steps)
            segment = Segment(0, recipe, 0, 1)
            pack = Pack((segment,), str(Path(place) / "checkpoints"), probe=largest)
            executor.submit(replace(pack, trainings=trainings))
            report = None
            while report is None:
                found = [n for n in executor.reports(1.0) if isinstance(n, Report)]
                report = found[0] if found else None
        finally:
            executor.close()
    if report.packing is None:
        raise TaskError(report.message or f"the task cannot be trained: {report.status}")
    if report.status not in (Status.DONE, Status.DIVERGED):
        raise TaskError(report.message or f"the training failed: {report.status}")
    return packs_lines(card, recipe, report.packing)


def packs_lines(card: TaskCard, recipe: Recipe, found: Packing) -> list[str]:
    """The measurement as a table, and what `auto` makes of it."""
    from automl.reports.tables import recipe_title

    batch = int(str(recipe.point.get("batch_size", card.batch_size)))
    alone = found.rows[0][1]
    rows = [
        ["TOGETHER", "UPDATE OF ALL", "TRIALS x SAMPLES/S", "EACH AGAINST ALONE", "PEAK MEMORY"]
    ]
    for members, seconds, memory in found.rows:
        rows.append(
            [
                str(members),
                f"{1000 * seconds * members:.2f} ms",
                f"{batch / seconds:,.0f}",
                f"{alone / seconds:.2f} x",
                f"{memory:,.0f} MiB",
            ]
        )
    return [
        f"{card.name}: {card.about}; batches of {batch} on {card.device}, one thread",
        f"recipe: {recipe_title(recipe)}",
        "",
        *aligned(rows, right=range(5)),
        "",
        *_choice(found),
    ]


def _choice(found: Packing) -> list[str]:
    """What `automl tune --pack auto` makes of the rows, and why."""
    from automl.study.packing import LARGEST

    if found.size == 1:
        return [f"auto trains each trial alone: {found.reason}"]
    chosen = found.up_to(LARGEST)
    line = f"auto trains {chosen.size} together, each {chosen.gain:.1f} times as fast as alone"
    more = [found.rows[0][1] / s for k, s, _ in found.rows if k > chosen.size]
    if chosen is not found:
        line += f"; no more than {LARGEST}, for they are chosen without each other's results"
    elif more:
        little = f"little ({max(more):.1f} times)" if max(more) > chosen.gain else "nothing"
        line += f"; more would gain {little}"
    lines = [line, "in a study no more than its search has full trainings"]
    if found.padded:
        lines.append(
            "smaller batches of the same class (up to 16, 64, 256 ... samples) may share a pack: "
            f"one of half the size keeps {found.padded:.0%} of its speed"
        )
    if found.reason:
        lines.append(found.reason)
    return [*lines, _compiling(found)] if found.compile_seconds else lines


def _compiling(found: Packing) -> str:
    """What compiling that pack gains, and where auto does it."""
    gain = f"compiled, after {found.compile_seconds:.0f} CPU seconds, {found.compiled:.1f} times"
    if found.engine == "compiled":
        return f"{gain}: auto does so where 1,000 CPU seconds of such trainings are ahead"
    return f"{gain}: auto does not"
