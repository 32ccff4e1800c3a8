"""MLP: dense layers, each followed by a norm, an activation and dropout.

    h = dropout(act(norm(W h + b))),  `depth` times, `width` wide;  output = W h + b

Images are flattened. The plain answer for tables; batch norm lets it take larger learning rates,
layer and RMS norm do so without looking at the other samples.
Source: Rumelhart et al. 1986, doi:10.1038/323533a0; RMS norm: arXiv:1910.07467.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import nn

from automl.methods.stages import Architecture, Shape
from automl.registry import family
from automl.space.ranges import Choice, Float, Int


def mlp(
    shape: Shape,
    *,
    width: int,
    depth: int,
    activation: Callable[[int], nn.Module],
    norm: str,
    dropout: float,
) -> nn.Module:
    lanes = getattr(activation, "lanes", 1)  # numbers that it takes for each that it gives
    norms = {"batch": nn.BatchNorm1d, "layer": nn.LayerNorm, "rms": nn.RMSNorm}
    layers: list[nn.Module] = [nn.Flatten()]
    features = math.prod(shape.features)
    for _ in range(depth):
        layers.append(nn.Linear(features, lanes * width))
        if norm in norms:
            layers.append(norms[norm](lanes * width))
        layers += [activation(1), nn.Dropout(dropout)]
        features = width
    return nn.Sequential(*layers, nn.Linear(features, shape.outputs))


METHOD = Architecture(
    build=mlp,
    kinds=("vector", "image"),
    ranges={
        "width": Int(32, 512, log=True, default=128),
        "depth": Int(1, 4, default=2),
        "activation": Choice(list(family("activation").names()), default="relu"),
        "norm": Choice(["none", "batch", "layer", "rms"]),
        "dropout": Float(0.0, 0.5, default=0.0),
    },
    parts={"activation": "activation"},
    year=1986,
    when="tables",
    source="doi:10.1038/323533a0",
)
