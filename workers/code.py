"""What a worker lets in: orders of drivers that hold its key, and the code that they sent.

A snapshot is fetched once, checked against its digest and kept unpacked in this user's cache.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from automl.archives import digest_of
from automl.buckets import hidden
from automl.errors import CheckpointError, ExecutorError
from automl.objects import get
from automl.records import Pack
from automl.signing import is_signed, shared_key, unsigned
from automl.snapshots import MOST_BYTES, cached, unpacked

CHECKPOINTS = "AUTOML_CHECKPOINTS"  # where this worker finds what the driver has elsewhere
_TAR_BYTES = 2 * MOST_BYTES + 2**20  # of an archive at most: small files take a block and a header


_seen: set[str] = set()  # stores that are there
_last: dict[str, Path] = {}  # the code that was used last, by the store that it came from


@dataclass(frozen=True)
class Admitted:
    """An order that may be trained, and the folder of the code that it needs."""

    pack: Pack
    folder: Path | None


def admit(task: Mapping[str, Any], order: Mapping[str, Any]) -> Admitted:
    """Check an order and fetch what it needs.

    Raises:
        ExecutorError: it is not to be trained here, in one line.
        CheckpointError: the store cannot be reached now.
    """
    key = shared_key()
    for what, message in (("study", task), ("order", order)):
        if not is_signed(message, key):
            found = "is not signed" if "signature" not in message else "is signed by another key"
            raise ExecutorError(
                f"the {what} {found}; give its driver this worker's key (AUTOML_KEY_FILE)"
            )
    pack, place = Pack.from_json(unsigned(order)), str(task.get("place", ""))
    if not place:
        return Admitted(pack, None)
    own = os.environ.get(CHECKPOINTS)
    if own:
        place = f"{own.rstrip('/')}/{Path(place).name}"
    if not _sees(place):
        raise ExecutorError(
            f"no checkpoints of this study in {hidden(place)} here; give the driver --checkpoints "
            "PLACE that all machines reach, or this worker its own address of it"
        )
    pack = replace(pack, checkpoints=f"{place}/checkpoints")
    digest = str(task.get("snapshot", ""))
    if not digest:
        return Admitted(pack, None)
    last = _last.get(place)
    if last is None or last.name != digest or not os.path.isdir(last):
        last = _last[place] = _code(place, digest)
    return Admitted(pack, last)


def _sees(place: str) -> bool:
    """Whether the store is there; one that was seen and is gone is for training to find out."""
    if place not in _seen and get(place, "checkpoints/.here") is not None:
        _seen.add(place)
    return place in _seen


def _code(place: str, digest: str) -> Path:
    """The folder of a snapshot, fetched if this user has not got it."""
    if not digest.isalnum():
        raise ExecutorError(f"'{digest}' is no digest of a snapshot")
    there = cached(digest)
    if there.is_dir():
        return there
    data = get(place, f"code/{digest}.tar", most=_TAR_BYTES)
    if data is None:
        raise ExecutorError(f"no code {digest[:12]} of this study in {hidden(place)}")
    if digest_of(data) != digest:
        raise ExecutorError(f"the code {digest[:12]} in {hidden(place)} is not what was sent")
    try:
        return unpacked(data)
    except CheckpointError as error:  # it was not the store's fault
        raise ExecutorError(str(error)) from None
