"""What a study's packs did, and why trials had to train alone, in words."""

from __future__ import annotations

from automl.recipe import Recipe
from automl.records import Packing
from automl.reports.numerals import counted
from automl.study.budget import Budget
from automl.study.contenders import baseline_recipe
from automl.study.packing import largest_pack
from automl.study.state import State, StudyConfig

_MOST = 3  # names that tell a kind of recipe


def packed(state: State) -> str:
    """How many trials were trained in packs, and how much faster: "packed 24, 3.1x"."""
    if not state.packed:
        return ""
    gain = _gain(state)
    many = f"packed {len(state.packed):,}"
    return f"{many}, {gain:.1f}x" if gain else many


def measured(found: Packing) -> str:
    """What the smoke trial found of recipes like the baseline, for the line that tells of it."""
    if found.size == 1:
        return f"trials like the baseline train alone: {found.reason}"
    compiled = ", compiled," if found.engine == "compiled" else ""
    without = f" ({found.reason})" if found.reason else ""
    many = f"packs of {found.size} such trials{compiled}"
    return f"{many} train {found.gain:.1f} times as fast{without}"


def never(config: StudyConfig) -> str:
    """Why no trial of the study can share a pack; "" where some may."""
    if config.pack == "off":
        return "--pack off"
    if config.card.kind in ("loop", "command"):
        return "the task trains itself"
    fulls = Budget.parse(config.budget).search_fulls(config)
    if largest_pack(config, fulls) < 2:
        few = counted(max(round(fulls), 0), "full training")
        return f"a search of {few} is too short, for each is chosen by the results before"
    return ""


def smaller(state: State, recipe: Recipe, found: Packing | None) -> str:
    """That recipes like this one train alone, or fewer at a time, and why; "" where neither is so.

    Nor where it was told of others for the same reason.
    """
    if found is None or (found.size > 1 and not found.unfit):
        return ""
    told = sum((f.reason, f.size) == (found.reason, found.size) for _, f in state.packings) > 1
    return "" if told else _smaller(kind(state, recipe), found.size, found.reason)


def _smaller(kinds: str, size: int, reason: str) -> str:
    how = "alone" if size == 1 else f"{size} at a time"
    return f"trials {kinds} train {how}: {reason}"


def declined(state: State) -> str:
    """Why nothing is packed in a study that might; "" while nobody knows."""
    config = state.config
    if config is None or state.packed or config.pack == "off":
        return ""
    why = never(config)
    if why:
        return f"trials train alone: {why}"
    return "" if config.packing is None or config.packing.size > 1 else measured(config.packing)


def kind(state: State, recipe: Recipe) -> str:
    """What sets a structure apart from the baseline's: "with batch size 256, gradient sam"."""
    base = baseline_recipe(state).shared
    other = [(n, v) for n, v in recipe.shared.items() if base.get(n) != v]
    if not other:
        return "like the baseline"
    # A method tells more than its numbers.
    other.sort(key=lambda named: not isinstance(named[1], str))
    words = [
        f"{n.replace('_', ' ')} {f'{v:.4g}' if isinstance(v, float) else v}"
        for n, v in other[:_MOST]
    ]
    return f"with {', '.join(words)}" + (" ..." if len(other) > _MOST else "")


def sentence(state: State) -> str:
    """All of it in one paragraph: for the report and `automl show`."""
    config = state.config
    assert config is not None
    why = never(config)
    if why:
        return f"every trial trained alone: {why}"
    total = len(state.trials)
    if state.packed:
        gain = _gain(state)
        faster = f", each about {gain:.1f} times as fast as alone" if gain else ""
        text = f"{len(state.packed):,} of {counted(total, 'trial')} trained in packs{faster}"
    else:
        text = f"none of {counted(total, 'trial')} trained in a pack"
    kinds: dict[tuple[int, str], dict[str, None]] = {}  # by size and reason
    for recipe, found in state.packings:
        if found.size == 1 or found.unfit:
            kinds.setdefault((found.size, found.reason), {})[kind(state, recipe)] = None
    reasons = [_smaller(" or ".join(k), *why) for why, k in kinds.items()]
    return "; ".join([text, *reasons])


def _gain(state: State) -> float:
    """Expected speed of those in packs against alone, on average; 0: nobody measured."""
    gains = [g for t in state.packed if (g := state.gains.get(t, 0.0))]
    return sum(gains) / len(gains) if gains else 0.0
