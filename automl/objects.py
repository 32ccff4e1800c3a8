"""Single files by name, whole or absent, in a folder or behind a URL."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

from automl.buckets import hidden, is_url, opened
from automl.errors import CheckpointError


def checked_place(text: str, option: str) -> str:
    """A folder, made absolute, or a URL, as typed after an option.

    Raises:
        CheckpointError: fsspec does not know the URL, or a secret stands in it.
    """
    if not is_url(text) or text.startswith("file://"):
        return str(Path(text.removeprefix("file://")).absolute())
    parts = urlsplit(text)
    if "@" in parts.netloc or parts.query:
        raise CheckpointError(
            f"{option} {hidden(text)}: a secret in it would end in logs; give credentials by the "
            "environment (AWS_ACCESS_KEY_ID ..., GOOGLE_APPLICATION_CREDENTIALS)"
        )
    opened(text)
    return text.rstrip("/")


def put(place: str, name: str, data: bytes) -> None:
    """Write a file.

    Raises:
        CheckpointError: the place cannot be written.
    """
    if is_url(place):
        fs, root = opened(place)
        try:
            fs.pipe_file(f"{root.rstrip('/')}/{name}", data)
        except Exception as error:  # each store has errors of its own
            raise CheckpointError(f"cannot write {hidden(place)}/{name}: {error}") from None
        return
    target = Path(place) / name
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, draft = tempfile.mkstemp(prefix=".draft-", dir=target.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(draft).rename(target)
    except OSError as error:
        raise CheckpointError(f"cannot write {target}: {error.strerror}") from None


def get(place: str, name: str, *, most: int | None = None) -> bytes | None:
    """A file's content, of which no more than `most` bytes are read; None: there is none.

    Raises:
        CheckpointError: the place cannot be reached.
    """
    try:
        if is_url(place):
            fs, root = opened(place)
            return bytes(fs.cat_file(f"{root.rstrip('/')}/{name}", end=most))
        with (Path(place) / name).open("rb") as file:
            return file.read(-1 if most is None else most)
    except FileNotFoundError:
        return None
    except CheckpointError:
        raise
    except Exception as error:
        raise CheckpointError(f"cannot read {hidden(place)}/{name}: {error}") from None


def remove(place: str) -> None:
    """Remove all below a place; none there is fine.

    Raises:
        CheckpointError: it cannot be reached.
    """
    if not is_url(place):
        shutil.rmtree(place, ignore_errors=True)
        return
    fs, root = opened(place)
    try:
        fs.rm(root, recursive=True)
    except FileNotFoundError:
        return
    except Exception as error:
        raise CheckpointError(f"cannot remove {hidden(place)}: {error}") from None
