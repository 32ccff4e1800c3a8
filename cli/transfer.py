"""`automl transfer`: tune a narrow network, train a wide one with what was found."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .options import Quiet, Runs
from .stated import spelled

if TYPE_CHECKING:
    from automl.study.options import TuneOptions
    from automl.study.state import State
    from automl.train.coordinates import Moved
    from automl.transferring import Contest, Plan

_DEFAULT_BUDGET = "20full"


def transfer(
    task: Annotated[
        str,
        typer.Argument(
            metavar="TASK",
            help="digits, table.csv, images/, corpus.txt or task.py.",
            show_default=False,
        ),
    ],
    small: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Width of the search.  [default: the range's least]"),
    ] = None,
    large: Annotated[
        int | None,
        typer.Option(min=2, metavar="N", help="Width to train.  [default: the range's largest]"),
    ] = None,
    argument: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="The model's argument that is its width.  [default: the only one that scales]",
        ),
    ] = None,
    budget: Annotated[
        list[str] | None,
        typer.Option(
            metavar="AMOUNT",
            help="Of the search, as in `automl tune`; a full training is one at the small width.  "
            f"[default: {_DEFAULT_BUDGET}]",
        ),
    ] = None,
    space: Annotated[str | None, spelled("space")] = None,
    sets: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=RANGE", help="As in `automl tune`."),
    ] = None,
    target: Annotated[str | None, spelled("target")] = None,
    epochs: Annotated[float | None, spelled("epochs")] = None,
    seeds: Annotated[
        int,
        typer.Option(min=1, metavar="N", help="Fresh seeds of every verdict.", show_default=True),
    ] = 3,
    name: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Name of the study.  [default: TASK-transfer]"),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help="Trials that train at the same time.  [default: one a core]"
        ),
    ] = None,
    seed: Annotated[int, spelled("seed")] = 0,
    device: Annotated[str, spelled("device")] = "auto",
    runs: Runs = Path("runs"),
    quiet: Quiet = False,
) -> None:
    """Tune at a small width, train at a large one.

    Searches the small network under muP, then trains the winner at the large width, under muP and
    without it, beside the baseline, on the same fresh seeds. Exit code 1 when the search failed or
    was interrupted; the same command goes on.
    """
    from automl.study.options import TuneOptions, checked

    options = checked(
        TuneOptions(
            task,
            target=target,
            space=space,
            sets=sets or (),
            epochs=epochs,
            device=device,
            budget=budget or (_DEFAULT_BUDGET,),
            seeds=seeds,
            name=name,
            workers=workers,
            seed=seed,
            runs=runs,
            mlflow="off",
        )
    )
    from .quiet import quiet as silence

    with silence():
        _transfer(options, argument=argument, small=small, large=large, silent=quiet)


def _transfer(
    options: TuneOptions,
    *,
    argument: str | None,
    small: int | None,
    large: int | None,
    silent: bool,
) -> None:
    from dataclasses import replace

    from automl.errors import StudyError
    from automl.reports.recipe_file import RecipeFile, write_text
    from automl.reports.tables import winner_recipe
    from automl.reports.width_plots import coordinate_plot
    from automl.study.contenders import baseline_recipe
    from automl.study.finals import fresh_seeds
    from automl.study.preparing import prepare, saved_state
    from automl.transferring import best_of, check, contests, planned, trained

    from .driving import drive
    from .showing import choose

    runs = Path(options.runs)
    plan, task, recipe = planned(options.spec, argument=argument, small=small, large=large)
    study = options.name or f"{plan.name}-transfer"
    typer.echo(
        f"{plan.name}: search at {plan.short} {plan.small}, training at {plan.short} {plan.large}"
    )
    moved = check(plan, task, recipe)
    typer.echo(_moved(plan, moved))
    told = replace(options, sets=plan.sets, name=study)
    try:
        drive(lambda listen: prepare(told, listen=listen), choose(as_json=False, quiet=silent))
    except typer.Exit as end:  # 3: nothing beats the baseline, which is then what is widened
        if end.exit_code not in (0, 3):
            raise
    state = saved_state(study, runs=runs, journal=None)
    plot = runs / study / "coordinates.svg"
    plot.write_text(coordinate_plot(moved), encoding="utf-8")
    winner = winner_recipe(state)
    if winner is None:
        raise StudyError("the search trained no recipe to the end; there is nothing to widen")
    wide = trained(
        told.spec,
        contests(plan, winner, baseline_recipe(state)),
        seeds=fresh_seeds(state, options.seeds),
        workers=options.workers or 0,
        tell=(lambda line: None) if silent else typer.echo,
    )
    typer.echo("\n".join(["", *_lines(plan, state, wide), ""]))
    kept = best_of(wide, card=task.card)
    if kept is not None:
        file = runs / study / "wide.toml"
        file.write_text(write_text(RecipeFile(told.spec, kept.recipe)), encoding="utf-8")
        typer.echo(f"recipe   {file} ({kept.label}, the best on validation)")
        typer.echo(f"next     automl train {file} --save wide.safetensors")
    typer.echo(f"plot     {plot}")


def _moved(plan: Plan, moved: Mapping[str, Mapping[int, Mapping[str, Moved]]]) -> str:
    """The coordinate check in a line."""
    from automl.train.coordinates import slopes

    worst = {name: max(slopes(by_width).values(), key=abs) for name, by_width in moved.items()}
    return (
        f"outputs move in {plan.updates} updates with the power {worst['mup']:+.2f} of the width "
        f"under mup, {worst['standard']:+.2f} under standard (the farthest layer's; 0 is wanted)"
    )


def _lines(plan: Plan, state: State, wide: list[Contest]) -> list[str]:
    """What came of it, as a table and a sentence."""
    from automl.reports.numerals import Scale, chance
    from automl.reports.tables import verdict_of
    from automl.study.comparison import Sample, welch

    from .table import aligned

    assert state.config is not None
    card = state.config.card
    scale, verdict = Scale(card.metric), verdict_of(state)
    rows = [["TRAINED", plan.short.upper(), "VALIDATION", "TEST", "SEEDS"]]
    kept = verdict.standing(verdict.keep)
    if kept is not None:
        rows.append(["winner of the search", str(plan.small), scale.spread(kept.validation),
                     scale.spread(kept.test), str(kept.validation.n)])  # fmt: skip
    for contest in wide:
        figures = [scale.spread(Sample.of(v)) for v in (contest.validation, contest.test)]
        rows.append([contest.label, str(plan.large), *figures, str(len(contest.validation))])
    lines = [f"{card.name}, {scale.words}, {plan.short} {plan.small} to {plan.large}:"]
    lines += aligned(rows, right=(1, 4))
    lines += [f"{c.label}: {len(c.failed)} diverged or failed ({c.failed[0]})"
              for c in wide if c.failed]  # fmt: skip
    split = "test" if all(c.test for c in wide) else "validation"
    one, two = (getattr(c, split) for c in wide[:2])
    sign = 1 if card.direction == "maximize" else -1
    size = card.sizes.get("test" if split == "test" else "valid", 0)
    found = welch(one, two, sign=sign, resolution=1 / size if scale.share and size else 0.0)
    if found is None:
        return lines
    words = f"The same recipe under mup against standard, {split}: {scale.signed(found.value)}"
    if found.low is None or found.high is None or found.p is None:
        return [*lines, f"{words}{scale.unit}; no seeds to tell it from luck."]
    told = "better" if found.low > 0 else "worse" if found.high < 0 else "within the noise"
    return [
        *lines,
        f"{words}{scale.unit}, 95 % interval {scale.interval(found)}, {chance(found.p)}: {told}.",
    ]
