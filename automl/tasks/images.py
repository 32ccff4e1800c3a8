"""A folder of images: a sub-folder a class; or train/ and test/, val/ or both, each with those.

All images become one size, the most common one but at most 64 pixels a side, and are normalized
by the mean and the deviation of the training images. They are kept in memory as floats while they
fit in a gigabyte; more are read from their files again at every use.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torch.utils.data import Dataset

from automl.errors import TaskError
from automl.methods.stages import Shape
from automl.records import TaskSpec
from automl.tasks.fitting import Found, model_task, split_indices
from automl.tasks.task import ModelTask, Split

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm")
_LARGEST_SIDE = 64
_RESIDENT_BYTES = 2**30
_FEWEST = 10  # images a class
_EPOCHS, _SEEN, _MOST_EPOCHS = 15, 15_000, 100  # small sets are walked through more often
_SIZED = 200  # images whose size is looked at


class ImageFiles(Dataset[tuple[Tensor, Tensor]]):
    """Images read when they are asked for: (x [c, h, w] float32, class)."""

    def __init__(
        self,
        files: Sequence[Path],
        labels: Tensor,
        *,
        side: int,
        mode: str,
        mean: Tensor,
        std: Tensor,
    ) -> None:
        self.files, self.labels, self.side, self.mode = files, labels, side, mode
        self.mean, self.std = mean, std

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        pixels = torch.from_numpy(decode(self.files[index], self.side, self.mode))
        return (pixels.float() / 255 - self.mean) / self.std, self.labels[index]


def decode(file: Path, side: int, mode: str) -> np.ndarray:
    """Pixels [c, side, side] uint8.

    Raises:
        TaskError: the file is no image that can be read.
    """
    try:
        with Image.open(file) as image:
            sized = image.convert(mode)
            if sized.size != (side, side):
                sized = sized.resize((side, side), Image.Resampling.BILINEAR)
            pixels = np.array(sized, dtype=np.uint8)
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError):  # the last: a broken PNG
        raise TaskError(f"{file} is no image that can be read; repair or remove it") from None
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def open_images(spec: TaskSpec) -> ModelTask:
    """The task of telling the folder's classes apart."""
    root = Path(spec.source)
    of_split, classes = split_files(root)
    side, mode = _size([file for files, _ in of_split.values() for file in files])
    channels = 1 if mode == "L" else 3
    count = sum(len(f) for f, _ in of_split.values())
    sample = np.stack([decode(f, side, mode) for f in of_split["train"][0][:2000]])
    scaled = torch.from_numpy(sample).float() / 255
    mean = scaled.mean((0, 2, 3)).view(channels, 1, 1)
    std = scaled.std((0, 2, 3)).view(channels, 1, 1).clamp_min(1e-3)
    sets = {
        name: ImageFiles(f, y, side=side, mode=mode, mean=mean, std=std)
        for name, (f, y) in of_split.items()
    }
    if count * channels * side**2 * 4 <= _RESIDENT_BYTES:
        splits = {name: _resident(files) for name, files in sets.items()}
    else:
        splits = {name: Split(dataset=files) for name, files in sets.items()}
    capped = " (larger ones made smaller)" if side == _LARGEST_SIDE else ""
    found = Found(
        name=root.resolve().name,
        shape=Shape("image", (channels, side, side), len(classes), "classes"),
        splits=splits,
        about=f"{count:,} images as {side}x{side} pixels{capped}, {len(classes)} classes",
        space="vision",
        epochs=min(max(_EPOCHS, _SEEN / len(splits["train"])), _MOST_EPOCHS),
        classes=classes,
    )
    task = model_task(spec, found)
    if splits["train"].x is None:  # no pixels to fingerprint: names and sizes stand for them
        return _with_file_fingerprint(task, [f for files, _ in of_split.values() for f in files])
    return task


def split_files(root: Path) -> tuple[dict[str, tuple[list[Path], Tensor]], tuple[str, ...]]:
    """Files and classes [n] by split, and the classes' names.

    Beside train/, one folder (test/, or val/ as ImageNet has it) is the test split; of two, val/
    validates. What the user did not split, we do.

    Raises:
        TaskError: too few classes or images, or classes that differ between the folders.
    """
    inner = {d.name for d in root.iterdir() if d.is_dir()}
    validation = [n for n in ("val", "valid", "validation") if n in inner][:1]
    held = [*validation, *(["test"] if "test" in inner else [])] if "train" in inner else []
    files, labels, classes = _listed(root / "train" if held else root)
    shares = {0: (0.6, 0.2, 0.2), 1: (0.85, 0.15)}.get(len(held), (1.0,))
    names = ("train", "valid", "test")
    of_split = {
        name: ([files[i] for i in part.tolist()], labels[part])
        for name, part in zip(names, split_indices(labels, shares), strict=False)
    }
    for name, folder in zip(names[3 - len(held) :], held, strict=True):
        own, own_labels, own_classes = _listed(root / folder)
        if own_classes != classes:
            raise TaskError(f"{root}: the classes in {folder}/ are not those in train/")
        of_split[name] = (own, own_labels)
    return of_split, classes


def _resident(files: ImageFiles) -> Split:
    raw = np.stack([decode(f, files.side, files.mode) for f in files.files])
    x = (torch.from_numpy(raw).float() / 255 - files.mean) / files.std
    return Split(x, files.labels)


def _listed(root: Path) -> tuple[list[Path], Tensor, tuple[str, ...]]:
    """Files and classes [n] of a folder of folders.

    Raises:
        TaskError: fewer than two classes, or a class with too few images.
    """
    folders = sorted(d for d in root.iterdir() if d.is_dir() and not d.name.startswith("."))
    files: list[Path] = []
    labels: list[int] = []
    classes: list[str] = []
    for folder in folders:
        images = sorted(f for f in folder.rglob("*") if f.suffix.lower() in SUFFIXES)
        if not images:
            continue
        if len(images) < _FEWEST:
            raise TaskError(
                f"{folder}: a class needs at least {_FEWEST} images; this one has {len(images)}"
            )
        labels += [len(classes)] * len(images)
        classes.append(folder.name)
        files += images
    if len(classes) < 2:
        raise TaskError(
            f"{root}: images in {len(classes) or 'none'} of its folders; there must be two folders "
            f"or more, one a class, such as {root.name}/cat/1.png"
        )
    return files, torch.tensor(labels, dtype=torch.int64), tuple(classes)


def _size(files: Sequence[Path]) -> tuple[int, str]:
    """The side that all images get, and whether they are grey ("L") or coloured ("RGB")."""
    sizes: Counter[int] = Counter()
    grey = True
    for file in files[:: max(len(files) // _SIZED, 1)]:
        try:
            with Image.open(file) as image:
                sizes[min(image.size)] += 1
                grey = grey and image.mode in ("1", "L", "I;16")
        except (UnidentifiedImageError, OSError):
            raise TaskError(f"{file} is no image that can be read; repair or remove it") from None
    side = min(sizes.most_common(1)[0][0], _LARGEST_SIDE)
    return max(side, 8), "L" if grey else "RGB"


def _with_file_fingerprint(task: ModelTask, files: Sequence[Path]) -> ModelTask:
    text = "\n".join(f"{f.name} {f.stat().st_size}" for f in files)
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    return replace(task, card=replace(task.card, data_fingerprint=digest))
