"""`automl explain` and `automl compare`: what a study, or several, have to tell."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .completing import study_names
from .options import JournalUrl, Runs, StudyName


def explain(name: StudyName, runs: Runs = Path("runs"), journal: JournalUrl = None) -> None:
    """Explain what a study found.

    What mattered, how the best was found, and what each part of the search gave.
    """
    from automl.reports.explaining import explain_lines  # scikit-learn: a second
    from automl.study.preparing import saved_state

    typer.echo("\n".join(explain_lines(saved_state(name, runs=runs, journal=journal))))


def compare(
    names: Annotated[
        list[str],
        typer.Argument(metavar="NAME", help="Studies of one task.", autocompletion=study_names),
    ],
    runs: Runs = Path("runs"),
    journal: JournalUrl = None,
) -> None:
    """Set studies of one task beside each other.

    At equal cost, and by the fresh seeds of their verdicts.
    """
    from automl.errors import StudyError
    from automl.reports.comparing import compare_lines
    from automl.study.preparing import saved_state

    if len(names) < 2:
        raise StudyError(f"'{names[0]}' alone: compare two studies or more")
    states = [saved_state(name, runs=runs, journal=journal) for name in names]
    typer.echo("\n".join(compare_lines(states)))
