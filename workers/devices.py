"""The device that a worker is pinned to: AUTOML_DEVICE is "cpu" or the number of a GPU."""

from __future__ import annotations

import os


def name() -> str:
    """ "cpu", "0" ...; "auto" when the worker was not pinned."""
    return os.environ.get("AUTOML_DEVICE", "auto")


def environment(device: str | None = None) -> dict[str, str]:
    """Variables that let a training process see this device and no other."""
    device = device or name()
    if device == "auto":
        return {}
    return {"CUDA_VISIBLE_DEVICES": "" if device == "cpu" else device}
