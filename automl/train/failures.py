"""What went wrong in a trial: which class of failure, in one line, and whose line of code."""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from pathlib import Path

from automl.errors import AutomlError, CheckpointError, TaskError
from automl.records import Status

_OWN = Path(__file__).parent.parent  # frames in here are ours
_LINES = 8  # of the user's traceback that are kept
_LENGTH = 300  # of a message: some libraries print a whole tensor
_MEMORY = ("out of memory", "can't allocate memory", "defaultcpuallocator", "bad_alloc")


@dataclass(frozen=True)
class Failed:
    """A failure as a Report tells it."""

    status: Status
    message: str
    traceback: str = ""


def failure_of(error: BaseException) -> Failed:
    """The class of a failure and its one line.

    Out of memory wherever it was raised; the user's code when it passed through a file of the
    user's; a checkpoint that cannot be read or written is tried again; else a recipe that cannot
    be trained.
    """
    text = " ".join(str(error).split())[:_LENGTH]
    name = type(error).__name__
    if isinstance(error, MemoryError) or any(m in text.lower() for m in _MEMORY):
        return Failed(Status.OUT_OF_MEMORY, text or name)
    if isinstance(error, TaskError):
        return Failed(Status.USER_CODE, text)
    if isinstance(error, CheckpointError):
        return Failed(Status.LOST, text)  # no fault of the recipe: a store away, a full disk
    if isinstance(error, AutomlError):
        return Failed(Status.INVALID, text)
    told = f"{name}: {text}" if text else name
    frames = traceback.extract_tb(error.__traceback__)
    users = [frame for frame in frames if is_users(frame.filename)]
    if users:
        at = users[-1]
        # From the user's first line on, so that what a library says below it is seen too.
        below = frames[frames.index(users[0]) :]
        lines = [*"".join(traceback.format_list(below)).rstrip().splitlines(), told]
        place = f"{Path(at.filename).name}:{at.lineno}"
        return Failed(Status.USER_CODE, f"{told} ({place})", "\n".join(lines[-_LINES:]))
    if isinstance(error, SystemExit):
        return Failed(Status.USER_CODE, f"the user's code called sys.exit({error.code!r})")
    return Failed(Status.INVALID, f"{told} ({_place(frames)})" if frames else told)


def is_users(filename: str) -> bool:
    """Whether a file is neither ours, nor Python's, nor of an installed package."""
    path = Path(filename)
    installed = "site-packages" in path.parts or "dist-packages" in path.parts
    library = "lib" in path.parts and any(p.startswith("python3") for p in path.parts)
    return path.is_absolute() and not (path.is_relative_to(_OWN) or installed or library)


def _place(frames: traceback.StackSummary) -> str:
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno}"
