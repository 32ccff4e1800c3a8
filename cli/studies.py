"""Commands about studies on disk: ls, show, best, report, export, rm. They read while one runs."""

from __future__ import annotations

import json
import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from automl.aims import plain_name
from automl.errors import AutomlError, StudyError
from automl.reports.aim_words import front_words, written
from automl.reports.numerals import Scale, counted, duration
from automl.reports.pack_words import sentence
from automl.reports.tables import recipe_title, trial_lines, verdict_lines, winner_recipe
from automl.study.state import State, Trial

from .options import JournalUrl, Runs, StudyName
from .table import aligned
from .wording import about, curve, wrapped

OneTrial = Annotated[
    int | None,
    typer.Option(
        "--trial", metavar="N", min=0, help="The recipe of this trial.  [default: the one to keep]"
    ),
]
_SHOWN = 15  # trials that `show` lists
_CURVE = 40  # columns


def ls(runs: Runs = Path("runs"), journal: JournalUrl = None) -> None:
    """List the studies.

    Readable while they run.
    """
    rows = [["NAME", "TASK", "STATE", "TRIALS", "BEST", "BASELINE", "METRIC", "BEGAN"]]
    names = _names(runs, journal)
    if not names:
        where = journal or runs
        typer.echo(f"no studies in {where} yet; start with: automl tune digits")
        return
    unreadable = []
    for name in names:
        try:
            rows.append(_row(name, _state(name, runs, journal), runs, journal))
        except AutomlError as error:
            rows.append([name, "", "unreadable", *[""] * 5])
            unreadable.append(f"{name}: {error}")
    typer.echo("\n".join([*aligned(rows, right=(3, 4, 5)), *unreadable]))


def show(
    name: StudyName,
    trial: Annotated[
        int | None, typer.Argument(metavar="TRIAL", help="Number of one trial.", min=0)
    ] = None,
    runs: Runs = Path("runs"),
    journal: JournalUrl = None,
) -> None:
    """Show a study, or one of its trials."""
    state = _state(name, runs, journal)
    if trial is None:
        lines = _study_lines(state, name, runs, journal)
    else:
        _known(state, name, trial)
        lines = trial_lines(state, trial)
        points = [v for _, v in state.trials[trial].values(state.metric)]
        lines += ["", f"validation curve  {curve(points, _CURVE)}"] if len(points) > 1 else []
    typer.echo("\n".join(lines))


def best(
    name: StudyName,
    runs: Runs = Path("runs"),
    journal: JournalUrl = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON instead of TOML.")] = False,
    trial: OneTrial = None,
) -> None:
    """Print the best recipe of a study.

    Save it and train it again: automl best NAME > best.toml; automl train best.toml
    """
    from automl.reports.recipe_file import of_state, of_trial, write_text

    state = _state(name, runs, journal)
    if trial is not None:
        _known(state, name, trial)
    found = of_state(state) if trial is None else of_trial(state, trial)
    if found is None:
        raise StudyError(f"study '{name}' has no trial that was trained to its end yet")
    if as_json:
        whole = {"task": found.spec.to_json(), "recipe": found.recipe.to_json()}
        typer.echo(json.dumps({**whole, "score": found.score}))
    else:
        typer.echo(write_text(found), nl=False)


def report(
    name: StudyName,
    open_: Annotated[bool, typer.Option("--open", help="Show it in the browser.")] = False,
    runs: Runs = Path("runs"),
    journal: JournalUrl = None,
) -> None:
    """Write the report of a study, one HTML page.

    Works while the study runs: the report tells what is known so far.
    """
    state = _state(name, runs, journal)
    from automl.reports.export import write_all  # plotting is slow to import

    from .quiet import quiet

    folder = runs / name
    with quiet():
        write_all(state, folder)
    page = folder / "report.html"
    typer.echo(page)
    if open_:
        import webbrowser

        webbrowser.open(page.absolute().as_uri())


class Format(StrEnum):
    csv = "csv"
    parquet = "parquet"
    script = "script"
    toml = "toml"


_EXPORTED = {
    Format.csv: "trials.csv",
    Format.parquet: "trials.parquet",
    Format.script: "train_best.py",
    Format.toml: "best.toml",
}


def export(
    name: StudyName,
    format_: Annotated[
        Format, typer.Option("--format", help="Trials as a table, or the best recipe.")
    ] = Format.csv,
    to: Annotated[
        Path | None, typer.Option("--to", metavar="FILE", help="Write there instead of printing.")
    ] = None,
    trial: OneTrial = None,
    runs: Runs = Path("runs"),
    journal: JournalUrl = None,
) -> None:
    """Print the trials, or the best recipe, of a study.

    csv and parquet hold one row a trial; script is plain torch and runs without automl.
    """
    state = _state(name, runs, journal)
    if trial is not None:
        _export_trial(state, name, trial, format_, to)
        return
    from automl.reports.export import write_all  # plotting is slow to import

    from .quiet import quiet

    folder = runs / name
    with quiet():
        write_all(state, folder)
    file = folder / _EXPORTED[format_]
    if not file.exists():
        raise StudyError(f"study '{name}' has nothing to export as {format_.value} yet")
    if format_ in (Format.script, Format.toml):
        _say_which(state)
    if to is not None:
        to.write_bytes(file.read_bytes())  # a pipe, too, such as /dev/stdout
        typer.echo(to, err=str(to).startswith("/dev/"))
    elif format_ is Format.parquet:
        typer.echo(file)
    else:
        typer.echo(file.read_text(encoding="utf-8"), nl=False)


def _export_trial(state: State, name: str, trial: int, format_: Format, to: Path | None) -> None:
    """One trial's recipe instead of the study's best."""
    from automl.reports import recipe_file, train_script

    assert state.config is not None
    _known(state, name, trial)
    if format_ not in (Format.script, Format.toml):
        raise StudyError(f"--trial {trial} goes with --format toml or script")
    found = recipe_file.of_trial(state, trial)
    text: str | None = recipe_file.write_text(found)
    if format_ is Format.script:
        text = train_script.write_text(found, state.config.card)
    if text is None:
        raise StudyError(f"trial {trial} cannot be written as a script")
    if to is None:
        typer.echo(text, nl=False)
    else:
        to.write_text(text, encoding="utf-8")
        typer.echo(to, err=str(to).startswith("/dev/"))


def _say_which(state: State) -> None:
    """On stderr, which trial of a front this is, and how to get another."""
    front, kept = state.front() if state.aims.several else [], winner_recipe(state)
    if len(front) < 2 or kept is None:
        return
    same = [t.number for t in state.search_trials() if t.recipe.point_key == kept.point_key]
    which = f"trial {same[0]}" if same else "the recipe of the verdict"
    others = ", ".join(str(t.number) for t in front if t.number not in same)
    typer.echo(f"{which}, kept for its first objective; another of the front: --trial {others}",
               err=True)  # fmt: skip


def rm(
    name: StudyName,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    runs: Runs = Path("runs"),
    journal: JournalUrl = None,
) -> None:
    """Delete a study.

    Its journal, checkpoints, files and MLflow runs go; there is no way back.
    """
    import sys

    from automl.study.removing import remains, remove
    from automl.tuning import store_address

    there = remains(name, runs=runs, journal=journal)
    if not yes:
        if not sys.stdin.isatty():
            raise StudyError(f"deleting study '{name}' needs a yes: automl rm {name} --yes")
        what = ", which cannot be read," if there.trials is None else (
            f" with {counted(there.trials, 'trial')}")  # fmt: skip
        typer.confirm(f"Delete study '{name}'{what} for good?", abort=True)
    remove(name, runs=runs, journal=journal)  # refuses while it runs
    if there.place:
        from automl import objects  # a bucket's library

        objects.remove(there.place)
    typer.echo(f"deleted study '{name}'")
    store = store_address(there.mlflow, runs)
    if store and (not store.startswith("sqlite:///") or Path(store[10:]).exists()):
        from automl.tracking.forget import forget  # imports mlflow: seconds

        from .quiet import quiet

        with quiet():
            gone = forget(store, name)
        typer.echo(f"deleted {counted(gone, 'run')} in MLflow")


def _known(state: State, name: str, trial: int) -> None:
    if trial not in state.trials:
        last = max(state.trials, default=-1)
        has = f"it has 0 to {last}" if last >= 0 else "it has none yet"
        raise StudyError(f"study '{name}' has no trial {trial}; {has}")


# Reading ----------------------------------------------------------------------------------------


def _state(name: str, runs: Path, journal: str | None) -> State:
    from automl.study.preparing import saved_state  # the journal's library: not for --help

    return saved_state(name, runs=runs, journal=journal)


def _names(runs: Path, journal: str | None) -> list[str]:
    if journal is None:
        return sorted(p.parent.name for p in runs.glob("*/journal.db"))
    from automl.study.journal import studies

    return studies(journal)


def _doing(state: State, name: str, runs: Path, journal: str | None) -> str:
    if state.ended:
        return state.ended
    from automl.study.journal import writer

    if writer(journal or str(runs / name / "journal.db"), name):
        return "paused" if state.paused else "running"
    return "interrupted"  # its driver was killed before it could say so


def _row(name: str, state: State, runs: Path, journal: str | None) -> list[str]:
    assert state.config is not None
    scale = Scale(state.config.card.metric)
    found, base = state.incumbent(), state.baseline()
    return [
        name,
        state.config.card.name,
        _doing(state, name, runs, journal),
        str(len(state.search_trials())),
        scale.value(found.last(state.metric) if found else None),
        scale.value(base.last(state.metric) if base else None),
        state.config.card.metric,
        f"{about(max(time.time() - state.created, 1))} ago",
    ]


def _study_lines(state: State, name: str, runs: Path, journal: str | None) -> list[str]:
    config = state.config
    assert config is not None
    doing = _doing(state, name, runs, journal)
    lines = [
        f"{name}: {config.card.about}",
        f"{doing}; {counted(len(state.search_trials()), 'trial')} in "
        f"{duration(state.wall_seconds)}; strategy {config.strategy}, "
        f"budget {', '.join(config.budget)}, {counted(config.workers, 'worker')}",
    ]
    if state.message and state.ended == "failed":
        lines.append(state.message.splitlines()[0])
    if not state.aims.plain and front_words(state):
        lines.append(front_words(state))
    lines += ([f"packs: {sentence(state)}"] if state.trials else []) + [""]
    if state.verdict is not None:
        lines += [*wrapped(verdict_lines(state)), ""]
    if state.trials:
        lines += _trials_table(state)
    if doing == "interrupted":
        lines += ["", f"Go on with: automl resume {name}"]
    return lines


def _what(trial: Trial, base: Trial | None) -> str:
    if base is None or trial is base:
        return f"baseline: {recipe_title(trial.recipe)}"
    return recipe_title(trial.recipe, base.recipe)


def _trials_table(state: State) -> list[str]:
    """The best trials: finished ones first, then those that went furthest."""
    assert state.config is not None
    scale, base = Scale(state.config.card.metric), state.baseline()
    sign = -1 if state.config.card.direction == "maximize" else 1

    front = {t.number for t in state.front()} if state.aims.several else set()
    further = [n for n in state.aims.names if n != state.metric]

    def order(t: Trial) -> tuple[bool, int, float, bool, float]:
        value = t.last(state.metric)
        ranked = value is not None and value == value
        worth = sign * (value or 0.0) if ranked else 0.0
        behind = t.number not in front
        return (t.failed or not ranked, -t.reached, state.violation(t), behind, worth)

    trials = sorted(state.search_trials(), key=order)
    waits = "stopped" if state.ended == "done" else "waiting"  # at a rung
    titles = [plain_name(n).upper() for n in further]
    rows = [
        ["TRIAL", state.config.card.metric.upper(), *titles, "STATE", "STEPS", "TIME", "RECIPE"]
    ]
    for t in trials[:_SHOWN]:
        rows.append(
            [
                ("*" if t.number in front else "") + str(t.number),
                scale.value(t.last(state.metric)),
                *(written(n, t.last(n)) for n in further),
                waits if t.status == "waiting" else t.status,
                f"{t.reached}/{t.recipe.steps}",
                duration(t.seconds),
                _what(t, base),
            ]
        )
    lines = aligned(rows, right=(*range(len(further) + 2), len(further) + 3, len(further) + 4))
    if front:
        lines.append("* on the front: none is better in every objective")
    if len(trials) > _SHOWN:
        lines.append(
            f"and {len(trials) - _SHOWN} more; all of them: automl export {state.config.name}"
        )
    return lines
