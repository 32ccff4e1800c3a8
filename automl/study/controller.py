"""The driver: asks the strategy, hands out segments, writes the journal, ends with a verdict.

    strategy.ask -> journal -> executor.submit -> report -> journal + strategy.tell -> ...

One thread, one writer. Everything that a decision rests on is in the journal before the decision
is acted on, so a driver that is killed at any moment goes on by replay: the strategy is built
anew and asked and told again, in the recorded order, and open segments are handed out again
(a worker finds what their trials have already trained in the checkpoint store).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from automl.checkpoints import Store
from automl.errors import StudyError
from automl.executors.executor import Refilling
from automl.records import FAILURES, Pack, Progress, Report, Segment, Slot, Status, Vacancy
from automl.search.strategy import Ending
from automl.study import architecture
from automl.study.budget import Budget
from automl.study.control import Control
from automl.study.keeping import Keeper
from automl.study.packing import (
    STRAYS,
    Ask,
    Group,
    Packer,
    by_slot,
    declined,
    engine_of,
    followers,
    joins,
    largest_pack,
    size_left,
    slots_left,
    slots_of,
    worth_leaving,
)
from automl.study.preparing import Listener, Prepared
from automl.study.state import State, StudyConfig
from automl.study.telling import next_segment, retell, strategy_of, told
from automl.study.verdict import judge, next_trials

Stop = Callable[[], int]  # 0 go on, 1 finish cleanly, 2 at once

_POLL_SECONDS = 0.25  # a report wakes the driver at once; this only bounds a Ctrl-C's wait
_SAVING_SECONDS = 30.0  # for running segments to write their checkpoints when the study stops
_HOPELESS = 3  # first trials that fail in the same way: the task is wrong, not the recipes


def run(
    prepared: Prepared, *, listen: Listener = lambda event: None, stop: Stop = lambda: 0
) -> State:
    """Run a prepared study to its end, or until `stop` says so.

    `listen` hears every event of the journal as it is written, and "progress" and "phase" events
    besides. A study that has ended already is returned as it is. What is asked of it in
    `automl.study.control` counts as well.

    Raises:
        StudyError: the task fails whatever the recipe, with the user's own error.
    """
    return _Driver(prepared, listen, stop).run()


def begin(prepared: Prepared) -> None:
    """Write down a new study that another process shall run."""
    if prepared.state.config is None:
        event = {"kind": "study", "config": prepared.config.to_json(), "at": time.time()}
        prepared.journal.append([event])
        prepared.state.apply(event)


class _Driver:
    def __init__(self, prepared: Prepared, listen: Listener, stop: Stop) -> None:
        self.config: StudyConfig = prepared.config
        self.state = prepared.state
        self.journal = prepared.journal
        self.executor = prepared.executor
        self.store = Store(prepared.checkpoints)
        self.budget = Budget.parse(self.config.budget)
        self.listen = listen
        self.control = Control(prepared.folder)
        self._asked_to_stop = stop
        self.keeper = Keeper(
            self.store, prepared.checkpoint_budget, lambda t: listen({"kind": "note", "text": t})
        )
        self.strategy = strategy_of(self.config, self.budget)
        fulls = self.budget.search_fulls(self.config)
        # Who stands where in a refilled pack is lost with its worker; so `--pack K` refills none.
        refilling = self.config.refill and isinstance(self.executor, Refilling)
        self.packer = Packer(self.config.pack, largest_pack(self.config, fulls), mixed=refilling)
        self._followers = followers(self.config, fulls)
        self._ready: list[Pack] = []  # journaled, and waiting for a free worker
        self._waiting: list[Segment] = []  # asked for beside a pack that could not take them
        self._leaving: dict[str, set[int]] = {}  # by pack: trials asked to go on in a smaller one
        self._left: dict[str, list[Segment]] = {}  # of these, those that have stopped
        self._out: set[int] = set()  # trials that the executor has

    def run(self) -> State:
        if self.state.verdict is not None:
            self.keeper.concluded(self.state)  # whoever concluded it may have been killed before
            return self.state
        if self.state.config is None:
            self._record([{"kind": "study", "config": self.config.to_json()}])
        else:
            retell(self.strategy, self.journal.events())
            self._record([{"kind": "resume"}])
            self.keeper.begin(self.state)
            self._take_up()
        try:
            finished = self._phase("search") and self._phase("verdict")
        except StudyError as error:
            self._end("failed", str(error))
            raise
        if finished:
            self._conclude()
        else:
            self._interrupt()
        return self.state

    def _phase(self, name: str) -> bool:
        """Work until nothing is left to do in this phase; False when asked to stop."""
        if name == "search" and self.state.allowance is not None:
            return True
        self.listen({"kind": "phase", "phase": name})
        ask = self._ask_search if name == "search" else self._ask_verdict
        while True:
            if self.control.wish() == "pause":
                self._pause()
            if self.stop():
                return False
            asked = ask()
            if not asked and not self.state.open:
                break
            self._collect()
        if name == "search":
            early = self.strategy.ended() if isinstance(self.strategy, Ending) else ""
            allowance = self.budget.allowance(self.state)
            self._record([{"kind": "judge", "allowance": allowance, "early": early}])
        return True

    def stop(self) -> int:
        """0 go on, 1 finish cleanly, 2 at once."""
        return self._asked_to_stop() or int(self.control.wish() == "stop")

    def _collect(self) -> None:
        """Wait for news and journal what came."""
        reports = self._reports()
        self._hand_out_again(self._again(reports, self._take(reports)))
        self._refill()

    def _reports(self) -> list[Report]:
        """Reports, as soon as there are any."""
        reports: list[Report] = []
        for news in self.executor.reports(_POLL_SECONDS):
            if isinstance(news, Progress):
                self.listen({"kind": "progress", **news.to_json()})
            else:
                self._out.discard(news.trial)
                reports.append(news)
        return reports

    # Asking ---------------------------------------------------------------------------------

    def _ask_search(self) -> bool:
        """Give each free worker segments of its own; False when none were asked for."""
        if architecture.due(self.state) and self._free() > 0:
            segment = architecture.supernet_segment(self.config, self.strategy)
            event = self._asked(segment, architecture.PHASE)
            return self._hand_out([event], [Group([segment], 1)])
        going_on = self.budget.searching(self.state) or self.strategy.queued
        free = self._free()
        if free <= 0 or not (going_on or self._waiting):
            return False
        events: list[dict[str, Any]] = []
        ask = self._asking(events) if going_on else lambda beside: None
        groups = self.packer.gather(ask, free, self.state, self._waiting)
        self._waiting = []
        return self._hand_out(events, groups)

    def _asking(self, events: list[dict[str, Any]]) -> Ask:
        """Ask the strategy for one segment after the other; what it gave stands in `events`."""
        asked: list[Segment] = []

        def ask(beside: Segment | None) -> Segment | None:
            if (asked or beside is not None) and not self.budget.room(self.state, asked):
                return None
            begun = sum(s.start == 0 for s in asked)
            if beside is not None:
                begun += self.strategy.queued  # which take no slot of such a pack
            new = self.budget.new_trials(self.state, begun)
            if beside is not None and not self._may_follow(beside, asked, events):
                new = False
            like = beside if new else None
            found = next_segment(self.strategy, new, like.recipe if like else None)
            if found is None:
                return None
            asked.append(found)
            event = {**self._asked(found, "search"), "new": new}
            events.append({**event, "like": like.trial} if like else event)
            return found

        return ask

    def _may_follow(
        self, leader: Segment, asked: Sequence[Segment], events: Sequence[dict[str, Any]]
    ) -> bool:
        """Whether a new trial may be asked to train beside the leader, sharing its structure."""
        if math.isinf(self._followers):
            return self.packer.mixed or not leader.start  # it could not walk with it
        structure = leader.recipe.structure
        chosen, led = self.state.chosen[structure], self.state.led[structure]
        for segment, event in zip(asked, events, strict=True):
            if segment.start == 0 and segment.recipe.structure == structure:
                chosen += "like" not in event
                led += "like" in event and not event["label"]
        return not leader.start and led < self._followers * chosen

    def _refill(self, *, none: bool = False) -> None:
        """Say who takes the slots that have become free in packs that train on."""
        if isinstance(self.executor, Refilling):
            for vacancy in self.executor.vacancies():
                closed = none or self._closed(vacancy)
                joining = {} if closed else self._joining(vacancy)
                self._out |= {s.trial for s in joining.values()}
                self.executor.join(vacancy, joining)
                if not none and not self.stop():
                    self._shrink([*vacancy.segments, *joining.values()])

    def _closed(self, vacancy: Vacancy) -> bool:
        """Whether nobody joins a pack any more: none that began it trains, or others wait."""
        began = any(s.trial not in self.state.joined for s in vacancy.segments)
        searching = self.state.allowance is None and self.budget.searching(self.state)
        crowded = len(self._ready) + len(self._waiting) >= STRAYS
        leaving = self.state.slots[vacancy.segments[0].trial].pack in self._leaving
        spent = not searching or not self.budget.room(self.state, [])
        return crowded or leaving or not began or spent or bool(self.stop())

    def _shrink(self, staying: Sequence[Segment]) -> None:
        """Ask the members of a pack to go on in one of their own number: empty slots cost."""
        slot = self.state.slots[staying[0].trial]
        if not worth_leaving(staying, slot, self.state) or slot.pack in self._leaving:
            return
        self._leaving[slot.pack] = {s.trial for s in staying}
        for segment in staying:
            self.executor.cancel(segment.trial)

    def _again(self, reports: Sequence[Report], again: Sequence[Segment]) -> list[Segment]:
        """What of `again` is to be handed out as it was; who has left a pack gets a new one."""
        rest = list(again)
        for pack, leaving in list(self._leaving.items()):
            gone = {r.trial for r in reports} & leaving
            leaving -= gone
            left = self._left.setdefault(pack, [])
            left += [s for s in rest if s.trial in gone]
            rest = [s for s in rest if s.trial not in gone]
            if leaving:
                continue
            del self._leaving[pack], self._left[pack]
            size = size_left(left, self.state)
            events = [
                {
                    "kind": "slot",
                    "trial": s.trial,
                    "gain": self.state.gains[s.trial],
                    "slot": slot.to_json(),
                }
                for s, slot in zip(left, slots_left(left, size), strict=True)
            ]
            self._record(events)
            rest += left
        return rest

    def _joining(self, vacancy: Vacancy) -> dict[int, Segment]:
        """The next trials of a pack's structure."""
        state, staying = self.state, vacancy.segments
        slot, gain = state.slots[staying[0].trial], state.gains[staying[0].trial]
        events: list[dict[str, Any]] = []
        ask, joining, free = self._asking(events), dict[int, Segment](), list(vacancy.places)
        room = STRAYS - len(self._ready)
        while free and len(self._waiting) < room and (found := ask(staying[0])) is not None:
            if not joins(found, staying[0], state):
                self._waiting.append(found)
                events[-1]["waits"] = True
                continue
            place = free.pop(0)
            joining[place] = found
            taken = Slot(slot.pack, place, slot.size)
            events[-1] |= {"slot": taken.to_json(), "gain": gain, "joined": True}
        if events:
            self._record(events)
        return joining

    def _ask_verdict(self) -> bool:
        free = self._free()
        if free <= 0:
            return False
        planned = next_trials(self.state, allowance_fulls=self.state.allowance)
        number = max(self.state.trials, default=-1) + 1
        plans = dict(enumerate(planned, number))
        segments = [Segment(n, p.recipe, 0, p.recipe.steps) for n, p in plans.items()]
        groups = self.packer.arranged(segments, free, self.state)[:free]
        # Trial numbers leave no gaps: those that wait get theirs when their turn comes.
        chosen = [plans[s.trial] for g in groups for s in g.segments]
        fresh = iter(range(number, number + len(chosen)))
        groups = [replace(g, segments=[replace(s, trial=next(fresh)) for s in g.segments])
                  for g in groups]  # fmt: skip
        events = [
            self._asked(segment, plan.phase, plan.label)
            for plan, segment in zip(chosen, (s for g in groups for s in g.segments), strict=True)
        ]
        return self._hand_out(events, groups)

    def _asked(self, segment: Segment, phase: str, label: str = "") -> dict[str, Any]:
        label = label or self.strategy.label(segment.trial)
        return {"kind": "ask", "segment": segment.to_json(), "phase": phase, "label": label}

    def _free(self) -> int:
        return self.executor.capacity - len(self._ready)

    # Handing out ----------------------------------------------------------------------------

    def _hand_out(self, events: Sequence[dict[str, Any]], groups: Sequence[Group]) -> bool:
        """Journal what was asked for with who trains beside whom, then submit it."""
        slots = slots_of(groups)
        gains = {g.name: g.gain for g in groups}
        for event in events:
            slot = slots.get(event["segment"]["trial"])
            if slot is not None:
                event["slot"] = slot.to_json()
                event["gain"] = gains[slot.pack]
        new = {event["segment"]["trial"] for event in events}
        alone = {
            s.trial: Slot(g.name, 0, 1) for g in groups for s in g.segments if s.trial not in slots
        }
        late: list[dict[str, Any]] = [
            {"kind": "slot", "trial": n, "slot": slot.to_json(), "gain": gains[slot.pack]}
            for n, slot in {**slots, **alone}.items()
            if n not in new
        ]
        self._record([*events, *late])
        self._ready += [self._pack(g.segments, g.probe) for g in groups]
        self._submit()
        return bool(groups)

    def _hand_out_again(self, segments: Iterable[Segment]) -> None:
        """Submit segments that are in the journal: nobody trains them any more."""
        self._ready += [self._pack(p) for p in by_slot(segments, self.state.slots)]
        self._submit()

    def _take_up(self) -> None:
        """Submit again what nobody trains; who waited for company goes on waiting."""
        state = self.state
        self._waiting = [s for n, s in state.open.items() if n in state.waiting]
        self._hand_out_again(
            s for n, s in state.open.items() if n not in state.waiting and n not in self._out
        )

    def _pack(self, segments: Sequence[Segment], probe: int = 0) -> Pack:
        test = self.state.trials[segments[0].trial].phase not in ("search", architecture.PHASE)
        slots = [self.state.slots.get(s.trial) for s in segments]
        size = max(slot.size if slot else 1 for slot in slots)
        if declined(segments[0].recipe, self.state):
            size = 1  # what was found when the pack began, before it was handed out again
        places = tuple(slot.place if slot else 0 for slot in slots)
        engine = engine_of(segments[0].recipe, self.state)
        refill = self.packer.mixed and size > 1 and not test
        # Of this study's life: one of the same name may have been here before.
        name = f"{slots[0].pack} {self.state.created}" if refill and slots[0] else ""
        return Pack(
            tuple(segments), self.store.root, test, size, places, probe,
            engine=engine, refill=refill, name=name,
        )  # fmt: skip

    def _submit(self) -> None:
        while self._ready and self.executor.capacity > 0:
            pack = self._ready.pop(0)
            self._out |= {s.trial for s in pack.segments}
            self.executor.submit(pack)

    # Reports --------------------------------------------------------------------------------

    def _take(self, reports: Sequence[Report]) -> list[Segment]:
        """Journal reports of different trials at once; which segments must run again."""
        pairs = [(report, self.state.open[report.trial]) for report in reports]
        self._record([{"kind": "report", "report": report.to_json()} for report in reports])
        again = []
        for report, segment in pairs:
            if report.trial in self.state.open:  # lost or stopped
                again.append(segment)
            else:
                self._learn(report, segment)
        return again

    def _learn(self, report: Report, segment: Segment) -> None:
        trial = self.state.trials[report.trial]
        if trial.phase == "search":
            values = told(report, self.state)
            self.strategy.tell(segment, values, seconds=report.seconds)
        elif trial.phase == architecture.PHASE:
            architecture.learn(self.strategy, self.state, report)
        self.keeper.ended(self.state, segment)
        self._give_up_if_hopeless(report)

    def _give_up_if_hopeless(self, report: Report) -> None:
        """A task that fails whatever the recipe ends its study, with the user's own error.

        Raises:
            StudyError: the baseline failed, or the first trials all failed in one way.
        """
        if report.status not in FAILURES:
            return
        first = [t for t in self.state.search_trials() if t.status != "running"][:_HOPELESS]
        alike = len(first) == _HOPELESS and all(t.status == report.status for t in first)
        if report.trial == 0 or alike:
            who = "the baseline" if report.trial == 0 else f"the first {_HOPELESS} trials"
            trace = f"\n{report.traceback}" if report.traceback else ""
            raise StudyError(f"{who} failed ({report.status}): {report.message}{trace}")

    # Ends -----------------------------------------------------------------------------------

    def _conclude(self) -> None:
        verdict = {"kind": "verdict", "verdict": judge(self.state).to_json()}
        self._end("done", "", verdict)  # at once: who is killed between leaves an endless study
        self.keeper.concluded(self.state)

    def _pause(self) -> None:
        """Let running segments save themselves, and wait until something else is asked."""
        self._record([{"kind": "pause"}])
        self._withdraw()
        while self.control.wish() == "pause" and not self.stop():
            self._take(self._reports())
            self._refill(none=True)
        if not self.stop():
            self._record([{"kind": "resume"}])
            self._take_up()

    def _interrupt(self) -> None:
        """Let running segments save themselves, then leave; a second stop leaves at once."""
        self._withdraw()
        deadline = time.monotonic() + _SAVING_SECONDS
        while self._out and self.stop() < 2 and time.monotonic() < deadline:
            self._take([r for r in self._reports() if r.status != Status.LOST])
            self._refill(none=True)
        self._end("interrupted", f"automl resume {self.config.name}")

    def _withdraw(self) -> None:
        """Ask for everything back that was handed out."""
        self._leaving.clear()
        self._left.clear()  # open, as all others: handed out again with them
        self._ready.clear()
        self._waiting.clear()
        for number in self._out:
            self.executor.cancel(number)

    def _end(self, status: str, message: str, *before: dict[str, Any]) -> None:
        self._record([*before, {"kind": "end", "status": status, "message": message}])
        self.listen({"kind": "phase", "phase": "done"})

    def _record(self, events: Sequence[dict[str, Any]]) -> None:
        """Make events durable, then true, then known."""
        now = time.time()
        stamped = [{**event, "at": now} for event in events]
        self.journal.append(stamped)
        for event in stamped:
            self.state.apply(event)
            self.listen(event)
