"""What a study needs of the workers that train it: `--needs gpu --needs memory=40g`.

Memory is that of the worker's device, in the decimal units that cards are sold by: a card of
80 GB meets memory=80g.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from automl.errors import ExecutorError

_UNITS = {"m": 10**6, "g": 10**9, "t": 10**12}


def checked(texts: Sequence[str]) -> tuple[str, ...]:
    """Needs as typed, each once and in order.

    Raises:
        ExecutorError: one of them says nothing that a worker tells of itself.
    """
    needs = tuple(sorted({text.strip().lower() for text in texts}))
    for need in needs:
        if need != "gpu" and not _bytes(need):
            raise ExecutorError(f"--needs {need}: give gpu, or memory=40g")
    return needs


def met(needs: Sequence[str], worker: Mapping[str, str]) -> bool:
    """Whether a worker with these fields (see `crew`) has all of it."""
    memory = int(worker.get("memory") or 0)
    return all(
        worker.get("device", "cpu") != "cpu" if need == "gpu" else memory >= _bytes(need)
        for need in needs
    )


def routes(queues: Sequence[str], needs: Sequence[str]) -> list[str]:
    """Names of the broker's queues for orders of such a study.

    Those without needs lie in the queue itself. Each kind of needs has a queue beside it, on
    which the workers that meet them listen as well, for as long as a study has such needs.
    """
    return [f"{queue}+{'+'.join(needs)}" if needs else queue for queue in queues]


def memory_bytes(text: str, where: str) -> int:
    """Bytes of "8g".

    Raises:
        ExecutorError: it is no size.
    """
    size = _bytes(f"memory={text.strip().lower()}")
    if not size:
        raise ExecutorError(f"{where} {text}: give a size such as 8g or 500m")
    return size


def _bytes(need: str) -> int:
    """Bytes that "memory=40g" asks for; 0: it asks for something else."""
    found = re.fullmatch(r"memory=([0-9]+(?:\.[0-9]+)?)([mgt])b?", need)
    return round(float(found[1]) * _UNITS[found[2]]) if found else 0
