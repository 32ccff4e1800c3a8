"""The collapse of DARTS to skips, and what the defaults of `--nas darts` make of it.

    python benchmarks/collapse.py [--seeds 5]

A space where skips are strong: table cells (two of 16 units, six edges, each a skip or a dense
layer) on the sign of a product of two numbers among six, 300 rows, 30 % of the labels flipped. The
weights soon fit the flips of their half, which costs loss on the other half; a skip has nothing to
fit with, so the alphas go to it.

plain       30 epochs, the strongest alpha, any number of skips, no watch
ours        the same, but watched, read by perturbation, at most two skips
by alpha    that supernet, read by the strongest alpha, at most two skips

All cells are then trained from scratch on 1,500 rows of the same kind, beside the cell of six
skips and that of six layers, and tested on 2,000 rows without flips. The figures stand in
docs/architectures.md.
"""

from __future__ import annotations

import argparse
import statistics

import torch
from torch import Tensor
from torch.nn import functional as F

from automl.darts.derive import argmax, perturbation
from automl.darts.search import Search, Settings
from automl.darts.supernet import Supernet
from automl.methods.architectures.table_cells import METHOD
from automl.methods.stages import Shape
from automl.train.seeding import mix

SHAPE = Shape("vector", (6,), 2, "classes")
HYPER = {"width": 16, "cells": 2, "dropout": 0.0}
CELLS = METHOD.cells
assert CELLS is not None
EDGES = CELLS.edges


def rows(count: int, *, flipped: float, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, 6, generator=generator)
    y = (x[:, 0] * x[:, 1] > 0).long()
    wrong = torch.rand(count, generator=generator) < flipped
    return x, torch.where(wrong, 1 - y, y)


def searched(seed: int, *, watch: bool) -> Search:
    assert CELLS is not None
    torch.manual_seed(mix(seed, "supernet", 0) % 2**63)
    net = Supernet(
        SHAPE,
        CELLS,
        candidates=dict.fromkeys(EDGES, ("skip", "dense_relu")),
        hyper=HYPER,
        seed=mix(seed, "alphas") % 2**63,
    )
    settings = Settings(seed=seed, epochs=30, alpha_lr=0.01, watch=watch)
    search = Search(net, *rows(300, flipped=0.3, seed=0), settings)
    search.run()
    return search


def trained(edges: dict[str, str], seed: int) -> float:
    """Test accuracy of the cell trained from scratch."""
    torch.manual_seed(mix(seed, "retrain") % 2**63)
    net = METHOD.network(SHAPE, {**edges, **HYPER})
    x, y = rows(1500, flipped=0.3, seed=1)
    adamw = torch.optim.AdamW(net.parameters(), 3e-3)
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(adamw, 12 * 24)
    for _ in range(12):
        for index in torch.randperm(len(x)).split(64):
            adamw.zero_grad()
            F.cross_entropy(net(x[index]), y[index]).backward()
            adamw.step()
            rate.step()
    x, y = rows(2000, flipped=0.0, seed=2)
    with torch.no_grad():
        return float((net.eval()(x).argmax(1) == y).double().mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    given = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, list[float]] = {}
    for seed in range(given.seeds):
        plain = argmax(searched(seed, watch=False).net, max_skips=len(EDGES))
        ours = searched(seed, watch=True)
        sharp = [e.sharpness or 0.0 for e in ours.history]
        stopped = "no sign" if ours.collapsed is None else f"stopped after epoch {len(sharp)}"
        cells = {
            "plain": plain,
            "by alpha": argmax(ours.net),  # before the other reading trains it on
            "ours": perturbation(ours),
            "six skips": dict.fromkeys(EDGES, "skip"),
            "six layers": dict.fromkeys(EDGES, "dense_relu"),
        }
        print(f"seed {seed}  sharpness {min(sharp):.4f} -> {sharp[-1]:.4f}, {stopped}")
        for label, edges in cells.items():
            value = trained(edges, seed)
            found.setdefault(label, []).append(value)
            skips = list(edges.values()).count("skip")
            print(
                f"        {label:10}  {skips} skips of {len(EDGES)}  test {value:.3f}", flush=True
            )
    for label, values in found.items():
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        print(f"{label:10}  test {statistics.mean(values):.3f} ± {spread:.3f}")


if __name__ == "__main__":
    main()
