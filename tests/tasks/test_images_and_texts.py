"""Digits, images and texts: small real files, opened and looked at."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from automl.errors import TaskError
from automl.records import TaskSpec
from automl.tasks import images
from automl.tasks.fitting import split_indices
from automl.tasks.opening import open_task
from automl.tasks.task import ModelTask, Split


def opened(source: object, **options: object) -> ModelTask:
    task = open_task(TaskSpec(str(source), **options))  # type: ignore[arg-type]
    assert isinstance(task, ModelTask)
    return task


def tensors(split: Split | None) -> tuple[torch.Tensor, torch.Tensor]:
    assert split is not None
    assert split.x is not None
    assert split.y is not None
    return split.x, split.y


# Splits -------------------------------------------------------------------------------------


def test_splits_share_out_each_class_and_every_sample_once() -> None:
    y = torch.tensor([0] * 700 + [1] * 200 + [2] * 100)
    parts = split_indices(y)
    assert [len(p) for p in parts] == [600, 200, 200]
    assert torch.equal(torch.cat(parts).sort().values, torch.arange(1000))
    for part, size in zip(parts, (600, 200, 200), strict=True):
        shares = torch.bincount(y[part]) / size
        assert torch.allclose(shares, torch.tensor([0.7, 0.2, 0.1]), atol=0.01)


def test_digits_split_the_same_in_every_study() -> None:
    first, second = opened("digits"), opened("digits")
    assert first.card.data_fingerprint == second.card.data_fingerprint
    assert dict(first.card.sizes) == {"train": 1078, "valid": 360, "test": 359}
    assert first.card.steps % first.card.eval_steps == 0
    assert 10 <= first.card.steps // first.card.eval_steps <= 15
    assert opened("digits", epochs=3.0).card.steps < first.card.steps / 8


# Images -------------------------------------------------------------------------------------


def paint(
    folder: Path, *, count: int = 20, size: tuple[int, int] = (12, 12), grey: bool = True
) -> Path:
    rng = np.random.default_rng(count)
    for name, light in (("dark", 60), ("light", 190)):
        (folder / name).mkdir(parents=True)
        for i in range(count):
            shape = size if grey else (*size, 3)
            pixels = rng.normal(light, 20, shape).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i}.png")
    return folder


def test_images_are_normalized_and_split(tmp_path: Path) -> None:
    task = opened(paint(tmp_path / "pictures", grey=False))
    x, y = tensors(task.train)
    assert x.shape == (24, 3, 12, 12)
    assert float(x.mean()) == pytest.approx(0, abs=1e-4)
    assert torch.bincount(y).tolist() == [12, 12]
    assert (task.card.name, task.card.kind, task.card.classes) == (
        "pictures",
        "image",
        ("dark", "light"),
    )
    assert "12x12" in task.card.about


@pytest.mark.parametrize(
    ("folders", "sizes"),
    [
        (["train", "test"], (34, 6, 20)),
        (["train", "val"], (34, 6, 20)),  # as ImageNet has it: nothing else is unseen
        (["train", "val", "test"], (40, 20, 20)),
    ],
)
def test_folders_of_splits_stay_splits(
    folders: list[str], sizes: tuple[int, ...], tmp_path: Path
) -> None:
    for name in folders:
        paint(tmp_path / name, count=20 if name == "train" else 10)
    found = opened(tmp_path).card.sizes
    assert tuple(found[n] for n in ("train", "valid", "test")) == sizes


def test_images_that_do_not_fit_are_read_when_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resident = opened(paint(tmp_path / "p", size=(100, 100)))
    monkeypatch.setattr(images, "_RESIDENT_BYTES", 1)
    read = opened(tmp_path / "p")
    assert read.train.x is None
    assert read.train.dataset is not None
    x, y = read.train.dataset[3]
    assert x.shape == (1, 64, 64)
    assert torch.equal(x, tensors(resident.train)[0][3])
    assert int(y) == int(tensors(resident.train)[1][3])


# Texts --------------------------------------------------------------------------------------


def test_a_text_is_split_by_place_and_predicts_the_next_character(tmp_path: Path) -> None:
    text = "".join(chr(97 + i * i % 26) for i in range(5000))
    (tmp_path / "c.txt").write_text(text)
    task = opened(tmp_path / "c.txt")
    number = {c: i for i, c in enumerate(sorted(set(text)))}
    x, y = tensors(task.train)
    assert x[0].tolist() == [number[c] for c in text[:64]]
    assert y[0].tolist() == [number[c] for c in text[1:65]]
    assert tensors(task.valid)[0][0].tolist() == [number[c] for c in text[4000:4064]]
    assert tensors(task.test)[0][0].tolist() == [number[c] for c in text[4500:4564]]
    assert (task.card.metric, task.card.direction) == ("bits_per_char", "minimize")
    assert 1400 < task.card.steps <= 1500


# What is wrong ------------------------------------------------------------------------------


def write(name: str, content: str | bytes) -> Callable[[Path], None]:
    data = content.encode() if isinstance(content, str) else content

    def make(folder: Path) -> None:
        (folder / name).write_bytes(data)

    return make


def folder_of(**counts: int) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        for name, count in counts.items():
            (folder / "p" / name).mkdir(parents=True)
            for i in range(count):
                Image.new("L", (8, 8)).save(folder / "p" / name / f"{i}.png")

    return make


def cut_short(folder: Path) -> None:
    paint(folder / "p")
    file = folder / "p" / "dark" / "7.png"
    file.write_bytes(file.read_bytes()[:-60])


WRONG: dict[str, tuple[Callable[[Path], None], str, dict[str, object], str]] = {
    "no such task": (write("x", "x"), "digitz", {}, "nearest: 'digits'"),
    "no such file": (write("x", "x"), "gone.csv", {"target": "y"}, "gone.csv"),
    "unknown suffix": (write("t.docx", "x"), "t.docx", {}, "t.docx.*'.docx'"),
    "no images": (lambda f: (f / "p").mkdir(), "p", {}, "images in none of its folders"),
    "one folder": (folder_of(cat=12), "p", {}, "images in 1 of its folders"),
    "few images": (folder_of(cat=12, dog=3), "p", {}, "dog: a class needs at least 10 images"),
    "cut image": (cut_short, "p", {}, "dark/7.png is no image"),
    "other classes": (
        folder_of(**{"train/a": 12, "train/b": 12, "test/a": 12, "test/c": 12}), "p", {},
        "classes in test/",
    ),
    "short text": (write("c.txt", "short"), "c.txt", {}, "c.txt: 5 characters"),
    "binary text": (write("c.txt", b"\xff" * 5000), "c.txt", {}, "not UTF-8"),
    "one character": (write("c.txt", "a" * 5000), "c.txt", {}, "only one character"),
    "no CUDA": (write("x", "x"), "digits", {"device": "cuda"}, "no CUDA device"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_with_files_is_one_clear_line(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, source, options, message = WRONG[case]
    if case == "no CUDA" and torch.cuda.is_available():
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    make(tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TaskError, match=message) as error:
        open_task(TaskSpec(source, **options))  # type: ignore[arg-type]
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 300
