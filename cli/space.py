"""`automl space`: what may vary in a search."""

from __future__ import annotations

from typing import Annotated

import typer

from automl.reports.numerals import counted, short
from automl.space.ranges import Choice
from automl.space.tree import Dimension, Space, describe

from .completing import space_names
from .table import aligned

space = typer.Typer(
    name="space",
    help="List and show search spaces.",
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


@space.command("ls")
def ls() -> None:
    """List the shipped spaces."""
    from automl.space.files import shipped

    typer.echo("\n".join(aligned([[name, about] for name, about in shipped().items()])))
    typer.echo(
        "\nShow one: automl space show NAME. Use one: automl tune TASK --space NAME|FILE.toml"
    )


@space.command("show")
def show(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME|FILE", help="A shipped space or a TOML file.", autocompletion=space_names
        ),
    ],
    sets: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=RANGE", help="Fix, narrow or list a hyperparameter."),
    ] = None,
) -> None:
    """Show what may vary in a space: ranges, defaults, conditions."""
    from automl.space.files import load_space

    from .quiet import quiet

    with quiet():
        found = load_space(name, sets=tuple(sets or ()))  # imports the methods, hence torch
    rows = [["HYPERPARAMETER", "RANGE", "DEFAULT", "ONLY WITH"]]
    rows += [[d.name, _range(d), short(d.range.default), _when(d, found)] for d in found]
    typer.echo("\n".join(aligned(rows)))
    typer.echo(f"\n{counted(len(found), 'hyperparameter')}. Change one: --set NAME=RANGE")


def _range(d: Dimension) -> str:
    text = describe(d.range)
    return text.replace("|", " | ") if isinstance(d.range, Choice) else text


def _when(d: Dimension, space: Space) -> str:
    """Conditions beyond those that the name itself tells (optimizer.lion.lr: lion)."""
    implied = {condition for name, _ in d.when for condition in space[name].when}
    found = []
    for name, values in d.when:
        if (name, values) in implied:
            continue
        told = d.name.split(".")[:2]
        if told == [name, str(values[0])] and len(values) == 1:
            continue
        found.append(f"{name} = {' | '.join(str(v) for v in values)}")
    return ", ".join(found)
