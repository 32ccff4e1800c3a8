"""Checkpoints: whole or absent, safetensors and JSON, nothing pickled.

A store is a folder, or a URL (s3://bucket/studies); a checkpoint is the folder `TRIAL/STEP` in it,
holding `tensors.safetensors` and `meta.json`. `folders` and `buckets` say how it comes there so
that a reader finds all of it or nothing, whatever is killed when.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automl import seals
from automl.buckets import Buckets, is_url
from automl.errors import CheckpointError
from automl.folders import Folders

if TYPE_CHECKING:
    from torch import Tensor

TENSORS, META = "tensors.safetensors", "meta.json"


class Store:
    """Checkpoints of one study, by (trial, step).

    Args:
        root: a folder, or a URL that fsspec knows; file://FOLDER is the folder.
        key: that checkpoints are sealed with; those without its seal are not read (see `seals`).
    """

    def __init__(self, root: str | Path, *, key: bytes | None = None) -> None:
        self.root = str(root).removeprefix("file://")
        self._key = key
        self._there: Folders | Buckets = (
            Buckets(self.root) if is_url(self.root) else Folders(Path(self.root))
        )

    def folder(self, trial: int, step: int) -> Path:
        """The checkpoint as a folder of this machine, to be read; it may not exist.

        One in a bucket is fetched, and stays for as long as this store.

        Raises:
            CheckpointError: its seal does not fit.
        """
        folder = self._there.folder(f"{trial}/{step}")
        if self._key is not None and folder.is_dir():
            seals.check(folder, f"{trial}/{step}", self._key)
        return folder

    def exists(self, trial: int, step: int) -> bool:
        return self._there.exists(f"{trial}/{step}")

    def trials(self) -> list[int]:
        """Trials that have checkpoints, ascending."""
        return sorted(int(n) for n in self._there.names("") if n.isdigit())

    def steps(self, trial: int) -> list[int]:
        """Steps at which `trial` has a checkpoint, ascending."""
        return sorted(int(n) for n in self._there.names(str(trial)) if n.isdigit())

    def weight(self, trial: int, step: int) -> tuple[int, float]:
        """Bytes of a checkpoint, and when it was written (seconds since the epoch)."""
        return self._there.weight(f"{trial}/{step}")

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

    @contextmanager
    def writing(self, trial: int, step: int) -> Iterator[Path]:
        """A folder to fill; it becomes the checkpoint when the block ends without an error."""
        with self._there.writing(f"{trial}/{step}") as folder:
            yield folder
            if self._key is not None:
                seals.seal(folder, f"{trial}/{step}", self._key)

    def load(self, trial: int, step: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors, on the CPU, and meta of a checkpoint.

        Raises:
            CheckpointError: there is none, or it cannot be read.
        """
        from safetensors.torch import load_file  # see save

        try:
            return load_file(self.folder(trial, step) / TENSORS), self.meta(trial, step)
        except Exception as error:
            raise self._unreadable(trial, step, error) from None

    def meta(self, trial: int, step: int) -> dict[str, Any]:
        """Meta alone; needs no torch.

        Raises:
            CheckpointError: there is none, or it cannot be read.
        """
        try:
            if self._key is not None:
                return dict(json.loads((self.folder(trial, step) / META).read_text()))
            return dict(json.loads(self._there.read(f"{trial}/{step}", META)))
        except (OSError, ValueError) as error:
            raise self._unreadable(trial, step, error) from None

    def delete(self, trial: int, step: int | None = None) -> None:
        """Remove one checkpoint, or all of a trial; none there is fine.

        Raises:
            CheckpointError: the store cannot be reached.
        """
        self._there.delete(str(trial) if step is None else f"{trial}/{step}")

    def _unreadable(self, trial: int, step: int, error: Exception) -> CheckpointError:
        if isinstance(error, CheckpointError):
            return error
        place = self._there.place(f"{trial}/{step}")
        return CheckpointError(f"no readable checkpoint in {place}: {error}")
