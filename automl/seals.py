"""Seals of checkpoints: a worker that holds a key loads only what workers with that key wrote.

    study's key = HMAC-SHA256(shared key, "checkpoints of STUDY")
    seal        = HMAC-SHA256(study's key, JSON of ["TRIAL/STEP", {file: SHA-256}])

The process that trains gets its study's key alone, never the shared one. It runs the user's code,
which writes these checkpoints anyway. A seal names its place, so a checkpoint cannot be put where
another was; an older one of the same trial and step can.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from pathlib import Path

from automl.errors import CheckpointError

_FILE = "seal"


def study_key(key: bytes | None, study: str) -> bytes | None:
    """The key for the checkpoints of one study; without a key none."""
    if key is None:
        return None
    return hmac.new(key, f"checkpoints of {study}".encode(), hashlib.sha256).digest()


def seal(folder: Path, name: str, key: bytes) -> None:
    """Seal all files of a folder that is the checkpoint `name`."""
    (folder / _FILE).write_text(_of(folder, name, key))


def check(folder: Path, name: str, key: bytes) -> None:
    """See whether a checkpoint is as it was sealed.

    Raises:
        CheckpointError: it is not.
    """
    try:
        given = (folder / _FILE).read_bytes()
    except OSError:
        raise CheckpointError(
            f"checkpoint {folder} has no seal: it was written by a worker without a key"
        ) from None
    if not hmac.compare_digest(given, _of(folder, name, key).encode()):
        raise CheckpointError(
            f"checkpoint {folder} is not what this study's workers wrote: its seal does not fit"
        )


def _of(folder: Path, name: str, key: bytes) -> str:
    digests = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path != folder / _FILE:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            digests[path.relative_to(folder).as_posix()] = digest
    text = json.dumps([name, digests], sort_keys=True)
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
