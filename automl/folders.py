"""Folders that appear whole or not at all, on a disk of this machine or a shared one.

A folder is written beside its place, brought to the disk and renamed. One that is there already is
exchanged for the new in one step, so that a reader finds the old or the new, whatever is killed
when. (Where the file system cannot exchange, some network disks, it is absent for an instant.)
"""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from automl.errors import CheckpointError

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # linux/fcntl.h, linux/fs.h


class Folders:
    """Folders by name, "17/400", below `root`."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def names(self, below: str) -> list[str]:
        """What lies directly below this name; drafts and what is being removed left out."""
        try:
            found = os.listdir(self._root / below)
        except (FileNotFoundError, NotADirectoryError):
            return []
        return [n for n in found if not n.startswith(".")]

    def exists(self, name: str) -> bool:
        return (self._root / name).is_dir()

    def place(self, name: str) -> str:
        """For messages."""
        return str(self._root / name)

    def folder(self, name: str) -> Path:
        """Where it lies, or would lie."""
        return self._root / name

    def read(self, name: str, file: str) -> bytes:
        """One file of it.

        Raises:
            OSError: it is not there.
        """
        return (self._root / name / file).read_bytes()

    def weight(self, name: str) -> tuple[int, float]:
        """Bytes, and when it was written (seconds since the epoch); (0, 0) when it is gone."""
        folder = self._root / name
        with suppress(OSError):
            size = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())
            return size, folder.stat().st_mtime
        return 0, 0.0

    @contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """A folder to fill; it takes its name when the block ends without an error.

        Raises:
            CheckpointError: the disk is full, or cannot be written.
        """
        place = self._root / name
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            draft = Path(tempfile.mkdtemp(prefix=".draft-", dir=place.parent))
        except OSError as error:
            raise CheckpointError(f"cannot write {place}: {error.strerror}") from None
        try:
            yield draft
            for path in (*draft.rglob("*"), draft):
                _sync(path)
            _publish(draft, place)
            _sync(place.parent)
        except OSError as error:
            raise CheckpointError(f"cannot write {place}: {error}") from None
        finally:
            shutil.rmtree(draft, ignore_errors=True)  # of an error, or what was there before

    def delete(self, name: str) -> None:
        """Remove it and all below; none there is fine."""
        try:
            remove(self._root / name, by=self._root)
        except OSError as error:
            raise CheckpointError(f"cannot remove {self.place(name)}: {error.strerror}") from None


def cache_folder(what: str) -> Path:
    """This user's folder for copies of what lies elsewhere: "code", "data".

    Raises:
        OSError: it cannot be made, or belongs to another user.
    """
    root = os.environ.get("AUTOML_CACHE") or os.environ.get("XDG_CACHE_HOME")
    if not root:
        home = Path("~").expanduser()
        root = str(home / ".cache") if os.access(home, os.W_OK) else tempfile.gettempdir()
    folder = Path(root).absolute() / f"automl-{os.getuid()}" / what
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if folder.parent.stat().st_uid != os.getuid():
        raise PermissionError(errno.EACCES, "belongs to another user", str(folder.parent))
    return folder


def take_place(draft: Path, place: Path) -> None:
    """Rename a folder to the place that its content has; one that is there holds the same."""
    try:
        draft.rename(place)
    except OSError:
        if not place.is_dir():
            raise


def remove(place: Path, *, by: Path) -> None:
    """Remove a folder, by way of the folder `by`; none there is fine.

    It is renamed first, so that nobody finds half of it under its name, whatever is killed when.

    Raises:
        OSError: it cannot be renamed.
    """
    doomed = by / f".gone-{uuid.uuid4().hex}"
    with suppress(FileNotFoundError):
        place.rename(doomed)
        shutil.rmtree(doomed, ignore_errors=True)


def leads_out(folder: Path) -> Path | None:
    """The first link in `folder` that leads out of it; None: it keeps to itself."""
    whole = folder.resolve()
    links = (p for p in sorted(folder.rglob("*")) if p.is_symlink())
    return next((p for p in links if not p.resolve().is_relative_to(whole)), None)


def _publish(draft: Path, place: Path) -> None:
    try:
        draft.rename(place)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        if not _exchanged(draft, place):
            aside = draft.with_name(f"{draft.name}-old")
            place.rename(aside)
            draft.rename(place)
            shutil.rmtree(aside, ignore_errors=True)


def _exchanged(a: Path, b: Path) -> bool:
    """Swap two folders in one step; False where that cannot be done."""
    swap = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if swap is None:
        return False
    done = swap(_AT_FDCWD, os.fsencode(a), _AT_FDCWD, os.fsencode(b), _RENAME_EXCHANGE)
    return bool(done == 0)


def _sync(path: Path) -> None:
    # Before the rename: a power cut otherwise leaves an empty file under a good name.
    if path.is_symlink():
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
