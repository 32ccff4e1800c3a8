"""Runs a prepared study in the foreground and ends with its verdict and its files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from automl.errors import StudyError

from .showing import Show
from .stopping import Stopping

if TYPE_CHECKING:
    from automl.study.preparing import Listener, Prepared
    from automl.study.state import State

_TRACE_LINES = 8
FILES = {
    "recipe": "best.toml",
    "model": "best.safetensors",
    "script": "train_best.py",
    "report": "report.html",
    "trials": "trials.csv",
}


def drive(prepare: Callable[[Listener], Prepared], show: Show, *, again: str = "") -> None:
    """Prepare a study, run it to its end or until Ctrl-C, and print what came of it.

    Args:
        prepare: opens the task and the journal.
        again: the options that `automl resume NAME` needs to find the study again.

    Raises:
        typer.Exit: 1 the study failed or was interrupted, 3 nothing beats the baseline.
    """
    from automl.study import controller

    with Stopping(show.say) as stopping:
        show.open()
        try:
            prepared = prepare(show.update)
            try:
                folder, name = prepared.folder, prepared.config.name
                if prepared.resumed:
                    show.load(_copy(prepared))
                stopping.run()
                state = controller.run(prepared, listen=show.update, stop=stopping.asked)
            finally:
                prepared.close()
        except StudyError as error:
            show.close()
            if not stopping.running:
                raise
            _fail(error)
        finally:
            show.close()
    if state.ended == "interrupted":
        _interrupted(state, f"automl resume {name}{again}", show)
    finish(state, folder, show)


def finish(state: State, folder: Path, show: Show) -> None:
    """Write the study's files, print the verdict and where they lie.

    Raises:
        typer.Exit: 3 when nothing beats the baseline.
    """
    from automl.reports.export import write_all
    from automl.reports.tables import verdict_lines

    write_all(state, folder)
    lines = ["", *verdict_lines(state), ""]
    lines += [
        f"{what:<8} {folder / file}" for what, file in FILES.items() if (folder / file).exists()
    ]
    lines.append(f"{'trials':<8} in MLflow's pages: automl ui")
    show.end(lines)
    outcome = state.verdict["outcome"] if state.verdict else ""
    raise typer.Exit(0 if outcome == "better" else 3)


def _copy(prepared: Prepared) -> State:
    """A state of the screen's own: the driver changes its own while the screen is drawn."""
    from automl.study.state import replay

    return replay(event for _, event in prepared.journal.events())


def _interrupted(state: State, command: str, show: Show) -> None:
    from automl.reports.tables import recipe_title

    from .render import ended_line
    from .wording import number, signed

    lines = ["", f"Stopped after {ended_line(state)}; what is trained is saved."]
    best, base = state.incumbent(), state.baseline()
    if best is not None:
        value = best.last(state.metric)
        first = base.last(state.metric) if base is not None else None
        gain = ""
        if best is not base and value is not None and first is not None:
            gain = f", {signed(value - first)} over the baseline; not proven yet"
        lines.append(
            f"Best so far: {number(value)}, trial {best.number} ({recipe_title(best.recipe)}){gain}"
        )
    show.end([*lines, f"Go on with: {command}"])
    raise typer.Exit(1)


def _fail(error: StudyError) -> None:
    first, *trace = str(error).splitlines()
    typer.echo(first, err=True)
    for line in trace[-(_TRACE_LINES - 1) :]:
        typer.echo(line, err=True)
    raise typer.Exit(1)
