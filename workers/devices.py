"""The device that a worker is pinned to: AUTOML_DEVICE is "cpu" or the number of a GPU."""

from __future__ import annotations

import os
import subprocess

import psutil

_ASK = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
_ASK_SECONDS = 10.0


def name() -> str:
    """ "cpu", "0" ...; "auto" when the worker was not pinned."""
    return os.environ.get("AUTOML_DEVICE", "auto")


def environment(device: str | None = None) -> dict[str, str]:
    """Variables that let a training process see this device and no other."""
    device = device or name()
    if device == "auto":
        return {}
    return {"CUDA_VISIBLE_DEVICES": "" if device == "cpu" else device}


def advertised() -> dict[str, str | int]:
    """What this worker says of its device: what it is, and its share of the memory in bytes.

    Workers of one device (AUTOML_SLOTS) share its memory. One that was not pinned has the first
    GPU, if there is one, for so torch chooses.
    """
    device, slots = name(), int(os.environ.get("AUTOML_SLOTS", "1"))
    found = None if device == "cpu" else _gpu("0" if device == "auto" else device)
    if found is not None:
        what, memory = found
    else:
        what = "cpu" if device in ("cpu", "auto") else f"gpu {device}"
        memory = psutil.virtual_memory().total if what == "cpu" else 0
    return {"device": what, "memory": memory // slots}


def _gpu(number: str) -> tuple[str, int] | None:
    """Name and bytes of a GPU, as its driver tells them; None without one."""
    try:
        done = subprocess.run(
            [*_ASK, "-i", number], capture_output=True, text=True, timeout=_ASK_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    words, _, mebibytes = done.stdout.strip().rpartition(",")
    if done.returncode or not mebibytes.strip().isdecimal():
        return None
    return f"gpu {number} ({words})", int(mebibytes) * 2**20
