"""The state of a study: the replay of its journal, and nothing else.

    study     everything fixed at the start (StudyConfig)
    ask       a segment handed out    {"segment", "phase", "label", "slot", "joined", "waits"}
    slot      one that waited or trained, handed out in a pack of another size  {"trial", "slot"}
    report    what it brought back           {"report"}
    judge     the search is over             {"allowance": full trainings for the verdict, "early"}
    verdict   the judgement, once            {"verdict"}
    end       why the driver stopped         {"status", "message"}
    pause     nothing is handed out any more, until "resume"
    resume    a driver took over, or a pause ended

Every event also has "at" (seconds since the epoch). `State.apply` is the only place that says
what an event means; the controller, the screen, the report and MLflow all read a State.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from automl.aims import BY_DRIVER, COST, Aims, Objective
from automl.errors import StudyError
from automl.recipe import Recipe
from automl.records import (
    FAILURES,
    Metrics,
    Packing,
    Report,
    Segment,
    Slot,
    Status,
    TaskCard,
)
from automl.search.pareto import front_of, knee
from automl.search.prescreen import Pool
from automl.space.ranges import Value
from automl.space.tree import Space
from automl.study.options import StudyOptions

Event = Mapping[str, Any]  # {"kind": ..., "at": ..., ...}

ATTEMPTS = 3  # times that a segment is run when its worker goes away, before its trial is given up


@dataclass(frozen=True, kw_only=True)
class StudyConfig(StudyOptions):
    """What is fixed when a study is made: its options, and what its start has found.

    The same command gives an equal one. Its `queue` is "" where no broker was named.
    """

    name: str
    workers: int
    card: TaskCard
    fidelity: tuple[int, int, int]  # min_steps, max_steps, eta
    full_seconds: float = 0.0  # one full training, estimated by the smoke trial
    refill: bool = False  # whether slots of packs that become free are given to further trials
    packing: Packing | None = None  # what the smoke trial measured of the baseline's packs
    place: str = ""  # folder or URL of checkpoints and code; "": the study's folder
    portfolio: tuple[Mapping[str, Value], ...] | None = None  # learnt from studies; None: shipped
    pool: Pool | None = None  # the networks that a proxy ranked, with their scores

    def to_json(self) -> dict[str, Any]:
        return {
            **{n: getattr(self, n) for n in self.__dataclass_fields__},
            "card": self.card.to_json(),
            "packing": None if self.packing is None else self.packing.to_json(),
            "pool": None if self.pool is None else self.pool.to_json(),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> StudyConfig:
        """What `to_json` gave.

        Raises:
            StudyError: another version of this library gave it.
        """
        odd = sorted(data.keys() - cls.__dataclass_fields__.keys())  # what it lacks has a default
        if odd:
            raise StudyError(
                f"the study was begun by another version of automl, with an option '{odd[0]}' that "
                "this one lacks; read it with that one, or delete it: automl rm NAME"
            )
        low, high, eta = data["fidelity"]
        packing, learnt, pool = (data.get(n) for n in ("packing", "portfolio", "pool"))
        return cls(
            **{
                **data,
                "card": TaskCard.from_json(data["card"]),
                "fidelity": (low, high, eta),
                "portfolio": None if learnt is None else tuple(learnt),
                "packing": None if packing is None else Packing.from_json(packing),
                "pool": None if pool is None else Pool.from_json(pool),
            }
        )


@dataclass
class Trial:
    """One recipe under evaluation, from start to end."""

    number: int
    recipe: Recipe
    phase: str  # "search" | "verdict" | "ablation"
    label: str  # "baseline", "portfolio", "", "finalist 3", "without mixup" ...
    status: str = "running"  # "running", "waiting" (at a rung), or a Status
    reached: int = 0
    curve: list[tuple[int, Metrics]] = field(default_factory=list)
    seconds: float = 0.0
    passes: float = 0.0
    test: Metrics | None = None
    message: str = ""
    device: str = ""
    memory_mib: float = 0.0
    started: float = 0.0
    ended: float = 0.0
    found: Mapping[str, Any] | None = None  # by a supernet
    attempts: int = 0  # times that a worker went away with the present segment
    start: int = 0  # step that it began at; later than 0 after a fork
    parent: tuple[int, int] | None = None  # then, the trial and step that it went on from

    def values(self, metric: str) -> list[tuple[int, float]]:
        """(step, value) of one metric, such as "val/accuracy"."""
        return [(step, m[metric]) for step, m in self.curve if metric in m]

    def last(self, metric: str) -> float | None:
        values = self.values(metric)
        return values[-1][1] if values else None

    @property
    def failed(self) -> bool:
        return self.status in FAILURES


@dataclass
class State:
    """A study as its journal tells it. Made by `replay`, advanced by `apply`."""

    config: StudyConfig | None = None
    trials: dict[int, Trial] = field(default_factory=dict)
    open: dict[int, Segment] = field(default_factory=dict)  # handed out, no report yet
    slots: dict[int, Slot] = field(default_factory=dict)  # of open segments that are packed
    packings: list[tuple[Recipe, Packing]] = field(default_factory=list)  # what workers measured
    waiting: set[int] = field(default_factory=set)  # open, and not handed out: for company
    joined: set[int] = field(default_factory=set)  # open, and took a slot that was another's
    packed: set[int] = field(default_factory=set)  # trials that were trained in packs
    chosen: Counter[Hashable] = field(default_factory=Counter)  # structures of new trials: free
    led: Counter[Hashable] = field(default_factory=Counter)  # and of those asked to share them
    gains: dict[int, float] = field(default_factory=dict)  # of their packs' number; 0: unknown
    ended_early: str = ""  # why the search ended before its budget did
    allowance: float | None = None  # full trainings for the verdict; None: still searching
    verdict: Mapping[str, Any] | None = None  # study.verdict.Verdict.to_json()
    ended: str = ""  # "", "done", "interrupted", "failed", "stopped"
    message: str = ""
    paused: bool = False
    created: float = 0.0
    updated: float = 0.0
    wall_seconds: float = 0.0  # while a driver was alive and not paused, across resumes
    searched: int = 0  # search trials begun at step 0
    _passes: float = 0.0
    _seconds: float = 0.0  # of training, all trials
    _paces: dict[Hashable, tuple[float, int]] = field(default_factory=dict)  # (passes, steps)
    _best: Trial | None = None

    def apply(self, event: Event) -> None:
        """Take one event of the journal."""
        at = float(event["at"])
        kind = event["kind"]
        if kind == "study":
            self.config = StudyConfig.from_json(event["config"])
            self.created = self.updated = at
            if self.config.packing is not None:
                card = self.config.card
                baseline = Recipe(Space.from_json(card.space).default(), steps=card.steps)
                self.packings.append((baseline, self.config.packing))
        if kind != "resume" and not self.paused:
            self.wall_seconds += at - self.updated
        self.updated = at
        if kind == "ask":
            self._choose(event)
            self._asked(Segment.from_json(event["segment"]), event["phase"], event["label"], at)
            if event.get("slot"):
                self.slots[event["segment"]["trial"]] = Slot.from_json(event["slot"])
                self.gains[event["segment"]["trial"]] = event["gain"]
            if event.get("waits"):
                self.waiting.add(event["segment"]["trial"])
            if event.get("joined"):
                self.joined.add(event["segment"]["trial"])
        elif kind == "slot":
            self.waiting.discard(event["trial"])
            self.slots[event["trial"]] = Slot.from_json(event["slot"])
            self.gains[event["trial"]] = event["gain"]
        elif kind == "report":
            self._reported(Report.from_json(event["report"]), at)
        elif kind == "judge":
            self.allowance = float(event["allowance"])
            self.ended_early = event.get("early", "")
        elif kind == "verdict":
            self.verdict = event["verdict"]
        elif kind == "end":
            self.ended, self.message = event["status"], event["message"]
            self.paused = False
        elif kind == "pause":
            self.paused = True
        elif kind == "resume":
            self.ended = self.message = ""
            self.paused = False

    def _choose(self, event: Event) -> None:
        segment = Segment.from_json(event["segment"])
        if event["phase"] != "search" or segment.start > 0:
            return
        structure, label = segment.recipe.structure, event["label"]
        like = event.get("like")
        if like is None or self.trials[like].recipe.structure != structure:
            self.chosen[structure] += 1
        elif not label:  # such as a portfolio's, which comes as it is
            self.led[structure] += 1

    def _asked(self, segment: Segment, phase: str, label: str, at: float) -> None:
        trial = self.trials.get(segment.trial)
        if trial is None:
            trial = Trial(segment.trial, segment.recipe, phase, label, started=at)
            trial.start, trial.parent = segment.start, segment.parent
            self.trials[segment.trial] = trial
            # A fork takes the place of a trial that was begun: it is none of its own.
            self.searched += phase == "search" and segment.start == 0
        trial.status = "running"
        trial.attempts = 0
        self.open[segment.trial] = segment

    def _reported(self, report: Report, at: float) -> None:
        trial = self.trials[report.trial]
        if report.status != Status.STOPPED:  # its checkpoint counts on; the next report has it all
            trial.seconds += report.seconds
            trial.passes += report.passes
            self._seconds += report.seconds
            self._passes += report.passes
            passes, steps = self._paces.get(_pace_of(trial.recipe), (0.0, 0))
            steps += report.reached - report.start
            self._paces[_pace_of(trial.recipe)] = passes + report.passes, steps
        trial.message, trial.device = report.message, report.device
        trial.memory_mib = max(trial.memory_mib, report.memory_mib)
        trial.attempts += report.status == Status.LOST
        if report.packed > 1:
            self.packed.add(report.trial)
        if report.packing is not None:
            self.packings.append((trial.recipe, report.packing))
        self._released(report)
        lost = report.status == Status.LOST and trial.attempts < ATTEMPTS
        if lost or report.status == Status.STOPPED:
            return  # the segment stays open: it is run again
        del self.open[report.trial]
        self.joined.discard(report.trial)
        trial.curve = [(s, m) for s, m in trial.curve if s <= report.start]
        trial.curve += self._with_costs(trial.curve, report)
        trial.reached, trial.test, trial.ended = report.reached, report.test, at
        trial.found = report.found
        whole = report.reached >= trial.recipe.steps
        waiting = report.status == Status.DONE and not whole
        trial.status = "waiting" if waiting else report.status.value
        if trial.status == Status.DONE and trial.phase == "search" and self._improves(trial):
            self._best = trial

    def _with_costs(
        self, before: list[tuple[int, Metrics]], report: Report
    ) -> list[tuple[int, Metrics]]:
        """The report's curve with seconds and passes since step 0, where they are asked for.

        Within a segment they are told only at its end; between, they grow evenly.
        """
        asked = [n for n in self.aims.measures if n in BY_DRIVER]
        if not asked:
            return list(report.curve)
        length = max(report.reached - report.start, 1)
        last = before[-1][1] if before else {}
        found: list[tuple[int, Metrics]] = []
        for step, metrics in report.curve:
            share = (step - report.start) / length
            costs = {
                COST + n: last.get(COST + n, 0.0) + share * float(getattr(report, n)) for n in asked
            }
            found.append((step, {**metrics, **costs}))
        return found

    def _released(self, report: Report) -> None:
        """Give up the trial's slot; one whose worker went away gets one in half of the pack."""
        if report.status == Status.STOPPED:
            return
        slot = self.slots.pop(report.trial, None)
        if slot is not None and report.status == Status.LOST:
            half = slot.halved()
            if half is not None:
                self.slots[report.trial] = half

    def _improves(self, trial: Trial) -> bool:
        value = trial.last(self.metric)
        if value is None or math.isnan(value):
            return False
        best = self._best.last(self.metric) if self._best else None
        if self._best is None or best is None:
            return True
        mine, theirs = self.violation(trial), self.violation(self._best)
        return mine < theirs if mine != theirs else self.better(value, best)

    # What people ask of a study ------------------------------------------------------------

    @property
    def metric(self) -> str:
        """The metric that is searched on, as it stands in curves: "val/accuracy"."""
        assert self.config is not None
        return f"val/{self.config.card.metric}"

    @property
    def aims(self) -> Aims:
        """Objectives and constraints; the metric alone where nothing else was asked for."""
        assert self.config is not None
        card = self.config.card
        return card.aims or Aims((Objective(self.metric, card.direction),))

    def violation(self, trial: Trial) -> float:
        """How far the trial breaks the constraints where it stands; 0: it keeps them."""
        return self.aims.violation(trial.curve[-1][1] if trial.curve else {})

    def front(self) -> list[Trial]:
        """Finished search trials that keep the constraints and that none of them beats in every
        objective; the best in the first one leads. Of one objective it is the incumbent."""
        aims = self.aims
        found = [(t, aims.losses(t.curve[-1][1])) for t in self.finished() if t.curve]
        valued = [(t, x) for t, x in found if all(math.isfinite(v) for v in x)]
        violations = [self.violation(t) for t, _ in valued]
        return [valued[i][0] for i in front_of([x for _, x in valued], violations)]

    def compromise(self) -> Trial | None:
        """The knee of the front; None where it has none, and of one objective."""
        front = self.front() if self.aims.several else []
        found = knee([self.aims.losses(t.curve[-1][1]) for t in front])
        return None if found is None else front[found]

    def better(self, a: float, b: float) -> bool:
        """Whether value a is strictly better than b."""
        assert self.config is not None
        return a > b if self.config.card.direction == "maximize" else a < b

    def search_trials(self) -> list[Trial]:
        return [t for t in self.trials.values() if t.phase == "search"]

    def supernet(self) -> Trial | None:
        """The trial that looks for an architecture, where the study has one."""
        return next((t for t in self.trials.values() if t.phase == "supernet"), None)

    def late_trials(self) -> list[Trial]:
        """Those of the verdict: finals and ablations."""
        return [t for t in self.trials.values() if t.phase in ("verdict", "ablation")]

    def finished(self) -> list[Trial]:
        """Search trials trained to their last step."""
        return [t for t in self.search_trials() if t.status == Status.DONE]

    def incumbent(self) -> Trial | None:
        """The best finished search trial in the first objective; ties go to the earlier one.

        One that keeps the constraints comes before all that do not.
        """
        return self._best

    def passes(self) -> float:
        """Forward-backward passes of all trials, in study steps."""
        return self._passes

    def pace(self, recipe: Recipe) -> float:
        """Passes a step, as trials of its gradient and optimizer made them; of no such trial, 1."""
        passes, steps = self._paces.get(_pace_of(recipe), (0.0, 0))
        return passes / steps if steps > 0 else 1.0

    def baseline(self) -> Trial | None:
        return self.trials.get(0)

    def full_seconds(self) -> float:
        """Seconds of one full training on one worker: measured, or what the smoke trial said."""
        assert self.config is not None
        if self._passes < self.config.card.steps:
            return self.config.full_seconds
        return self._seconds / self._passes * self.config.card.steps


def _pace_of(recipe: Recipe) -> Hashable:
    return recipe.point.get("gradient"), recipe.point.get("optimizer")


def replay(events: Iterable[Event]) -> State:
    """The state after all of `events`."""
    state = State()
    for event in events:
        state.apply(event)
    return state
