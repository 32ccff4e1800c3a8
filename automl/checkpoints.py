"""Checkpoints: whole or absent, safetensors and JSON, nothing pickled.

A store is a folder; a checkpoint is the folder `TRIAL/STEP` in it, holding `tensors.safetensors`
and `meta.json`. It is written beside its place and renamed, so that a reader finds all of it or
nothing, whatever is killed when.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automl.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor

TENSORS, META = "tensors.safetensors", "meta.json"


class Store:
    """Checkpoints of one study, by (trial, step)."""

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)

    def folder(self, trial: int, step: int) -> Path:
        """Where the checkpoint lies, or would lie."""
        return self.root / str(trial) / str(step)

    def exists(self, trial: int, step: int) -> bool:
        return self.folder(trial, step).is_dir()

    def steps(self, trial: int) -> list[int]:
        """Steps at which `trial` has a checkpoint, ascending."""
        try:
            return sorted(
                int(p.name) for p in (self.root / str(trial)).iterdir() if p.name.isdigit()
            )
        except FileNotFoundError:
            return []

    def save(
        self, trial: int, step: int, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]
    ) -> None:
        """Write a checkpoint, replacing an older one of the same name.

        Raises:
            CheckpointError: the folder cannot be written, or the disk is full.
        """
        from safetensors.torch import save_file  # torch costs seconds; the driver never saves

        with self.writing(trial, step) as folder:
            whole = {name: t.detach().contiguous().cpu() for name, t in tensors.items()}
            save_file(whole, folder / TENSORS)
            (folder / META).write_text(json.dumps(meta))

    def writing(self, trial: int, step: int) -> _Writing:
        """A folder to fill; it becomes the checkpoint when the block ends without an error."""
        return _Writing(self.folder(trial, step))

    def load(self, trial: int, step: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors, on the CPU, and meta of a checkpoint.

        Raises:
            CheckpointError: there is none, or it cannot be read.
        """
        from safetensors.torch import load_file  # see save

        folder = self.folder(trial, step)
        try:
            return load_file(folder / TENSORS), self.meta(trial, step)
        except Exception as error:
            raise CheckpointError(f"no readable checkpoint in {folder}: {error}") from None

    def meta(self, trial: int, step: int) -> dict[str, Any]:
        """Meta alone; needs no torch.

        Raises:
            CheckpointError: there is none, or it cannot be read.
        """
        path = self.folder(trial, step) / META
        try:
            return dict(json.loads(path.read_text()))
        except (OSError, ValueError) as error:
            raise CheckpointError(f"no readable checkpoint in {path.parent}: {error}") from None

    def delete(self, trial: int, step: int | None = None) -> None:
        """Remove one checkpoint, or all of a trial; none there is fine."""
        path = self.root / str(trial) if step is None else self.folder(trial, step)
        # Renamed first: a reader never sees half of a folder that is being removed.
        doomed = self.root / f".gone-{trial}-{step}-{os.getpid()}"
        try:
            path.rename(doomed)
        except FileNotFoundError:
            return
        shutil.rmtree(doomed, ignore_errors=True)


class _Writing:
    def __init__(self, place: Path) -> None:
        self._place = place

    def __enter__(self) -> Path:
        try:
            self._place.parent.mkdir(parents=True, exist_ok=True)
            self._draft = Path(tempfile.mkdtemp(prefix=".draft-", dir=self._place.parent))
        except OSError as error:
            raise CheckpointError(f"cannot write {self._place}: {error.strerror}") from None
        return self._draft

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> None:
        if kind is not None:
            shutil.rmtree(self._draft, ignore_errors=True)
            if issubclass(kind, OSError):
                raise CheckpointError(f"cannot write {self._place}: {error}") from None
            return
        for file in self._draft.iterdir():
            if file.is_file():
                _sync(file)
        if self._place.exists():
            shutil.rmtree(self._place)
        self._draft.rename(self._place)
        _sync(self._place.parent)


def _sync(path: Path) -> None:
    # Before the rename: a power cut otherwise leaves an empty file under a good name.
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
