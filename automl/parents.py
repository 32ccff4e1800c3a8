"""A process that ends with the one that started it, however that ends.

Linux sends a signal at the parent's death to whoever asked for it. A parent that died before it
was asked sends none; it is known by the number of its process, which the child has from it.
"""

from __future__ import annotations

import ctypes
import os
import sys

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def end_with(parent: int, signal: int) -> None:
    """Get this signal when the process `parent`, which started this one, ends; only on Linux.

    It is sent when the parent's thread ends that started this process. Leaves at once if the
    parent has ended already.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal)
        if os.getppid() != parent:
            os._exit(1)
