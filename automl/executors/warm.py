"""A warm worker process: it holds torch and an opened task, and trains one pack after the other.

It is a process of its own so that what a trial does (a crash, a hang, all the memory, `os._exit`)
costs that trial alone. One JSON line a message, over two pipes; what they say stands in
`automl.train.__main__`.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import psutil

from automl import errors
from automl.errors import AutomlError
from automl.records import Pack, Progress, Report, Segment, Status, TaskCard, TaskSpec
from automl.signing import SECRETS

OPEN_SECONDS = 600.0  # to import torch and read the data
_END_SECONDS = 2.0  # for a process to exit after its pipe is closed, before it is killed

# glibc maps and unmaps large activations at every step; kept in the heap they cost no page fault.
# One thread a worker, whatever the cores: with more, small operations wait for each other, and on a
# machine that does something else besides a step was seen to take a hundred times as long.
_ENVIRONMENT = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "17179869184",
    "MALLOC_TOP_PAD_": "67108864",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "PYTHONUNBUFFERED": "1",
}


class Warm:
    """One process and the pack that it trains.

    Start it from a thread that outlives it: the process dies with the thread that started it.

    Args:
        spec: the task that it opens first.
        log: file for what it prints, the user's code included.
        folder: to run in, such as that of a snapshot of the user's code; None: the present one.
        environment: variables of its own, such as CUDA_VISIBLE_DEVICES.
    """

    def __init__(
        self,
        spec: TaskSpec,
        log: Path,
        *,
        folder: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.spec, self.log, self.folder = spec, log, folder
        self.pack: Pack | None = None
        self.card: TaskCard | None = None
        self.failure: AutomlError | None = None
        self.free: tuple[int, ...] | None = None  # places of the pack, once members have ended
        self._given = 0  # segments of the pack, those that joined included
        self._heard = self._begun = time.monotonic()
        self._buffer = b""
        inward, self._orders = os.pipe()
        self.news, outward = os.pipe()
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                # -P: a file in that folder, say random.py, is no module of ours.
                [sys.executable, *(["-P"] if folder else []), "-m", "automl.train",
                 str(inward), str(outward), str(os.getpid())],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=(inward, outward),
                env={**_inherited(), **_ENVIRONMENT, **(environment or {})},
            )  # fmt: skip
        self._seen = psutil.Process(self.process.pid)
        os.close(inward)
        os.close(outward)
        self._order({"op": "open", "spec": spec.to_json()})

    def train(self, pack: Pack, key: bytes | None = None, *, waits: bool = True) -> None:
        """Train a pack, its checkpoints sealed with this key.

        One that is refilled waits for `join` whenever members have ended; else it trains on, and
        `join` may come at any time, or never.
        """
        self.pack, self._begun = pack, time.monotonic()
        self._given = len(pack.segments)
        self._heard = self._begun
        about = {"key": (key or b"").hex(), "waits": waits}
        self._order({"op": "train", "pack": pack.to_json(), **about})

    def join(self, newcomers: Mapping[int, Segment]) -> None:
        """Say who takes which of the places that are free."""
        assert self.pack is not None
        self.pack = self.pack.joined(newcomers)
        self.free, self._heard = None, time.monotonic()
        self._given += len(newcomers)
        segments = [[place, s.to_json()] for place, s in newcomers.items()]
        self._order({"op": "join", "segments": segments})

    def cancel(self, trial: int) -> None:
        """Ask it to stop this trial at its next step; another's is no business of its."""
        if self.pack and any(s.trial == trial for s in self.pack.segments):
            self._order({"op": "cancel", "trial": trial})

    def read(self) -> list[Report | Progress] | None:
        """News that have arrived on the pipe `news`; None when the process is gone."""
        data = os.read(self.news, 1 << 20)
        if not data:
            return None
        self._heard = time.monotonic()
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        return [one for line in lines for one in self._understood(json.loads(line))]

    def overdue(self, *, stall_seconds: float, deadline_seconds: float) -> str:
        """Why it must be killed: it is silent, or takes too long for its segments; "" if not.

        While it still opens the task, it may be silent for longer.
        """
        if self.pack is None:
            return ""
        now = time.monotonic()
        silence = OPEN_SECONDS if self.card is None else stall_seconds
        if now - self._heard > silence:
            return f"no sign of life for {silence:.0f} s; killed"
        if self.card is not None and now - self._begun > deadline_seconds * self._given:
            return f"not done after {deadline_seconds:.0f} s, the limit of a segment; killed"
        return ""

    def resident(self) -> int:
        """Bytes of memory that it holds; 0 when it is gone."""
        try:
            return int(self._seen.memory_info().rss)
        except psutil.Error:
            return 0

    def end(self, *, now: bool) -> None:
        """Close the pipes, which ends an idle process, and make sure of the rest."""
        os.close(self._orders)
        try:
            if now:
                self.process.kill()
            self.process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        os.close(self.news)

    def lost(self, overdue: str = "") -> list[Report]:
        """Reports of what it trained, after its end: TIMEOUT if it was overdue, else LOST."""
        status = Status.TIMEOUT if overdue else Status.LOST
        message = overdue or f"the worker {self.exit()}"
        if not overdue and self.failure is not None:
            message = str(self.failure)  # the task no longer opens
        device = self.card.device if self.card else "cpu"
        segments: tuple[Segment, ...] = self.pack.segments if self.pack else ()
        return [
            Report(s.trial, s.start, s.start, status, message=message, device=device)
            for s in segments
        ]

    def exit(self) -> str:
        """How the process ended, in words."""
        code = self.process.wait()
        if code == -signal.SIGKILL:
            return "was killed (exit -9, likely out of memory)"
        if code < 0:
            return f"died of {signal.Signals(-code).name}"
        return f"exited with code {code}"

    def last_words(self) -> str:
        """The last line of its log."""
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "empty"

    # ----------------------------------------------------------------------------------------

    def _order(self, message: dict[str, Any]) -> None:
        try:
            os.write(self._orders, json.dumps(message).encode() + b"\n")
        except BrokenPipeError:
            return  # it is gone; its news pipe says so too

    def _understood(self, message: dict[str, Any]) -> list[Report | Progress]:
        if "progress" in message:
            return [Progress.from_json(message["progress"])]
        if "reports" in message:
            reports = [Report.from_json(r) for r in message["reports"]]
            if "free" in message and self.pack is not None:
                self.pack = self.pack.without(reports)
                self.free = tuple(message["free"])
            else:
                self.pack = self.free = None
            return [*reports]
        if "card" in message:
            self.card = TaskCard.from_json(message["card"])
            self._begun = time.monotonic()
        elif "error" in message:
            name, text = message["error"]
            self.failure = cast(type[AutomlError], getattr(errors, name))(text)
        return []


def _inherited() -> dict[str, str]:
    """This process's environment without its secrets: what the user's code prints is kept."""
    return {name: value for name, value in os.environ.items() if name not in SECRETS}
