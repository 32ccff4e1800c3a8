"""Deleting a study: also one that this version cannot read, or that was killed before it began.

Of a study that cannot be read all that its first event still tells is where else something of it
lies. Nobody deletes what another process runs: the lock of its journal says so.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from automl.errors import AutomlError, JournalError
from automl.study import lone_writer
from automl.study.journal import Journal, delete
from automl.study.preparing import saved_state


@dataclass(frozen=True, slots=True)
class Remains:
    """What is known of a study that is to be deleted."""

    trials: int | None  # None: it cannot be read
    place: str  # folder or URL of its checkpoints; "": the study's folder
    mlflow: str | None


def remains(name: str, *, runs: Path = Path("runs"), journal: str | None = None) -> Remains:
    """What there is to delete.

    Raises:
        StudyError: there is no such study.
        JournalError: the database at `journal` is not there, or is none.
    """
    try:
        state = saved_state(name, runs=runs, journal=journal)
    except AutomlError:
        file = runs / name / "journal.db"
        written = _first_config(journal or str(file), name)
        if written is None and (journal is not None or not file.exists()):
            raise
        written = written or {}
        return Remains(None, str(written.get("place") or ""), written.get("mlflow"))
    assert state.config is not None
    return Remains(len(state.trials), state.config.place, state.config.mlflow)


def remove(name: str, *, runs: Path = Path("runs"), journal: str | None = None) -> None:
    """Delete the journal's events and the folder of a study for good.

    Raises:
        JournalError: the study is being run.
    """
    folder = runs / name
    if journal is not None:
        delete(journal, name)
        if folder.exists():
            shutil.rmtree(folder)
        return
    lock = lone_writer.lock_file(folder / "journal.db", name)
    try:
        shutil.rmtree(folder)
    finally:
        os.close(lock)


def _first_config(url: str, name: str) -> dict[str, Any] | None:
    """The configuration as whoever began the study wrote it; None when it cannot be read."""
    try:
        with Journal(url, name) as reader:
            return next((dict(event.get("config", {})) for _, event in reader.events()), None)
    except JournalError:
        return None
