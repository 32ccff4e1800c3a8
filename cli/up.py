"""`automl up` and `automl down`: all that studies on a queue need, on this machine."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from automl.errors import ExecutorError
from automl.reports.numerals import counted

from .options import Runs

if TYPE_CHECKING:
    from .stack import Place

_START_SECONDS = 180.0  # importing MLflow alone takes half a minute on a loaded machine
_DOWN_SECONDS = 150.0  # studies and segments save themselves first
_LOOK_SECONDS = 0.2
T = TypeVar("T")


def up(
    slots: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Workers.  [default: one a core]")
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=65535,
            metavar="N",
            help="Port of MLflow's pages.  [default: 5000, or a free one]",
        ),
    ] = None,
    runs: Runs = Path("runs"),
) -> None:
    """Start a queue, workers, a driver service and MLflow here.

    They are reachable from this machine only, and run until `automl down`.
    """
    from automl.executors.celery import living
    from automl.service import serving

    from .stack import Place
    from .ui import answers, listening

    place = Place(runs)
    if pid := place.keeper():
        # It may have begun this moment.
        facts = _wait("Redis", place.facts, lambda: place.keeper() == pid, place)
        _tell(place, facts, "is up already")
        return
    if port is not None:
        listening(port).close()
    count = slots or os.cpu_count() or 1
    what = f"Redis, {counted(count, 'worker')}, a driver service and MLflow"
    typer.echo(f"starting {what} (about half a minute) ...")
    place.folder.mkdir(parents=True, exist_ok=True)
    with place.log.open("wb") as output:
        keeper = subprocess.Popen(
            [sys.executable, "-m", "automl.cli.stack", str(runs), str(count), str(port or 0)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )

    def wait(what: str, answer: Callable[[], T]) -> T:
        return _wait(what, answer, lambda: keeper.poll() is None, place)

    try:
        facts = wait("Redis", place.facts)
        url = place.broker.read_text()
        wait("worker", lambda: len(living(url)) >= count)
        wait("driver service", lambda: serving(runs))
        wait("MLflow", lambda: answers(facts["mlflow"]))
    except BaseException:
        keeper.terminate()
        keeper.wait()
        raise
    _tell(place, facts, "is up")


def down(runs: Runs = Path("runs")) -> None:
    """End what `automl up` started.

    Studies save themselves; the next `automl up` goes on with those that were detached.
    """
    from automl.service import handed_over

    from .stack import Place

    place = Place(runs)
    pid = place.keeper()
    if not pid:
        typer.echo(f"nothing is up for {runs}")
        return
    with contextlib.suppress(ProcessLookupError):  # it ends by itself
        os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + _DOWN_SECONDS
    while place.keeper() == pid:
        if time.monotonic() > deadline:
            raise ExecutorError(f"process {pid} has not ended in {_DOWN_SECONDS:.0f} s")
        time.sleep(_LOOK_SECONDS)
    left = handed_over(runs)
    rest = f"; the next `automl up` goes on with {', '.join(left)}" if left else ""
    typer.echo(f"down{rest}")


def _wait(what: str, answer: Callable[[], T], alive: Callable[[], bool], place: Place) -> T:
    """The answer, once there is one.

    Raises:
        ExecutorError: the keeper has ended before, or this takes too long.
    """
    deadline = time.monotonic() + _START_SECONDS
    while not (found := answer()):
        if not alive() or time.monotonic() > deadline:
            lines = place.log.read_text(errors="replace").strip().splitlines()
            why = lines[-1] if lines else f"no {what}; see {place.folder}"
            raise ExecutorError(f"it did not start: {why}")
        time.sleep(_LOOK_SECONDS)
    return found


def _tell(place: Place, facts: dict[str, Any], state: str) -> None:
    typer.echo(
        f"the stack of {place.runs} {state}: process {facts['keeper']}, logs in {place.folder}"
    )
    typer.echo(f"MLflow    {facts['mlflow']}")
    typer.echo(f"workers   {facts['slots']} on queue cpu: automl worker ls")
    typer.echo(f"use it    export AUTOML_BROKER_FILE={place.broker} AUTOML_KEY_FILE={place.key}")
    typer.echo("          automl tune digits --detach")
    typer.echo("end it    automl down")
