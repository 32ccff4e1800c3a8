"""What travels between the towers: values only, frozen, each with its JSON.

TaskSpec    what the user asked for; a worker opens it          driver -> worker
TaskCard    what a worker found there: metric, space, sizes      worker -> driver
Pack        segments to train, alone or as one program           driver -> worker
Vacancy     slots that have become free in a pack                worker -> driver
Report      what one segment brought back                        worker -> driver
Progress    one evaluation of a running trial, for the screen    worker -> driver
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any

from automl.aims import Aims
from automl.recipe import Recipe

Metrics = Mapping[str, float]  # "train/loss", "val/accuracy", "lr" ... ; NaN and infinities allowed


class Status(StrEnum):
    """How a segment ended. All but DONE, STOPPED and LOST end their trial."""

    DONE = "done"  # reached its last step
    STOPPED = "stopped"  # ended early on request, with a checkpoint where it stood
    DIVERGED = "diverged"  # the loss or a weight is not finite: a value like any other, the worst
    OUT_OF_MEMORY = "out of memory"
    INVALID = "invalid recipe"  # the trainer refuses this combination
    USER_CODE = "user code"  # the user's model, data or loop raised
    LOST = "lost"  # its worker went away: run again
    TIMEOUT = "timeout"  # no sign of life within the stall limit


FAILURES = (Status.OUT_OF_MEMORY, Status.INVALID, Status.USER_CODE, Status.LOST, Status.TIMEOUT)


@dataclass(frozen=True, slots=True)
class TaskSpec:
    """What the user typed, enough for any process to open the same task.

    `source` is a built-in name, a path, or a command line; the rest are the options of
    `automl tune` that change what is trained. `None` means: the task's own default.
    """

    source: str
    command: bool = False  # source is a command line with {placeholders}
    target: str | None = None  # column of a table
    metric: str | None = None
    metric_regex: str | None = None  # for a command
    space: str | None = None  # name of a shipped space, or a TOML file
    sets: tuple[str, ...] = ()  # --set, as typed
    epochs: float | None = None  # length of a full training
    device: str = "auto"  # auto | cpu | cuda | cuda:1
    nas: str | None = None  # how an architecture is found first, as typed: "darts", "pc-darts" ...
    objectives: tuple[str, ...] = ()  # --objective, as typed; (): the metric alone
    constraints: tuple[str, ...] = ()  # --constraint, as typed

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> TaskSpec:
        lists = {n: tuple(data.get(n, ())) for n in ("sets", "objectives", "constraints")}
        return cls(**{**data, **lists})


@dataclass(frozen=True, slots=True)
class TaskCard:
    """What the driver needs to know of an opened task; it never sees the task itself.

    A study step is one optimizer step at `batch_size`; `steps` is a full training,
    `eval_steps` the distance between evaluations. For a loop of the user's own both count
    what the loop reports (epochs, usually) and `batch_size` is 1.
    """

    name: str  # "digits", "adult", ... : default name of a study
    kind: str  # "vector", "image", "tokens", "loop", "command"
    metric: str  # "accuracy": reported as "val/accuracy" and "test/accuracy"
    direction: str  # "maximize" | "minimize"
    space: list[dict[str, Any]]  # Space.to_json()
    steps: int
    eval_steps: int
    batch_size: int
    sizes: Mapping[str, int] = field(default_factory=dict)  # samples: train, valid, test
    about: str = ""  # one line for people: "1,797 images 8x8, 10 classes"
    code_fingerprint: str = ""
    data_fingerprint: str = ""
    resumable: bool = True  # False: a trial cannot continue from a checkpoint
    device: str = "cpu"
    shape: Mapping[str, Any] = field(default_factory=dict)  # methods.stages.Shape as JSON
    classes: tuple[str, ...] = ()
    supernet: Mapping[str, Any] | None = None  # the job of --nas: "point", "steps", "passes"
    aims: Aims | None = None  # where more than the metric counts

    @property
    def directions(self) -> str | tuple[str, ...]:
        """What a strategy is made for: the metric's direction, or one for each objective."""
        return self.direction if self.aims is None else self.aims.directions

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> TaskCard:
        aims = data.get("aims")
        found = {"classes": tuple(data.get("classes", ())),
                 "aims": None if aims is None else Aims.from_json(aims)}  # fmt: skip
        return cls(**{**data, **found})


@dataclass(frozen=True, slots=True)
class Segment:
    """Work order: train `recipe` from step `start` to step `stop`.

    `parent` is the (trial, step) whose checkpoint to continue from, None at step 0. After a fork
    it is another trial's; the worker cannot tell and need not.
    """

    trial: int
    recipe: Recipe
    start: int  # study steps
    stop: int
    parent: tuple[int, int] | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "trial": self.trial,
            "recipe": self.recipe.to_json(),
            "start": self.start,
            "stop": self.stop,
            "parent": self.parent,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Segment:
        parent = data["parent"]
        return cls(
            trial=data["trial"],
            recipe=Recipe.from_json(data["recipe"]),
            start=data["start"],
            stop=data["stop"],
            parent=None if parent is None else (parent[0], parent[1]),
        )


@dataclass(frozen=True, slots=True)
class Slot:
    """A trial's place in a pack of `size`, for as long as its segment lasts.

    Recorded before anything is trained: taken up again after a crash, a segment is computed by
    the same program at the same place, whoever of its company has ended by then.
    """

    pack: str
    place: int  # 0 .. size - 1
    size: int

    def to_json(self) -> list[Any]:
        return [self.pack, self.place, self.size]

    @classmethod
    def from_json(cls, data: Sequence[Any]) -> Slot:
        return cls(data[0], data[1], data[2])

    def halved(self) -> Slot | None:
        """The place in one half of the pack, for when the whole does not fit; None: alone."""
        half = (self.size + 1) // 2
        part, place = divmod(self.place, half)
        size = min(half, self.size - part * half)
        return Slot(f"{self.pack}.{part}", place, size) if size > 1 else None


@dataclass(frozen=True, slots=True)
class Packing:
    """What packs are worth for recipes of one structure, as a worker has measured it.

    `size` members train best together, each `gain` times as fast as alone; 1: better alone, and
    `reason` says why. Of more, it says why they are no CUDA graph, where that was tried. `rows` are
    (members, seconds a member and update, peak memory in MiB). Where `unfit` members ran out of
    memory, `size` are those that went on together, which nobody has timed.
    `engine` is "compiled" where compiling such packs pays within the study. Where that was
    measured, `compiled` is the gain then, and `compile_seconds` what compiling took.
    `padded` is what is left of its speed to a member of half the batch size, whose batches are
    filled up; 0 where that was not tried, or its results would be others.
    """

    size: int
    gain: float
    reason: str = ""
    rows: tuple[tuple[int, float, float], ...] = ()
    engine: str = "traced"
    compiled: float = 0.0
    compile_seconds: float = 0.0
    unfit: int = 0
    padded: float = 0.0

    def up_to(self, largest: int) -> Packing:
        """The same for packs of no more than `largest`: the largest that was timed."""
        if self.size <= largest:
            return self
        members, seconds, _ = max(row for row in self.rows if row[0] <= largest)
        return replace(self, size=members, gain=self.rows[0][1] / seconds)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Packing:
        rows = tuple((int(k), float(s), float(m)) for k, s, m in data["rows"])
        return cls(**{**data, "rows": rows})


@dataclass(frozen=True, slots=True)
class Pack:
    """Segments to train: one, or several of one structure as one program.

    `checkpoints` is the store (a folder) that parents are read from and results written to;
    `test` asks for an evaluation on the test split at the end: only the verdict may. `size` and
    `places` are those of the segments' slots; a size of 1 trains one after the other. With `probe`
    the worker measures packs of up to so many members first, once a structure, and its reports
    say what it found; a pack of several it only tries, and trains its members alone where that is
    as fast; `trainings` is how many full ones of that structure a worker can expect, for
    which compiling may pay. `engine` makes the steps of a pack. With `proxies` nothing is trained:
    the reports hold what these proxies say of the segments' networks as they begin. With `refill`
    the worker reports members as they end, and segments may take their slots while others train;
    `name` is then the pack's own in its study, whoever is in it.
    """

    segments: tuple[Segment, ...]
    checkpoints: str
    test: bool = False
    size: int = 1
    places: tuple[int, ...] = ()
    probe: int = 0
    proxies: tuple[str, ...] = ()
    trainings: float = 0.0
    engine: str = "traced"
    refill: bool = False
    name: str = ""

    @property
    def free(self) -> tuple[int, ...]:
        """Places that no segment has."""
        return tuple(place for place in range(self.size) if place not in self.places)

    def without(self, reports: Iterable[Report]) -> Pack:
        """The same without the segments that these reports end."""
        ended = {(r.trial, r.start) for r in reports}
        stay = [k for k, s in enumerate(self.segments) if (s.trial, s.start) not in ended]
        places = tuple(self.places[k] for k in stay) if self.places else ()
        return replace(self, segments=tuple(self.segments[k] for k in stay), places=places)

    def joined(self, newcomers: Mapping[int, Segment]) -> Pack:
        """The same with these segments in free places."""
        segments = (*self.segments, *newcomers.values())
        return replace(self, segments=segments, places=(*self.places, *newcomers))

    def to_json(self) -> dict[str, Any]:
        return {
            "segments": [s.to_json() for s in self.segments],
            "checkpoints": self.checkpoints,
            "test": self.test,
            "size": self.size,
            "places": list(self.places),
            "probe": self.probe,
            "proxies": list(self.proxies),
            "trainings": self.trainings,
            "engine": self.engine,
            "refill": self.refill,
            "name": self.name,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Pack:
        segments = tuple(Segment.from_json(s) for s in data["segments"])
        return cls(
            **{
                **data,
                "segments": segments,
                "places": tuple(data["places"]),
                "proxies": tuple(data.get("proxies", ())),
            }
        )


@dataclass(frozen=True, slots=True)
class Vacancy:
    """Free slots of a pack whose other members train on; somebody is to say who takes them."""

    where: int | str  # the executor's own word for the pack
    segments: tuple[Segment, ...]  # that train on
    places: tuple[int, ...]  # that are free


@dataclass(frozen=True, slots=True)
class Report:
    """What a segment brought back.

    `curve` holds (step, metrics) for each evaluation inside (start, stop]. `seconds` is this
    member's share of the training time, `passes` counts forward-backward passes in study steps
    (SAM: two a step). The checkpoint lies in the pack's store under (trial, reached).
    """

    trial: int
    start: int
    reached: int  # last step trained, stop if DONE
    status: Status
    curve: tuple[tuple[int, Metrics], ...] = ()
    seconds: float = 0.0
    passes: float = 0.0
    device: str = "cpu"
    memory_mib: float = 0.0  # peak of the process or device
    test: Metrics | None = None
    message: str = ""  # of a failure, one line; ends with "file:line" when the user's code raised
    traceback: str = ""  # of the user's code, its last lines
    packed: int = 1  # members of the program that trained it
    packing: Packing | None = None  # what a probe found, or why this pack was taken apart
    scores: Metrics | None = None  # by proxy, where they were asked for
    found: Mapping[str, Any] | None = None  # by a supernet: architectures, and how it came to them

    def to_json(self) -> dict[str, Any]:
        data = {name: getattr(self, name) for name in self.__slots__}
        data["status"] = self.status.value
        data["curve"] = [[step, dict(metrics)] for step, metrics in self.curve]
        data["packing"] = None if self.packing is None else self.packing.to_json()
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Report:
        curve = tuple((int(step), metrics) for step, metrics in data["curve"])
        found = data.get("packing")
        return cls(
            **{
                **data,
                "status": Status(data["status"]),
                "curve": curve,
                "packing": None if found is None else Packing.from_json(found),
            }
        )


@dataclass(frozen=True, slots=True)
class Progress:
    """One evaluation of a running trial; for eyes only, never journaled."""

    trial: int
    step: int
    metrics: Metrics

    def to_json(self) -> dict[str, Any]:
        return {"trial": self.trial, "step": self.step, "metrics": dict(self.metrics)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Progress:
        return cls(data["trial"], data["step"], data["metrics"])
