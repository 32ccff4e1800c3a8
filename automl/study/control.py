"""What people ask of a study that runs: one word in a file of its folder, read by its driver.

    go       nothing is asked
    pause    hand out nothing more; what trains saves itself; wait
    stop     save what trains, and end; `automl resume` goes on

The word is a wish, not an event: what the driver made of it is in the journal. It is written over
the old one in place, for a file that is replaced is noticed late on a network's disk.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Literal, cast

Wish = Literal["go", "pause", "stop"]

_FILE = "control"
_WIDE = 8  # bytes, always: no reader finds half a word
_EVERY_SECONDS = 0.2


class Control:
    """The wish for the study in `folder`."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / _FILE
        self._read = -_EVERY_SECONDS
        self._wish: Wish = "go"

    def ask(self, wish: Wish) -> None:
        """Leave a wish for the driver.

        Raises:
            OSError: the folder cannot be written.
        """
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT, 0o666)
        try:
            os.pwrite(descriptor, f"{wish:<{_WIDE}}".encode(), 0)
        finally:
            os.close(descriptor)
        self._read = -_EVERY_SECONDS

    def wish(self) -> Wish:
        """What is asked for; the file is read a few times a second, however often this is."""
        now = time.monotonic()
        if now - self._read >= _EVERY_SECONDS:
            self._read = now
            try:
                word = self._path.read_text().strip()
            except OSError:
                word = ""
            self._wish = cast(Wish, word) if word in ("pause", "stop") else "go"
        return self._wish
