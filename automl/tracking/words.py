"""What a study is in MLflow's words: run names, tags, parameters, metrics. Pure; no mlflow here.

    trial 017 muon wsd          a run, named by what a person compares; the winner begins with ★
    lr, lr_log10                the optimizer's learning rate under one name for all optimizers: a
                                parallel axis is linear and cannot join optimizer.adamw.lr to
                                optimizer.muon.lr
    val/accuracy ...            curves, at study steps
    steps_trained, passes,      one value each: how much training the values rest on
    time/train_seconds

Infinities become NaN on the way: MLflow keeps them as 1.8e308, which flattens every chart.
"""

from __future__ import annotations

import math
import re

from automl.recipe import Recipe
from automl.records import FAILURES, Status
from automl.study.state import State, StudyConfig, Trial

_STAGES = ("optimizer", "schedule", "gradient", "averaging", "batch")
_UNSAID = ("none", "plain", "constant")  # choices that a name leaves out
_FORBIDDEN = re.compile(r"[^\w\-. :/]")
# Okabe and Ito's colours, told apart by the colour-blind: one for each optimizer of a study.
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#7F7F7F", "#B8A800")


def key(name: str) -> str:
    """`name` with what MLflow refuses in names of metrics and parameters replaced."""
    return _FORBIDDEN.sub("_", name)[:250]


def quoted(text: str) -> str:
    """`text` as a string of MLflow's filter language, which has no escapes."""
    return f'"{text}"' if "'" in text else f"'{text}'"


def run_name(trial: Trial, *, best: bool) -> str:
    """What a person reads in the list of runs."""
    stages = [str(trial.recipe.point[s]) for s in _STAGES if s in trial.recipe.point]
    said = trial.label or " ".join(s for s in stages if s not in _UNSAID)
    seed = f" seed {trial.recipe.seed}" if trial.phase == "verdict" else ""
    return f"{'★ ' if best else ''}trial {trial.number:03d} {said}{seed}".strip()


def learning_rate(recipe: Recipe) -> float | None:
    """The recipe's learning rate: its optimizer's `lr`, or a value simply called "lr"."""
    methods = recipe.stage("optimizer")
    value = methods[0][1].get("lr") if methods else recipe.point.get("lr")
    return float(value) if isinstance(value, (int, float)) else None


def params(recipe: Recipe) -> dict[str, str]:
    """The recipe, flat, with `lr` and `lr_log10` beside its own names."""
    out = {key(name): str(value) for name, value in recipe.point.items()}
    lr = learning_rate(recipe)
    if lr is not None and lr > 0:
        out |= {"lr": f"{lr:.4g}", "lr_log10": f"{math.log10(lr):.3f}"}
    for at, values in recipe.changes:
        out[key(f"from {at}")] = ", ".join(f"{n} {v}" for n, v in values.items())
    return out | {"seed": str(recipe.seed), "steps": str(recipe.steps)}


def rung(reached: int, fidelity: tuple[int, int, int]) -> str:
    """How far a trial came: "start", "rung 1", "rung 2" ..., "full"."""
    low, high, eta = fidelity
    if reached >= high:
        return "full"
    passed = 0
    while eta > 1 and low * eta**passed <= reached:
        passed += 1
    return f"rung {passed}" if passed else "start"


def trial_state(trial: Trial, *, over: bool) -> str:
    """A trial's state for people; `over`: nobody is running the study any more.

    A trial at a rung has stopped until it is asked on: most never are, and nothing would come
    back to rename them. Where it stands is the tag automl.rung.
    """
    if trial.status == "waiting":
        return "stopped"
    return "interrupted" if trial.status == "running" and over else trial.status


def run_status(trial: Trial, *, over: bool) -> str:
    """MLflow's status: its red cross is for failures; a rung is as far as most trials come."""
    if trial.status == "running":
        return "KILLED" if over else "RUNNING"
    bad = (*FAILURES, Status.DIVERGED)
    return "FAILED" if trial.status in bad else "FINISHED"


def trial_tags(trial: Trial, config: StudyConfig, *, best: bool, over: bool) -> dict[str, str]:
    return {
        "automl.kind": "trial",
        "automl.study": config.name,
        "automl.trial": str(trial.number),
        "automl.phase": trial.phase,
        "automl.label": trial.label,
        "automl.state": trial_state(trial, over=over),
        "automl.rung": rung(trial.reached, config.fidelity),
        "automl.best": "★" if best else "",
        "mlflow.runName": run_name(trial, best=best),
        **({"automl.message": trial.message[:5000]} if trial.message else {}),
        **_fingerprints(config),
    }


def study_tags(state: State, config: StudyConfig) -> dict[str, str]:
    best = winner(state)
    return {
        "automl.kind": "study",
        "automl.study": config.name,
        "automl.state": state.ended or "running",
        "automl.best": "" if best is None else f"trial {best.number:03d}",
        "automl.verdict": str((state.verdict or {}).get("outcome", "")),
        **_fingerprints(config),
    }


def _fingerprints(config: StudyConfig) -> dict[str, str]:
    card = config.card
    return {"automl.code": card.code_fingerprint, "automl.data": card.data_fingerprint}


def study_params(config: StudyConfig) -> dict[str, str]:
    low, high, eta = config.fidelity
    return {
        "strategy": config.strategy,
        "budget": " ".join(config.budget),
        "seed": str(config.seed),
        "seeds": str(config.seeds),
        "workers": str(config.workers),
        "fidelity": f"{low} to {high} steps, eta {eta}",
    }


def totals(trial: Trial) -> dict[str, float]:
    """Metrics of which a trial has one value: its costs, and what the test split said."""
    out = {
        "time/train_seconds": trial.seconds,
        "passes": trial.passes,
        "steps_trained": float(trial.reached),
    }
    if trial.memory_mib:
        out["memory_mib"] = trial.memory_mib
    lr = learning_rate(trial.recipe)
    if lr is not None and lr > 0:
        out["lr_log10"] = math.log10(lr)
    for name, value in (trial.test or {}).items():
        out[name if name.startswith("test/") else f"test/{name}"] = value
    return {key(name): shown(value) for name, value in out.items()}


def shown(value: float) -> float:
    """What MLflow is given: six significant digits, as many as its table has room for."""
    return float(f"{value:.6g}") if math.isfinite(value) else math.nan


def colour(place: int) -> str:
    """Colour of the optimizer that the study met as number `place`."""
    return _COLOURS[place % len(_COLOURS)]


def ranking(state: State) -> list[Trial]:
    """Search trials trained to the end with a finite value, best first; ties by number.

    Those that break constraints come last.
    """
    sign = -1.0 if state.config and state.config.card.direction == "maximize" else 1.0
    valued = [(t.last(state.metric), t) for t in state.finished()]
    known = [(v, t) for v, t in valued if v is not None and math.isfinite(v)]
    order = {t.number: (state.violation(t), sign * v, t.number) for v, t in known}
    return sorted((t for _, t in known), key=lambda t: order[t.number])


def winner(state: State) -> Trial | None:
    """The search trial of the recipe that the verdict keeps; before a verdict, the incumbent."""
    ranked = ranking(state)
    verdict = state.verdict or {}
    kept = [s for s in verdict.get("standings", ()) if s["label"] == verdict.get("keep")]
    if kept:
        point = Recipe.from_json(kept[0]["recipe"]).point_key
        same = [t for t in ranked if t.recipe.point_key == point]
        if same:
            return same[0]
    return ranked[0] if ranked else None


def note(state: State, config: StudyConfig) -> str:
    """Markdown over the runs; MLflow shows its first line, which names the winner."""
    best, first = winner(state), state.baseline()
    outcome = (state.verdict or {}).get("outcome", "")
    head = f"**Study {config.name}**"
    if best is not None:
        head = f"{head}: ★ {run_name(best, best=False)}, {state.metric} {_value(best, state)}"
        if first is not None and first is not best and first.last(state.metric) is not None:
            head += f" (baseline {_value(first, state)})"
        head += f", best of {len(state.search_trials())} trials"
    if outcome:
        head += f"; on fresh seeds: **{outcome}**"
    lines = [head, "", config.card.about, ""]
    for standing in (state.verdict or {}).get("standings", ()):
        samples = [(split, standing[split]) for split in ("validation", "test")]
        said = [
            f"{split} {s['mean']:.4g} ± {s['sd'] or 0:.2g} ({s['n']} seeds)"
            for split, s in samples
            if s["mean"] is not None
        ]
        lines.append(f"- {standing['label']}: {', '.join(said) or 'no finished run'}")
    return "\n".join(lines)


def _value(trial: Trial, state: State) -> str:
    value = trial.last(state.metric)
    return "not measured" if value is None else f"{value:.4g}"
