"""The options of a search, each stated once: its type, its default, its help, what it may be.

    StudyOptions    what is searched for and how; the study's journal keeps it (StudyConfig)
    TuneOptions     and where things are, which another process or machine may say otherwise

`automl tune` makes its command line of these fields, in their order; they are the arguments of
`automl.tune`; the study reads them by their names. So a new option is one field here, a line in
`checked` if not every value of its type will do, and the code that uses it. One that changes what
a worker trains also stands in `TaskSpec`, under the same name.

This file loads nothing, because --help reads it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import KW_ONLY, Field, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from automl.records import TaskSpec

T = TypeVar("T")


@dataclass(frozen=True)
class Option:
    """How an option looks to a person."""

    help: str
    metavar: str = ""
    flag: str = ""  # as typed; "": the field's name, with dashes
    least: int | None = None
    variable: str = ""  # of the environment, that sets it, too
    fixed: bool = True  # a study that goes on has the same


def option(default: T, help: str, metavar: str = "", *, shown: bool = True, **more: Any) -> T:
    """A field that is an option; one that is not `shown` holds a secret."""
    return field(default=default, repr=shown, metadata={"option": Option(help, metavar, **more)})


def options_of(kind: type) -> Iterator[tuple[Field[Any], Option]]:
    """The fields of a dataclass that are options."""
    return ((f, f.metadata["option"]) for f in fields(kind) if "option" in f.metadata)


def flag_of(one: Field[Any]) -> str:
    """What is typed for it: "--spend-all"."""
    known: Option = one.metadata["option"]
    return known.flag or "--" + one.name.replace("_", "-")


@dataclass(frozen=True)
class StudyOptions:
    """What is searched for, and how. Of options that may be given several times, one is enough."""

    task: str | Path | None = option(
        None, "digits, table.csv, images/, corpus.txt or task.py; left out only with --cmd.", "TASK"
    )
    _: KW_ONLY
    budget: Sequence[str] = option(
        ("40full",),
        "How much to spend: a time (30m, 2h), 100trials, or 20full, which is as much training as "
        "20 full ones. Given several times: whichever comes first.",
        "AMOUNT",
    )
    space: str | Path | None = option(
        None,
        "What may vary: a shipped space or a TOML file.  [default: the task's]",
        "NAME|FILE",
    )
    sets: Sequence[str] = option(
        (),
        "Fix, narrow or list one hyperparameter: optimizer=adamw,lion or "
        "optimizer.lion.lr=1e-5..1e-3. May be given several times.",
        "NAME=RANGE",
        flag="--set",
    )
    strategy: str = option("auto", "How to search; `automl strategies` lists the ways.", "NAME")
    metric: str | None = option(
        None, "What is compared, such as accuracy.  [default: the task's]", "NAME"
    )
    objectives: Sequence[str] = option(
        (),
        "What to search for, the metric first: --objective val/accuracy --objective params:min. "
        "Also latency, size, memory, seconds, passes.  [default: the metric]",
        "NAME[:min|max]",
        flag="--objective",
    )
    constraints: Sequence[str] = option(
        (),
        "What a recipe must keep: 'latency<5ms', 'params<100k', 'val/f1>0.8'. May be given "
        "several times.",
        "NAME<VALUE",
        flag="--constraint",
    )
    target: str | None = option(None, "Column of a table to predict.", "COLUMN")
    epochs: float | None = option(None, "Length of a full training.  [default: the task's]", "N")
    seeds: int = option(
        3,
        "Fresh seeds on which the verdict trains the best recipes and the baseline again.",
        "N",
        least=1,
    )
    name: str | None = option(
        None, "Name of the study and its folder.  [default: the task's]", "NAME", fixed=False
    )
    workers: int | None = option(
        None,
        "Trials that train at the same time.  [default: one a core, or one a GPU]",
        "N",
        least=1,
        fixed=False,
    )
    seed: int = option(0, "Seed of the search.", "N", least=0)
    pack: str = option(
        "auto",
        "Train like-shaped trials as one program: where that was measured to be faster, never, or "
        "always K of them.",
        "auto|off|K",
    )
    spend_all: bool = option(
        False, "Search to the end of the budget, even where no more is expected of it."
    )
    warm_start: Sequence[str] = option(
        (), "Begin with what an earlier study found. May be given several times.", "NAME"
    )
    prior: str = option(
        "off",
        "How often new trials are drawn near the defaults, for as long as that pays.",
        "off|weak|strong|0..1",
    )
    prescreen: str | None = option(
        None,
        "Rank networks before they are trained, for as long as that proves right: naswot, "
        "jacob_cov, synflow or params.",
        "PROXY",
    )
    nas: str | None = option(
        None,
        "Find an architecture of cells first, on a supernet: darts, pc-darts, gdas, fair, beta, "
        "sdarts, darts-pt, p-darts, oneshot or random.",
        "NAME",
    )
    cmd: str | None = option(
        None,
        'Tune a script: "python train.py --lr {lr}", with --metric-regex and a --set for each '
        "{name}.",
        "COMMAND",
    )
    metric_regex: str | None = option(
        None, "Finds the metric in what --cmd prints: 'accuracy=([0-9.]+)'.", "REGEX"
    )
    device: str = option("auto", "Where to train: auto, cpu, cuda or cuda:1.", "NAME")
    mlflow: str | None = option(
        None,
        "Where MLflow keeps its copy of the trials, or off.  [default: mlflow.db in --runs]",
        "URI",
        fixed=False,
    )
    queue: str = option(
        "cpu", "Queue of the workers of --broker, or several: gpu,cpu.", "NAMES", fixed=False
    )
    needs: Sequence[str] = option(
        (),
        "What those workers must have: gpu, memory=40g. May be given several times.",
        "gpu|memory=SIZE",
        fixed=False,
    )
    priority: int = option(
        1,
        "Part of workers that several studies want: 2 gets twice that of 1.",
        "N",
        least=1,
        fixed=False,
    )
    checkpoint_budget: str | None = option(
        None,
        "Keep checkpoints that nothing needs any more up to this size, such as 10g.  "
        "[default: remove them]",
        "SIZE",
        fixed=False,
    )

    def __post_init__(self) -> None:
        for one in fields(StudyOptions):
            value = getattr(self, one.name)
            if isinstance(one.default, tuple):  # a list of JSON's, or one word alone
                value = (value,) if isinstance(value, str) else tuple(value)
            elif isinstance(value, Path):
                value = str(value)
            object.__setattr__(self, one.name, value)

    @property
    def spec(self) -> TaskSpec:
        """What any process needs to open the task."""
        from automl.aims import first_metric  # as below
        from automl.records import TaskSpec

        shared = {f.name for f in fields(TaskSpec)} & {f.name for f in fields(StudyOptions)}
        told = {name: getattr(self, name) for name in shared}
        told["metric"] = self.metric or first_metric(self.objectives)
        command = self.cmd is not None
        return TaskSpec(str(self.cmd or self.task or ""), command, **told)

    @property
    def queues(self) -> tuple[str, ...]:
        """Queues of the workers that train; (): processes of the driver's own."""
        return tuple(dict.fromkeys(n.strip() for n in self.queue.split(","))) if self.queue else ()

    def kept(self) -> dict[str, Any]:
        """These options, and no others, by name."""
        return {f.name: getattr(self, f.name) for f in fields(StudyOptions)}


@dataclass(frozen=True, kw_only=True)
class TuneOptions(StudyOptions):
    """What `automl tune` was asked for."""

    runs: str | Path = option(
        Path("runs"), "Where studies are kept.", "FOLDER", variable="AUTOML_RUNS"
    )
    journal: str | None = option(
        None,
        "Database that records the study: postgresql://...  [default: a file in the study's "
        "folder]",
        "URL",
        shown=False,
    )
    broker: str | None = option(
        None,
        "Train in the workers of this Redis server: redis://HOST:6379/0.  [default: "
        "AUTOML_BROKER, or else this machine's own processes]",
        "URL|@FILE",
        shown=False,
    )
    checkpoints: str | None = option(
        None,
        "Where checkpoints and code lie, for driver and workers: a shared folder, or a URL "
        "(s3://bucket/studies).  [default: the study's folder]",
        "PLACE",
    )


def checked(options: TuneOptions) -> TuneOptions:
    """The options as a study takes them; what can be refused at once is refused here.

    Raises:
        AutomlError: one line on the first that cannot be, by its name on the command line.
    """
    # Here, because --help need not load the library.
    from automl.aims import first_metric, read_constraint
    from automl.errors import StrategyError, StudyError, TaskError
    from automl.executors.broker import broker_url
    from automl.executors.needs import checked as needs_checked
    from automl.objects import checked_place
    from automl.search.catalogue import look_up
    from automl.search.prior import strength
    from automl.space.files import names_of
    from automl.study.architecture import checked_nas
    from automl.study.budget import Budget
    from automl.study.keeping import budget_bytes
    from automl.study.packing import checked_pack
    from automl.study.prescreening import checked_proxy

    o = options
    if o.task is None and o.cmd is None:
        raise TaskError("nothing to tune: give a task (try `automl tune digits`) or --cmd")
    if o.task is not None and o.cmd is not None:
        raise TaskError(f"'{o.task}' and --cmd: give one of them")
    if o.metric_regex is not None and o.cmd is None:
        raise TaskError("--metric-regex reads what a --cmd prints; there is no --cmd")
    if o.cmd is not None and o.metric_regex is None:
        raise TaskError("--cmd needs --metric-regex, e.g. --metric-regex 'accuracy=([0-9.]+)'")
    if o.epochs is not None and not (o.epochs > 0 and math.isfinite(o.epochs)):
        raise TaskError(f"--epochs {o.epochs:g}: a training needs a length above 0")
    if o.device not in ("auto", "cpu", "cuda") and not o.device.startswith("cuda:"):
        raise TaskError(f"--device {o.device}: give auto, cpu, cuda or cuda:N")
    for one, known in options_of(TuneOptions):
        value = getattr(o, one.name)
        if known.least is not None and value is not None and value < known.least:
            raise StudyError(f"{flag_of(one)} {value}: give {known.least} or more")
    Budget.parse(o.budget)
    checked_pack(o.pack)
    checked_proxy(o.prescreen)
    checked_nas(o.nas)
    names_of(o.sets)
    if o.checkpoint_budget is not None:
        budget_bytes(o.checkpoint_budget)
    look_up(o.strategy)
    strength(o.prior)
    if o.warm_start and o.strategy != "auto":
        raise StrategyError(f"--warm-start is for the strategy auto, not for {o.strategy}")
    first = first_metric(o.objectives)
    if first is not None and o.metric not in (None, first):
        raise TaskError(
            f"--metric {o.metric} and --objective {o.objectives[0]}: the first objective is the "
            "metric; leave one of them out"
        )
    for text in o.constraints:
        read_constraint(text)
    if not all(o.queues) or any(" " in name for name in o.queues):
        raise StudyError(f"--queue {o.queue}: give a name, or several with commas: gpu,cpu")
    return replace(
        o,
        broker=broker_url(o.broker),
        needs=needs_checked(o.needs),
        checkpoints=o.checkpoints and checked_place(o.checkpoints, "--checkpoints"),
    )
