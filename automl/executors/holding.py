"""What a worker does with orders in Redis: takes them, holds them and brings their reports.

The rules and the keys stand in `leases`. What a worker is doing, and how much it has done, is
written to its own hash (see `crew`) by the same script that takes an order or settles it.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import redis

from automl.executors.crew import EXPIRE_SECONDS, KEYS
from automl.executors.leases import NOW, TAKE

_PROGRESS_ENTRIES = 10_000  # kept for a driver that is slow or away
LINGER_SECONDS = 0.2
_LINGER_MS = round(LINGER_SECONDS * 1000)
_REFUSAL_SECONDS = 60.0  # until a worker that refused a study is asked again

_CLAIM = TAKE + "return take(ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5])"

# Settle the order in hand, if there is one, and take the next of the route, if there is a route;
# linger, if nothing waits there. What a refusal makes this worker skip stays there for others.
_TURN = (
    TAKE
    + """
local study, id, token, reports, most = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local word, owner, life, route = ARGV[6], ARGV[7], ARGV[8], ARGV[9]
local linger = tonumber(ARGV[13])
local committed = 0
if id ~= '' then
  local root = 'automl:' .. study .. ':'
  local key = root .. 'order:' .. id
  if redis.call('HGET', key, 'token') == token then
    for n = 14, #ARGV do
      redis.call('XADD', root .. 'progress', 'MAXLEN', '~', most, '*', 'data', ARGV[n])
    end
    redis.call('XADD', root .. 'reports', '*', 'id', id, 'kind', 'reports', 'data', reports)
    redis.call('ZREM', root .. 'leases', id)
    redis.call('DEL', key)
    committed = 1
  end
  say(owner, 'done', ARGV[10], 'failed', ARGV[11], 'resident', ARGV[12],
    'study', '', 'trials', '')
end
if route == '' then return {committed} end
local before = redis.call('HGET', '"""
    + KEYS
    + """' .. owner, 'turn') or ''
if string.sub(before, 1, #word) == word then
  local s, i = string.match(before, '^%S+ (.*) (%S+)$')
  return {committed, take(s, i, word, owner, life)}
end
local list, n = 'automl:waiting:' .. route, 0
while true do
  local entry = redis.call('LINDEX', list, n)
  if not entry then
    if linger > 0 then
      local me = cjson.encode({word, owner, life})
      redis.call('ZADD', 'automl:lingering:' .. route, now + linger, me)
    end
    return {committed}
  end
  local s, i = string.match(entry, '^(.*) (%S+)$')
  if refused(s, life) then n = n + 1
  else
    redis.call('LREM', list, 1, entry)
    local taken = take(s, i, word, owner, life)
    if taken then return {committed, taken} end
  end
end
"""
)

_LEAVE = """
for _, entry in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  if cjson.decode(entry)[3] == ARGV[1] then redis.call('ZREM', KEYS[1], entry) end
end
return redis.call('LPOP', KEYS[2])
"""

_RENEW = (
    NOW
    + """
local found = redis.call('HMGET', KEYS[1], 'token', 'cancel', 'laid')
if found[1] ~= ARGV[2] then return nil end
redis.call('ZADD', KEYS[2], now + ARGV[3], ARGV[1])
local laid = found[3] or '0'
if laid == ARGV[4] then return {found[2] or '', laid} end
return {found[2] or '', laid, redis.call('HGET', KEYS[1], 'order')}
"""
)

# A study that is over is told of no more: nobody would ever remove the stream.
_TELL = """
if redis.call('HGET', KEYS[1], 'token') ~= ARGV[1] then return 0 end
for n = 3, #ARGV do
  redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[2], '*', 'data', ARGV[n])
end
return 1
"""

# What has lapsed before is forgiven: the members that ended show that it can be trained.
_PART = """
if redis.call('HGET', KEYS[1], 'token') ~= ARGV[2] then return 0 end
local kind = redis.call('HEXISTS', KEYS[4], 'draining') == 1 and 'closing' or 'ended'
redis.call('XADD', KEYS[3], '*', 'id', ARGV[1], 'kind', kind, 'data', ARGV[3])
redis.call('HDEL', KEYS[1], 'lapses')
return 1
"""

_RELEASE = (
    NOW
    + """
redis.call('HSET', KEYS[5], 'study', '', 'trials', '')
redis.call('EXPIRE', KEYS[5], ARGV[6])
if redis.call('HGET', KEYS[1], 'token') ~= ARGV[2] then return 0 end
redis.call('HDEL', KEYS[1], 'token', 'owner')
redis.call('ZREM', KEYS[2], ARGV[1])
if ARGV[3] ~= '' then redis.call('HSET', KEYS[4], ARGV[4], now + ARGV[5]) end
local kind = ARGV[3] ~= '' and 'refused' or 'handed'
redis.call('XADD', KEYS[3], '*', 'id', ARGV[1], 'kind', kind, 'data', ARGV[3])
return 1
"""
)


Args = list[str | int]


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to train one order; it ends when it is not renewed."""

    study: str
    id: str
    token: str
    seconds: float
    order: Mapping[str, Any]
    task: Mapping[str, Any]  # what must be open to train it


@dataclass(frozen=True, slots=True)
class Renewed:
    """What a holder hears that is still one."""

    cancelled: frozenset[int]  # trials
    laid: int = 0  # times that others have joined the order
    order: Mapping[str, Any] | None = None  # as it is now, if they have since the time before


class Holder:
    """The side of the worker named `owner`. Every call may raise one of `leases.Gone`."""

    def __init__(self, client: redis.Redis, owner: str) -> None:
        self.owner = owner
        self._client = client
        self._life = uuid.uuid4().hex  # another worker of this name may have what this one lacks
        self._task: tuple[str, Mapping[str, Any]] = ("{}", {})  # the last one, as text and read
        script = client.register_script
        self._claim, self._turn = script(_CLAIM), script(_TURN)
        self._renew, self._release = script(_RENEW), script(_RELEASE)
        self._leave, self._part = script(_LEAVE), script(_PART)
        self._tell = script(_TELL)

    def claim(self, study: str, id: str) -> Lease | None:
        """Take the order; None when it is held, committed or withdrawn, or its study refused."""
        args: Args = [study, id, uuid.uuid4().hex, self.owner, self._life]
        return self._lease(self._claim(args=args))

    def next(self, route: str, *, linger: bool = False) -> Lease | None:
        """Take what has waited longest on this route, or comes within a moment."""
        length = _LINGER_MS if linger else 0
        word = uuid.uuid4().hex
        args: Args = ["", "", "", "", "", word, self.owner, self._life, route, 0, 0, 0, length]
        lease = self._taken(self._turn(args=args))[1]
        return self.linger(route) if lease is None and linger else lease

    def linger(self, route: str) -> Lease | None:
        """Take what comes within a moment, after a commit that found nothing on this route."""
        hand = f"automl:hand:{self._life}"
        handed = cast(Any, self._client.blpop([hand], LINGER_SECONDS))
        if handed:
            return self._lease(json.loads(handed[1]))
        late = self._leave(keys=[f"automl:lingering:{route}", hand], args=[self._life])
        return None if late is None else self._lease(json.loads(str(late)))

    def commit(
        self,
        lease: Lease,
        reports: Sequence[Mapping[str, Any]],
        progress: Iterable[Mapping[str, Any]] = (),
        *,
        settled: tuple[int, int, int] = (0, 0, 0),
        route: str = "",
    ) -> tuple[bool, Lease | None]:
        """Bring the reports, and the last progress that was not told yet.

        Args:
            settled: segments that this worker has done well, and failed, so far; and the bytes
                of memory that its training process holds.
            route: to take the next order from, now or by lingering there; "": none.

        Returns:
            False when the lease was lost, and the reports count for nothing; and the next order.
        """
        told = [json.dumps(p) for p in progress]
        head: Args = [lease.study, lease.id, lease.token, json.dumps(reports), _PROGRESS_ENTRIES]
        tail: Args = [uuid.uuid4().hex, self.owner, self._life, route, *settled, _LINGER_MS]
        return self._taken(self._turn(args=[*head, *tail, *told]))

    def renew(self, lease: Lease, laid: int = 0) -> Renewed | None:
        """None when the lease is another's, or nobody's; `laid` is what was heard before."""
        args: Args = [lease.id, lease.token, round(lease.seconds * 1000), laid]
        answer = cast(Any, self._renew(keys=_keys(lease)[:2], args=args))
        if answer is None:
            return None
        cancel, now, *order = answer
        trials = frozenset(int(n) for n in cancel.split())
        return Renewed(trials, int(now), json.loads(order[0]) if order else None)

    def part(self, lease: Lease, reports: Sequence[Mapping[str, Any]]) -> bool:
        """Bring reports of members that have ended while others train; False: see `commit`."""
        args: Args = [lease.id, lease.token, json.dumps(reports)]
        return bool(self._part(keys=[*_keys(lease), KEYS + self.owner], args=args))

    def release(self, lease: Lease, refusal: str = "") -> bool:
        """Give the order back, to be trained elsewhere from its checkpoint.

        With a refusal, this worker takes nothing of the study for the next minute.
        """
        keys = [*_keys(lease), f"automl:{lease.study}:refusals", KEYS + self.owner]
        length = round(_REFUSAL_SECONDS * 1000)
        args: Args = [lease.id, lease.token, refusal, self._life, length, EXPIRE_SECONDS]
        return bool(self._release(keys=keys, args=args))

    def tell(self, lease: Lease, progress: Iterable[Mapping[str, Any]]) -> None:
        """Evaluations of running trials, for eyes only; dropped once the lease is lost."""
        keys = [_keys(lease)[0], f"automl:{lease.study}:progress"]
        told = [json.dumps(one) for one in progress]
        self._tell(keys=keys, args=[lease.token, _PROGRESS_ENTRIES, *told])

    # ----------------------------------------------------------------------------------------

    def _taken(self, answer: Any) -> tuple[bool, Lease | None]:
        committed, *taken = cast("list[Any]", answer)
        return bool(committed), self._lease(taken[0]) if taken else None

    def _lease(self, answer: Any) -> Lease | None:
        if answer is None:
            return None
        study, id, token, seconds, order, task = answer
        if task != self._task[0]:
            self._task = task, json.loads(task)
        return Lease(study, id, token, float(seconds), json.loads(order), self._task[1])


def _keys(lease: Lease) -> list[str]:
    root = f"automl:{lease.study}:"
    return [f"{root}order:{lease.id}", root + "leases", root + "reports"]
