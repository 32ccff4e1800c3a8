"""A TCP proxy on this machine whose line can be cut, as a cable would be."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
from dataclasses import dataclass, field

_LOOK_SECONDS = 0.02


@dataclass
class _End:
    """One side of a connection, and what still has to be written to it."""

    line: socket.socket
    other: _End | None = None
    waiting: bytearray = field(default_factory=bytearray)


class Proxy:
    """Forwards connections to `port`. While it is cut nothing passes and nobody hears why."""

    def __init__(self, port: int) -> None:
        self._target = ("127.0.0.1", port)
        self._door = socket.create_server(("127.0.0.1", 0))
        self._door.setblocking(False)
        self.port = int(self._door.getsockname()[1])
        self._whole, self._closing = threading.Event(), threading.Event()
        self._whole.set()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._door, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def cut(self) -> None:
        self._whole.clear()

    def mend(self) -> None:
        self._whole.set()

    def close(self) -> None:
        self._closing.set()
        self._whole.set()
        self._thread.join()
        for key in list(self._selector.get_map().values()):
            assert isinstance(key.fileobj, socket.socket)
            key.fileobj.close()
        self._selector.close()

    def _serve(self) -> None:
        while not self._closing.is_set():
            if not self._whole.wait(_LOOK_SECONDS):
                continue
            for key, events in self._selector.select(_LOOK_SECONDS):
                if key.fileobj is self._door:
                    self._accept()
                elif key.data.line.fileno() >= 0:  # not closed with its other end just now
                    self._forward(key.data, events)

    def _accept(self) -> None:
        line, _ = self._door.accept()
        try:
            far = socket.create_connection(self._target, timeout=1)
        except OSError:
            line.close()
            return
        ends = _End(line), _End(far)
        ends[0].other, ends[1].other = ends[1], ends[0]
        for end in ends:
            end.line.setblocking(False)
            self._selector.register(end.line, selectors.EVENT_READ, end)

    def _forward(self, end: _End, events: int) -> None:
        other = end.other
        assert other is not None
        try:
            if events & selectors.EVENT_WRITE:
                del end.waiting[: end.line.send(end.waiting)]
                self._listen(end)
            if events & selectors.EVENT_READ:
                data = end.line.recv(1 << 16)
                if not data:
                    raise ConnectionResetError
                other.waiting += data
                self._listen(other)
        except BlockingIOError:
            return
        except OSError:
            for one in (end, other):
                with contextlib.suppress(KeyError):
                    self._selector.unregister(one.line)
                one.line.close()

    def _listen(self, end: _End) -> None:
        write = selectors.EVENT_WRITE if end.waiting else 0
        self._selector.modify(end.line, selectors.EVENT_READ | write, end)
