"""Loading of images and texts in `train_best.py`: the splits, without the task around them.

Copied there together with what it calls. Each function gives the very splits that its `open_...`
in `automl/tasks/` makes; a test holds the two together.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from automl.tasks.fitting import split_indices
from automl.tasks.images import ImageFiles, _listed, _resident, _size, decode
from automl.tasks.task import Split
from automl.tasks.text import CONTEXT, _some, windows


def image_splits(root: Path) -> dict[str, Split]:
    """Images [n, c, h, w], normalized by the training images, and their classes [n]."""
    tested = {"train", "test"} <= {d.name for d in root.iterdir() if d.is_dir()}
    files, labels, _ = _listed(root / "train" if tested else root)
    side, mode = _size(files)
    parts = split_indices(labels, (0.85, 0.15) if tested else (0.6, 0.2, 0.2))
    names = ("train", "valid", "test")
    of = {
        n: ([files[i] for i in p.tolist()], labels[p]) for n, p in zip(names, parts, strict=False)
    }
    if tested:
        of["test"] = _listed(root / "test")[:2]
    sample = np.stack([decode(f, side, mode) for f in of["train"][0][:2000]])
    scaled = torch.from_numpy(sample).float() / 255
    mean = scaled.mean((0, 2, 3)).view(-1, 1, 1)
    std = scaled.std((0, 2, 3)).view(-1, 1, 1).clamp_min(1e-3)
    return {
        name: _resident(ImageFiles(f, y, side=side, mode=mode, mean=mean, std=std))
        for name, (f, y) in of.items()
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
