"""A search from its options to its files: what `automl tune` does, as a call.

state = automl.tune("digits", budget="20full", name="first")
print("\\n".join(automl.verdict_lines(state)))
automl.winner_recipe(state).point          # the files lie in runs/first

conduct    a prepared study -> run, files written, copied into MLflow
tune       prepares one and conducts it, without a screen
"""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ParamSpec

from automl.executors.broker import broker_url
from automl.study import controller
from automl.study.controller import Stop
from automl.study.options import TuneOptions, checked
from automl.study.preparing import Listener, Prepared, both, prepare
from automl.study.preparing import resume as take_up
from automl.study.state import State
from automl.tracking import mirror

_MIRROR_SECONDS = 20.0  # that the end waits for MLflow; what is left then is written without us
P = ParamSpec("P")


@dataclass(frozen=True, kw_only=True)
class Call(TuneOptions):
    """The arguments of `tune`: the options, and what the calling program brings."""

    listen: Listener = lambda event: None
    stop: Stop = lambda: 0


def _arguments_of(
    call: Callable[P, Call],
) -> Callable[[Callable[[Call], State]], Callable[P, State]]:
    """Let a function take what makes a Call, as its own arguments."""

    def change(function: Callable[[Call], State]) -> Callable[P, State]:
        @functools.wraps(function)
        def called(*args: P.args, **kwargs: P.kwargs) -> State:
            return function(call(*args, **kwargs))

        shown = inspect.signature(call).replace(return_annotation=State)
        called.__signature__ = shown  # type: ignore[attr-defined]
        return called

    return change


@_arguments_of(Call)
def tune(call: Call) -> State:
    """Search for the best way to train a network; returns when the verdict is there.

    A study of this name that was interrupted goes on; one that has ended is returned as it is.

    Args:
        task: "digits", or a path: table.csv, images/, corpus.txt, task.py.
        budget, space, ...: the options of `automl tune`, by their names in TuneOptions, where
            their types and defaults stand; `automl tune --help` says what they are. One that may
            be given several times is a sequence: budget=("30m", "100trials").
        listen: hears every event of the journal, and "smoke", "progress" and "phase" events.
        stop: asked often; 1 ends the study cleanly (it can go on later), 2 at once.

    Raises:
        AutomlError: one line on what is wrong with the task or an option.
        StudyError: the task fails whatever the recipe.
    """
    with contextlib.closing(prepare(checked(call), listen=call.listen)) as prepared:
        return conduct(prepared, listen=call.listen, stop=call.stop)


def resume(
    name: str,
    *,
    workers: int | None = None,
    runs: str | Path = "runs",
    journal: str | None = None,
    mlflow: str | None = None,
    broker: str | None = None,
    queue: str | None = None,
    listen: Listener = lambda event: None,
    stop: Stop = lambda: 0,
) -> State:
    """Go on with a study that was interrupted, to the budget that it was started with.

    Raises:
        StudyError: there is no such study, or its task fails whatever the recipe.
    """
    with contextlib.closing(
        take_up(
            name,
            runs=Path(runs),
            journal=journal,
            workers=workers,
            mlflow=mlflow,
            broker=broker_url(broker),
            queue=queue,
            listen=listen,
        )
    ) as prepared:
        return conduct(prepared, listen=listen, stop=stop)


def conduct(
    prepared: Prepared,
    *,
    listen: Listener = lambda event: None,
    stop: Stop = lambda: 0,
    ended: Callable[[State], None] = lambda state: None,
    trouble: Callable[[str], None] = lambda text: None,
) -> State:
    """Run a prepared study to its end, or until `stop` says so, and write its files.

    Args:
        prepared: stays open; the caller closes it.
        listen, stop: see `tune`.
        ended: hears the state once the files are there; MLflow may need seconds more.
        trouble: hears, last, why MLflow has not everything yet.

    Raises:
        StudyError: the task fails whatever the recipe, or the files cannot be written.
    """
    store = store_address(prepared.config.mlflow, prepared.folder.parent)
    listen = both(prepared.live, listen)
    with _mirrored(prepared, store, stop, trouble):
        state = controller.run(prepared, listen=listen, stop=stop)
        if state.ended != "interrupted":
            from automl.reports.export import write_all  # pandas and matplotlib: seconds

            write_all(state, prepared.folder)
        ended(state)
    return state


def store_address(given: str | None, runs: Path) -> str:
    """Address of the MLflow store; "" for none ("off")."""
    if given == "off":
        return ""
    return given or f"sqlite:///{(runs / 'mlflow.db').absolute()}"


@contextlib.contextmanager
def _mirrored(
    prepared: Prepared, store: str, stop: Stop, trouble: Callable[[str], None]
) -> Iterator[None]:
    """Copy the study into MLflow during the block."""
    if not store:
        yield
        return
    process = mirror.start(prepared.journal_url, prepared.config.name, store, prepared.folder)
    wait = 0.0  # whoever stopped the study wants the prompt back; the mirror goes on without us
    try:
        yield
        wait = 0.0 if stop() else _MIRROR_SECONDS
    finally:
        if not process.finish(wait):
            trouble(process.trouble or "is still being written, in the background")
