"""report.html: a study on one page that needs nothing else, neither network nor script.

The template `page.html` beside this file holds the order: the verdict in words and in one picture,
what changed, how the search went, what matters, all trials, how it was measured.
"""

from __future__ import annotations

import datetime
import platform
from importlib import metadata, resources
from typing import Any

from automl.aims import plain_name
from automl.records import Status
from automl.reports import (
    aim_words,
    architecture,
    front_plots,
    importance,
    line_plot,
    pack_words,
    plots,
    setting_plots,
    tables,
)
from automl.reports.derived import derived, found_words, score_words
from automl.reports.numerals import Scale, counted, duration, short
from automl.space.tree import Space, describe
from automl.study.comparison import LEVEL
from automl.study.contenders import baseline_recipe
from automl.study.finals import fresh_seeds
from automl.study.prescreening import trust_words
from automl.study.state import State, StudyConfig, Trial
from automl.study.verdict import Verdict

_ROWS = 500  # trials in the page's table; all of them are in trials.csv
_PACKAGES = ("automl-service", "torch", "numpy", "scikit-learn", "optuna")


def render(state: State) -> str:
    """The page's text; also for a study that has only begun.

    Raises:
        ValueError: the state is empty, so there is no study to speak of.
    """
    import jinja2  # late: only whoever writes a page needs it

    if state.config is None:
        raise ValueError("no study to report: its journal is empty")
    template = resources.files("automl.reports").joinpath("page.html").read_text("utf-8")
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    return environment.from_string(template).render(_content(state, state.config))


def _content(state: State, config: StudyConfig) -> dict[str, Any]:
    verdict = tables.verdict_of(state)
    found = importance.importances(state)
    scale = Scale(config.card.metric)
    return {
        "name": config.name,
        "about": config.card.about or config.spec.source,
        "outcome": verdict.outcome,
        "headline": _headline(verdict),
        "sentence": tables.verdict_sentence(state, verdict),
        "notes": tables.verdict_notes(state, verdict),
        "tiles": _tiles(state, verdict, scale),
        "fresh": any(t.phase == "verdict" for t in state.trials.values()),
        "standings": _standings(state, verdict, scale),
        "recipe": _recipe(state),
        "changes": tables.change_rows(verdict),
        "pictures": {
            "architecture": architecture.picture(state),
            "comparison": plots.comparison(state),
            "gains": plots.gains(state),
            "history": plots.history(state),
            "line": line_plot.line(state),


            "pareto": front_plots.pareto(state),
            "hypervolume": front_plots.hypervolume(state),
            "curves": plots.curves(state),
            "importance": setting_plots.importance(found),
            "parallel": setting_plots.parallel(state, found),
            "slices": setting_plots.slices(state, found),
        },
        "trials": [_trial(state, t, scale) for t in _shown(state)],
        "left_out": max(len(state.trials) - _ROWS, 0),
        "metric": scale.words,
        "failures": _failures(state),
        "measured": _measured(state, config, verdict),
        "space": [
            (d.name, describe(d.range), short(d.range.default),
             " and ".join(f"{n} = {'|'.join(map(str, v))}" for n, v in d.when))
            for d in Space.from_json(config.card.space)
        ],
        "derived": _derived(state),
        "aims": _aims(state),
        "written": _moment(state.updated),
    }  # fmt: skip


def _headline(verdict: Verdict) -> str:
    return {
        "better": "Better than the baseline",
        "tied": "Not proven better than the baseline",
        "worse": "Worse than the baseline on unseen data",
        "baseline": "Nothing beats the baseline",
        "not measured": "Not measured yet",
    }[verdict.outcome]


def _tiles(state: State, verdict: Verdict, scale: Scale) -> list[tuple[str, str, str]]:
    """Figures at the top of the page: (figure, what it is, remark)."""
    found = []
    kept = verdict.standing(verdict.winner)
    if kept is not None:
        sample = kept.on(verdict.split)
        spread = (
            f"± {scale.size(sample.sd)} over {counted(sample.n, 'seed')}"
            if sample.sd is not None
            else ""
        )
        if sample.mean is not None:
            found.append((scale.value(sample.mean), f"{verdict.split} {scale.words}", spread))
    d = verdict.difference
    if d is not None:
        remark = f"95 %: {scale.interval(d)}" if d.measured else "no interval"
        rival = "the baseline" if verdict.rival == "baseline" else "its best rival"
        found.append((f"{scale.signed(d.value)}{scale.unit}", f"against {rival}", remark))
    ended = len(state.finished())
    searched = len(state.search_trials())
    found.append((f"{searched:,}", "trials searched", f"{ended:,} trained to the end"))
    found.append((duration(state.wall_seconds), "wall time", _fulls(state)))
    return found


def _fulls(state: State) -> str:
    assert state.config is not None
    return f"{state.passes() / state.config.card.steps:.1f} full trainings"


def _standings(state: State, verdict: Verdict, scale: Scale) -> list[dict[str, str]]:
    base = baseline_recipe(state)
    return [
        {
            "label": s.label + (" (winner)" if s.label == verdict.winner else ""),
            "title": tables.recipe_title(s.recipe, base),
            "searched": scale.value(s.searched),
            "validation": scale.spread(s.validation),
            "test": scale.spread(s.test) if s.test.n else "-",
            "seeds": str(s.validation.n) + (f", {s.diverged} diverged" if s.diverged else ""),
            "tied": "within noise of the winner" if s.label in verdict.ties else "",
        }
        for s in verdict.standings
    ]


def _recipe(state: State) -> list[tuple[str, str, str, bool]]:
    """The winning recipe beside the baseline: (name, value, baseline's, whether they differ)."""
    recipe = tables.winner_recipe(state)
    if recipe is None:
        return []
    base = baseline_recipe(state).point
    # Settings of a method that only the baseline uses would tell nothing.
    names = [*recipe.point, *(n for n in base if n not in recipe.point and "." not in n)]
    rows = [
        (n, short(recipe.point.get(n)), short(base.get(n)), recipe.point.get(n) != base.get(n))
        for n in names
    ]
    for at, values in recipe.changes:
        rows += [(f"{n} from step {at:,} on", short(v), "-", True) for n, v in values.items()]
    return rows


def _shown(state: State) -> list[Trial]:
    """The verdict's trials and the best of the search, best first."""
    place = importance.ranks(state)
    finals = state.late_trials()
    search = sorted(state.search_trials(), key=lambda t: -place.get(t.number, -1.0))
    return [*finals, *search][:_ROWS]


def _trial(state: State, trial: Trial, scale: Scale) -> dict[str, str]:
    assert state.config is not None
    test = (trial.test or {}).get(f"test/{scale.metric}")
    return {
        "number": str(trial.number),
        "phase": trial.label or trial.phase,
        "title": tables.recipe_title(trial.recipe, baseline_recipe(state)),
        "status": trial.status if trial.status != "waiting" else "stopped early",
        "validation": scale.value(trial.last(state.metric)),
        "test": "-" if test is None else scale.value(test),
        "steps": f"{trial.reached:,}",
        "time": duration(trial.seconds),
        "message": trial.message if trial.failed else "",
    }


def _failures(state: State) -> list[tuple[str, int, str]]:
    """Failures by class: (class, how many, an example)."""
    found: dict[str, tuple[int, str]] = {}
    for t in state.trials.values():
        if t.failed or t.status == Status.DIVERGED:
            n, example = found.get(t.status, (0, ""))
            found[t.status] = (n + 1, example or t.message)
    return [(status, n, example) for status, (n, example) in found.items()]


def _measured(state: State, config: StudyConfig, verdict: Verdict) -> list[tuple[str, str]]:
    card = config.card
    low, high, eta = config.fidelity
    sizes = ", ".join(f"{n:,} {name}" for name, n in card.sizes.items())
    seeds = ", ".join(str(s) for s in fresh_seeds(state, config.seeds))
    devices = sorted({t.device for t in state.trials.values() if t.device})
    rows = [
        ("Task", f"{config.spec.source}: {card.about}" if card.about else config.spec.source),
        ("Samples", sizes or "as the task has them"),
        ("Metric", f"{card.metric}, {card.direction}d on the validation split"),
        ("Full training", f"{card.steps:,} study steps at batch size {card.batch_size}"),
        ("Search", f"{config.strategy}; trials compared from {low:,} to {high:,} steps, a rung "
                   f"every factor {eta}; seed {config.seed}"),
        ("Budget", ", ".join(config.budget)),
        ("Spent", tables.cost_words(state)),
        ("Packs", pack_words.sentence(state)),
        ("Verdict", f"finalists raced on {config.seeds} fresh seeds ({seeds}) beside the baseline; "
                    f"the winner has the best mean less a standard error on validation, and is "
                    f"compared on the {verdict.split} split"),
        ("Interval", f"Welch's t, {LEVEL:.0%}, two-sided. It covers the luck of training (seeds); "
                     "not that the test samples are themselves a sample"),
        ("Gains", "the winner's mean minus the mean with that one change taken back, trained anew"),
        ("Data", card.data_fingerprint or "no fingerprint"),
        ("Code", card.code_fingerprint or "no fingerprint"),
        ("Machine", f"{', '.join(devices) or card.device}, {counted(config.workers, 'worker')}, "
                    f"Python {platform.python_version()}, {platform.system()}"),
        ("Versions", ", ".join(_versions())),
    ]  # fmt: skip
    if not card.sizes.get("test"):
        rows.insert(9, ("Test split", "none: the verdict is on validation data"))
    if config.pool is not None:
        rows.insert(5, ("Prescreening", trust_words(state)))
    return rows


def _derived(state: State) -> list[str]:
    """What a supernet found, in words; [] while there is nothing."""
    trial = state.supernet()
    if trial is None or trial.found is None:
        return []
    return [f"{trial.label}: {found_words(state, trial)}", *score_words(state, derived(state))]


def _aims(state: State) -> dict[str, Any]:
    """The front as a table, and what was asked for in words; {} where one thing counts."""
    aims = state.aims
    if aims.plain:
        return {}
    base, found = baseline_recipe(state), state.front()
    middle = state.compromise()
    rows = [
        (
            str(t.number) + (" (compromise)" if t is middle else ""),
            tables.recipe_title(t.recipe, base),
            [aim_words.written(n, t.curve[-1][1].get(n)) for n in aims.names],
        )
        for t in found[:_ROWS]
    ]
    asked = [f"{plain_name(o.name)} {o.direction}d" for o in aims.objectives]
    asked += [c.text for c in aims.constraints]
    return {
        "asked": "; ".join(asked),
        "names": [plain_name(n) for n in aims.names],
        "rows": rows,
        "words": aim_words.front_words(state),
    }


def _versions() -> list[str]:
    found = []
    for name in _PACKAGES:
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue  # run from a checkout, or an optional part
    return found


def _moment(at: float) -> str:
    utc = datetime.datetime.fromtimestamp(at, tz=datetime.UTC)
    return utc.strftime("%Y-%m-%d %H:%M UTC")
