"""Who trains what: packs, leases and reports in Redis, decided by Lua on the server's clock.

    put      the driver lays down an order           waiting
    claim    a worker takes it for a while            waiting -> leased, with a token of its own
    renew    and says that it is still there          hears which trials are cancelled
    commit   and brings the reports                   leased -> gone, reports in the stream
    release  or gives it back                         leased -> waiting, "handed" in the stream
    cancel   the driver wants trials of it stopped    waiting -> gone, "withdrawn" in the stream,
                                                      if it wants none any more; else see renew
    sweep    the driver ends leases that ran out      leased -> waiting, "handed"; the third time
                                                      leased -> gone, "lost" in the stream

Every step but `put` and `claim` needs the token of the present holder. A token is a count of the
claims (the fence) and a word of the claimer's own: a server that lost its last second after a
crash may count to the same number twice, but never to the same token. So an order is committed
once, whatever is killed, frozen or delivered twice; a holder that is refused drops its work.

Keys, all below `automl:STUDY:`
    task            what workers open, JSON
    order:ID        hash: order, fence, token, owner, cancel, lapses
    leases          sorted set: ID by the end of its lease, server's milliseconds
    reports         stream: committed reports, "lost", "handed", "withdrawn"
    progress        stream, bounded: evaluations of running trials
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import redis

LEASE_SECONDS = 30.0
_PROGRESS_ENTRIES = 10_000  # kept for a driver that is slow or away
_SOCKET_SECONDS = 5.0
_BLOCK_SECONDS = 2.0  # below the socket's own limit

# The server is away, full, or someone's replica for a moment; it may come back.
Gone = (
    redis.ConnectionError,
    redis.TimeoutError,
    redis.exceptions.OutOfMemoryError,
    redis.exceptions.ReadOnlyError,
)

_LAPSES = 3  # leases of one order that may run out until it is lost: machines and networks fail too

_NOW = "local t = redis.call('TIME'); local now = t[1] * 1000 + math.floor(t[2] / 1000)\n"

_PUT = """
if redis.call('EXISTS', KEYS[1]) == 1 then redis.call('HDEL', KEYS[1], 'cancel'); return 0 end
redis.call('HSET', KEYS[1], 'order', ARGV[1])
return 1
"""

# A claim that is sent twice, because its answer was lost, is the same claim.
_CLAIM = (
    _NOW
    + """
local order = redis.call('HGET', KEYS[1], 'order')
if not order then return nil end
local held = redis.call('HGET', KEYS[1], 'token')
if held and not string.find(held, ARGV[2], 1, true) then return nil end
local token = held or (redis.call('HINCRBY', KEYS[1], 'fence', 1) .. ':' .. ARGV[2])
redis.call('HSET', KEYS[1], 'token', token, 'owner', ARGV[3])
local task = redis.call('GET', KEYS[3]) or '{}'
local seconds = cjson.decode(task).lease_seconds or tonumber(ARGV[4])
redis.call('ZADD', KEYS[2], now + math.floor(seconds * 1000), ARGV[1])
return {token, order, task}
"""
)

_RENEW = (
    _NOW
    + """
if redis.call('HGET', KEYS[1], 'token') ~= ARGV[2] then return nil end
redis.call('ZADD', KEYS[2], now + ARGV[3], ARGV[1])
return redis.call('HGET', KEYS[1], 'cancel') or ''
"""
)

_COMMIT = """
if redis.call('HGET', KEYS[1], 'token') ~= ARGV[2] then return 0 end
for n = 5, #ARGV do
  redis.call('XADD', KEYS[4], 'MAXLEN', '~', ARGV[4], '*', 'data', ARGV[n])
end
redis.call('XADD', KEYS[3], '*', 'id', ARGV[1], 'kind', 'reports', 'data', ARGV[3])
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('DEL', KEYS[1])
return 1
"""

_RELEASE = """
if redis.call('HGET', KEYS[1], 'token') ~= ARGV[2] then return 0 end
redis.call('HDEL', KEYS[1], 'token', 'owner')
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('XADD', KEYS[3], '*', 'id', ARGV[1], 'kind', 'handed', 'data', '')
return 1
"""

_CANCEL = """
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
if ARGV[3] == '0' or redis.call('HEXISTS', KEYS[1], 'token') == 1 then
  return redis.call('HSET', KEYS[1], 'cancel', ARGV[2])
end
redis.call('XADD', KEYS[3], '*', 'id', ARGV[1], 'kind', 'withdrawn', 'data', '')
return redis.call('DEL', KEYS[1])
"""

_SWEEP = (
    _NOW
    + """
local late = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now)
for _, id in ipairs(late) do
  local key = ARGV[1] .. id
  local owner = redis.call('HGET', key, 'owner')
  redis.call('ZREM', KEYS[1], id)
  if owner then
    local kind = 'handed'
    if redis.call('HINCRBY', key, 'lapses', 1) < tonumber(ARGV[2]) then
      redis.call('HDEL', key, 'token', 'owner')
    else
      kind = 'lost'
      redis.call('DEL', key)
    end
    redis.call('XADD', KEYS[2], '*', 'id', id, 'kind', kind, 'data', owner)
  end
end
return #late
"""
)


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to train one order; it ends when it is not renewed."""

    id: str
    token: str
    order: Mapping[str, Any]
    task: Mapping[str, Any]  # what must be open to train it


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of the reports' stream: "reports" with JSON, "lost", "handed", "withdrawn"."""

    at: str  # its place in the stream
    id: str
    kind: str
    data: str


def connect(url: str) -> redis.Redis:
    """A client that gives up on a silent server after seconds, not never."""
    return redis.Redis.from_url(
        url,
        decode_responses=True,
        socket_timeout=_SOCKET_SECONDS,
        socket_connect_timeout=_SOCKET_SECONDS,
        health_check_interval=10,
    )


class Leases:
    """Orders, leases and reports of one study. Every call may raise one of `Gone`."""

    def __init__(self, client: redis.Redis, study: str, *, seconds: float = LEASE_SECONDS) -> None:
        self.study, self.seconds = study, seconds
        self._client = client
        self._root = f"automl:{study}:"
        self._leases, self._reports = self._root + "leases", self._root + "reports"
        self._progress, self._task = self._root + "progress", self._root + "task"
        script = client.register_script
        self._put, self._claim, self._renew = script(_PUT), script(_CLAIM), script(_RENEW)
        self._commit, self._release = script(_COMMIT), script(_RELEASE)
        self._cancel, self._sweep = script(_CANCEL), script(_SWEEP)

    # The worker's side ----------------------------------------------------------------------

    def claim(self, id: str, owner: str) -> Lease | None:
        """Take the order; None when it is held, committed or withdrawn."""
        word = uuid.uuid4().hex
        keys = [self._key(id), self._leases, self._task]
        answer = self._claim(keys=keys, args=[id, word, owner, self.seconds])
        if answer is None:
            return None
        return Lease(id, answer[0], json.loads(answer[1]), json.loads(answer[2]))

    def renew(self, lease: Lease) -> set[int] | None:
        """Trials that are cancelled; None when the lease is another's, or nobody's."""
        seconds = lease.task.get("lease_seconds", self.seconds)
        keys, length = [self._key(lease.id), self._leases], round(seconds * 1000)
        answer = self._renew(keys=keys, args=[lease.id, lease.token, length])
        return None if answer is None else {int(n) for n in str(answer).split()}

    def commit(
        self,
        lease: Lease,
        reports: list[dict[str, Any]],
        progress: Iterable[Mapping[str, Any]] = (),
    ) -> bool:
        """Bring the reports, and the last progress that was not told yet.

        False when the lease was lost, and they count for nothing.
        """
        told = [json.dumps(p) for p in progress]
        keys = [*self._keys(lease.id), self._progress]
        args = [lease.id, lease.token, json.dumps(reports), str(_PROGRESS_ENTRIES), *told]
        return bool(self._commit(keys=keys, args=args))

    def release(self, lease: Lease) -> bool:
        """Give the order back, to be trained elsewhere from its checkpoint."""
        return bool(self._release(keys=self._keys(lease.id), args=[lease.id, lease.token]))

    def tell(self, progress: Iterable[Mapping[str, Any]]) -> None:
        """Evaluations of running trials, for eyes only."""
        pipe = self._client.pipeline(transaction=False)
        for one in progress:
            fields: dict[Any, Any] = {"data": json.dumps(one)}
            pipe.xadd(self._progress, fields, maxlen=_PROGRESS_ENTRIES, approximate=True)
        pipe.execute()

    # The driver's side ----------------------------------------------------------------------

    def announce(self, task: Mapping[str, Any]) -> None:
        self._client.set(self._task, json.dumps(task))

    def put(self, id: str, order: Mapping[str, Any]) -> None:
        """Lay an order down; one that is there already stays as it is, but for cancellations."""
        self._put(keys=[self._key(id)], args=[json.dumps(order)])

    def cancel(self, id: str, trials: Iterable[int], *, whole: bool) -> None:
        """Ask the holder, now or later, to stop these trials at their next step.

        `whole`: these are all that the order has; it is withdrawn if nobody holds it.
        """
        args: list[str | int] = [id, " ".join(map(str, trials)), int(whole)]
        self._cancel(keys=self._keys(id), args=args)

    def sweep(self) -> int:
        """End the leases that ran out; how many. Their holders are refused from now on."""
        keys = [self._leases, self._reports]
        return int(cast(int, self._sweep(keys=keys, args=[self._root + "order:", _LAPSES])))

    def missing(self, ids: Iterable[str]) -> list[str]:
        """Orders that the server does not know: committed, or forgotten in a crash of its own."""
        asked = list(ids)
        pipe = self._client.pipeline(transaction=False)
        for id in asked:
            pipe.exists(self._key(id))
        return [id for id, there in zip(asked, pipe.execute(), strict=True) if not there]

    def waiting(self, ids: Iterable[str]) -> list[str]:
        """Orders that are there and held by nobody."""
        asked = list(ids)
        pipe = self._client.pipeline(transaction=False)
        for id in asked:
            pipe.hmget(self._key(id), "order", "token")
        pairs = zip(asked, pipe.execute(), strict=True)
        return [id for id, (order, token) in pairs if order and not token]

    def read(
        self, reports: str, progress: str, timeout: float
    ) -> tuple[list[Entry], list[tuple[str, dict[str, Any]]]]:
        """What came after these places of the two streams; waits for `timeout` seconds."""
        block = max(1, round(min(timeout, _BLOCK_SECONDS) * 1000)) if timeout > 0 else None
        streams: dict[Any, Any] = {self._progress: progress, self._reports: reports}
        answer = cast(Any, self._client.xread(streams, block=block)) or {}
        parts = dict(answer)
        return (
            [Entry(at, f["id"], f["kind"], f["data"]) for at, f in _flat(parts, self._reports)],
            [(at, json.loads(f["data"])) for at, f in _flat(parts, self._progress)],
        )

    def forget(self, entries: Iterable[str]) -> None:
        """Remove entries of the reports' stream whose content is in the journal."""
        places = list(entries)
        if places:
            self._client.xdel(self._reports, *places)

    def last_progress(self) -> str:
        """The present end of the progress stream."""
        newest = cast(Any, self._client.xrevrange(self._progress, count=1))
        return str(newest[0][0]) if newest else "0-0"

    def clear(self) -> None:
        """Remove all of the study; holders are refused at their next step."""
        keys = list(self._client.scan_iter(match=f"{_literal(self._root)}*", count=1000))
        if keys:
            self._client.delete(*keys)

    # ----------------------------------------------------------------------------------------

    def _key(self, id: str) -> str:
        return f"{self._root}order:{id}"

    def _keys(self, id: str) -> list[str]:
        return [self._key(id), self._leases, self._reports]


def _flat(parts: Mapping[str, Any], name: str) -> list[tuple[str, dict[str, str]]]:
    """Entries of one stream; the client wraps them once more under the newer protocol."""
    entries = parts.get(name, [])
    if entries and isinstance(entries[0], list) and isinstance(entries[0][0], list | tuple):
        entries = entries[0]
    return [(at, fields) for at, fields in entries]


def _literal(text: str) -> str:
    """`text` as a pattern that matches itself alone."""
    return "".join(f"\\{c}" if c in "*?[]\\^" else c for c in text)
