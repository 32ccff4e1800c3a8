"""The user's code as it travels: which files of a folder, and where they lie once unpacked.

Left out are what .gitignore or .automlignore say (of the folder, those below and, in a git
repository, those above), version control, caches, virtual environments and the studies' own
folder. A link to a file travels as that file; a link to a folder does not.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from automl.archives import archive_of, digest_of, unpack
from automl.errors import TaskError
from automl.folders import cache_folder, remove

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

MOST_BYTES = 20 * 2**20
_IGNORES = (".gitignore", ".automlignore")
_NEVER = {".git", ".hg", ".svn", "__pycache__", ".ipynb_checkpoints"}
_NAMED = 3  # of the largest files, where there is too much
_KEPT = 20  # snapshots in the cache


def snapshot(
    folder: Path, *, leave_out: Iterable[Path] = (), extra: Mapping[str, Path] | None = None
) -> bytes:
    """The archive of a folder's files, and of `extra` ones under the names given.

    Raises:
        TaskError: they are too large, or one cannot be read.
    """
    files = dict(_files(folder.resolve(), {p.resolve() for p in leave_out})) | dict(extra or {})
    try:
        sizes = {name: path.stat().st_size for name, path in files.items()}
        total = sum(sizes.values())
        if total > MOST_BYTES:
            large = [n for n in sizes if sizes[n] > total / 20] or list(sizes)
            largest = sorted(large, key=lambda n: -sizes[n])[:_NAMED]
            named = ", ".join(f"{n} ({_mib(sizes[n])})" for n in largest)
            raise TaskError(
                f"{folder}: {_mib(total)} would travel to the workers, of {_mib(MOST_BYTES)} at "
                f"most; the largest: {named}. Name what they do not need in {folder}/.automlignore"
            )
        return archive_of(files)
    except OSError as error:
        raise TaskError(f"{error.filename} cannot be sent to workers: {error.strerror}") from None


def unpacked(data: bytes) -> Path:
    """The folder of a snapshot in this user's cache, made if it is not there.

    Raises:
        CheckpointError: the archive must not be unpacked.
        OSError: the cache cannot be written.
    """
    place = cached(digest_of(data))
    unpack(data, place)
    _prune(place)
    return place


def cached(digest: str) -> Path:
    """Where the snapshot of this digest lies, or would lie."""
    return cache_folder("code") / digest


def _files(root: Path, left_out: set[Path]) -> Iterator[tuple[str, Path]]:
    """Names below `root`, and their paths."""
    from pathspec import GitIgnoreSpec  # only who sends code needs it

    rules: dict[Path, GitIgnoreSpec] = {}
    for above in _above(root):
        _read(above, rules, GitIgnoreSpec)
    for place, folders, files in os.walk(root):
        here = Path(place)
        _read(here, rules, GitIgnoreSpec)
        folders[:] = sorted(
            f
            for f in folders
            if f not in _NEVER
            and here / f not in left_out
            and not (here / f).is_symlink()
            and not (here / f / "pyvenv.cfg").exists()
            and not _ignored(here / f, rules, folder=True)
        )
        for name in sorted(files):
            path = here / name
            if path.is_file() and not _ignored(path, rules, folder=False):
                yield path.relative_to(root).as_posix(), path


def _above(root: Path) -> list[Path]:
    """Folders from the repository's top down to above `root`; none outside of a repository."""
    parents = list(root.parents)
    top = next((p for p in [root, *parents] if (p / ".git").exists()), None)
    return [] if top is None else [p for p in reversed(parents) if p.is_relative_to(top)]


def _read(folder: Path, rules: dict[Path, GitIgnoreSpec], kind: type[GitIgnoreSpec]) -> None:
    lines: list[str] = []
    for name in _IGNORES:
        if (folder / name).is_file():
            lines += (folder / name).read_text(errors="replace").splitlines()
    if lines:
        rules[folder] = kind.from_lines(lines)


def _ignored(path: Path, rules: dict[Path, GitIgnoreSpec], *, folder: bool) -> bool:
    """What the nearest file of rules says that says anything."""
    for parent in path.parents:
        if parent in rules:
            name = path.relative_to(parent).as_posix() + ("/" if folder else "")
            said = rules[parent].check_file(name).include
            if said is not None:
                return said
    return False


def _prune(used: Path) -> None:
    """Forget the snapshots that were not used for longest."""
    os.utime(used)
    there = []
    for place in used.parent.iterdir():
        with contextlib.suppress(FileNotFoundError):  # another process forgets them, too
            there += [] if place.name.startswith(".") else [(place.stat().st_mtime, place)]
    for _, old in sorted(there)[:-_KEPT]:
        with contextlib.suppress(OSError):
            remove(old, by=old.parent)


def _mib(size: int) -> str:
    return f"{size / 2**20:.1f} MiB"
