"""Prepares a study in the foreground, so that what is wrong is said here, and leaves it to run."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING

import typer

from automl.errors import StudyError

from .showing import Show
from .stopping import Stopping

if TYPE_CHECKING:
    from automl.study.preparing import Listener, Prepared


def leave(
    prepare: Callable[[Listener], Prepared],
    show: Show,
    *,
    journal: str | None,
    broker: str | None,
    again: str = "",
) -> None:
    """Open the study, try it, and hand it over to the driver service.

    Args:
        prepare: opens the task and the journal.
        journal, broker: for the driver service, if there is none yet.
        again: the options that find the study again.

    Raises:
        StudyError: it has come to its end already.
    """
    from automl import service
    from automl.study.controller import begin

    with Stopping(show.say), contextlib.ExitStack() as stack:
        show.open()
        stack.callback(show.close)
        prepared = prepare(show.update)
        with contextlib.closing(prepared):
            name = prepared.config.name
            if prepared.state.verdict is not None:
                raise StudyError(f"study '{name}' has come to its end: automl show {name}{again}")
            begin(prepared)
        runs = prepared.folder.parent
        service.hand_over(prepared.folder)
        pid = service.serving(runs) or service.launch(runs, journal=journal, broker=broker)
    typer.echo(f"{name} is run by the driver service, process {pid}")
    typer.echo(f"watch it: automl attach {name}{again}")
    typer.echo(f"end it:   automl stop {name}{again}")
