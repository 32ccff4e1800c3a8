"""Four ways to follow a study: a live screen, plain lines, JSON lines, or nothing."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from automl.study.state import State

if TYPE_CHECKING:
    from rich.live import Live

    from .render import Screen


class Show(Protocol):
    """What the driver of a study talks to."""

    def open(self) -> None: ...

    def load(self, state: State) -> None:
        """Go on from `state`: the study was begun earlier."""

    def update(self, event: Mapping[str, Any]) -> None: ...

    def say(self, note: str) -> None:
        """Called by a signal handler: must not wait for anything."""

    def close(self) -> None:
        """Nothing is shown any more; again is harmless."""

    def end(self, lines: Sequence[str]) -> None:
        """Print what came of it."""


def choose(*, as_json: bool, quiet: bool, plain: bool = False) -> Show:
    """The way that suits the options and what stdout is; `plain`: lines even on a terminal."""
    if as_json:
        return Json()
    if quiet:
        return Silent()
    on_screen = not plain and sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
    return Screened() if on_screen and not os.environ.get("CI") else Plain()


class Silent:
    """Nothing until the end."""

    def open(self) -> None: ...

    def load(self, state: State) -> None: ...

    def update(self, event: Mapping[str, Any]) -> None: ...

    def say(self, note: str) -> None:
        _to_stderr(note)

    def close(self) -> None: ...

    def end(self, lines: Sequence[str]) -> None:
        print("\n".join(lines))


class Json(Silent):
    """Every event as one line of JSON on stdout; NaN and infinities become null."""

    def update(self, event: Mapping[str, Any]) -> None:
        print(json.dumps(_finite(event), separators=(",", ":"), allow_nan=False), flush=True)

    def end(self, lines: Sequence[str]) -> None: ...


class Plain(Silent):
    """Few plain lines on stdout."""

    def __init__(self) -> None:
        from .plain import PlainLines

        self._lines = PlainLines(State(), lambda text: print(text, flush=True))
        self.load = self._lines.load  # type: ignore[method-assign]
        self.update = self._lines.update  # type: ignore[method-assign]


class Screened(Silent):
    """The live screen on stdout, gone without a trace when it closes."""

    _live: Live
    _screen: Screen

    def open(self) -> None:
        # Rich is drawn in only where there is a terminal to draw on.
        from rich.console import Console
        from rich.live import Live

        from .render import Screen

        self._screen = Screen(State())
        self._live = Live(
            self._screen,
            console=Console(),
            refresh_per_second=4,
            transient=True,
            redirect_stderr=False,
        )
        self._live.start()

    def load(self, state: State) -> None:
        self._screen.load(state)

    def update(self, event: Mapping[str, Any]) -> None:
        self._screen.update(event)

    def say(self, note: str) -> None:
        self._screen.say(note)

    def close(self) -> None:
        self._live.stop()


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return value


def _to_stderr(text: str) -> None:
    # Not print: a handler may run inside another print, whose buffer refuses a second writer.
    os.write(2, f"{text}\n".encode())
