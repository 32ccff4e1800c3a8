"""How several studies share workers: each worker divides itself among the studies that it fits.

Every driver says once a second what it wants and has out. A study may have as many orders out as

    share = sum over the workers that fit it of  free * priority / (priorities of hungry studies)

where `free` is what studies with less work than their part leave of that worker. So workers never
idle while one study has work, a small study that comes gets its part as soon as segments of a
large one end, and one of priority 2 gets twice as much as one of priority 1. Nothing that trains
is taken away.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, cast

import redis

from automl.executors.crew import Fields, listening
from automl.executors.needs import met

_KEYS = "automl:driving:"  # one a live driver
_EXPIRE_SECONDS = 10


@dataclass(frozen=True, slots=True)
class Claim:
    """What one driver wants."""

    study: str
    queues: tuple[str, ...]
    needs: tuple[str, ...] = ()
    priority: int = 1
    out: int = 0  # orders that are trained, or wait
    hungry: bool = True  # it would have more out if it might

    def fits(self, workers: Mapping[str, Fields]) -> dict[str, Fields]:
        """Workers that may train it."""
        here = listening(workers, self.queues)
        return {name: w for name, w in here.items() if met(self.needs, w)}


def announce(client: redis.Redis, claim: Claim) -> None:
    """Say so for the next seconds. May raise one of `leases.Gone`, as what follows."""
    client.set(_KEYS + claim.study, json.dumps(asdict(claim)), ex=_EXPIRE_SECONDS)


def withdraw(client: redis.Redis, study: str) -> None:
    client.delete(_KEYS + study)


def claims(client: redis.Redis) -> list[Claim]:
    """What all live drivers want."""
    keys = sorted(str(key) for key in client.scan_iter(match=f"{_KEYS}*", count=1000))
    found = cast(Any, client.mget(keys)) if keys else []
    read = [json.loads(text) for text in found if text]
    return [Claim(**{**c, "queues": tuple(c["queues"]), "needs": tuple(c["needs"])}) for c in read]


def share(own: Claim, others: Sequence[Claim], workers: Mapping[str, Fields]) -> float:
    """Orders that `own` may have out beside what `others` want, in workers."""
    rivals = [claim for claim in others if claim.study != own.study]
    places = {claim.study: claim.fits(workers) for claim in rivals}
    total = 0.0
    for name in own.fits(workers):
        here = [claim for claim in rivals if name in places[claim.study]]
        weight = own.priority + sum(claim.priority for claim in here)
        calm = [claim for claim in here if not claim.hungry]
        used = sum(min(c.out / len(places[c.study]), c.priority / weight) for c in calm)
        hungry = own.priority + sum(c.priority for c in here if c.hungry)
        total += (1 - used) * own.priority / hungry
    return total
