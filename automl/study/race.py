"""The race of the finalists: who is trained on the next fresh seed, and who has won.

    bound      mean - s / sqrt(n)    over a finalist's fresh seeds (+ where smaller is better);
                                     s: the noise between seeds, pooled over all that compete
    winner     the best bound: a mean of few seeds may be lucky, and counts for less
    rounds     one a seed; of four finalists three go on after the first seed, and two run on the
               last: as much training as three of them on every seed. Two that are left after
               the first run on all others at once: a pack of them costs less than waiting
    out        the worst bound, and before their turn all that are beaten: further behind the
               leader than the noise explains (two standard errors of the difference)
    recalled   whoever is out and has the best bound in the end: the winner runs on every seed

The baseline runs on every seed, and before anyone is out: it is what the verdict is about, and its
runs are the first to tell the noise. Who goes on to a seed is judged on earlier seeds alone, so the
order in which runs end changes nothing, and a driver that begins again plans the same. A run that
diverged puts its finalist behind all that have fewer of them.

Simulated with normal noise between a tenth of the spread of recipes and all of it, thirty trials:
the luckiest value of the search loses 0.042, 0.109, 0.241 spreads to the best recipe there was,
three finalists on three seeds each 0.022, 0.079, 0.177, the race 0.021, 0.074, 0.173.
`benchmarks/race.py` has it on recorded noise.
Source: sequential halving, Karnin et al. 2013, with the elimination of Maron and Moore 1993.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from automl.study.comparison import Sample, pooled

_BEATEN = 2.0  # standard errors


@dataclass(frozen=True, slots=True)
class Runs:
    """A contender's losses on fresh seeds, lower better, how often it diverged, and how far it
    breaks constraints."""

    losses: Sequence[float]
    diverged: int = 0
    violation: float = 0.0

    @property
    def share(self) -> float:
        """Of its runs that diverged, 0 to 1; 1 without any run."""
        tried = self.diverged + len(self.losses)
        return self.diverged / tried if tried else 1.0


def rounds(finalists: int, seeds: int, *, most: int) -> list[int]:
    """How many run on each seed: all of `finalists`, or a race where one more than that is there.

    >>> rounds(4, 3, most=3), rounds(2, 3, most=3), rounds(4, 1, most=3)
    ([4, 3, 2], [2, 2, 2], [3])
    """
    if finalists <= most or seeds < 2:
        return [min(finalists, most)] * seeds
    return [finalists, *[most] * (seeds - 2), most - 1]


def order(runs: Mapping[str, Runs], *, resolution: float = 0.0) -> list[str]:
    """Labels by bound, the best first. Ties: as given.

    Who diverged more often stands behind, then who breaks constraints by more.
    """
    found = pooled([r.losses for r in runs.values()], resolution=resolution)
    noise = 0.0 if found is None else found[0]

    def place(label: str) -> tuple[float, float, float]:
        one = runs[label]
        return one.share, one.violation, _bound(one, noise)

    return sorted(runs, key=place)


def going_on(
    runs: Mapping[str, Runs],
    racing: Sequence[str],
    room: int,
    *,
    resolution: float = 0.0,
) -> list[str]:
    """Who of `racing` is trained on the next seed, at most `room`, the leader first.

    `runs` holds all that tell the noise, those that are out and the baseline among them. Who has
    no value at all is out.
    """
    ranked = order(runs, resolution=resolution)
    placed = [label for label in ranked if label in racing and runs[label].losses]
    if not placed:
        return []
    found = pooled([r.losses for r in runs.values()], resolution=resolution)
    leader = runs[placed[0]]
    return [
        label
        for label in placed[:room]
        if label == placed[0] or found is None or not _beaten(runs[label], leader, found[0])
    ]


def _bound(runs: Runs, noise: float) -> float:
    sample = Sample.of(runs.losses)
    return math.inf if sample.mean is None else sample.mean + noise / math.sqrt(sample.n)


def _beaten(one: Runs, leader: Runs, noise: float) -> bool:
    a, b = Sample.of(one.losses), Sample.of(leader.losses)
    if a.mean is None or b.mean is None:
        return False
    return a.mean - b.mean > _BEATEN * noise * math.sqrt(1 / a.n + 1 / b.n)
