"""Archives of plain files: the same files give the same bytes, and nothing gets out of the folder.

A tar without owners, times or compression, in the order of names. What is unpacked may come from
anywhere: only regular files under relative names inside the folder are let in; an archive that
holds anything else is refused as a whole.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path

from automl.buckets import stays_inside
from automl.errors import CheckpointError
from automl.folders import take_place


def archive_of(files: Mapping[str, Path]) -> bytes:
    """Files by their name in the archive, as one tar; what may be executed stays so."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name in sorted(files):
            data = files[name].read_bytes()
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            entry.mode = 0o755 if os.access(files[name], os.X_OK) else 0o644
            archive.addfile(entry, io.BytesIO(data))
    return out.getvalue()


def digest_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def unpack(data: bytes, place: Path) -> None:
    """Make the folder `place` of an archive; it is whole or absent, and one that is there stays.

    Raises:
        CheckpointError: the archive holds something that must not be unpacked, or cannot be read.
        OSError: the disk cannot be written.
    """
    if place.is_dir():
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=".draft-", dir=place.parent))
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
            entries = archive.getmembers()
            _check(entries, len(data))
            for entry in entries:
                target = draft / entry.name
                target.parent.mkdir(parents=True, exist_ok=True)
                source = archive.extractfile(entry)
                assert source is not None  # a regular file
                with target.open("xb") as file:
                    shutil.copyfileobj(source, file)
                target.chmod(0o755 if entry.mode & 0o100 else 0o644)
        take_place(draft, place)
    except tarfile.TarError as error:
        raise CheckpointError(f"the archive cannot be read: {error}") from None
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _check(entries: list[tarfile.TarInfo], size: int) -> None:
    seen: set[str] = set()
    for entry in entries:
        if not stays_inside(entry.name):
            raise CheckpointError(f"the archive names '{entry.name}', outside of its folder")
        if not entry.isreg() or entry.issparse():
            raise CheckpointError(f"the archive holds '{entry.name}', which is no plain file")
        if entry.name in seen or any(str(p) in seen for p in Path(entry.name).parents):
            raise CheckpointError(f"the archive holds '{entry.name}' twice")
        seen.add(entry.name)
    if sum(entry.size for entry in entries) > size:
        raise CheckpointError("the archive says that it is larger than it is")
