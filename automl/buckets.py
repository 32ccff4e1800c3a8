"""Folders that appear whole or not at all, in an object store: s3://, gs:// or what fsspec knows.

    BUCKET/17/400.json            the manifest: which objects, how large; written last, read first
    BUCKET/17/400.9f3c.../FILE    the objects, under a name that no other writer has

A bucket knows no rename, but the writing of one small object is whole or absent: that is the
manifest. Objects that no manifest names (of a writer that was killed) go with their trial.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
import uuid
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar
from urllib.parse import urlsplit

from automl.errors import CheckpointError
from automl.folders import leads_out

_MANIFEST = ".json"
T = TypeVar("T")


def is_url(place: str) -> bool:
    return "://" in place


def opened(url: str) -> tuple[Any, str]:
    """The file system behind a URL, and the path in it.

    Raises:
        CheckpointError: fsspec does not know the scheme, or its package is not installed.
    """
    import fsspec  # 50 ms: only for those who name a URL

    try:
        # Listings are not kept: other machines write there, too.
        fs, path = fsspec.core.url_to_fs(url, use_listings_cache=False)
    except ImportError as error:
        how = " (pip install 'automl-service[s3]')" if url.startswith("s3:") else ""
        raise CheckpointError(f"{hidden(url)}: {error}{how}") from None
    except Exception as error:
        raise CheckpointError(f"{hidden(url)} cannot be opened: {_said(error)}") from None
    return fs, path


def hidden(url: str) -> str:
    """The URL without what could be a secret: its password and its query."""
    if not is_url(url):
        return url
    parts = urlsplit(url)
    place = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{place}{parts.path}"


class Buckets:
    """Folders by name, "17/400", below a URL."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        self._fs, root = opened(self._url)
        self._root = root.rstrip("/")

    def names(self, below: str) -> list[str]:
        """What lies directly below this name."""
        entries = self._try(lambda: self._fs.ls(self._path(below), detail=False), absent=[])
        found = [PurePosixPath(str(e)).name for e in entries]
        return [n.removesuffix(_MANIFEST) for n in found if "." not in n.removesuffix(_MANIFEST)]

    def exists(self, name: str) -> bool:
        return bool(self._try(lambda: self._fs.exists(self._path(name) + _MANIFEST), absent=False))

    def place(self, name: str) -> str:
        """For messages."""
        return f"{hidden(self._url)}/{name}"

    def folder(self, name: str) -> Path:
        """A copy on this machine's disk, for as long as this object lives; it may not exist."""
        manifest = self._manifest(name)
        if manifest is None:
            return self._cache / name / "absent"
        place = self._cache / str(manifest["at"])
        if place.is_dir():
            return place
        draft = Path(tempfile.mkdtemp(dir=self._cache))
        for file, size in manifest["files"].items():
            target = draft / file
            target.parent.mkdir(parents=True, exist_ok=True)
            source = f"{self._path(name)}.{manifest['at']}/{file}"
            self._try(lambda s=source, t=target: self._fs.get_file(s, str(t)))  # type: ignore[misc]
            if target.stat().st_size != size:
                raise CheckpointError(f"{self.place(name)}/{file}: {size} bytes were written there")
        draft.rename(place)
        return place

    def read(self, name: str, file: str) -> bytes:
        """One file of it.

        Raises:
            OSError: it is not there.
        """
        manifest = self._manifest(name)
        if manifest is None or file not in manifest["files"]:
            raise FileNotFoundError(f"no {file}")
        path = f"{self._path(name)}.{manifest['at']}/{file}"
        return bytes(self._try(lambda: self._fs.cat_file(path)))

    def weight(self, name: str) -> tuple[int, float]:
        """Bytes, and when it was written (seconds since the epoch); (0, 0) when it is gone."""
        manifest = self._manifest(name)
        if manifest is None:
            return 0, 0.0
        return sum(manifest["files"].values()), float(manifest["written"])

    @contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """A folder to fill; what is in it is published when the block ends without an error.

        Raises:
            CheckpointError: the store cannot be written.
        """
        draft = Path(tempfile.mkdtemp(prefix="automl-draft-"))
        try:
            yield draft
            self._publish(name, draft)
        finally:
            shutil.rmtree(draft, ignore_errors=True)

    def delete(self, name: str) -> None:
        """Remove it and all below; none there is fine."""
        before = self._manifest(name)
        if before is None:
            self._try(lambda: self._fs.rm(self._path(name), recursive=True), absent=None)
            return
        self._try(lambda: self._fs.rm_file(self._path(name) + _MANIFEST), absent=None)
        self._forget(name, before)

    # ----------------------------------------------------------------------------------------

    def _publish(self, name: str, draft: Path) -> None:
        link = leads_out(draft)
        if link is not None:
            raise CheckpointError(f"{link.name} in a checkpoint is a link that leads out of it")
        before = self._manifest(name)
        at = uuid.uuid4().hex
        files = {}
        for path in sorted(p for p in draft.rglob("*") if p.is_file()):
            file = path.relative_to(draft).as_posix()
            target = f"{self._path(name)}.{at}/{file}"
            self._try(lambda p=path, t=target: self._fs.put_file(str(p), t))  # type: ignore[misc]
            files[file] = path.stat().st_size
        manifest = {"at": at, "written": time.time(), "files": files}
        text = json.dumps(manifest).encode()
        self._try(lambda: self._fs.pipe_file(self._path(name) + _MANIFEST, text))
        if before is not None:
            self._forget(name, before)

    def _manifest(self, name: str) -> dict[str, Any] | None:
        """What the checkpoint consists of; None: there is none.

        Raises:
            CheckpointError: it names a file outside of its folder.
        """
        data = self._try(lambda: self._fs.cat_file(self._path(name) + _MANIFEST), absent=None)
        if data is None:
            return None
        try:
            found: dict[str, Any] = json.loads(data)
            names = [str(found["at"]), *found["files"]]
        except (ValueError, KeyError, TypeError):
            raise CheckpointError(f"{self.place(name)}{_MANIFEST} is no manifest") from None
        for file in names:
            if not stays_inside(file):
                raise CheckpointError(f"{self.place(name)} names '{file}', outside of its folder")
        return found

    def _forget(self, name: str, manifest: dict[str, Any]) -> None:
        path = f"{self._path(name)}.{manifest['at']}"
        self._try(lambda: self._fs.rm(path, recursive=True), absent=None)

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}" if name else self._root

    @cached_property
    def _cache(self) -> Path:
        made = Path(tempfile.mkdtemp(prefix="automl-fetched-"))
        weakref.finalize(self, shutil.rmtree, made, ignore_errors=True)
        return made

    def _try(self, call: Callable[[], T], **absent: Any) -> T | Any:
        """What the store answers; `absent` where it holds no such thing.

        Raises:
            CheckpointError: in one line, what went wrong.
        """
        try:
            return call()
        except FileNotFoundError as error:
            if "absent" in absent:
                return absent["absent"]
            raise CheckpointError(f"{hidden(self._url)} lacks {_said(error)}") from None
        except Exception as error:  # each store has errors of its own
            raise CheckpointError(f"{hidden(self._url)}: {_said(error)}") from None


def stays_inside(name: str) -> bool:
    """Whether a relative path names something below the folder that it is relative to."""
    parts = PurePosixPath(name).parts
    plain = bool(parts) and "\\" not in name and "\0" not in name
    return plain and not name.startswith("/") and ".." not in parts


def _said(error: Exception) -> str:
    with suppress(Exception):
        text = " ".join(str(error).split())[:200]
        return text or type(error).__name__
    return type(error).__name__
