"""A table: CSV, TSV or Parquet, one row a sample, --target names the column to predict.

    numbers      standardized; missing ones become the median, with a column that says so
    categories   text, booleans: one column a value; rare and unseen values share one
    dropped      constant columns, and text that is different in (nearly) every row

Everything is fitted on the training rows alone. Text, booleans and few whole numbers as target
mean classes, other numbers regression; then the network learns the standardized target, and
metrics are in the target's own unit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from automl.errors import TaskError
from automl.methods.stages import Shape
from automl.records import TaskSpec
from automl.registry import nearest
from automl.tasks.fitting import Found, model_task, split_indices
from automl.tasks.metrics import Metric
from automl.tasks.task import ModelTask, Split

SUFFIXES = (".csv", ".tsv", ".parquet")
_MOST_VALUES = 30  # one column each; the rest of a category's values share one
_MOST_CLASSES = 20  # whole numbers with more values than this are a quantity
_FEWEST_ROWS = 20
_SAMPLES_SEEN = (40_000, 1_000_000)  # in a full training


@dataclass(frozen=True)
class Column:
    """How one column becomes features; fitted on the training rows."""

    name: str
    values: tuple[str, ...] = ()  # of a category; empty: a number
    median: float = 0.0
    mean: float = 0.0
    scale: float = 1.0
    missing: bool = False  # a number with missing values gets a column for that

    def encode(self, series: pd.Series[Any]) -> np.ndarray:
        """Features [n, .] float32 of this column."""
        if self.values:
            text = series.astype("string").fillna("(missing)").to_numpy(dtype=str)
            known = np.stack([text == v for v in self.values], axis=1)
            other = ~known.any(axis=1, keepdims=True)
            return np.concatenate([known, other], axis=1).astype(np.float32)
        numbers = pd.to_numeric(series, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
        gone = ~np.isfinite(numbers)
        scaled = (np.where(gone, self.median, numbers) - self.mean) / self.scale
        parts = [scaled, gone] if self.missing else [scaled]
        return np.stack(parts, axis=1).astype(np.float32)


def fit_column(series: pd.Series[Any], name: str) -> Column | None:
    """What a column of the training rows becomes; None when it says nothing."""
    present = series.dropna()
    if present.nunique() < 2:
        return None
    if pd.api.types.is_numeric_dtype(series) and not pd.api.types.is_bool_dtype(series):
        numbers = present.to_numpy(dtype=np.float64)
        numbers = numbers[np.isfinite(numbers)]
        filled = np.concatenate([numbers, np.full(len(series) - len(numbers), np.median(numbers))])
        scale = float(filled.std()) or 1.0
        gone = len(numbers) < len(series)
        return Column(name, (), float(np.median(numbers)), float(filled.mean()), scale, gone)
    text = series.astype("string").fillna("(missing)")
    counts = text.value_counts()
    if len(counts) > 0.9 * len(text):
        return None  # a name or a number of each row
    frequent = counts[counts >= max(2, 0.002 * len(text))].head(_MOST_VALUES)
    return Column(name, tuple(str(v) for v in frequent.index)) if len(frequent) else None


def read_table(path: Path) -> pd.DataFrame:
    """The rows of a file, by its suffix.

    Raises:
        TaskError: it cannot be read, or holds no rows.
    """
    try:
        if path.suffix == ".parquet":
            frame = pd.read_parquet(path)
        else:
            frame = pd.read_csv(path, sep="\t" if path.suffix == ".tsv" else ",")
    except pd.errors.EmptyDataError:
        raise TaskError(f"{path.name} is empty; it needs a header and rows") from None
    except Exception as error:  # each reader raises its own
        raise TaskError(f"{path.name}: {' '.join(str(error).split())[:200]}") from None
    if frame.empty:
        raise TaskError(f"{path.name} has a header but no rows")
    frame.columns = [str(c).strip() for c in frame.columns]
    return frame


def open_table(spec: TaskSpec) -> ModelTask:
    """The task of predicting `spec.target` from the other columns."""
    path = Path(spec.source)
    frame = read_table(path)
    target = _target(frame, spec.target, path.name)
    kept = frame[target].notna()
    notes = [] if kept.all() else [f"{int((~kept).sum())} rows without a target left out"]
    frame = frame[kept].reset_index(drop=True)
    if len(frame) < _FEWEST_ROWS:
        raise TaskError(
            f"{path.name}: {len(frame)} rows with a value in '{target}'; at least {_FEWEST_ROWS}"
        )
    labels, classes = _labels(frame[target], f"{path.name}, {target}")
    parts = split_indices(labels)
    rows = frame.drop(columns=[target])
    train = rows.iloc[parts[0].numpy()]
    columns = [c for c in (fit_column(train[n], n) for n in rows.columns) if c is not None]
    dropped = sorted(set(rows.columns) - {c.name for c in columns})
    if not columns:
        raise TaskError(f"{path.name}: no column but '{target}' says anything; all are constant")
    if dropped:
        notes.append(f"columns left out: {', '.join(dropped[:4])}{' ...' if dropped[4:] else ''}")
    x = torch.from_numpy(np.concatenate([c.encode(rows[c.name]) for c in columns], axis=1))
    evaluate = None
    if not classes:
        mean, scale = labels[parts[0]].mean(), labels[parts[0]].std().clamp_min(1e-12)
        labels = ((labels - mean) / scale).to(torch.float32).unsqueeze(1)
        evaluate = in_units(float(mean), float(scale))
    epochs = min(max(20.0, _SAMPLES_SEEN[0] / len(parts[0])), _SAMPLES_SEEN[1] / len(parts[0]))
    what = f"{len(classes)} classes" if classes else "regression"
    about = f"{len(frame):,} rows, {len(columns)} columns as {x.shape[1]} features, {what}"
    found = Found(
        name=path.stem,
        shape=Shape("vector", (x.shape[1],), len(classes) or 1, "classes" if classes else "values"),
        splits={
            n: Split(x[i], labels[i])
            for n, i in zip(("train", "valid", "test"), parts, strict=True)
        },
        about="; ".join([about, *notes]),
        space="table",
        epochs=max(epochs, 1.0),
        classes=classes,
    )
    return model_task(spec, found, evaluate=evaluate)


def in_units(
    mean: float, scale: float
) -> Callable[[Metric], Callable[[Tensor, Tensor], dict[str, float]]]:
    """Evaluation in the target's own unit of a network that learns the standardized target."""

    def of(metric: Metric) -> Callable[[Tensor, Tensor], dict[str, float]]:
        return lambda o, t: {metric.name: metric.value(o * scale + mean, t * scale + mean)}

    return of


def _target(frame: pd.DataFrame, target: str | None, place: str) -> str:
    columns = [str(c) for c in frame.columns]
    if target is None:
        raise TaskError(
            f"{place}: say which column to predict with --target; columns: {_few(columns)}"
        )
    if target not in columns:
        raise TaskError(
            f"{place}: no column '{target}'{nearest(target, columns)}; columns: {_few(columns)}"
        )
    if frame[target].notna().sum() == 0:
        raise TaskError(f"{place}: column '{target}' has no value in any row")
    return target


def _labels(series: pd.Series[Any], place: str) -> tuple[Tensor, tuple[str, ...]]:
    """Class numbers [n] int64 with their names, or values [n] float64 with no names."""
    numeric = pd.api.types.is_numeric_dtype(series) and not pd.api.types.is_bool_dtype(series)
    if numeric:
        numbers = series.to_numpy(dtype=np.float64)
        whole = bool((numbers == np.round(numbers)).all())
        if not (whole and series.nunique() <= _MOST_CLASSES):
            return torch.from_numpy(numbers.copy()), ()
    names = sorted(series.unique().tolist())
    if len(names) < 2:
        raise TaskError(f"{place}: only one class, '{names[0]}'; there is nothing to learn")
    if len(names) > len(series) / 2:
        raise TaskError(
            f"{place}: {len(names)} classes in {len(series)} rows; is it a name column?"
        )
    number = {name: i for i, name in enumerate(names)}
    return torch.tensor([number[v] for v in series], dtype=torch.int64), tuple(map(str, names))


def _few(columns: list[str]) -> str:
    return ", ".join(columns[:8]) + (" ..." if len(columns) > 8 else "")
