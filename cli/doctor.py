"""`automl doctor`: is everything here that a study needs?"""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import typer

from automl.reports.numerals import counted

from .options import Runs
from .table import aligned

_DISTRIBUTION = "automl-service"
_FREE_GIB = 2  # checkpoints of a small study, and room to breathe
_MEMORY_GIB = 2  # two workers with torch loaded
_PYTHON = (3, 11)
_WIDE = 64  # columns of a finding's text


class Finding(NamedTuple):
    """One line: level is "ok", "warning" or "problem"; "" goes on from the line above."""

    level: str
    what: str
    text: str


def doctor(runs: Runs = Path("runs")) -> None:
    """Check what is installed and reachable.

    Exit code: 0 all is well, 1 there is a problem that stops a study.
    """
    from .quiet import quiet

    with quiet():
        findings = [
            *_python(),
            *_packages(),
            *_torch(),
            *_machine(),
            *_folder(runs),
            *_store(runs),
        ]
    typer.echo("\n".join(aligned(list(findings))))
    bad = [f for f in findings if f.level == "problem"]
    if bad:
        typer.echo(f"\n{len(bad)} to solve before a study can run: {bad[0].what}")
        raise typer.Exit(1)
    typer.echo("\nready: automl tune digits")


def _python() -> Iterator[Finding]:
    text = f"{platform.python_version()} at {sys.executable}"
    if sys.version_info < _PYTHON:
        yield Finding("problem", "python", f"{text}; 3.11 or newer is needed")
    else:
        yield Finding("ok", "python", text)


def _packages() -> Iterator[Finding]:
    """Versions that are installed, against those that the package asks for."""
    try:
        wanted = metadata.requires(_DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        yield Finding("problem", "automl", "not installed; pip install -e . in its folder")
        return
    good = []
    for line in wanted:
        if "extra ==" in line:
            continue
        found = re.match(r"([A-Za-z0-9._-]+)(?:>=([0-9.]+))?", line)
        assert found
        name, least = found[1], found[2] or "0"
        try:
            have = metadata.version(name)
        except metadata.PackageNotFoundError:
            yield Finding("problem", name, f"missing; pip install '{line}'")
            continue
        if _parts(have) < _parts(least):
            yield Finding("problem", name, f"{have} is older than {least}; pip install -U {name}")
        else:
            good.append(f"{name} {have}")
    for n, line in enumerate(textwrap.wrap(", ".join(good), _WIDE)):
        yield Finding("" if n else "ok", "" if n else "packages", line)


def _parts(version: str) -> tuple[int, ...]:
    return tuple(int(n) for n in re.findall(r"\d+", version.split("+")[0])[:3])


def _torch() -> Iterator[Finding]:
    try:
        import torch  # seconds; here it is what we ask about
    except Exception as error:
        yield Finding("problem", "torch", f"cannot be imported: {str(error).splitlines()[0]}")
        return
    if not torch.cuda.is_available():
        yield Finding(
            "ok", "device", f"cpu, {counted(torch.get_num_threads(), 'thread')}; no CUDA device"
        )
        return
    for i in range(torch.cuda.device_count()):
        device = torch.cuda.get_device_properties(i)
        memory = device.total_memory / 2**30
        yield Finding("ok", "device", f"cuda:{i} {device.name}, {memory:.0f} GiB")


def _machine() -> Iterator[Finding]:
    import psutil

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    yield Finding("ok", "cores", f"{cores}")
    free = psutil.virtual_memory().available / 2**30
    text = f"{free:.1f} GiB free"
    yield Finding("ok" if free >= _MEMORY_GIB else "warning", "memory", text)


def _folder(runs: Path) -> Iterator[Finding]:
    place = runs if runs.exists() else runs.absolute().parent
    while not place.exists():
        place = place.parent
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        yield Finding("problem", "folder", f"cannot write in {place}: {error.strerror}")
        return
    free = shutil.disk_usage(place).free / 2**30
    level = "ok" if free >= _FREE_GIB else "warning"
    yield Finding(level, "folder", f"{runs}: writable, {free:.1f} GiB free")


def _store(runs: Path) -> Iterator[Finding]:
    store = runs / "mlflow.db"
    if not store.exists():
        yield Finding("ok", "mlflow", f"no store in {runs} yet; the first study makes it")
        return
    import sqlite3

    try:
        with sqlite3.connect(f"file:{store}?mode=ro", uri=True) as connection:
            n = connection.execute("SELECT count(*) FROM runs").fetchone()[0]
    except sqlite3.Error as error:
        yield Finding("problem", "mlflow", f"{store}: {error}")
        return
    yield Finding("ok", "mlflow", f"{store}: {n:,} runs")
