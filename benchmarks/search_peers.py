"""Other people's searches on the same recorded trainings, in virtual time.

Each is used as its documentation shows, with its defaults but for one thing: rungs begin at a
ninth of a training, for earlier ranks mislead (an "@1" begins at the first epoch, the default).
"+baseline" begins with the space's default, as ours do. Where a library has a clock of its own,
what decides in it is driven in its stead: `Peer` is the seam, one file a library. They are told
every epoch; a trial that is stopped pays for what it trained, one that is continued only for what
is added. Not here: NePS, whose pins (pandas < 3, networkx < 3, torchvision) exclude ours.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from recorded import Problem

from automl.space.tree import Point


class Peer(Protocol):
    """A search that is asked for trials and told every epoch of theirs."""

    def begin(self, trial: int) -> tuple[Point, int] | None:
        """What to train next, and the steps of it that are paid for; None: wait for results."""

    def report(self, trial: int, step: int, score: float) -> bool:
        """Whether the trial goes on after `step`."""

    def end(self, trial: int, scores: Sequence[float]) -> None:
        """It has ended or was stopped; its score after each step from the first."""


Make = Callable[[Problem, int, int, int], Peer]  # problem, full trainings, seed, workers


def first_rung(problem: Problem) -> int:
    return math.ceil(problem.steps / 9)


def drive(problem: Problem, peer: Peer, *, fulls: int, workers: int) -> np.ndarray:
    """Best score after each full training paid for [fulls]; the clock is the recorded seconds."""
    seen: list[float] = []
    running: dict[int, tuple[Point, int]] = {}
    clock: list[tuple[float, int, int]] = []  # when, trial, step
    now, trials = 0.0, 0
    while len(seen) < fulls * problem.steps:
        while len(running) < workers:
            begun = peer.begin(trials)
            if begun is None:
                break
            point, start = running[trials] = begun
            seconds = problem.curve(point)[1]
            ends = now + seconds[start:] - (seconds[start - 1] if start else 0.0)
            heapq.heappush(clock, (float(ends[0]), trials, start + 1))
            trials += 1
        if not clock:
            break  # a search that has come to its own end
        now, trial, step = heapq.heappop(clock)
        point, start = running[trial]
        scores, seconds = problem.curve(point)
        seen.append(float(scores[step - 1]))
        goes_on = peer.report(trial, step, float(scores[step - 1]))
        if goes_on and step < problem.steps:
            heapq.heappush(clock, (now + float(seconds[step] - seconds[step - 1]), trial, step + 1))
        else:
            del running[trial]
            peer.end(trial, scores[:step].tolist())
    best: np.ndarray = np.maximum.accumulate(seen)
    return best[problem.steps - 1 :: problem.steps][:fulls]


def _optuna(sampler: str, pruner: str = "none", *, baseline: bool = False) -> Make:
    def make(problem: Problem, fulls: int, seed: int, workers: int) -> Peer:
        from peer_optuna import OptunaPeer

        return OptunaPeer(problem, seed, sampler=sampler, pruner=pruner, baseline=baseline)

    return make


def _nevergrad(name: str) -> Make:
    def make(problem: Problem, fulls: int, seed: int, workers: int) -> Peer:
        from peer_nevergrad import NevergradPeer

        return NevergradPeer(problem, fulls, seed, workers, name=name)

    return make


def _syne_tune(name: str) -> Make:
    def make(problem: Problem, fulls: int, seed: int, workers: int) -> Peer:
        from peer_syne_tune import SyneTunePeer

        return SyneTunePeer(problem, seed, name=name)

    return make


def _ray(problem: Problem, fulls: int, seed: int, workers: int) -> Peer:
    from peer_ray import RayPeer

    return RayPeer(problem, seed)


def _smac(kind: str) -> Make:
    def make(problem: Problem, fulls: int, seed: int, workers: int) -> Peer:
        from peer_smac import SmacPeer

        return SmacPeer(problem, fulls, seed, kind=kind)

    return make


PEERS: dict[str, Make] = {
    "optuna-tpe": _optuna("tpe"),
    "optuna-tpe+baseline": _optuna("tpe", baseline=True),
    "optuna-gp": _optuna("gp"),
    "optuna-cma": _optuna("cma"),
    "optuna-tpe+hyperband": _optuna("tpe", "hyperband@9th"),
    "optuna-tpe+hyperband@1": _optuna("tpe", "hyperband"),
    "optuna-tpe+median": _optuna("tpe", "median@9th"),
    "nevergrad-de": _nevergrad("TwoPointsDE"),
    "nevergrad-ngopt": _nevergrad("NGOpt"),
    "ray-asha+optuna": _ray,
    "syne-tune-asha": _syne_tune("ASHA"),
    "syne-tune-bohb": _syne_tune("BOHB"),
    "smac": _smac("hpo"),
    "smac-hyperband": _smac("multi-fidelity"),
}
