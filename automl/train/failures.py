"""What went wrong in a trial: which class of failure, in one line, and whose line of code."""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from pathlib import Path

from automl.errors import AutomlError, RecipeError, TaskError
from automl.records import Status
from automl.tasks.task import Task

_OWN = Path(__file__).parent.parent  # frames in here are ours, in site-packages a library's
_LAST = 8  # lines of the user's traceback that are kept
_MEMORY = ("out of memory", "can't allocate memory", "defaultcpuallocator")


@dataclass(frozen=True)
class Failed:
    """A failure as a Report tells it."""

    status: Status
    message: str
    traceback: str = ""


def failure_of(error: Exception, task: Task) -> Failed:
    """The class of a failure and its one line.

    Out of memory wherever it was raised; the user's code when it passed through a file of the
    user's; else a recipe that cannot be trained.
    """
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, MemoryError) or any(m in text.lower() for m in _MEMORY):
        return Failed(Status.OUT_OF_MEMORY, text[:200])
    if isinstance(error, TaskError):
        return Failed(Status.USER_CODE, text)
    if isinstance(error, RecipeError):
        return Failed(Status.INVALID, text)
    frames = [f for f in traceback.extract_tb(error.__traceback__) if _users(f.filename)]
    if frames:
        at = frames[-1]
        place = f"{Path(at.filename).name}:{at.lineno}"
        lines = "".join(traceback.format_list(frames)).splitlines()[-(_LAST - 1) :]
        shown = "\n".join([*lines, f"{type(error).__name__}: {text[:300]}"])
        return Failed(Status.USER_CODE, f"{place}: {type(error).__name__}: {text[:300]}", shown)
    kind = "" if isinstance(error, AutomlError) else f"{type(error).__name__}: "
    return Failed(Status.INVALID, f"{kind}{text[:300]}")


def _users(filename: str) -> bool:
    path = Path(filename)
    installed = "site-packages" in path.parts or "dist-packages" in path.parts
    library = "lib" in path.parts and any(p.startswith("python3") for p in path.parts)
    return path.is_absolute() and not (path.is_relative_to(_OWN) or installed or library)
