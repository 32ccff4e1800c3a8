"""Runs a prepared study in the foreground and ends with its verdict and its files."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
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
_MIRROR_SECONDS = 20.0  # that the end waits for MLflow; what is left then is written without us
_FILES = {
    "recipe": "best.toml",
    "model": "best.safetensors",
    "script": "train_best.py",
    "report": "report.html",
    "trials": "trials.csv",
}


def drive(
    prepare: Callable[[Listener], Prepared], show: Show, *, store: str, again: str = ""
) -> None:
    """Prepare a study, run it to its end or until Ctrl-C, and print what came of it.

    Args:
        prepare: opens the task and the journal.
        store: address of the MLflow store, "" for none.
        again: the options that `automl resume NAME` needs to find the study again.

    Raises:
        typer.Exit: 1 the study failed or was interrupted, 3 nothing beats the baseline.
    """
    from automl.study import controller

    with Stopping(show.say) as stopping, contextlib.ExitStack() as stack:
        stack.callback(show.close)
        show.open()
        prepared = prepare(show.update)
        stack.callback(prepared.close)
        if prepared.resumed:
            show.load(_copy(prepared))
        trouble = stack.enter_context(_mirrored(prepared, store, stopping))
        stopping.run()
        try:
            state = controller.run(prepared, listen=show.update, stop=stopping.asked)
        except StudyError as error:
            show.close()
            _fail(error)
        show.close()
        if state.ended == "interrupted":
            _interrupted(state, f"automl resume {prepared.config.name}{again}", show)
        _finish(state, prepared.folder, show, mirrored=bool(store))
        code = 0 if state.verdict and state.verdict["outcome"] == "better" else 3
    if trouble:
        show.end(["MLflow   " + trouble[0]])
    raise typer.Exit(code)


@contextlib.contextmanager
def _mirrored(prepared: Prepared, store: str, stopping: Stopping) -> Iterator[list[str]]:
    """Copy the study into MLflow during the block; the list gets what went wrong."""
    trouble: list[str] = []
    if not store:
        yield trouble
        return
    from automl.tracking import mirror

    name, folder = prepared.config.name, prepared.folder
    process = mirror.start(prepared.journal_url, name, store, folder)
    try:
        yield trouble
    finally:
        # Whoever pressed Ctrl-C wants the prompt back; the mirror goes on without us.
        if not process.finish(0.0 if stopping.asked() else _MIRROR_SECONDS):
            trouble.append(process.trouble or "is still being written, in the background")


def _finish(state: State, folder: Path, show: Show, *, mirrored: bool) -> None:
    """Write the study's files, print the verdict and where they lie."""
    from automl.reports.export import write_all
    from automl.reports.tables import verdict_lines

    from .wording import wrapped

    write_all(state, folder)
    files = {what: folder / name for what, name in _FILES.items()}
    lines = [f"{what:<8} {file}" for what, file in files.items() if file.exists()]
    lines += ["MLflow   automl ui"] if mirrored else []
    show.end(["", *wrapped(verdict_lines(state)), "", *lines])


def _copy(prepared: Prepared) -> State:
    """A state of the screen's own: the driver changes its own while the screen is drawn."""
    from automl.study.state import replay

    return replay(event for _, event in prepared.journal.events())


def _interrupted(state: State, command: str, show: Show) -> None:
    from automl.reports.numerals import Scale, counted, duration
    from automl.reports.tables import recipe_title

    from .wording import wrapped

    assert state.config is not None
    scale = Scale(state.config.card.metric)
    done = f"{counted(len(state.search_trials()), 'trial')} in {duration(state.wall_seconds)}"
    lines = ["", f"Stopped after {done}; what is trained is saved."]
    best, base = state.incumbent(), state.baseline()
    if best is not None and base is not None:
        value, first = best.last(state.metric), base.last(state.metric)
        words = f"trial {best.number}, {recipe_title(best.recipe, base.recipe)}"
        if best is not base and value is not None and first is not None:
            gain = f"{scale.signed(value - first)}{scale.unit}"
            words += f"; {gain} against the baseline, not proven yet"
        lines.append(f"Best so far: {scale.value(value)} ({words})")
    show.end(wrapped([*lines, f"Go on with: {command}"]))
    raise typer.Exit(1)


def _fail(error: StudyError) -> None:
    first, *trace = str(error).splitlines()
    typer.echo(first, err=True)
    for line in trace[-(_TRACE_LINES - 1) :]:
        typer.echo(line, err=True)
    raise typer.Exit(1)
