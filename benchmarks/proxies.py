"""What proxies say of random convnets on digits before training, beside what training says.

    python benchmarks/proxies.py [--networks 48] [--epochs 6]

Random convnets: 1 to 4 blocks of 4 to 32 channels, any of relu, gelu, silu, mish, with batch norm
or without, max or average pooling; AdamW at 3e-3, batches of 64, accuracy on 400 images that
neither training nor proxy sees. Each proxy sees one batch of 64. The figures stand in
docs/architectures.md.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import cast

import numpy as np
import torch
from torch.nn import functional as F

from automl.methods.stages import Architecture, Proxy, Shape
from automl.registry import family
from automl.search.prescreen import spearman
from automl.space.ranges import Value
from automl.tasks.digits import load_digits_tensors

SHAPE = Shape("image", (1, 8, 8), 10, "classes")


def drawn(seed: int) -> dict[str, Value]:
    rng = np.random.default_rng(seed)
    return {
        "width": int(np.exp(rng.uniform(np.log(4), np.log(32)))),
        "depth": int(rng.integers(1, 5)),
        "activation": str(rng.choice(["relu", "gelu", "silu", "mish"])),
        "norm": str(rng.choice(["batch", "none"])),
        "pooling": str(rng.choice(["max", "avg"])),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", type=int, default=48)
    parser.add_argument("--epochs", type=int, default=6)
    args = parser.parse_args()
    torch.set_num_threads(1)
    x, y = load_digits_tensors()
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    held, used = order[:400], order[400:]
    convnet = cast(Architecture, family("architecture").get("convnet"))
    names = family("proxy").names()
    scores: dict[str, list[float]] = {name: [] for name in names}
    seconds = dict.fromkeys((*names, "training"), 0.0)
    accuracy = []
    for seed in range(args.networks):
        torch.manual_seed(seed)
        net = convnet.network(SHAPE, drawn(seed))
        weights = {n: t.clone() for n, t in net.state_dict().items()}
        for name in names:
            begun = time.process_time()
            scores[name].append(cast(Proxy, family("proxy").get(name)).score(net, x[used[:64]]))
            seconds[name] += time.process_time() - begun
        net.load_state_dict(weights)
        begun = time.process_time()
        adam = torch.optim.AdamW(net.train().parameters(), 3e-3)
        for _ in range(args.epochs):
            for index in used[torch.randperm(len(used))].split(64):
                adam.zero_grad()
                F.cross_entropy(net(x[index]), y[index]).backward()
                adam.step()
        seconds["training"] += time.process_time() - begun
        with torch.no_grad():
            right = net.eval()(x[held]).argmax(1) == y[held]
        accuracy.append(float(right.double().mean()))
    low, high = min(accuracy), max(accuracy)
    print(f"{args.networks} networks, {args.epochs} epochs: accuracy {low:.3f} .. {high:.3f}, "
          f"median {statistics.median(accuracy):.3f}; {seconds['training']:.1f} s")  # fmt: skip
    for name in names:
        print(f"{name:10}  rank correlation {spearman(scores[name], accuracy):+.2f}  "
              f"{seconds[name]:.2f} s")  # fmt: skip


if __name__ == "__main__":
    main()
