"""Ctrl-C and SIGTERM: once asks a study to finish cleanly, twice to stop at once."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from types import FrameType

_NOTES = {
    1: "stopping: running trials save themselves ... (again: stop at once)",
    2: "stopping at once",
}


_early = 0  # Ctrl-Cs since the command began


@contextlib.contextmanager
def noticed() -> Iterator[None]:
    """Remember a Ctrl-C for the study that is about to run.

    Python drops one that arrives within a callback, of which an import has many.
    """
    global _early
    _early, before = 0, signal.getsignal(signal.SIGINT)
    if before is not signal.default_int_handler:  # whoever started us wants none, or has an own
        yield
        return
    signal.signal(signal.SIGINT, _notice)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _notice(signum: int, frame: FrameType | None) -> None:
    global _early
    _early += 1
    raise KeyboardInterrupt


class Stopping:
    """While the block runs, signals are counted; before `run` is called they end it.

    >>> with Stopping(print) as stopping:
    ...     stopping.asked()
    0
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._count = 0
        self.running = False

    def run(self) -> None:
        """From now on the study runs: signals are counted, and nothing is interrupted."""
        self.running = True

    def asked(self) -> int:
        """0 go on, 1 finish cleanly, 2 at once."""
        return min(self._count, 2)

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        self._count += 1
        if not self.running or self._count > 2:
            raise KeyboardInterrupt
        self._say(_NOTES[self._count])

    def __enter__(self) -> Stopping:
        if _early:
            raise KeyboardInterrupt
        self._before = {s: signal.signal(s, self._handle) for s in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
