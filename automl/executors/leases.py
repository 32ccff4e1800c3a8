"""What the driver does with orders in Redis; `holding` is the workers' side.

    put      the driver lays down an order           waiting, and in the lists of its routes
    claim    a worker takes it for a while            waiting -> leased, with a token of its own
    renew    and says that it is still there          hears which trials are cancelled
    part     and brings reports of some members       still leased, "ended" in the stream
    change   the driver says who is in the pack now   as it was; a holder hears of it as it renews
    commit   and brings the reports                   leased -> gone, reports in the stream;
                                                      and the next of its route is taken
    release  or gives it back                         leased -> waiting, "handed" in the stream
    refuse   or will have nothing of this study       leased -> waiting, "refused" in the stream
    cancel   the driver wants trials of it stopped    waiting -> gone, "withdrawn" in the stream,
                                                      if it wants none any more; else see renew
    sweep    the driver ends leases that ran out      leased -> waiting, "handed"; the third time
                                                      leased -> gone, "lost" in the stream

Every step but `put` and `claim` needs the token of the present holder. A token is a count of the
claims (the fence) and a word of the claimer's own: a server that lost its last second after a
crash may count to the same number twice, but never to the same token. So an order is committed
once, whatever is killed, frozen or delivered twice; a holder that is refused drops its work.

A pack that is refilled is one order all the while, under one lease. Its text is the driver's word
alone: what of the pack has no report yet. So whoever claims it after a crash trains just that, and
a newcomer that came too late, for the order was committed without it, is handed out anew.

The broker's messages are only a bell. A worker that heard one takes order after order from the
list of the route that the bell came by. When the list is empty it lingers for a moment, and `put`
hands it what comes. So few bells are needed: `put` asks for one where fewer lie in the broker's
queue than orders in the list. A list is a hint, too: it may name orders that are held or gone,
and an order that it lacks is found by its own message.

Keys, all below `automl:STUDY:`
    task            what workers open, JSON
    order:ID        hash: order, laid, trials, seconds, fence, token, owner, cancel, lapses;
                    `laid` counts the times that others joined
    leases          sorted set: ID by the end of its lease, server's milliseconds
    reports         stream: committed reports, "ended", "closing" (likewise, of a worker that takes
                    nothing new), "lost", "handed", "refused", "withdrawn"
    progress        stream, bounded: evaluations of running trials
    refusals        hash: until when (server's milliseconds) a worker will not be asked again
and, of all studies,
    automl:waiting:ROUTE    list of "STUDY ID", in the order of their coming
    automl:lingering:ROUTE  sorted set: workers that linger, by the end of that
    automl:hand:WORKER      list: the lease that one that lingers was handed
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import redis

from automl.executors.crew import EXPIRE_SECONDS, KEYS

LEASE_SECONDS = 30.0
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

NOW = "local t = redis.call('TIME'); local now = t[1] * 1000 + math.floor(t[2] / 1000)\n"
WAITING = "automl:waiting:"

# A claim that is sent twice, because its answer was lost, is the same claim.
TAKE = (
    NOW
    + f"""
local function refused(study, life)
  local ends = redis.call('HGET', 'automl:' .. study .. ':refusals', life)
  return ends and tonumber(ends) > now
end
local function say(owner, ...)
  local key = '{KEYS}' .. owner
  redis.call('HSET', key, ...)
  redis.call('EXPIRE', key, {EXPIRE_SECONDS})
end
local function take(study, id, word, owner, life)
  local root = 'automl:' .. study .. ':'
  local key = root .. 'order:' .. id
  local found = redis.call('HMGET', key, 'order', 'token', 'seconds', 'trials')
  local order, held = found[1], found[2]
  if not order or refused(study, life) then return nil end
  if held and not string.find(held, word, 1, true) then return nil end
  local token = held or (redis.call('HINCRBY', key, 'fence', 1) .. ':' .. word)
  local seconds = found[3] or '{LEASE_SECONDS}'
  redis.call('HSET', key, 'token', token, 'owner', owner)
  redis.call('ZADD', root .. 'leases', now + math.floor(seconds * 1000), id)
  say(owner, 'study', study, 'trials', found[4] or '', 'turn', word .. ' ' .. study .. ' ' .. id)
  return {{study, id, token, seconds, order, redis.call('GET', root .. 'task') or '{{}}'}}
end
"""
)

# Entries at the head of a list that wait no longer are dropped here, too: of a route that nobody
# listens on, no worker would.
_PUT = (
    TAKE
    + """
local key, task = KEYS[1], KEYS[2]
local study, id = ARGV[1], ARGV[2]
local there = redis.call('EXISTS', key) == 1
if ARGV[3] == '' then
  if not there then return {} end
else
  if ARGV[6] ~= '' then redis.call('SET', task, ARGV[6])
  elseif redis.call('EXISTS', task) == 0 then return false end
  if there then
    redis.call('HDEL', key, 'cancel')
    if redis.call('HGET', key, 'order') ~= ARGV[3] then
      redis.call('HSET', key, 'order', ARGV[3], 'trials', ARGV[4])
      redis.call('HINCRBY', key, 'laid', 1)
    end
  else redis.call('HSET', key, 'order', ARGV[3], 'trials', ARGV[4], 'seconds', ARGV[5]) end
end
local ring = {}
if redis.call('HEXISTS', key, 'token') == 1 then return ring end
local entry = study .. ' ' .. id
for n = 7, #ARGV do
  local lingering = 'automl:lingering:' .. ARGV[n]
  redis.call('ZREMRANGEBYSCORE', lingering, '-inf', now)
  for _, worker in ipairs(redis.call('ZRANGE', lingering, 0, -1)) do
    local word, owner, life = unpack(cjson.decode(worker))
    local taken = take(study, id, word, owner, life)
    if taken then
      redis.call('ZREM', lingering, worker)
      redis.call('RPUSH', 'automl:hand:' .. life, cjson.encode(taken))
      redis.call('EXPIRE', 'automl:hand:' .. life, 60)
      return ring
    end
  end
end
for n = 7, #ARGV do
  local list = 'automl:waiting:' .. ARGV[n]
  redis.call('RPUSH', list, entry)
  while true do
    local s, i = string.match(redis.call('LINDEX', list, 0), '^(.*) (%S+)$')
    local state = redis.call('HMGET', 'automl:' .. s .. ':order:' .. i, 'order', 'token')
    if state[1] and not state[2] then break end
    redis.call('LPOP', list)
  end
  if redis.call('LLEN', ARGV[n]) < redis.call('LLEN', list) then ring[#ring + 1] = ARGV[n] end
end
return ring
"""
)

_CHANGE = f"""
local owner = redis.call('HGET', KEYS[1], 'owner')
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
redis.call('HSET', KEYS[1], 'order', ARGV[1], 'trials', ARGV[2])
redis.call('HINCRBY', KEYS[1], 'laid', ARGV[3])
if owner and redis.call('EXISTS', '{KEYS}' .. owner) == 1 then
  redis.call('HSET', '{KEYS}' .. owner, 'trials', ARGV[2])
end
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
    NOW
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
class Entry:
    """One entry of the reports' stream: "reports" with JSON, "lost", "handed" ..."""

    at: str  # its place in the stream
    id: str
    kind: str
    data: str


def connect(url: str, *, alone: bool = False) -> redis.Redis:
    """A client that gives up on a silent server after seconds, not never.

    `alone`: of one thread only, which spares each command a visit to the pool of connections.
    """
    return redis.Redis.from_url(
        url,
        decode_responses=True,
        socket_timeout=_SOCKET_SECONDS,
        socket_connect_timeout=_SOCKET_SECONDS,
        health_check_interval=10,
        single_connection_client=alone,
    )


class Leases:
    """Orders and reports of one study. Every call may raise one of `Gone`."""

    def __init__(self, client: redis.Redis, study: str, *, seconds: float = LEASE_SECONDS) -> None:
        self.study, self.seconds = study, seconds
        self._client = client
        self._root = f"automl:{study}:"
        self._leases, self._reports = self._root + "leases", self._root + "reports"
        self._progress, self._task = self._root + "progress", self._root + "task"
        self._text = "{}"  # of the task
        script = client.register_script
        self._put, self._change = script(_PUT), script(_CHANGE)
        self._cancel, self._sweep = script(_CANCEL), script(_SWEEP)

    def announce(self, task: Mapping[str, Any]) -> None:
        self._text = json.dumps(task)
        self._client.set(self._task, self._text)

    def put(self, id: str, order: Mapping[str, Any], routes: Sequence[str] = ()) -> list[str]:
        """Lay an order down; one that is there already stays as it is, but for cancellations.

        Returns:
            Those of `routes` where a bell must be rung.
        """
        return self.turn({id: order}, routes, ())[id]

    def turn(
        self, orders: Mapping[str, Mapping[str, Any]], routes: Sequence[str], known: Iterable[str]
    ) -> dict[str, list[str]]:
        """Lay orders down, and remove known entries of the reports' stream, in one round trip."""
        places = list(known)
        if not orders and not places:
            return {}
        text = ""  # of the task, as long as the server has it
        while True:
            pipe = self._client.pipeline(transaction=False)
            for id, order in orders.items():
                laid = [self.study, id, json.dumps(order), _trials(order), str(self.seconds), text]
                keys = [self._key(id), self._task]
                pipe.evalsha(self._put.sha, 2, *keys, *laid, *routes)
            if places:
                pipe.xdel(self._reports, *places)
            try:
                answers = pipe.execute()
            except redis.exceptions.NoScriptError:
                self._client.script_load(_PUT)
                continue
            rings = dict(zip(orders, answers, strict=False))
            if None not in rings.values():
                return rings
            text = self._text

    def change(self, id: str, order: Mapping[str, Any], *, joined: bool) -> None:
        """Say what is left of an order that is out; nothing where the server has it no more."""
        self._change(keys=[self._key(id)], args=[json.dumps(order), _trials(order), int(joined)])

    def again(self, id: str, routes: Sequence[str]) -> list[str]:
        """Put an order that came back into the lists of its routes; those where a bell lacks."""
        args = [self.study, id, "", "", "", "", *routes]
        return cast("list[str]", self._put(keys=[self._key(id), self._task], args=args))

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

    def last_progress(self) -> str:
        """The present end of the progress stream."""
        newest = cast(Any, self._client.xrevrange(self._progress, count=1))
        return str(newest[0][0]) if newest else "0-0"

    def clear(self) -> None:
        """Remove all of the study; holders are refused at their next step."""
        for list_ in self._client.scan_iter(match=f"{WAITING}*", count=1000):
            for entry in cast(Any, self._client.lrange(list_, 0, -1)):
                if entry.rpartition(" ")[0] == self.study:
                    self._client.lrem(list_, 0, entry)
        keys = list(self._client.scan_iter(match=f"{_literal(self._root)}*", count=1000))
        if keys:
            self._client.delete(*keys)

    # ----------------------------------------------------------------------------------------

    def _key(self, id: str) -> str:
        return f"{self._root}order:{id}"

    def _keys(self, id: str) -> list[str]:
        return [self._key(id), self._leases, self._reports]


def _trials(order: Mapping[str, Any]) -> str:
    return " ".join(str(s["trial"]) for s in order.get("segments", ()))


def _flat(parts: Mapping[str, Any], name: str) -> list[tuple[str, dict[str, str]]]:
    """Entries of one stream; the client wraps them once more under the newer protocol."""
    entries = parts.get(name, [])
    if entries and isinstance(entries[0], list) and isinstance(entries[0][0], list | tuple):
        entries = entries[0]
    return [(at, fields) for at, fields in entries]


def _literal(text: str) -> str:
    """`text` as a pattern that matches itself alone."""
    return "".join(f"\\{c}" if c in "*?[]\\^" else c for c in text)
