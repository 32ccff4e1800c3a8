"""Tables: CSV, TSV or Parquet with a target column, as one float vector a row.

What the columns are is found from their values. Numbers: missing and infinite ones become the
median, with an indicator beside them, then all are standardized. Everything else is a category:
one-hot, rare ones pooled, missing a category of its own. Constant columns, row numbers and free
text are left out and named. Medians, categories and scales come from the training split alone.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from automl.errors import TaskError
from automl.methods.stages import Shape
from automl.records import TaskSpec
from automl.registry import nearest
from automl.tasks.fitting import Found, model_task, split_indices
from automl.tasks.metrics import METRICS, Metric
from automl.tasks.task import Evaluate, ModelTask, Split

SUFFIXES = (".csv", ".tsv", ".tab", ".parquet", ".pq")
_LEAST_ROWS = 20
_MOST_CLASSES = 20  # distinct whole numbers of a target that still count as classes
_MOST_LEVELS = 32  # categories of a column that get a feature of their own
_MOSTLY = 0.95  # share of texts that must read as numbers or dates for a column to be that
_RARE = 0.2  # of an equal share: a class below is named as rare
_SEEN = (40_000, 1_000_000)  # samples in a full training, at least and at most
_EPOCHS = 20


@dataclass(frozen=True)
class Table:
    """A table read: float32 rows x [n, d] by split, and what was found on the way."""

    splits: dict[str, Split]
    classes: tuple[str, ...]  # empty: regression
    mean: float = 0.0  # of the training targets; y is standardized
    std: float = 1.0
    rows: int = 0
    notes: list[str] = field(default_factory=list)


def open_table(spec: TaskSpec) -> ModelTask:
    """The task of predicting `spec.target` from the other columns.

    Raises:
        TaskError: the file cannot be read, or its target cannot be learned.
    """
    path = Path(spec.source)
    table = load_table(path, spec.target, metric=spec.metric)
    train = table.splits["train"]
    assert train.x is not None
    width, classes = train.x.shape[1], table.classes
    goal = f"{len(classes)} classes" if classes else f"regression of {spec.target}"
    rare = _rarest(table)
    seen = min(max(_EPOCHS * len(train), _SEEN[0]), _SEEN[1])
    found = Found(
        name=path.name.split(".")[0],
        shape=Shape("vector", (width,), len(classes) or 1, "classes" if classes else "values"),
        splits=table.splits,
        about="; ".join(
            [
                f"{table.rows:,} rows, {width} feature{'s' * (width > 1)}, {goal}",
                *table.notes,
                *rare,
            ]
        ),
        space="table",
        epochs=seen / len(train),
        classes=classes,
    )
    return model_task(spec, found, evaluate=None if classes else _in_units(table.mean, table.std))


def _rarest(table: Table) -> list[str]:
    """A note where guessing the frequent classes alone would look good."""
    y = table.splits["train"].y
    if not table.classes or y is None:
        return []
    shares = torch.bincount(y, minlength=len(table.classes)) / len(y)
    least = int(shares.argmin())
    if shares[least] >= _RARE / len(table.classes):
        return []
    return [
        f"class '{table.classes[least]}' has {shares[least]:.2g} of the rows: "
        "think of --metric balanced_accuracy"
    ]


def _in_units(mean: float, std: float) -> Callable[[Metric], Evaluate]:
    """Metrics of standardized outputs and targets, in the target's own unit."""

    def for_metric(metric: Metric) -> Evaluate:
        if metric.name == "loss":
            return lambda o, t: {"loss": metric.value(o, t)}
        return lambda o, t: {
            metric.name: metric.value(o.double() * std + mean, t.double() * std + mean)
        }

    return for_metric


def load_table(path: Path, target: str | None, *, metric: str | None = None) -> Table:
    """Read, split and encode a table. `metric` decides where a target could be either kind."""
    frame = read_frame(path)
    name = path.name
    if not target:
        raise TaskError(f"{name}: which column is to be predicted? {_columns(frame, '--target ')}")
    if target not in frame.columns:
        raise TaskError(
            f"{name} has no column '{target}'{nearest(target, map(str, frame.columns))}; "
            f"columns: {_columns(frame)}"
        )
    frame, notes = _with_target(frame, target, name)
    values, classes = _target(frame.pop(target), metric, f"{name}, target '{target}'")
    rows = split_indices(torch.from_numpy(values))
    x, found = _features(frame, rows[0].numpy())
    if x.shape[1] == 0:
        raise TaskError(f"{name}: no column is left to learn from; {'; '.join(found)}")
    y, mean, std = torch.from_numpy(values), 0.0, 1.0
    if not classes:
        mean, std = float(y[rows[0]].mean()), float(y[rows[0]].std()) or 1.0
        y = ((y - mean) / std).float().unsqueeze(1)
    features = torch.from_numpy(x)
    splits = {
        split: Split(features[i], y[i])
        for split, i in zip(("train", "valid", "test"), rows, strict=True)
    }
    return Table(splits, classes, mean, std, len(frame), notes + found)


def read_frame(path: Path) -> Any:
    """The file as a pandas DataFrame with at least one row.

    Raises:
        TaskError: missing, empty, or not what its suffix says.
    """
    import pandas as pd  # half a second to import, needed by this kind of task only

    name = path.name
    try:
        if path.suffix.lower() in (".parquet", ".pq"):
            frame = pd.read_parquet(path)
        else:
            frame = pd.read_csv(
                path, sep=_separator(path), na_values=["?"], skipinitialspace=True, low_memory=False
            )
    except pd.errors.EmptyDataError:
        raise TaskError(f"{name} is empty; a header line and rows were expected") from None
    except UnicodeDecodeError as error:
        raise TaskError(f"{name}: not UTF-8 text at byte {error.start}; save it as UTF-8") from None
    except OSError as error:
        raise TaskError(f"{name}: {error.strerror or _line(error)}") from None
    except ValueError as error:  # pandas' ParserError and Arrow's ArrowInvalid among them
        if ragged := re.search(r"Expected (\d+) fields in line (\d+), saw (\d+)", str(error)):
            cells, line, found = ragged.groups()
            raise TaskError(f"{name}:{line}: {found} cells, where {cells} were expected") from None
        raise TaskError(f"{name}: cannot be read: {_line(error)}") from None
    if len(frame) == 0:
        raise TaskError(f"{name} holds a header, but no rows")
    frame.columns = [str(c).strip() for c in frame.columns]
    return frame


def _separator(path: Path) -> str:
    if path.suffix.lower() in (".tsv", ".tab"):
        return "\t"
    with path.open(encoding="utf-8", errors="replace") as file:
        header = file.readline()
    return max((",", ";", "\t"), key=header.count)  # the comma where none occurs


def _with_target(frame: Any, target: str, name: str) -> tuple[Any, list[str]]:
    """The rows whose target is known."""
    import pandas as pd

    column = frame[target]
    if not _is_frame_column(column):
        raise TaskError(f"{name} has several columns '{target}'")
    known = column.notna()
    if pd.api.types.is_float_dtype(column.dtype):
        known &= np.isfinite(column.fillna(np.nan).to_numpy(dtype=float))
    count = int(known.sum())
    if count == 0:
        raise TaskError(f"{name}: the target '{target}' is missing in every row")
    if count < _LEAST_ROWS:
        raise TaskError(
            f"{name}: {count} rows with a target '{target}'; at least {_LEAST_ROWS} are needed"
        )
    gone = len(frame) - count
    notes = [f"{gone:,} rows without a target left out"] if gone else []
    return frame[known].reset_index(drop=True), notes


def _target(column: Any, metric: str | None, place: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """Class numbers int64 [n] with the classes' names, or numbers float64 [n] without."""
    import pandas as pd

    numbers = None if pd.api.types.is_bool_dtype(column.dtype) else _numbers(column, share=1.0)
    distinct = sorted(column.unique(), key=str) if numbers is None else sorted(np.unique(numbers))
    if len(distinct) < 2:
        only = distinct[0] if numbers is None else f"{distinct[0]:g}"
        raise TaskError(f"{place}: every row has the same value, {only}; at least two are needed")
    if numbers is not None:
        fits = METRICS[metric].targets if metric in METRICS else ()
        whole = bool((numbers == np.round(numbers)).all())
        few = whole and len(distinct) <= min(_MOST_CLASSES, len(numbers) // 5)
        if not few or fits == ("values",):
            return numbers.astype(np.float64), ()
        column = numbers.astype(np.int64)
    elif len(distinct) > max(len(column) // 4, 2):
        raise TaskError(
            f"{place}: {len(distinct):,} different texts in {len(column):,} rows; a class needs "
            "several rows each"
        )
    codes, names = pd.factorize(pd.Series(column), sort=True)
    return codes.astype(np.int64), tuple(str(n) for n in names)


# Features -----------------------------------------------------------------------------------


def _features(frame: Any, train: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Rows x float32 [n, d], and notes on what the columns were taken for."""
    parts, kinds, dropped = [], {"number": 0, "category": 0}, []
    for name in dict.fromkeys(frame.columns):
        column = frame[name]
        if not _is_frame_column(column):
            dropped.append(f"{name} (twice)")
            continue
        numbers, reason = _kind(name, column)
        if reason:
            dropped.append(f"{name} ({reason})")
            continue
        part = _scaled(numbers, train) if numbers is not None else _one_hot(column, train)
        if part.shape[1] == 0:
            dropped.append(f"{name} (constant)")
            continue
        kinds["category" if numbers is None else "number"] += 1
        parts.append(part)
    plural = {"number": "numbers", "category": "categories"}
    found = [f"{n} {kind if n == 1 else plural[kind]}" for kind, n in kinds.items() if n]
    notes = [" and ".join(found)] if found else []
    if dropped:
        notes.append(f"left out: {', '.join(dropped[:8])}{' ...' if len(dropped) > 8 else ''}")
    x = np.concatenate(parts, axis=1) if parts else np.zeros((len(frame), 0), np.float32)
    return x, notes


def _kind(name: str, column: Any) -> tuple[np.ndarray | None, str]:
    """The column as numbers, or None for a category; and why to leave it out, if so."""
    import pandas as pd

    known = column.dropna()
    try:
        distinct = known.nunique()
    except TypeError:  # lists and the like, from Parquet
        return None, "neither number nor category"
    if distinct <= 1 and len(known) == len(column):
        return None, "constant"
    if distinct == 0:
        return None, "empty"
    if pd.api.types.is_bool_dtype(column.dtype):
        return None, ""
    numbers = _numbers(column, share=_MOSTLY)
    if numbers is not None:
        return numbers, "row number" if _is_row_number(name, numbers) else ""
    if distinct > _MOST_LEVELS:
        numbers = _days(column)
        if numbers is not None:
            return numbers, ""
        if distinct > len(known) // 2:
            return None, "free text"
    return None, ""


def _is_row_number(name: str, numbers: np.ndarray) -> bool:
    if not np.isfinite(numbers).all() or (numbers != np.round(numbers)).any():
        return False
    word = name.lower()
    named = word in ("id", "index", "row", "") or word.startswith("unnamed") or word[-3:] == "_id"
    return bool((np.diff(numbers) == 1).all()) or (
        named and len(np.unique(numbers)) == len(numbers)
    )


def _numbers(column: Any, *, share: float) -> np.ndarray | None:
    """The column as float64, NaN where missing; None when fewer than `share` are numbers."""
    import pandas as pd

    if pd.api.types.is_datetime64_any_dtype(column.dtype):
        return _days(column)
    if pd.api.types.is_timedelta64_dtype(column.dtype):
        return np.asarray(column.dt.total_seconds(), dtype=np.float64)
    if isinstance(column.dtype, pd.CategoricalDtype):
        column = column.astype(column.cat.categories.dtype)
    try:
        read = pd.to_numeric(column, errors="coerce")
    except TypeError:
        return None
    if int(read.notna().sum()) < share * int(column.notna().sum()):
        return None
    values = read.to_numpy(dtype=np.float64, na_value=np.nan)
    return np.where(np.isfinite(values), values, np.nan)


def _days(column: Any) -> np.ndarray | None:
    """Dates as days since 1970; None when they are no dates."""
    import pandas as pd

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pandas says that it guesses the form of dates
        try:
            read = pd.to_datetime(column, errors="coerce", utc=True)
        except (TypeError, ValueError):
            return None
    if int(read.notna().sum()) < _MOSTLY * int(column.notna().sum()):
        return None
    days = (read - pd.Timestamp(0, tz="UTC")) / pd.Timedelta(days=1)
    return np.asarray(days, dtype=np.float64)


def _scaled(numbers: np.ndarray, train: np.ndarray) -> np.ndarray:
    """[n, 1], or [n, 2] with an indicator of what is missing; no column for a constant."""
    missing = np.isnan(numbers)
    seen = numbers[train][~missing[train]]
    if len(seen) == 0:
        return np.zeros((len(numbers), 0), np.float32)
    filled = np.where(missing, np.median(seen), numbers)
    mean, std = filled[train].mean(), filled[train].std()
    columns = []
    if std > 1e-12 * max(abs(mean), 1.0):
        columns.append((filled - mean) / std)
    if missing[train].any():
        columns.append(missing.astype(np.float64))
    return np.stack(columns, axis=1).astype(np.float32) if columns else np.zeros(
        (len(numbers), 0), np.float32
    )  # fmt: skip


def _one_hot(column: Any, train: np.ndarray) -> np.ndarray:
    """One feature a frequent category, one for the pooled rest, one for missing values."""
    texts = column.astype(object).where(column.notna(), None).to_numpy()
    texts = np.array([None if t is None else str(t) for t in texts], dtype=object)
    names, counts = np.unique([t for t in texts[train] if t is not None], return_counts=True)
    order = np.argsort(-counts, kind="stable")
    rare = max(2, len(train) // 1000)  # categories of fewer rows teach nothing
    kept = [names[i] for i in order[:_MOST_LEVELS] if counts[i] >= rare] or list(names[:1])
    place = {name: i for i, name in enumerate(kept)}
    pooled = len(kept)
    codes = np.array([pooled + 1 if t is None else place.get(t, pooled) for t in texts])
    hot = np.eye(pooled + 2, dtype=np.float32)[codes]
    used: np.ndarray = hot[:, hot[train].any(axis=0)]
    return used if used.shape[1] > 1 else used[:, :0]


def _is_frame_column(column: Any) -> bool:
    return bool(column.ndim == 1)


def _columns(frame: Any, prefix: str = "") -> str:
    names = [str(c) for c in frame.columns]
    shown = ", ".join(names[:12]) + (" ..." if len(names) > 12 else "")
    return f"{prefix}{names[-1]}, or one of: {shown}" if prefix else shown


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__
