"""Which workers live, and what each of them does: a hash a worker, which expires with its beats.

queue    names of the queues that it listens on, with commas
device   "cpu", or what the GPU is called; memory   bytes of that device
study    key of the study that it trains for, "" when idle; trials   their numbers, with spaces
doing    the same for people, "digits/12": made of the two when it is read
done, failed    segments that it has settled; resident   bytes of its training process then
beat     seconds since the epoch
draining there once it was asked to leave when its order is done
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import redis

KEYS = "automl:worker:"  # one a live worker
EXPIRE_SECONDS = 12  # six beats

Fields = Mapping[str, str]


def living(client: redis.Redis) -> dict[str, dict[str, str]]:
    """What each live worker says of itself, by name. May raise one of `leases.Gone`."""
    keys = sorted(str(key) for key in client.scan_iter(match=f"{KEYS}*", count=1000))
    pipe = client.pipeline(transaction=False)
    for key in keys:
        pipe.hgetall(key)
    found = zip(keys, cast(Any, pipe.execute()), strict=True)
    return {
        key.removeprefix(KEYS): {**fields, "doing": _doing(fields)}
        for key, fields in found
        if "pid" in fields
    }


def close(client: redis.Redis, names: Sequence[str]) -> None:
    """Note that these workers take nothing new. May raise one of `leases.Gone`."""
    for name in set(names) & living(client).keys():
        client.hset(f"{KEYS}{name}", "draining", "1")


def listening(workers: Mapping[str, Fields], queues: Sequence[str]) -> dict[str, Fields]:
    """Those that listen on one of these queues."""
    wanted = set(queues)
    return {n: w for n, w in workers.items() if wanted & set(w.get("queue", "").split(","))}


def _doing(fields: Fields) -> str:
    numbers = fields.get("trials", "").split()
    if not numbers:
        return ""
    more = f" and {len(numbers) - 1} more" if len(numbers) > 1 else ""
    study = fields.get("study", "")
    return f"{study.rpartition('-')[0] or study}/{numbers[0]}{more}"


def seen(
    study: str,
    queues: Sequence[str],
    needs: Sequence[str],
    workers: Mapping[str, Fields],
    fit: Mapping[str, Fields],
) -> dict[str, Any]:
    """The event that tells a screen who could train this study, and who does."""
    return {
        "kind": "crew",
        "queues": list(queues),
        "needs": list(needs),
        "unfit": len(listening(workers, queues)) - len(fit),
        "workers": [
            {
                "name": name,
                "device": w.get("device", ""),
                "memory": int(w.get("memory") or 0),
                "doing": w.get("doing", ""),
                "trials": [int(n) for n in w.get("trials", "").split()]
                if w.get("study") == study
                else [],
            }
            for name, w in sorted(fit.items())
        ],
    }
