"""Holds a lease while its order is trained, from a thread of its own.

A server that is away, or a network that is cut, answers after seconds or never. The training side
must not wait for it: it hands progress to this thread and looks at what the thread has heard.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from automl.executors.holding import Holder, Lease
from automl.executors.leases import Gone

_RENEW_SECONDS = 0.5  # also the delay of a cancellation, and of what a screen shows
_UNTOLD = 1000  # evaluations kept while the server is away; older ones are dropped


class Keeper:
    """Renews `lease` until it is left.

    `cancelled` are the trials that the driver wants stopped; `lost` becomes true when the lease is
    another's. What was told but not sent when the keeper is left is in `untold`.
    """

    def __init__(self, holder: Holder, lease: Lease) -> None:
        self._holder, self._lease = holder, lease
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._keep, daemon=True)
        self.cancelled: set[int] = set()
        self.lost = False
        self.untold: deque[Mapping[str, Any]] = deque(maxlen=_UNTOLD)

    def tell(self, progress: Mapping[str, Any]) -> None:
        """An evaluation, sent within half a second or with the commit."""
        self.untold.append(progress)

    def __enter__(self) -> Keeper:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join()

    def _keep(self) -> None:
        while not self._over.wait(_RENEW_SECONDS):
            with contextlib.suppress(*Gone):
                answer = self._holder.renew(self._lease)
                if answer is None:
                    self.lost = True
                    return
                self.cancelled |= answer
                sending = list(self.untold)
                if sending:
                    self._holder.tell(self._lease.study, sending)
                    for _ in sending:
                        self.untold.popleft()
