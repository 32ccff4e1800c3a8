"""Everything a study leaves in its folder for people, written from its State.

    best.toml          the recipe to keep                      recipe_file.py
    best.safetensors   the weights of its best fresh-seed run
    train_best.py      a script that trains it without automl   train_script.py
    report.html        the study on one page                    page.py
    trials.csv, trials.parquet
    arch.svg           what a supernet found                    architecture.py
    pareto.svg         several objectives, or constraints       front_plots.py

Each file is whole or absent: written beside its place, then renamed. What a study cannot give yet
(no finished trial, no checkpoint) is left out, and an older one of the name is removed.
"""

from __future__ import annotations

import json
import os
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from automl.checkpoints import TENSORS, Store
from automl.errors import StudyError
from automl.reports import architecture, front_plots, page, recipe_file, tables, train_script
from automl.study.state import State

_PREFIX = "model/"


def write_all(state: State, folder: str | Path) -> list[Path]:
    """Write every file that the study can give by now; their paths, best.toml first.

    Raises:
        StudyError: the folder cannot be written.
    """
    place = Path(folder)
    found = recipe_file.of_state(state)
    makers: dict[str, Callable[[], bytes | None]] = {
        "best.toml": lambda: recipe_file.write_text(found).encode() if found else None,
        "best.safetensors": lambda: _weights(state, place),
        "train_best.py": lambda: _script(state, found),
        "report.html": lambda: page.render(state).encode() if state.config else None,
        "trials.csv": lambda: _csv(state),
        "trials.parquet": lambda: _parquet(state),
        architecture.FILE: lambda: architecture.picture(state).encode() or None,
        "pareto.svg": lambda: front_plots.pareto(state).encode() or None if state.config else None,
    }
    written = []
    for name, make in makers.items():
        content = make()
        if content is None:
            _remove(place / name)
        else:
            write_file(place / name, content)
            written.append(place / name)
    return written


def _script(state: State, found: recipe_file.RecipeFile | None) -> bytes | None:
    if found is None or state.config is None:
        return None
    text = train_script.write_text(found, state.config.card)
    return text.encode() if text else None


def _weights(state: State, folder: Path) -> bytes | None:
    """The kept recipe's best run as safetensors, names as in the plain module's state_dict."""
    verdict = tables.verdict_of(state)
    standing = verdict.standing(verdict.keep)
    trial = tables.best_run(state, standing) if standing else None
    if trial is None:
        return None
    assert state.config is not None
    store = Store(f"{state.config.place or folder}/checkpoints")
    steps = [s for s in store.steps(trial.number) if s == trial.reached]
    path = store.folder(trial.number, steps[-1]) / TENSORS if steps else None
    return without_training_state(path.read_bytes()) if path and path.is_file() else None


def without_training_state(data: bytes) -> bytes | None:
    """A safetensors file of the "model/..." tensors alone, without that prefix.

    The bytes are moved, not read: any dtype, and neither torch nor numpy is needed. A file is
    the header's length (u64), the header (JSON: name -> dtype, shape, data_offsets), the data.

    Returns:
        None when the file holds no such tensor.
    """
    (length,) = struct.unpack("<Q", data[:8])
    header: dict[str, Any] = json.loads(data[8 : 8 + length])
    body = memoryview(data)[8 + length :]
    kept: dict[str, Any] = {}
    parts: list[memoryview] = []
    end = 0
    for name, entry in header.items():
        if name.startswith(_PREFIX):
            part = body[slice(*entry["data_offsets"])]
            kept[name.removeprefix(_PREFIX)] = {**entry, "data_offsets": [end, end + len(part)]}
            parts.append(part)
            end += len(part)
    if not kept:
        return None
    text = json.dumps(kept, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the format wants the data aligned
    return b"".join([struct.pack("<Q", len(text)), text, *parts])


def _csv(state: State) -> bytes | None:
    rows = tables.trials_rows(state)
    if not rows:
        return None
    import csv
    import io

    columns = list(dict.fromkeys(name for row in rows for name in row))
    target = io.StringIO(newline="")
    writer = csv.DictWriter(target, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return target.getvalue().encode()


def _parquet(state: State) -> bytes | None:
    rows = tables.trials_rows(state)
    if not rows:
        return None
    import io

    import pyarrow.parquet  # only who exports pays it

    columns = list(dict.fromkeys(name for row in rows for name in row))
    table = pyarrow.table({c: _column([row.get(c) for row in rows]) for c in columns})
    target = io.BytesIO()
    pyarrow.parquet.write_table(table, target)
    return target.getvalue()


def _column(values: list[Any]) -> list[Any]:
    """Parquet's columns have one type: numbers mixed with words become words."""
    kinds = {type(v) for v in values if v is not None}
    if kinds <= {int, float} or len(kinds) <= 1:
        return values
    return [None if v is None else str(v) for v in values]


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise StudyError(f"cannot write {path}: {error.strerror}") from None


def write_file(path: Path, content: bytes) -> None:
    """Put `content` at `path`, whole or not at all.

    Raises:
        StudyError: it cannot be written.
    """
    try:
        _write(path, content)
    except OSError as error:
        raise StudyError(f"cannot write {path}: {error.strerror}") from None


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, draft = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(draft, 0o666 & ~umask)  # mkstemp's files are for their owner alone
        os.replace(draft, path)
    except BaseException:
        Path(draft).unlink(missing_ok=True)
        raise
