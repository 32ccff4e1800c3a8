"""Runs a prepared study in the foreground and ends with its verdict and its files."""

from __future__ import annotations

import contextlib
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
_FILES = {
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
    from automl.tuning import conduct

    late: list[str] = []
    code = 0

    def ended(state: State) -> None:
        nonlocal code
        show.close()
        code = _tell(state, prepared.folder, show, again)

    with Stopping(show.say) as stopping, contextlib.ExitStack() as stack:
        stack.callback(show.close)
        show.open()
        prepared = prepare(show.update)
        stack.callback(prepared.close)
        if prepared.resumed:
            show.load(_copy(prepared))
        stopping.run()
        try:
            conduct(
                prepared,
                listen=show.update,
                stop=stopping.asked,
                ended=ended,
                trouble=late.append,
            )
        except StudyError as error:
            show.close()
            _fail(error)
    if late and code != 1:
        show.end([f"MLflow   {late[0]}"])
    raise typer.Exit(code)


def finish(name: str, runs: Path, journal: str | None, show: Show) -> int:
    """Print what came of a study that another process ran; its exit code."""
    from automl.study.preparing import saved_state

    state = saved_state(name, runs=runs, journal=journal)
    if state.ended == "failed":
        _fail(StudyError(state.message))
    return _tell(state, runs / name, show, f" --journal {journal}" if journal else "")


def _tell(state: State, folder: Path, show: Show, again: str) -> int:
    assert state.config is not None
    if state.verdict is None:
        _interrupted(state, f"automl resume {state.config.name}{again}", show)
        return 1
    _finished(state, folder, show, mirrored=state.config.mlflow != "off")
    return 0 if state.verdict["outcome"] == "better" else 3


def _finished(state: State, folder: Path, show: Show, *, mirrored: bool) -> None:
    """Print the verdict, and where the study's files lie."""
    from automl.reports.tables import verdict_lines

    from .wording import wrapped

    files = {what: folder / name for what, name in _FILES.items()}
    lines = [f"{what:<8} {file}" for what, file in files.items() if file.exists()]
    lines += ["MLflow   automl ui"] if mirrored else []
    show.end(["", *wrapped(verdict_lines(state)), "", *lines])


def _copy(prepared: Prepared) -> State:
    """A state of the screen's own: the driver changes its own while the screen is drawn."""
    from automl.study.state import replay

    return replay(event for _, event in prepared.journal.events())


def _interrupted(state: State, command: str, show: Show) -> None:
    from automl.reports.aim_words import front_words
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
    if state.aims.several and (front := front_words(state)):
        lines.append(f"{front[0].upper()}{front[1:]}")
    show.end(wrapped([*lines, f"Go on with: {command}"]))


def _fail(error: StudyError) -> None:
    first, *trace = str(error).splitlines()
    typer.echo(first, err=True)
    for line in trace[-(_TRACE_LINES - 1) :]:
        typer.echo(line, err=True)
    raise typer.Exit(1)
