"""`automl arch`: the architecture that a study's supernet found."""

from __future__ import annotations

from pathlib import Path

import typer

from .options import JournalUrl, Runs, StudyName
from .table import aligned
from .wording import curve

_CURVE = 20  # columns

app = typer.Typer(
    help="Show the architecture that a study found.",
    rich_markup_mode=None,
    no_args_is_help=True,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


@app.callback()
def _group() -> None:
    """Typer makes a group of one command only where there is a callback."""


@app.command()
def show(name: StudyName, runs: Runs = Path("runs"), journal: JournalUrl = None) -> None:
    """Show the cell that a search derived, and how it came to it.

    As text, and as a picture in the study's folder, arch.svg.
    """
    from automl.reports.architecture import FILE, picture
    from automl.reports.derived import Derived, derived, found_words, score_words
    from automl.reports.export import write_file
    from automl.study.preparing import saved_state

    from .quiet import quiet

    state = saved_state(name, runs=runs, journal=journal)
    found: Derived = derived(state)
    head = f"{name}: {found.method} on {found.architecture}, trial {found.trial.number}"
    lines = [f"{head}; {found_words(state, found.trial)}", *score_words(state, found), ""]
    for number, chosen in enumerate(found.chosen, 1):
        lines += [f"cell {number}"] if len(found.chosen) > 1 else []
        rows = [["CELL", "EDGE", "OPERATION", "WEIGHT BY EPOCH", "LAST", "STRONGEST"]]
        for edge in found.edges:
            operation = chosen[edge.name]
            row = [edge.cell or found.architecture, f"{edge.source} -> {edge.target}", operation]
            weights = [w[edge.name] for w in found.weights]
            if weights:
                own = [w.get(operation, 0.0) for w in weights]
                most = max(weights[-1], key=lambda n: weights[-1][n])
                strongest = "itself" if most == operation else f"{most} {weights[-1][most]:.3f}"
                row += [curve(own, _CURVE), f"{own[-1]:.3f}", strongest]
            rows.append(row)
        if not found.weights:
            rows[0] = rows[0][:3]
        lines += [*aligned(rows), ""]
    with quiet():
        write_file(runs / name / FILE, picture(state).encode())
    typer.echo("\n".join([*lines, f"picture  {runs / name / FILE}"]))
