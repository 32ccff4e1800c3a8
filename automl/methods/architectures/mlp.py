"""MLP: dense layers, each followed by a norm, an activation and dropout.

    h = dropout(act(norm(W h + b))),  `depth` times, `width` wide;  output = W h + b

Images are flattened. The plain answer for tables; batch norm lets it take larger learning rates,
layer and RMS norm do so without looking at the other samples.
Source: Rumelhart et al. 1986, doi:10.1038/323533a0; RMS norm: arXiv:1910.07467.
"""

from __future__ import annotations

import math

from torch import nn

from automl.methods.stages import Architecture, Shape
from automl.space.ranges import Choice, Float, Int


def mlp(
    shape: Shape, *, width: int, depth: int, activation: str, norm: str, dropout: float
) -> nn.Module:
    activations = {"relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU}
    norms = {"batch": nn.BatchNorm1d, "layer": nn.LayerNorm, "rms": nn.RMSNorm}
    layers: list[nn.Module] = [nn.Flatten()]
    features = math.prod(shape.features)
    for _ in range(depth):
        layers.append(nn.Linear(features, width))
        if norm in norms:
            layers.append(norms[norm](width))
        layers += [activations[activation](), nn.Dropout(dropout)]
        features = width
    return nn.Sequential(*layers, nn.Linear(features, shape.outputs))


METHOD = Architecture(
    build=mlp,
    kinds=("vector", "image"),
    ranges={
        "width": Int(32, 512, log=True, default=128),
        "depth": Int(1, 4, default=2),
        "activation": Choice(["relu", "gelu", "silu"]),
        "norm": Choice(["none", "batch", "layer", "rms"]),
        "dropout": Float(0.0, 0.5, default=0.0),
    },
    year=1986,
    when="tables",
    source="doi:10.1038/323533a0",
)
