"""What an exception becomes on the screen: one line for what we foresaw, few for the rest."""

from __future__ import annotations

import tempfile
import traceback
from pathlib import Path

from automl.errors import AutomlError

_LIBRARY = Path(__file__).resolve().parent.parent


def explain(error: Exception) -> tuple[str, int]:
    """The text for stderr, without a traceback, and the exit code."""
    if isinstance(error, AutomlError):
        return " ".join(str(error).split()), 2
    if isinstance(error, OSError) and error.strerror:
        place = f"{error.filename}: " if error.filename else ""
        return f"{place}{error.strerror[:1].lower()}{error.strerror[1:]}", 2
    frames = traceback.extract_tb(error.__traceback__)
    ours = [f for f in frames if Path(f.filename).is_relative_to(_LIBRARY)] or frames
    where = f" at {Path(ours[-1].filename).name}:{ours[-1].lineno}" if ours else ""
    lines = [
        f"automl: an error of its own: {type(error).__name__}: {_first_line(error)}{where}",
        "This should not happen. What is trained so far is kept: `automl ls` shows the studies.",
    ]
    log = _log(error)
    if log:
        lines.append(f"Everything about it: {log}")
    return "\n".join(lines), 1


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else "(no message)"


def _log(error: Exception) -> Path | None:
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="automl-error-", suffix=".log", delete=False
        ) as file:
            file.writelines(traceback.format_exception(error))
    except OSError:  # a full disk must not hide the error itself
        return None
    return Path(file.name)
