"""`automl cite`: the papers behind a study's winner."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from automl.errors import StudyError

from .options import JournalUrl, Runs, StudyName


def cite(
    name: StudyName,
    bibtex: Annotated[bool, typer.Option("--bibtex", help="As BibTeX entries.")] = False,
    runs: Runs = Path("runs"),
    journal: JournalUrl = None,
) -> None:
    """Print the papers behind the best recipe of a study."""
    from automl.reports.citations import bibtex_lines, plain_lines
    from automl.reports.tables import winner_recipe
    from automl.study.preparing import saved_state

    recipe = winner_recipe(saved_state(name, runs=runs, journal=journal))
    if recipe is None:
        raise StudyError(f"study '{name}' has no trial that was trained to its end yet")
    lines = bibtex_lines(recipe) if bibtex else plain_lines(recipe)
    typer.echo("\n".join(lines) if lines else "nothing in this recipe has a source of its own")
