"""The mirror: copies a study from its journal into MLflow, while it runs and after.

    python -m automl.tracking.mlflow JOURNAL_URL STUDY STORE_URI [FOLDER]

A process of its own, at low priority, that nobody waits for. One experiment a task, a parent run
a study, a child run a trial; a trial costs one create, one log_batch, one update. MLflow is never
asked what the study is; the journal is the truth.

End of standard input is the driver's word (or its death): write what the journal holds, then
leave. It leaves earlier when the study has ended and all is written. A store that is away is
tried again, quietly, with growing pauses; after the driver's word for GRACE more seconds.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import logging
import os
import select
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

from automl.errors import JournalError
from automl.study.journal import Journal
from automl.tracking.writing import Mirror

GRACE = 60.0  # seconds that a store may stay away once the driver has gone
_POLL = (0.5, 3.0)  # seconds between looks at the journal: busy, idle
_FILES_SECONDS = 300.0  # at most, for the driver to write the study's files and leave
_PAUSE = (1.0, 30.0)  # seconds between attempts at a store that is away


def _told_to_leave(seconds: float) -> bool:
    """Wait up to `seconds` for the end of standard input."""
    try:
        ready = select.select([0], [], [], seconds)[0]
        return bool(ready) and os.read(0, 4096) == b""
    except (OSError, ValueError):  # no standard input at all
        return True


def _only_one(journal_url: str, study: str, folder: Path | None) -> None:
    """Wait until no other mirror of this study runs; a resumed study may find the last one."""
    place = folder or Path(tempfile.gettempdir())
    name = hashlib.sha256(f"{journal_url} {study}".encode()).hexdigest()[:16]
    lock = os.open(place / f".mirror-{name}.lock", os.O_RDWR | os.O_CREAT, 0o666)
    fcntl.flock(lock, fcntl.LOCK_EX)  # until this process ends


def run(
    journal_url: str,
    study: str,
    store_uri: str,
    folder: Path | None,
    *,
    told_to_leave: Callable[[float], bool] = _told_to_leave,
) -> str:
    """Mirror until the study has ended or the driver has left.

    Args:
        journal_url: what `Journal` takes.
        study: its name.
        store_uri: MLflow's tracking URI.
        folder: the study's folder, for files to attach; None: none.
        told_to_leave: waits up to so many seconds for the driver's word.

    Returns:
        "" when all is written, otherwise one line that says why not.
    """
    mirror: Mirror | None = None
    journal: Journal | None = None
    leaving = False
    deadline = 0.0  # for attempts, once leaving
    poll, pause = _POLL[0], _PAUSE[0]
    while True:
        try:
            journal = journal or Journal(journal_url, study)
            mirror = mirror or Mirror(journal, store_uri, folder)
            moved = mirror.step()
            pause = _PAUSE[0]
            if not moved and (leaving or mirror.state.ended):
                # The driver writes the study's files after its last event.
                leaving = leaving or told_to_leave(_FILES_SECONDS)
                if not mirror.step():
                    mirror.finish()
                    return ""
            poll = _POLL[0] if moved else min(poll * 1.3, _POLL[1])
            wait = 0.0 if leaving else poll
        except Exception as error:  # a store may raise anything: its server's, driver's, disk's
            mirror = None
            if isinstance(error, JournalError) and journal is not None:
                journal.close()
                journal = None
            deadline = deadline or (time.monotonic() + GRACE if leaving else 0.0)
            if leaving and time.monotonic() >= deadline:
                line = next(iter(str(error).splitlines()), "")[:300]
                return f"study {study!r} is not whole in MLflow at {store_uri}: {line}"
            wait, pause = pause, min(2 * pause, _PAUSE[1])
        else:
            deadline = 0.0
        if leaving:
            time.sleep(wait)
        else:
            leaving = told_to_leave(wait)
            pause = _PAUSE[0] if leaving else pause


def main(arguments: list[str]) -> int:
    if len(arguments) not in (3, 4):
        print("usage: python -m automl.tracking.mlflow JOURNAL_URL STUDY STORE_URI [FOLDER]")
        return 2
    journal_url, study, store_uri = arguments[:3]
    folder = Path(arguments[3]) if len(arguments) == 4 else None
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    with contextlib.suppress(OSError):
        os.nice(10)
    _only_one(journal_url, study, folder)
    failure = run(journal_url, study, store_uri, folder)
    if failure:
        print(failure, file=sys.stderr)
    return 1 if failure else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
