"""`automl pause` and `automl stop`, asked of a study that runs in any process."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from automl.errors import StudyError

from .options import JournalUrl, Runs, StudyName

if TYPE_CHECKING:
    from automl.study.state import State

_PAUSED_SECONDS = 15.0  # a driver that has not heard by then is frozen, or on another disk
_STOPPED_SECONDS = 60.0  # for running segments to write their checkpoints, and files
_LOOK_SECONDS = 0.1


def pause(name: StudyName, runs: Runs = Path("runs"), journal: JournalUrl = None) -> None:
    """Let a running study wait.

    What trains saves itself and lets its worker go; `automl resume NAME` goes on.
    """
    from automl.study.control import Control

    state, who = _driven(name, runs, journal)
    if not who:
        raise StudyError(f"study '{name}' does not run; there is nothing to pause")
    if not state.paused:
        Control(runs / name).ask("pause")
        _wait(lambda s: s.paused or bool(s.ended), _PAUSED_SECONDS, name, runs, journal)
    typer.echo(f"{name} is paused; go on with: automl resume {name}")


def stop(name: StudyName, runs: Runs = Path("runs"), journal: JournalUrl = None) -> None:
    """End a running study; what is trained is saved.

    `automl resume NAME` goes on with it.
    """
    from automl.service import take_back
    from automl.study.control import Control

    _, who = _driven(name, runs, journal)
    had = take_back(runs / name)
    if not who and had:
        typer.echo(f"{name} is not run any more; go on with: automl resume {name}")
        return
    if not who:
        raise StudyError(f"study '{name}' does not run; there is nothing to stop")
    Control(runs / name).ask("stop")
    ended = _wait(lambda s: bool(s.ended), _STOPPED_SECONDS, name, runs, journal)
    if ended.ended == "interrupted":
        typer.echo(f"{name} is stopped; go on with: automl resume {name}")
    else:
        typer.echo(f"{name} had come to its end: automl show {name}")


def go_on(name: str, runs: Path, journal: str | None) -> bool:
    """Let a paused study that runs go on; False when it does not run.

    Raises:
        StudyError: it runs, and is not paused.
    """
    from automl.study.control import Control

    state, who = _driven(name, runs, journal)
    if not who:
        return False
    if not state.paused and Control(runs / name).wish() != "pause":
        raise StudyError(f"study '{name}' is being run already, by {who}")
    Control(runs / name).ask("go")
    _wait(lambda s: not s.paused, _PAUSED_SECONDS, name, runs, journal)
    typer.echo(f"{name} goes on, run by {who}")
    return True


def _driven(name: str, runs: Path, journal: str | None) -> tuple[State, str]:
    """The study as it stands, and who runs it ("" for nobody)."""
    from automl.study.journal import writer
    from automl.study.preparing import saved_state  # the journal's library: not for --help

    state = saved_state(name, runs=runs, journal=journal)
    return state, writer(journal or str(runs / name / "journal.db"), name)


def _wait(
    true: Callable[[State], bool], seconds: float, name: str, runs: Path, journal: str | None
) -> State:
    """Wait until the driver's journal says so.

    Raises:
        StudyError: it does not.
    """
    deadline = time.monotonic() + seconds
    while True:
        state, who = _driven(name, runs, journal)
        if true(state):
            return state
        if not who:
            raise StudyError(f"the driver of study '{name}' is gone; automl resume {name}")
        if time.monotonic() > deadline:
            raise StudyError(
                f"study '{name}', run by {who}, has not answered in {seconds:.0f} s; "
                "it will when it reads its control file"
            )
        time.sleep(_LOOK_SECONDS)
