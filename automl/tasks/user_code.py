"""The user's Python file as a module, and what it raises as one line with its place."""

from __future__ import annotations

import importlib.util
import inspect
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from automl.errors import TaskError


def load_module(path: Path) -> ModuleType:
    """The module of a file; its folder is on the path, as when Python runs it."""
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location(f"automl_task_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    with blame(path, 1, ""):
        spec.loader.exec_module(module)
    return module


@contextmanager
def blame(path: Path, line: int, what: str) -> Iterator[None]:
    """Turn what the user's code raises into one line with its place.

    The place is the deepest line of the user's file on the way to the error, else `line`.
    """
    try:
        yield
    except TaskError:
        raise
    except SyntaxError as error:
        raise TaskError(f"{path.name}:{error.lineno}: SyntaxError: {error.msg}") from None
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        frames = traceback.extract_tb(error.__traceback__)
        lines = [f.lineno for f in frames if f.filename == str(path) and f.lineno]
        text = " ".join(str(error).split())[:300]
        prefix = f"{what}: " if what and not lines else ""
        at = lines[-1] if lines else line
        raise TaskError(f"{path.name}:{at}: {prefix}{type(error).__name__}: {text}") from None


def line_of(thing: object) -> int:
    """Line on which something of the user's is defined; 1 when that cannot be told."""
    try:
        return inspect.getsourcelines(thing)[1]  # type: ignore[arg-type]
    except (TypeError, OSError):
        return 1
