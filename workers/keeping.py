"""Holds a lease while its order is trained, from a thread of its own.

A server that is away, or a network that is cut, answers after seconds or never. The training side
must not wait for it: it hands progress to this thread and looks at what the thread has heard.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

from automl.executors.holding import Holder, Lease
from automl.executors.leases import Gone

_RENEW_SECONDS = 0.5  # also the delay of a cancellation, and of what a screen shows
_UNTOLD = 1000  # evaluations kept while the server is away; older ones are dropped


class Held:
    """A lease that is kept.

    `cancelled` are the trials that the driver wants stopped; `lost` becomes true when the lease is
    another's. What was told but not sent when the lease is let go is in `untold`.
    """

    def __init__(self, lease: Lease) -> None:
        self.lease = lease
        self.cancelled: set[int] = set()
        self.lost = False
        self.untold: deque[Mapping[str, Any]] = deque(maxlen=_UNTOLD)

    def tell(self, progress: Mapping[str, Any]) -> None:
        """An evaluation, sent within half a second or with the commit."""
        self.untold.append(progress)


class Keeper:
    """Renews one lease after the other; its thread is started once, for orders may be short."""

    def __init__(self, holder: Holder) -> None:
        self._holder = holder
        self._lock = threading.Lock()  # taken while the server is asked
        self._held: Held | None = None
        threading.Thread(target=self._keep, daemon=True).start()

    @contextlib.contextmanager
    def keep(self, lease: Lease) -> Iterator[Held]:
        """Renew it until it is left; then nothing more is sent for it from here."""
        held = Held(lease)
        self._held = held
        try:
            yield held
        finally:
            with self._lock:
                self._held = None

    def _keep(self) -> None:
        while True:
            time.sleep(_RENEW_SECONDS)
            with self._lock, contextlib.suppress(*Gone):
                if self._held is not None and not self._held.lost:
                    self._renew(self._held)

    def _renew(self, held: Held) -> None:
        answer = self._holder.renew(held.lease)
        if answer is None:
            held.lost = True
            return
        held.cancelled |= answer
        sending = list(held.untold)
        if sending:
            self._holder.tell(held.lease.study, sending)
            for _ in sending:
                held.untold.popleft()
