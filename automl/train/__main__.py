"""`python -m automl.train IN OUT PARENT`: a worker process, driven by JSON lines over two pipes.

    driver -> worker    {"op": "open", "spec": ...}
                        {"op": "train", "pack": ..., "key": hex, "waits": bool}
                        {"op": "cancel", "trial": 7}
                        {"op": "join", "segments": [[place, segment] ...]}
    worker -> driver    {"card": ...} or {"error": [class, text]}
                        {"progress": ...}                 {"reports": [...]}
                        {"reports": [...], "free": places} of a pack that is not done; it waits for
                        a join if it was told to, else trains on until there is one

Standard output and error, also of the user's code, belong to the worker's log. The end of the
driver's pipe is the end of the driver: the worker exits at once. PARENT is the process that started
it, and with which it ends.
"""

from __future__ import annotations

import json
import logging
import os
import select
import signal
import sys
import time
import warnings
from collections import deque
from collections.abc import Sequence
from typing import Any

from automl.parents import end_with

_POLL_SECONDS = 0.05  # between looks for a cancellation while training


class Line:
    """The two pipes to the driver."""

    def __init__(self, inward: int, outward: int) -> None:
        self._in, self._out = inward, outward
        self._buffer = b""
        self._orders: deque[dict[str, Any]] = deque()  # all but cancellations
        self._cancelled: set[int] = set()
        self._looked = 0.0

    def say(self, message: dict[str, Any]) -> None:
        data = json.dumps(message).encode() + b"\n"
        try:
            while data:
                data = data[os.write(self._out, data) :]
        except BrokenPipeError:
            os._exit(0)

    def next_order(self) -> dict[str, Any]:
        """The next order but cancellations, which are noted; waits for it."""
        while not self._orders:
            self._read()
        return self._orders.popleft()

    def cancelled(self) -> set[int]:
        """Trials that the driver wants stopped; looks at the pipe at most every 50 ms."""
        now = time.monotonic()
        if now - self._looked > _POLL_SECONDS:
            self._looked = now
            self._look()
        return self._cancelled

    def joined(self) -> list[list[Any]] | None:
        """Segments that join the pack in training, with their places; None: none has come."""
        self._look()
        return self._orders.popleft()["segments"] if self._orders else None

    def _look(self) -> None:
        while select.select([self._in], [], [], 0)[0]:
            self._read()

    def _read(self) -> None:
        data = os.read(self._in, 1 << 16)
        if not data:
            os._exit(0)  # the driver is gone; nobody would hear the rest
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        for line in lines:
            order: dict[str, Any] = json.loads(line)
            if order["op"] == "cancel":
                self._cancelled.add(order["trial"])
                continue
            if order["op"] == "train":
                self._cancelled.clear()  # they were meant for the pack before
            self._orders.append(order)


def serve(line: Line) -> None:
    """Open a task, then train packs until the driver goes."""
    import torch

    from automl.errors import AutomlError
    from automl.records import Pack, Report, Segment, TaskSpec
    from automl.tasks.opening import open_task
    from automl.train.segment import run

    order = line.next_order()
    torch.set_num_threads(1)
    # Momenta of units that have died fade below 1e-38, where arithmetic takes a hundred times as
    # long; as zeros they do not.
    torch.set_flush_denormal(True)
    try:
        task = open_task(TaskSpec.from_json(order["spec"]))
    except AutomlError as error:
        line.say({"error": [type(error).__name__, str(error)]})
        return
    line.say({"card": task.card.to_json()})

    def more(reports: Sequence[Report], free: Sequence[int]) -> list[tuple[int, Segment]] | None:
        if reports:
            line.say({"reports": [r.to_json() for r in reports], "free": list(free)})
        found = line.next_order()["segments"] if order["waits"] else line.joined()
        return None if found is None else [(place, Segment.from_json(s)) for place, s in found]

    while True:
        order = line.next_order()
        if order["op"] != "train":
            continue  # it was to join a pack that has ended
        reports = run(
            Pack.from_json(order["pack"]),
            task,
            progress=lambda p: line.say({"progress": p.to_json()}),
            stop=line.cancelled,
            key=bytes.fromhex(order["key"]) or None,
            more=more,
        )
        line.say({"reports": [r.to_json() for r in reports]})


def main() -> None:
    end_with(int(sys.argv[3]), signal.SIGKILL)  # even inside the user's own C code
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the driver's to hear
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    serve(Line(int(sys.argv[1]), int(sys.argv[2])))


if __name__ == "__main__":
    main()
