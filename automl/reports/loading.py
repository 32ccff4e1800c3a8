"""Loading of images and texts in `train_best.py`: the splits, without the task around them.

Copied there together with what it calls. Each function gives the very splits that its `open_...`
in `automl/tasks/` makes; a test holds the two together.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from automl.tasks.images import ImageFiles, _resident, _size, decode, split_files
from automl.tasks.task import Split
from automl.tasks.text import CONTEXT, _some, windows


def image_splits(root: Path) -> dict[str, Split]:
    """Images [n, c, h, w], normalized by the training images, and their classes [n]."""
    found, _ = split_files(root)
    side, mode = _size([file for files, _ in found.values() for file in files])
    sample = np.stack([decode(f, side, mode) for f in found["train"][0][:2000]])
    scaled = torch.from_numpy(sample).float() / 255
    mean = scaled.mean((0, 2, 3)).view(-1, 1, 1)
    std = scaled.std((0, 2, 3)).view(-1, 1, 1).clamp_min(1e-3)
    return {
        name: _resident(ImageFiles(f, y, side=side, mode=mode, mean=mean, std=std))
        for name, (f, y) in found.items()
    }


def text_splits(path: Path) -> dict[str, Split]:
    """Windows of characters [n, 64] and the same one character later."""
    text = path.read_text(encoding="utf-8")
    number = {c: i for i, c in enumerate(sorted(set(text)))}
    tokens = torch.tensor([number[c] for c in text], dtype=torch.int64)
    train, valid, test = tokens.tensor_split([int(0.8 * len(text)), int(0.9 * len(text))])
    return {
        "train": windows(train, CONTEXT // 2),
        "valid": _some(windows(valid, CONTEXT)),
        "test": _some(windows(test, CONTEXT)),
    }
