"""Data behind a URL: fetched once, kept in this user's cache, fetched again when they changed.

A file (https://host/table.csv, s3://bucket/table.csv) or a folder (s3://bucket/images). Whether
they changed is asked of the server each time: their size, and the mark or date that it gives them.
One that gives neither is asked for the data themselves.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from automl.buckets import hidden, opened, stays_inside
from automl.errors import AutomlError, TaskError
from automl.folders import cache_folder, take_place

_MARKS = ("ETag", "etag", "Content-MD5", "Digest", "md5Hash", "mtime", "created", "LastModified")


def fetched(url: str) -> Path:
    """The file or folder behind `url` on this machine's disk, under its own name.

    Raises:
        TaskError: it is not there, cannot be read, or is code.
    """
    parts = urlsplit(url)
    name = PurePosixPath(parts.path).name
    if parts.scheme == "file":
        return Path(parts.path)
    if "@" in parts.netloc:
        raise TaskError(f"{hidden(url)}: no password in a URL; give it by the environment")
    if name.endswith(".py"):
        raise TaskError(f"{hidden(url)}: a task file is code and is not fetched; give a local file")
    try:
        fs, path = opened(url)
        info = fs.info(path)
        files = _below(fs, path) if info["type"] == "directory" else {"": info}
        if not files:
            raise TaskError(f"{hidden(url)} holds no file")
        return _kept(fs, url, files, name or parts.netloc)
    except AutomlError as error:
        raise TaskError(str(error)) from None
    except FileNotFoundError:
        raise TaskError(f"{hidden(url)}: there is nothing") from None
    except Exception as error:  # each server has errors of its own
        text = " ".join(str(error).split())[:200] or type(error).__name__
        raise TaskError(f"{hidden(url)} cannot be read: {text}") from None


def _below(fs: Any, path: str) -> dict[str, Mapping[str, Any]]:
    """Files of a folder by their name in it."""
    root = path.rstrip("/")
    found: dict[str, Mapping[str, Any]] = {}
    for place, info in fs.find(root, detail=True).items():
        name = str(place).removeprefix(root).lstrip("/")
        if not stays_inside(name):
            raise TaskError(f"'{place}' lies outside of its folder")
        found[name] = info
    return found


def _kept(fs: Any, url: str, files: Mapping[str, Mapping[str, Any]], name: str) -> Path:
    told = {file: {k: str(i[k]) for k in ("size", *_MARKS) if k in i} for file, i in files.items()}
    known = all(set(marks) - {"size"} for marks in told.values())
    place = _place([url, told])
    if known and place.is_dir():
        return place / name
    draft = Path(tempfile.mkdtemp(prefix=".draft-", dir=place.parent))
    try:
        for file, info in files.items():
            target = draft / name / file if file else draft / name
            target.parent.mkdir(parents=True, exist_ok=True)
            fs.get_file(info["name"], str(target))
        if not known:
            place = _place([url, [_digest(draft / name / file) for file in sorted(files)]])
        take_place(draft, place)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return place / name


def _place(key: object) -> Path:
    text = json.dumps(key, sort_keys=True)
    return cache_folder("data") / hashlib.sha256(text.encode()).hexdigest()[:32]


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
