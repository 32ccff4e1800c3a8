"""Recipes that are known to be good on many tasks, tried before anything is modelled.

On recorded tasks a handful of points that did well elsewhere was worth more than any sampler
at twenty trainings. These are written down by hand, from what the methods' papers and common
practice recommend, and differ in what matters: optimizer, schedule, averaging, augmentation.
`benchmarks/portfolio.py` learns another list from finished runs, which vary little but optimizers;
in the shipped spaces it was no better (docs/search.md), so these stay.

An entry names stages and hyperparameters as a recipe does. A tuple lists options, the first that
the space has counts; what the space lacks is left out, and the default stands. An entry whose
optimizer the space lacks is no entry: what is left of it is not what was known to be good.
"""

from __future__ import annotations

from collections.abc import Mapping

from automl.space.ranges import Value
from automl.space.tree import Space

_LIGHT = ("flip_crop", "none")
_HEAVY = ("flip_crop+mixup", "mixup", "flip_crop")

ENTRIES: tuple[Mapping[str, Value | tuple[Value, ...]], ...] = (
    {
        "optimizer": "adamw",
        "optimizer.adamw.lr": 3e-3,
        "optimizer.adamw.wd": 0.1,
        "averaging": "ema",
        "batch": _LIGHT,
        "loss.cross_entropy.smoothing": 0.1,
    },
    {
        "optimizer": "muon",
        "optimizer.muon.lr": 5e-3,
        "optimizer.muon.wd": 0.1,
        "schedule": "wsd",
        "batch": _LIGHT,
    },
    {
        "optimizer": "muon",
        "optimizer.muon.lr": 2e-2,
        "optimizer.muon.wd": 0.1,
        "batch": _LIGHT,
        "batch_size": 32,
        "loss.cross_entropy.smoothing": 0.1,
    },
    {
        "optimizer": "sgd",
        "optimizer.sgd.lr": 0.2,
        "optimizer.sgd.wd": 5e-4,
        "schedule": "one_cycle",
        "batch": _LIGHT,
    },
    {
        "optimizer": "adamw",
        "optimizer.adamw.lr": 5e-3,
        "optimizer.adamw.wd": 0.02,
        "schedule": ("one_cycle", "linear"),
        "batch": _HEAVY,
    },
    {
        "optimizer": "lion",
        "optimizer.lion.lr": 3e-4,
        "optimizer.lion.wd": 1.0,
        "schedule": "linear",
        "batch": _LIGHT,
        "loss.cross_entropy.smoothing": 0.1,
    },
    {
        "optimizer": "schedule_free_adamw",
        "optimizer.schedule_free_adamw.lr": 5e-3,
        "optimizer.schedule_free_adamw.wd": 0.05,
    },
    {
        "optimizer": "adamw",
        "optimizer.adamw.lr": 5e-4,
        "optimizer.adamw.wd": 0.1,
        "optimizer.adamw.b2": 0.95,
        "transform": "clip_norm",
        "batch": _LIGHT,
    },
    {
        "optimizer": "sgd",
        "optimizer.sgd.lr": 0.05,
        "gradient": "sam",
        "averaging": ("swa", "ema"),
        "batch": _HEAVY,
    },
)


def portfolio(space: Space) -> list[dict[str, Value]]:
    """The entries as points of `space`, best bets first; none is the default or comes twice.

    Empty for a space without a choice of optimizers.
    """
    seen = [space.default()]
    for entry in ENTRIES:
        wanted: dict[str, Value] = {}
        for name, options in entry.items():
            for option in options if isinstance(options, tuple) else (options,):
                if name in space and name not in wanted and space[name].range.contains(option):
                    wanted[name] = option
        point = space.complete(wanted)
        if wanted.get("optimizer") == entry["optimizer"] and point not in seen:
            seen.append(point)
    return seen[1:]
