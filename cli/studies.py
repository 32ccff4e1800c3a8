"""Commands about studies on disk: ls, show, best, report, export, rm. They read while one runs."""

from __future__ import annotations

import json
import shutil
import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from automl.errors import AutomlError, StudyError
from automl.reports.numerals import Scale, counted, duration
from automl.reports.tables import recipe_title, trial_lines, verdict_lines
from automl.study.state import State, Trial

from .options import JournalUrl, Runs, StudyName
from .table import aligned
from .wording import about, curve, wrapped

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
    for name in names:
        try:
            rows.append(_row(name, _state(name, runs, journal), runs, journal))
        except AutomlError as error:
            rows.append([name, "", f"unreadable: {error}"])
    typer.echo("\n".join(aligned(rows, right=(3, 4, 5))))


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
    elif trial in state.trials:
        lines = trial_lines(state, trial)
        points = [v for _, v in state.trials[trial].values(state.metric)]
        lines += ["", f"validation curve  {curve(points, _CURVE)}"] if len(points) > 1 else []
    else:
        last = max(state.trials, default=-1)
        has = f"it has 0 to {last}" if last >= 0 else "it has none yet"
        raise StudyError(f"study '{name}' has no trial {trial}; {has}")
    typer.echo("\n".join(lines))


def best(
    name: StudyName,
    runs: Runs = Path("runs"),
    journal: JournalUrl = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON instead of TOML.")] = False,
) -> None:
    """Print the best recipe of a study.

    Save it and train it again: automl best NAME > best.toml; automl train best.toml
    """
    from automl.reports.recipe_file import of_state, write_text

    state = _state(name, runs, journal)
    found = of_state(state)
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
    runs: Runs = Path("runs"),
    journal: JournalUrl = None,
) -> None:
    """Print the trials, or the best recipe, of a study.

    csv and parquet hold one row a trial; script is plain torch and runs without automl.
    """
    state = _state(name, runs, journal)
    from automl.reports.export import write_all  # plotting is slow to import

    from .quiet import quiet

    folder = runs / name
    with quiet():
        write_all(state, folder)
    file = folder / _EXPORTED[format_]
    if not file.exists():
        raise StudyError(f"study '{name}' has nothing to export as {format_.value} yet")
    if to is not None:
        to.write_bytes(file.read_bytes())  # a pipe, too, such as /dev/stdout
        typer.echo(to, err=str(to).startswith("/dev/"))
    elif format_ is Format.parquet:
        typer.echo(file)
    else:
        typer.echo(file.read_text(encoding="utf-8"), nl=False)


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

    from automl.study.journal import delete
    from automl.tuning import store_address

    state = _state(name, runs, journal)
    if not yes:
        if not sys.stdin.isatty():
            raise StudyError(f"deleting study '{name}' needs a yes: automl rm {name} --yes")
        trials = counted(len(state.trials), "trial")
        typer.confirm(f"Delete study '{name}' with {trials} for good?", abort=True)
    folder = runs / name
    assert state.config is not None
    delete(journal or str(folder / "journal.db"), name)  # refuses while it runs
    if folder.exists():
        shutil.rmtree(folder)
    if state.config.place:
        from automl.objects import remove  # as above

        remove(state.config.place)
    typer.echo(f"deleted study '{name}'")
    store = store_address(state.config.mlflow, runs)
    if store and (not store.startswith("sqlite:///") or Path(store[10:]).exists()):
        from automl.tracking.forget import forget  # imports mlflow: seconds

        from .quiet import quiet

        with quiet():
            gone = forget(store, name)
        typer.echo(f"deleted {counted(gone, 'run')} in MLflow")


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
    lines.append("")
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

    def order(t: Trial) -> tuple[bool, int, float]:
        value = t.last(state.metric)
        ranked = value is not None and value == value
        return (t.failed or not ranked, -t.reached, sign * (value or 0.0) if ranked else 0.0)

    trials = sorted(state.search_trials(), key=order)
    rows = [["TRIAL", state.config.card.metric.upper(), "STATE", "STEPS", "TIME", "RECIPE"]]
    for t in trials[:_SHOWN]:
        rows.append(
            [
                str(t.number),
                scale.value(t.last(state.metric)),
                t.status,
                f"{t.reached}/{t.recipe.steps}",
                duration(t.seconds),
                _what(t, base),
            ]
        )
    lines = aligned(rows, right=(0, 1, 3, 4))
    if len(trials) > _SHOWN:
        lines.append(
            f"and {len(trials) - _SHOWN} more; all of them: automl export {state.config.name}"
        )
    return lines
