"""What a driver says between two events of its journal, for screens in other processes.

Progress of running trials, the phase and the workers of a queue go as JSON lines into the file
`live.jsonl` of the study's folder. Nothing rests on it: it begins anew with every driver, and
whenever it has grown large.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_FILE = "live.jsonl"
_KINDS = ("progress", "phase", "crew", "note")
_LARGE = 4 << 20  # bytes


class Live:
    """The driver's end. A full disk costs a screen its curves, not the study."""

    def __init__(self, folder: Path) -> None:
        (folder / _FILE).write_bytes(b"")
        # Appending: one that still writes there leaves no hole.
        self._file = (folder / _FILE).open("a", encoding="utf-8")
        self._last: dict[str, str] = {}  # phase and crew, for a file that begins anew

    def hear(self, event: Mapping[str, Any]) -> None:
        """Keep the event if it is not one of the journal's."""
        kind = event["kind"]
        if kind not in _KINDS:
            return
        line = json.dumps(event, separators=(",", ":")) + "\n"
        if kind in ("phase", "crew"):
            self._last[kind] = line
        with contextlib.suppress(OSError):
            if self._file.tell() > _LARGE:
                self._file.seek(0)
                self._file.truncate()
                line = "".join(self._last.values()) + ("" if kind in self._last else line)
            self._file.write(line)
            self._file.flush()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._file.close()


class Following:
    """A reader's end: `news` returns what came since the call before."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / _FILE
        self._place = 0

    def news(self) -> list[dict[str, Any]]:
        try:
            return self._read()
        except ValueError:  # it began anew and is as long again already: this was half a line
            self._place = 0
            return self._read()

    def _read(self) -> list[dict[str, Any]]:
        try:
            with self._path.open("rb") as file:
                if file.seek(0, 2) < self._place:
                    self._place = 0  # it began anew
                file.seek(self._place)
                whole, _, _ = file.read().rpartition(b"\n")
        except OSError:
            return []
        self._place += len(whole) + 1 if whole else 0
        return [json.loads(line) for line in whole.splitlines()]
