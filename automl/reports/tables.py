"""A study in plain text and in rows: the verdict for people, trials for tables."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

from automl.recipe import Recipe
from automl.records import FAILURES, Status
from automl.registry import FAMILIES
from automl.reports.aim_words import aim_notes, broken_words, values_words
from automl.reports.numerals import Scale, chance, counted, duration, short
from automl.space.ranges import Value
from automl.study.comparison import Sample
from automl.study.contenders import baseline_recipe
from automl.study.state import State, Trial
from automl.study.verdict import BASELINE, Ablation, Standing, Verdict, judge

_WORDS = 4  # of a title, before the rest is only counted
_QUIET = (None, "none", "plain")
_STAGES = ("optimizer", "schedule", "batch", "loss", "averaging", "gradient", "transform",
           "architecture")  # fmt: skip


def verdict_of(state: State) -> Verdict:
    """The verdict that the journal holds; before there is one, that on what is there."""
    return Verdict.from_json(state.verdict) if state.verdict else judge(state)


def winner_recipe(state: State) -> Recipe | None:
    """The recipe to keep, with the seed of its best final; None when none was trained."""
    verdict = verdict_of(state)
    standing = verdict.standing(verdict.keep)
    if standing is None:
        return None
    trial = best_run(state, standing)
    return trial.recipe if trial else standing.recipe


def best_run(state: State, standing: Standing) -> Trial | None:
    """Of a contender's finals the one with the best validation value."""
    best: tuple[float, Trial] | None = None
    for number in standing.trials:
        trial = state.trials[number]
        value = trial.last(state.metric)
        if trial.status != Status.DONE or value is None or not math.isfinite(value):
            continue
        if best is None or state.better(value, best[0]):
            best = (value, trial)
    return best[1] if best else None


# Names ---------------------------------------------------------------------------------------


def recipe_title(
    recipe: Recipe, baseline: Recipe | None = None, *, methods_only: bool = False
) -> str:
    """What a recipe is in a few words: "muon, wsd, mixup".

    With the baseline given, only what differs from it; "baseline" when nothing does. With
    `methods_only` hyperparameters are counted, not named, unless they are all there is.
    """
    point, base = recipe.point, baseline.point if baseline else {}
    if baseline and dict(point) == dict(base) and not recipe.changes:
        return "baseline"
    methods, tuned = [], []
    for stage in _STAGES:
        method = point.get(stage)
        told = method not in _QUIET
        if baseline is None:
            if told and stage not in ("loss", "architecture"):
                methods.append(str(method))
        elif method != base.get(stage):
            # A stage that is absent because another one pins it needs no word.
            methods += [str(method)] if told else [f"no {base[stage]}"] if stage in point else []
        elif told and any(_differs(n, point, base) for n in point if n.startswith(f"{stage}.")):
            tuned.append(_tuned(stage, point, base))
    if baseline is not None or not methods:
        others = [n for n in point if n.split(".")[0] not in FAMILIES and _differs(n, point, base)]
        tuned += [f"{_plain(n)} {short(point[n])}" for n in others]
    if recipe.changes:
        tuned.insert(0, f"values that change {counted(len(recipe.changes), 'time')}")
    if methods_only and methods:
        rest = f" (and {counted(len(tuned), 'smaller change')})" if tuned else ""
        return " + ".join(methods) + rest
    words = [*methods, *tuned]
    if len(words) > _WORDS + 1:
        words = [*words[:_WORDS], f"{len(words) - _WORDS} smaller changes"]
    return ", ".join(words) or "no hyperparameters"


def _differs(name: str, point: Mapping[str, Value], base: Mapping[str, Value]) -> bool:
    return name not in base or point[name] != base[name]


def _tuned(stage: str, point: Mapping[str, Value], base: Mapping[str, Value]) -> str:
    """A method that stays, with what is new about it: "adamw lr 0.003"."""
    names = [n for n in point if n.startswith(f"{stage}.") and _differs(n, point, base)]
    first = next((n for n in names if n.endswith(".lr")), names[0])
    return f"{point[stage]} {first.rsplit('.', 1)[-1]} {short(point[first])}"


def _plain(name: str) -> str:
    return name.removeprefix("model.").replace("batch_size", "batch size")


# The verdict ---------------------------------------------------------------------------------


def verdict_sentence(state: State, verdict: Verdict | None = None) -> str:
    """The verdict in one sentence, with its figures."""
    assert state.config is not None
    v = verdict or verdict_of(state)
    scale = Scale(v.metric)
    winner, rival = v.standing(v.winner), v.standing(v.rival)
    if winner is None:
        return f"No verdict: {v.reason}."
    base = baseline_recipe(state)
    name = recipe_title(winner.recipe, base, methods_only=True)
    metric = f"{v.split} {scale.words}"
    if v.outcome == "not measured" and rival is None:
        seen = f"{metric} {scale.value(winner.validation.mean)} in the search"
        return f"Not measured: {v.reason}. Best so far: {name}, {seen}, one run."
    own = scale.spread(winner.on(v.split))
    if v.outcome == "baseline":
        if rival is None:
            return f"The baseline stands alone ({metric} {own}): {v.reason}."
        other = recipe_title(rival.recipe, base)
        theirs = scale.spread(rival.on(v.split))
        return (
            f"Nothing beats the baseline: {metric} {own} against {theirs} of its best rival "
            f"({other}), {_seeds(winner.on(v.split), rival.on(v.split))}."
        )
    assert rival is not None
    if v.difference is None:
        said = "beats the baseline" if v.outcome == "better" else "is not measured"
        return f"{name} {said}: {metric} {own}; {v.reason}."
    against = f"{metric} {own} against {scale.spread(rival.on(v.split))}"
    gain = f"{scale.signed(v.difference.value)}{scale.unit}"
    if not v.difference.measured:
        return f"{name} against the baseline is not measured: {against}, {gain}; {v.reason}."
    assert v.difference.p is not None
    proof = f"95 % interval {scale.interval(v.difference)}, {chance(v.difference.p)}"
    said = {
        "better": "beats the baseline",
        "worse": "looked best on validation but is worse than the baseline",
        "tied": "is not proven better than the baseline",
    }[v.outcome]
    seeds = _seeds(winner.on(v.split), rival.on(v.split))
    return f"{name} {said}: {against}, {_better(v, gain)}, {proof}, {seeds}."


def _better(v: Verdict, gain: str) -> str:
    return gain if v.direction == "maximize" else f"better by {gain}"


def _seeds(a: Sample, b: Sample) -> str:
    if a.n == b.n:
        return "1 seed each" if a.n == 1 else f"{a.n} seeds each"
    return f"{a.n} and {b.n} seeds"


def verdict_notes(state: State, verdict: Verdict | None = None) -> list[str]:
    """What else a reader should know: what could hide, ties, optimism, luck, lost runs."""
    v = verdict or verdict_of(state)
    scale, notes = Scale(v.metric), []
    d = v.difference
    if v.outcome == "tied" and d is not None and d.low is not None and d.high is not None:
        notes.append(
            f"It may be up to {scale.size(d.high)}{scale.unit} better or "
            f"{scale.size(d.low)}{scale.unit} worse; more seeds (--seeds) would tell."
        )
    barred = v.keep != BASELINE and any(f.baseline_broken for f in v.further)
    if v.outcome == "worse" and barred:
        notes.append("It is kept all the same: the baseline breaks a constraint.")
    elif v.outcome == "worse":
        notes.append("The baseline is kept.")
    if v.ties:
        names = [recipe_title(s.recipe, baseline_recipe(state)) for s in v.standings
                 if s.label in v.ties]  # fmt: skip
        other = "; ".join(f"{label} ({name})" for label, name in zip(v.ties, names, strict=True))
        notes.append(f"Within noise of the winner: {other}.")
    if v.optimism is not None:
        word = "better" if v.optimism >= 0 else "worse"
        notes.append(
            f"Validation looks {scale.size(v.optimism)}{scale.unit} {word} than test; "
            "the search never saw the test split."
        )
    elif v.winner and v.outcome != "not measured":
        notes.append("No test split: measured where the winner was chosen, so a little hopeful.")
    spread = winner.validation.sd if (winner := v.standing(v.winner)) else None
    if v.luck is not None and v.luck > (spread or 0.0):
        notes.append(
            f"{scale.size(v.luck)}{scale.unit} of the value that the search saw was luck: "
            "fresh seeds do not repeat it."
        )
    notes += aim_notes(v)
    for s in v.standings:
        if s.diverged and s.trials:
            notes.append(f"{s.label}: {s.diverged} of {len(s.trials)} runs diverged.")
        if s.failed:
            notes.append(f"{s.label}: {counted(s.failed, 'run')} failed and stays out.")
    return notes


def change_rows(verdict: Verdict) -> list[tuple[str, str, str]]:
    """Per ablation: what changed, its gain, and how to read it."""
    scale = Scale(verdict.metric)
    rows = []
    for a in verdict.ablations:
        rows.append((change_words(a), _gain(a, scale), _reading(a, scale)))
    return rows


def change_words(a: Ablation) -> str:
    """A change as "optimizer adamw -> muon", or its hyperparameters when the method stayed.

    Several that were taken back together stand in one line.
    """
    if not a.changed:  # of a schedule: the same values from the start to the end
        return "values that change while training"
    parts = []
    for name, (then, now) in a.changed.items():
        stage = name.split(".", 1)[0]
        if name in FAMILIES:
            before, after = (_plain(short(v)) if v not in _QUIET else "none" for v in (then, now))
            parts.append(f"{name} {before} -> {after}")
        elif stage not in FAMILIES:
            parts.append(f"{_plain(name)} {short(then)} -> {short(now)}")
        elif stage not in a.changed:  # another method has other settings: it says enough
            words = name.split(".", 1)[-1].replace(".", " ")
            parts.append(f"{words} {short(then)} -> {short(now)}")
    most = 3 if a.group else 4
    return ", ".join(parts[:most]) + (f" and {len(parts) - most} more" if parts[most:] else "")


def _gain(a: Ablation, scale: Scale) -> str:
    if a.gain is None:
        return "diverges" if a.diverged else "-"
    return f"{scale.signed(a.gain)}{scale.unit}"


def _reading(a: Ablation, scale: Scale) -> str:
    if a.gain is None:
        if a.diverged:
            return "needed: without it training diverges"
        return "not measured: " + ("its training failed" if a.failed else "no budget left for it")
    seeds = counted(a.value.n, "seed")
    if a.noise is None:
        return f"{seeds}: noise unknown"
    if a.proven:
        return f"{'helps' if a.gain > 0 else 'hurts'} (noise ± {scale.size(a.noise)}, {seeds})"
    return f"within the noise of ± {scale.size(a.noise)} ({seeds})"


def verdict_lines(state: State) -> list[str]:
    """What a person reads at the end; plain text, one paragraph a line."""
    if state.config is None:
        return ["The study is empty."]
    verdict = verdict_of(state)
    lines = [verdict_sentence(state, verdict), *verdict_notes(state, verdict)]
    rows = change_rows(verdict)
    if any(a.value.n or a.diverged for a in verdict.ablations):
        lines.append("What each change gives (the winner with it, minus without it):")
        lines += _columns(rows[:8])
        if len(rows) > 8:
            lines.append(f"  and {len(rows) - 8} more, in the report")
    elif rows:
        listed = "; ".join(r[0] for r in rows)
        lines.append(f"What changed: {listed}. No budget was left to measure each change alone.")
    lines.append(f"Cost: {cost_words(state)}.")
    return lines


def _columns(rows: list[tuple[str, str, str]]) -> list[str]:
    """Changes with their gains; of several in one row each has a line, the last the figures."""
    parts = [words.split(", ") for words, _, _ in rows]
    wide = max(len(part) for group in parts for part in group) + 1
    narrow = max(len(gain) for _, gain, _ in rows)
    lines = []
    for group, (_, gain, reading) in zip(parts, rows, strict=True):
        lines += [f"  {part}," for part in group[:-1]]
        lines.append(f"  {group[-1]:<{wide}} {gain:>{narrow}}  {reading}")
    return lines


def cost_words(state: State) -> str:
    """Trials, training, time: "41 trials (12 to the end), 24.3 full trainings, 3 min 20 s"."""
    assert state.config is not None
    searched, ended = state.search_trials(), state.finished()
    finals = len(state.trials) - len(searched)
    parts = [f"{counted(len(searched), 'trial')} ({len(ended)} to the end)"]
    if finals:
        parts.append(f"{finals} for the verdict")
    parts.append(f"{state.passes() / state.config.card.steps:.1f} full trainings")
    parts.append(duration(state.wall_seconds))
    failed = sum(t.failed for t in state.trials.values())
    diverged = sum(t.status == Status.DIVERGED for t in state.trials.values())
    if diverged:
        parts.append(f"{diverged} diverged")
    if failed:
        parts.append(f"{failed} failed")
    return ", ".join(parts)


# Trials --------------------------------------------------------------------------------------


def trials_rows(state: State) -> list[dict[str, Any]]:
    """One mapping a trial, in order: its columns, then the recipe's names; for CSV and Parquet."""
    if state.config is None:
        return []
    metric = state.config.card.metric
    rows = []
    front = {t.number for t in state.front()} if state.aims.several else set()
    for t in state.trials.values():
        rows.append(
            {
                "trial": t.number,
                "phase": t.phase,
                "label": t.label,
                "status": t.status,
                f"val_{metric}": t.last(state.metric),
                f"test_{metric}": (t.test or {}).get(f"test/{metric}"),
                **_aim_columns(state, t, front),
                "reached": t.reached,
                "steps": t.recipe.steps,
                "seconds": round(t.seconds, 3),
                "passes": t.passes,
                "device": t.device,
                "memory_mib": t.memory_mib,
                "message": t.message,
                "seed": t.recipe.seed,
                **t.recipe.point,
                **({"line": _line(t)} if t.recipe.changes else {}),
            }
        )
    return rows


def _line(trial: Trial) -> str:
    """What a trial is a copy of, and what changes in its line: "7@56; 56: adamw.lr=0.002"."""
    changes = [
        " ".join([f"{at}:", *(f"{n}={v}" for n, v in values.items())])
        for at, values in trial.recipe.changes
    ]
    parent = [f"{trial.parent[0]}@{trial.parent[1]}"] if trial.parent and trial.start else []
    return "; ".join([*parent, *changes])


def _aim_columns(state: State, trial: Trial, front: Collection[int]) -> dict[str, Any]:
    """Further objectives, constraints, whether it is on the front; {} where one thing counts."""
    aims = state.aims
    if aims.plain:
        return {}
    names = [n for n in aims.names if n != state.metric]
    found: dict[str, Any] = {n.replace("/", "_"): trial.last(n) for n in names}
    if aims.constraints:
        found["violation"] = state.violation(trial)
    return found | ({"front": trial.number in front} if aims.several else {})


def trial_lines(state: State, number: int) -> list[str]:
    """One trial described: what it is, how it went, its recipe with what differs marked."""
    assert state.config is not None
    trial, base = state.trials[number], baseline_recipe(state)
    scale = Scale(state.config.card.metric)
    name = trial.label or trial.phase
    share = f"{trial.reached} of {trial.recipe.steps} steps"
    if trial.parent is not None and trial.start > 0:
        share += f", from step {trial.start} on as a copy of trial {trial.parent[0]}"
    lines = [
        f"trial {number} ({name}): {recipe_title(trial.recipe, base)}",
        f"{trial.status}, {share}, {duration(trial.seconds)}"
        + (f" on {trial.device}" if trial.device else ""),
        f"validation {scale.words} {scale.value(trial.last(state.metric))}",
    ]
    if not state.aims.plain and trial.curve:
        last = trial.curve[-1][1]
        names = [n for n in state.aims.names if n != state.metric and n in last]
        lines.append(values_words({n: last[n] for n in names}))
        broken = broken_words(state, trial)
        on_front = any(t is trial for t in state.front()) if state.aims.several else False
        place = "on the front" + (": the compromise" if trial is state.compromise() else "")
        lines += [broken] if broken else [place] if on_front else []
    if trial.test:
        seen = trial.test.get(f"test/{scale.metric}")
        lines.append(f"test {scale.words} {scale.value(seen)}")
    if trial.message and (trial.status in FAILURES or trial.status == Status.DIVERGED):
        lines.append(trial.message)
    wide = max((len(n) for n in trial.recipe.point), default=0)
    for n, value in trial.recipe.point.items():
        differs = _differs(n, trial.recipe.point, base.point)
        was = f"   (baseline {short(base.point[n])})" if differs and n in base.point else ""
        lines.append(f"  {'*' if differs else ' '} {n:<{wide}}  {short(value)}{was}")
    for at, values in trial.recipe.changes:
        words = ", ".join(f"{_plain(n)} {short(v)}" for n, v in values.items())
        lines.append(f"    from step {at} on: {words}")
    lines.append(f"    {'seed':<{wide}}  {trial.recipe.seed}")
    return lines
