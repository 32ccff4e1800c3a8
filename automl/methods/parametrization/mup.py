"""muP: initial weights and learning rates by layer, so that the best rate is that of any width.

    against the network of width `base`, where it is the standard one; in = fan_in/fan_in(base),
    out = fan_out/fan_out(base), large = their larger side's ratio; 1 where the width is not in it

                 standard deviation      rate, by the optimizer's scaling class
                 of initial weights      entry        gradient    matrix
    input        1                       1            out         sqrt(out/in)/sqrt(large)
    hidden       1/sqrt(in)              1/in         out/in      sqrt(out/in)/sqrt(large)
    output       1/in                    1/in         out/in      1/in
    vector       1                       1            out         1

Under it every layer's activations start, and move in a step, by as much as at the base width:
tune a narrow network, train a wide one with the same numbers (`automl transfer`). input: weights
whose fan-in is fixed, embeddings among them; vectors: biases and norms. entry, gradient, matrix:
see `scaling` in an optimizer's file. Those of "own" scaling get the initial weights alone.

The optimizer sees w/a and its gradient, a such that its plain rate moves w as the table says. So
momenta, schedules and averages stay as they are, and a decay of lr*wd shrinks all widths alike.
Transforms see gradients whose norm does not grow with the width: one clipping threshold serves.

Layers are told by building the model at `base` and at four times that; so is the model's own
initialization, which need not be torch's. `argument` is the width's name among the model's
arguments; auto finds the only one that changes the sizes of layers. Not done: attention by 1/d in
place of 1/sqrt(d) (keep width/heads, or write it into the model), Adam's eps, SAM's radius. An
output layer that shares the embedding's weights would need a factor on the logits; it is refused.
The column "matrix" is ours, from the spectral condition of arXiv:2310.17813, that the norm of a
step is as sqrt(fan_out/fan_in).
Source: Yang et al. 2022, arXiv:2203.03466, table 3, which is table 8 without factors on outputs.
"""

from __future__ import annotations

import math

from automl.methods.stages import Growth, Parametrization, Scaling
from automl.space.ranges import Choice, Int


def mup_start(growth: Growth) -> float:
    power = 1.0 if growth.role == "output" else 0.5
    return math.pow(growth.width, growth.spread) / math.pow(growth.inputs, power)


def mup_rate(growth: Growth, scaling: Scaling) -> float:
    if scaling == "own":
        return 1.0
    if scaling == "gradient":
        return growth.outputs / growth.inputs
    if scaling == "matrix":
        return math.sqrt(growth.outputs / growth.inputs / growth.larger)
    return 1 / growth.inputs


METHOD = Parametrization(
    start=mup_start,
    rate=mup_rate,
    # A base near the widths that are tuned: there it is the network that everyone knows.
    ranges={
        "base": Int(8, 1024, log=True, default=64),
        "argument": Choice(["auto"]),
    },
    when="tuning at a small width for a large one; searches that vary the width",
    source="arXiv:2203.03466",
)
