"""`automl tune` and `automl resume`: run a search."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from .options import (
    AsJson,
    Broker,
    Checkpoints,
    Detach,
    JournalUrl,
    MlflowStore,
    QueueName,
    Quiet,
    Runs,
    StudyName,
    space_names,
    strategy_names,
    study_names,
)

_DEFAULT_BUDGET = "40full"  # as automl.tuning says, which --help need not load


def tune(
    task: Annotated[
        str | None,
        typer.Argument(
            metavar="TASK",
            help="digits, table.csv, images/, corpus.txt or task.py; left out only with --cmd.",
            show_default=False,
        ),
    ] = None,
    budget: Annotated[
        list[str] | None,
        typer.Option(
            metavar="AMOUNT",
            help="How much to spend: a time (30m, 2h), 100trials, or 20full, which is as much "
            "training as 20 full ones. Given several times: whichever comes first.  "
            f"[default: {_DEFAULT_BUDGET}]",
        ),
    ] = None,
    space: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE",
            help="What may vary: a shipped space or a TOML file.  [default: the task's]",
            autocompletion=space_names,
        ),
    ] = None,
    sets: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=RANGE",
            help="Fix, narrow or list one hyperparameter: optimizer=adamw,lion or "
            "optimizer.lion.lr=1e-5..1e-3. May be given several times.",
        ),
    ] = None,
    strategy: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="How to search; `automl strategies` lists the ways.  [default: auto]",
            show_default=False,
            autocompletion=strategy_names,
        ),
    ] = "auto",
    metric: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="What is compared, such as accuracy.  [default: the task's]"
        ),
    ] = None,
    objectives: Annotated[
        list[str] | None,
        typer.Option(
            "--objective",
            metavar="NAME[:min|max]",
            help="What to search for, the metric first: --objective val/accuracy --objective "
            "params:min. Also latency, size, memory, seconds, passes.  [default: the metric]",
        ),
    ] = None,
    constraints: Annotated[
        list[str] | None,
        typer.Option(
            "--constraint",
            metavar="NAME<VALUE",
            help="What a recipe must keep: 'latency<5ms', 'params<100k', 'val/f1>0.8'. May be "
            "given several times.",
        ),
    ] = None,
    target: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Column of a table to predict.")
    ] = None,
    epochs: Annotated[
        float | None,
        typer.Option(metavar="N", help="Length of a full training.  [default: the task's]"),
    ] = None,
    seeds: Annotated[
        int,
        typer.Option(
            min=1,
            metavar="N",
            help="Fresh seeds on which the verdict trains the best recipes and the baseline again.",
            show_default=True,
        ),
    ] = 3,
    name: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Name of the study and its folder.  [default: the task's]"
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Trials that train at the same time.  [default: one a core, or one a GPU]",
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option(min=0, metavar="N", help="Seed of the search.", show_default=True)
    ] = 0,
    pack: Annotated[
        str,
        typer.Option(
            metavar="auto|off|K",
            help="Train like-shaped trials as one program: where that was measured to be faster, "
            "never, or always K of them.",
            show_default=True,
        ),
    ] = "auto",
    spend_all: Annotated[
        bool,
        typer.Option(
            "--spend-all",
            help="Search to the end of the budget, even where no more is expected of it.",
        ),
    ] = False,
    warm_start: Annotated[
        list[str] | None,
        typer.Option(
            "--warm-start",
            metavar="NAME",
            help="Begin with what an earlier study found. May be given several times.",
            autocompletion=study_names,
        ),
    ] = None,
    prior: Annotated[
        str,
        typer.Option(
            metavar="off|weak|strong|0..1",
            help="How often new trials are drawn near the defaults, for as long as that pays.",
            show_default=True,
        ),
    ] = "off",
    prescreen: Annotated[
        str | None,
        typer.Option(
            metavar="PROXY",
            help="Rank networks before they are trained, for as long as that proves right: naswot, "
            "jacob_cov, synflow or params.",
        ),
    ] = None,
    nas: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Find an architecture of cells first, on a supernet: darts, pc-darts, gdas, fair, "
            "beta, sdarts, darts-pt, p-darts, oneshot or random.",
        ),
    ] = None,
    cmd: Annotated[
        str | None,
        typer.Option(
            metavar="COMMAND",
            help='Tune a script: "python train.py --lr {lr}", with --metric-regex and a --set for '
            "each {name}.",
        ),
    ] = None,
    metric_regex: Annotated[
        str | None,
        typer.Option(
            metavar="REGEX",
            help="Finds the metric in what --cmd prints: 'accuracy=([0-9.]+)'.",
        ),
    ] = None,
    device: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="Where to train: auto, cpu, cuda or cuda:1.", show_default=True
        ),
    ] = "auto",
    runs: Runs = Path("runs"),
    journal: JournalUrl = None,
    mlflow: MlflowStore = None,
    broker: Broker = None,
    queue: QueueName = "cpu",
    needs: Annotated[
        list[str] | None,
        typer.Option(
            metavar="gpu|memory=SIZE",
            help="What those workers must have: gpu, memory=40g. May be given several times.",
        ),
    ] = None,
    priority: Annotated[
        int,
        typer.Option(
            min=1,
            metavar="N",
            help="Part of workers that several studies want: 2 gets twice that of 1.",
            show_default=True,
        ),
    ] = 1,
    checkpoints: Checkpoints = None,
    checkpoint_budget: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE",
            help="Keep checkpoints that nothing needs any more up to this size, such as 10g.  "
            "[default: remove them]",
        ),
    ] = None,
    detach: Detach = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Try the baseline for a few steps, print the plan, and stop."
        ),
    ] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Search for the best way to train a network.

    Ends with a verdict: whether the best recipe found beats the task's default one, the baseline,
    on fresh seeds. Exit code: 0 it does, 3 it does not, 1 the search failed or was interrupted
    (`automl resume NAME` goes on), 2 wrong usage.
    """
    from automl.tuning import checked  # late: --help need not load the library

    options = checked(
        task=task,
        command=cmd,
        metric_regex=metric_regex,
        metric=metric,
        target=target,
        space=space,
        sets=tuple(sets or ()),
        epochs=epochs,
        device=device,
        budget=tuple(budget or (_DEFAULT_BUDGET,)),
        strategy=strategy,
        seeds=seeds,
        name=name,
        workers=workers,
        seed=seed,
        pack=pack,
        spend_all=spend_all,
        warm_start=tuple(warm_start or ()),
        prior=prior,
        prescreen=prescreen,
        nas=nas,
        runs=runs,
        journal=journal,
        mlflow=mlflow,
        broker=broker,
        queue=queue,
        needs=tuple(needs or ()),
        priority=priority,
        checkpoints=checkpoints,
        checkpoint_budget=checkpoint_budget,
        objectives=tuple(objectives or ()),
        constraints=tuple(constraints or ()),
    )
    from automl.study.preparing import prepare

    from .detaching import leave
    from .driving import drive
    from .quiet import quiet as silence
    from .showing import choose

    with silence():
        if dry_run:
            from .plan import show_plan

            show_plan(options)
            return
        run = partial(leave, journal=journal, broker=options.broker) if detach else drive
        run(
            lambda listen: prepare(options, listen=listen),
            choose(as_json=as_json, quiet=quiet, plain=detach),
            again=_again(runs, journal),
        )


def resume(
    name: StudyName,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help="Trials that train at the same time.  [default: as before]"
        ),
    ] = None,
    runs: Runs = Path("runs"),
    journal: JournalUrl = None,
    mlflow: MlflowStore = None,
    broker: Broker = None,
    queue: Annotated[
        str | None,
        typer.Option(
            "--queue", metavar="NAMES", help="Queues of those workers.  [default: as before]"
        ),
    ] = None,
    detach: Detach = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Go on with a study that was interrupted.

    It goes on to the budget that it was started with; the same `automl tune` command does the same.
    One that was paused and runs elsewhere goes on there.
    """
    from .asking import go_on

    if go_on(name, runs, journal):
        return
    from automl.executors.broker import broker_url
    from automl.study.preparing import resume as take_up
    from automl.tuning import queues_of

    from .detaching import leave
    from .driving import drive
    from .quiet import quiet as silence
    from .showing import choose

    url = broker_url(broker)
    with silence():
        run = partial(leave, journal=journal, broker=url) if detach else drive
        run(
            lambda listen: take_up(
                name,
                runs=runs,
                journal=journal,
                workers=workers,
                mlflow=mlflow,
                broker=url,
                queues=None if queue is None else queues_of(queue),
                listen=listen,
            ),
            choose(as_json=as_json, quiet=quiet, plain=detach),
            again=_again(runs, journal),
        )


def _again(runs: Path, journal: str | None) -> str:
    """Options that find the study again, if it does not lie in the default place."""
    place = "" if runs == Path("runs") else f" --runs {runs}"
    return place + (f" --journal {journal}" if journal else "")
