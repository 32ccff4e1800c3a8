"""Holds a lease while its order is trained, from a thread of its own.

A server that is away, or a network that is cut, answers after seconds or never. The training side
must not wait for it: it hands progress and early reports to this thread and looks at what the
thread has heard.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from automl.executors.holding import Holder, Lease
from automl.executors.leases import Gone

_RENEW_SECONDS = 0.5  # also the delay of a cancellation, and of what a screen shows
_SOON_SECONDS = 0.005  # until who joins is looked for after members have ended
_SLOWER = 1.25  # each look after that: so it is heard a quarter later than it was said, at most
_UNTOLD = 1000  # evaluations kept while the server is away; older ones are dropped

Reports = Sequence[Mapping[str, Any]]


class Held:
    """A lease that is kept.

    `cancelled` are the trials that the driver wants stopped; `order` is the order as it was
    changed since it was taken; `lost` becomes true when the lease is another's. What was told but
    not sent when the lease is let go is in `untold`, and reports in `unbrought`.
    """

    def __init__(self, lease: Lease, wake: threading.Event) -> None:
        self.lease = lease
        self.cancelled: Collection[int] = frozenset()
        self.order: Mapping[str, Any] | None = None
        self.lost = False
        self.untold: deque[Mapping[str, Any]] = deque(maxlen=_UNTOLD)
        self.unbrought: deque[Reports] = deque()
        self.laid = 0
        self._wake = wake

    def tell(self, progress: Mapping[str, Any]) -> None:
        """An evaluation, sent within half a second or with the commit."""
        self.untold.append(progress)

    def bring(self, reports: Reports) -> None:
        """Reports of members that have ended, sent at once."""
        self.unbrought.append(reports)
        self._wake.set()


class Keeper:
    """Renews one lease after the other; its thread is started once, for orders may be short.

    `bell` is a pipe that can be read when the order in hand has changed.
    """

    def __init__(self, holder: Holder) -> None:
        self._holder = holder
        self._lock = threading.Lock()  # taken while the server is asked
        self._wake = threading.Event()
        self._held: Held | None = None
        self.bell, self._rope = os.pipe()
        threading.Thread(target=self._keep, daemon=True).start()

    @contextlib.contextmanager
    def keep(self, lease: Lease) -> Iterator[Held]:
        """Renew it until it is left; then nothing more is sent for it from here."""
        held = Held(lease, self._wake)
        self._held = held
        try:
            yield held
        finally:
            with self._lock:
                self._held = None

    def changed(self, held: Held) -> Mapping[str, Any] | None:
        """The order as it is now, once after `bell`."""
        os.read(self.bell, 1 << 10)
        found, held.order = held.order, None
        return found

    def _keep(self) -> None:
        pause = _RENEW_SECONDS
        while True:
            if self._wake.wait(pause):
                self._wake.clear()
                pause = _SOON_SECONDS
            else:
                pause = min(_SLOWER * pause, _RENEW_SECONDS)
            with self._lock, contextlib.suppress(*Gone):
                if self._held is not None and not self._held.lost:
                    self._turn(self._held)

    def _turn(self, held: Held) -> None:
        """Send what waits and hear what is new."""
        sending = list(held.untold)
        if sending:
            self._holder.tell(held.lease, sending)
            for _ in sending:
                held.untold.popleft()
        while held.unbrought:
            if not self._holder.part(held.lease, held.unbrought[0]):
                held.lost = True
                return
            held.unbrought.popleft()
        heard = self._holder.renew(held.lease, held.laid)
        if heard is None:
            held.lost = True
            return
        held.cancelled = heard.cancelled
        if heard.order is not None:
            held.laid, held.order = heard.laid, heard.order
            os.write(self._rope, b"!")
