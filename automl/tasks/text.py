"""A text file: a model of the next character.

Characters are tokens; the file's first 80 % train, the next 10 % validate, the last 10 % test, so
that no window of one split overlaps another. A sample is a window of 64 characters, its target
the window one further on.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from automl.errors import TaskError
from automl.methods.stages import Shape
from automl.records import TaskSpec
from automl.tasks.fitting import Found, model_task
from automl.tasks.task import ModelTask, Split

CONTEXT = 64
_FEWEST = 2_000  # characters: a validation split of three windows
_STEPS = 1500  # of 32 windows, a full training
_BATCH = 32
_JUDGED = 512  # windows of validation and test: 32,768 characters tell a hundredth of a bit


def open_text(spec: TaskSpec) -> ModelTask:
    """The task of predicting each next character of the file."""
    path = Path(spec.source)
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        place = f"{path.name}: not UTF-8 text at byte {error.start}"
        raise TaskError(f"{place}; save it as UTF-8") from None
    if len(text) < _FEWEST:
        raise TaskError(f"{path.name}: {len(text)} characters; a model needs at least {_FEWEST:,}")
    characters = sorted(set(text))
    if len(characters) < 2:
        raise TaskError(f"{path.name}: only one character, {characters[0]!r}")
    number = {c: i for i, c in enumerate(characters)}
    tokens = torch.tensor([number[c] for c in text], dtype=torch.int64)
    cuts = [int(0.8 * len(text)), int(0.9 * len(text))]
    train, valid, test = torch.tensor_split(tokens, cuts)
    found = Found(
        name=path.stem,
        shape=Shape("tokens", (CONTEXT,), len(characters), "tokens", len(characters)),
        # Windows of training overlap by half: each character is seen at several places.
        splits={
            "train": windows(train, CONTEXT // 2),
            "valid": _some(windows(valid, CONTEXT)),
            "test": _some(windows(test, CONTEXT)),
        },
        about=f"{len(text):,} characters, {len(characters)} different",
        space="text",
        epochs=_STEPS * _BATCH / max((len(train) - 1) // (CONTEXT // 2), 1),
        batch_size=_BATCH,
    )
    return model_task(spec, found)


def windows(tokens: Tensor, stride: int) -> Split:
    """Windows x [n, 64] and the same one character later, y [n, 64]."""
    cut = tokens.unfold(0, CONTEXT + 1, stride).clone()
    return Split(cut[:, :-1].contiguous(), cut[:, 1:].contiguous())


def _some(split: Split) -> Split:
    assert split.x is not None
    assert split.y is not None
    if len(split) <= _JUDGED:
        return split
    index = torch.arange(_JUDGED) * len(split) // _JUDGED
    return Split(split.x[index], split.y[index])
