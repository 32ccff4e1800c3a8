"""What a study's supernet found, read from the journal: cells, weights over time, scores.

The name of an edge ends with its two nodes: "e02" goes from node 0 to node 2, "normal_13" from 1
to 3 in the normal cell. Edges without such digits ("mix1", "mix2") follow each other in a chain.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from automl.errors import StudyError
from automl.records import Status
from automl.reports.numerals import Scale, counted, duration
from automl.study.state import State, Trial

_NODES = re.compile(r"^(?:(?P<cell>\w+)_|e)(?P<source>\d)(?P<target>\d)$")


class Edge(NamedTuple):
    """One edge of a cell; `name` is its hyperparameter's last part."""

    cell: str  # "normal", "reduction"; "" where there is one kind of cell
    source: int
    target: int
    name: str


@dataclass(frozen=True)
class Derived:
    """What the supernet of a study brought back; weights and scores are an epoch each."""

    trial: Trial
    method: str
    architecture: str
    edges: tuple[Edge, ...]
    chosen: tuple[Mapping[str, str], ...]  # by edge the operation, an architecture each
    weights: tuple[Mapping[str, Mapping[str, float]], ...]  # edge -> candidate -> in its mixture
    scores: tuple[float, ...]  # the metric, as are before and after
    sharpness: tuple[float | None, ...]  # None: not watched
    collapsed: int | None  # the epoch to which a search that collapsed went back
    before: float | None  # the supernet, all candidates mixed
    after: float | None  # with one operation an edge, weights as they were

    def skip_weight(self) -> list[float]:
        """Mean weight of "skip" over the edges that have it, by epoch; [] where none has."""
        rows = [[w["skip"] for w in epoch.values() if "skip" in w] for epoch in self.weights]
        return [sum(row) / len(row) for row in rows if row]


def derived(state: State) -> Derived:
    """What the supernet of `state` found.

    Raises:
        StudyError: there is no supernet, or it has not ended.
    """
    assert state.config is not None
    name = state.config.name
    if state.config.card.supernet is None:
        raise StudyError(
            f"study '{name}' has no supernet, so no cell to show; one with: automl tune TASK --nas "
            "darts"
        )
    trial = state.supernet()
    if trial is None or trial.found is None:
        raise StudyError(f"study '{name}': {_why_not(trial)}")
    found = trial.found
    chosen = tuple(found["edges"])
    # A supernet's score is the metric with the sign that makes higher better.
    sign = 1.0 if state.config.card.direction == "maximize" else -1.0
    before, after = found["before"], found["after"]
    return Derived(
        trial,
        found["nas"],
        str(found["points"][0]["architecture"]),
        tuple(edges_of(list(chosen[0]))),
        chosen,
        tuple(found["weights"]),
        tuple(sign * score for score in found["scores"]),
        tuple(found["sharpness"]),
        found["collapsed"],
        None if before is None else sign * before,
        None if after is None else sign * after,
    )


def _why_not(trial: Trial | None) -> str:
    if trial is None:
        return "its supernet has not begun"
    if trial.status == "running":
        return f"its supernet (trial {trial.number}) is still being trained"
    what = f": {trial.message}" if trial.message else ""
    return f"its supernet (trial {trial.number}) found nothing, {trial.status}{what}"


def edges_of(names: Sequence[str]) -> list[Edge]:
    """The graph that the names of edges tell, in the order of its nodes.

    >>> edges_of(["normal_02", "reduction_13"])[1]
    Edge(cell='reduction', source=1, target=3, name='reduction_13')
    >>> [edge[1:3] for edge in edges_of(["mix1", "mix2"])]
    [(0, 1), (1, 2)]
    """
    found = [_NODES.match(name) for name in names]
    if not all(found):
        return [Edge("", place, place + 1, name) for place, name in enumerate(names)]
    edges = [
        Edge(m["cell"] or "", int(m["source"]), int(m["target"]), m[0])
        for m in found
        if m is not None
    ]
    return sorted(edges, key=lambda e: (e.cell, e.target, e.source))


# In words ------------------------------------------------------------------------------------


def operations_words(chosen: Mapping[str, str]) -> str:
    """Operations by how often they stand: "3 conv3, 2 skip, 1 none"."""
    return ", ".join(f"{n} {name}" for name, n in Counter(chosen.values()).most_common())


def found_words(state: State, trial: Trial) -> str:
    """One line about a supernet that has ended: what it cost and what was derived."""
    assert state.config is not None
    cost = f"{duration(trial.seconds)}, {trial.passes / state.config.card.steps:.1f} full trainings"
    if trial.found is None:
        return f"{cost}; nothing derived"
    chosen = trial.found["edges"]
    if len(chosen) > 1:
        return f"{cost}; derived {counted(len(chosen), 'cell')}"
    return f"{cost}; derived {operations_words(chosen[0])}"


def score_words(state: State, found: Derived) -> list[str]:
    """Lines on scores, skips and sharpness, and on how the derived trials ended."""
    assert state.config is not None
    scale = Scale(state.config.card.metric)
    lines = []
    if found.before is not None and found.after is not None:
        lines.append(
            f"supernet's {scale.words}: {scale.value(found.before)} with all candidates mixed, "
            f"{scale.value(found.after)} cut down to the cell"
        )
    for label, trial in _trained(state):
        value = scale.value(trial.last(state.metric))
        waits = "stopped early" if trial.status == "waiting" else trial.status
        ended = "" if trial.status == Status.DONE else f" ({waits})"
        lines.append(f"{label}, trained from scratch: {value}{ended}, trial {trial.number}")
    skips = found.skip_weight()
    counts = [sum(name == "skip" for name in chosen.values()) for chosen in found.chosen]
    drift = f"; mean weight of a skip {skips[0]:.3f} -> {skips[-1]:.3f}" if skips else ""
    lines.append(f"skips: {_joined(counts)} of {counted(len(found.edges), 'edge')}{drift}")
    watched = [s for s in found.sharpness if s is not None]
    if watched:
        lines.append(
            f"sharpness, the largest eigenvalue in the alphas: {watched[0]:.3g} -> "
            f"{watched[-1]:.3g}, at most {max(watched):.3g}"
        )
    if found.collapsed is not None:
        lines.append(f"it rose, the sign of collapse: stopped, back to epoch {found.collapsed + 1}")
    return lines


def _trained(state: State) -> list[tuple[str, Trial]]:
    return [(t.label, t) for t in state.search_trials() if t.label.startswith("derived")]


def _joined(counts: Sequence[int]) -> str:
    return ", ".join(map(str, counts))
