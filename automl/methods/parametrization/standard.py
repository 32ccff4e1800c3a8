"""Standard: initial weights as the model makes them, one learning rate for all of them.

torch draws the weights of a layer from U(-1/sqrt(fan_in), 1/sqrt(fan_in)), whatever its place in
the network. Under one rate the outputs of a wide network then move further in a step than those
of a narrow one: the best rate falls with the width.
Source: LeCun et al. 1998, "Efficient BackProp", doi:10.1007/3-540-49430-8_2.
"""

from __future__ import annotations

from automl.methods.stages import Growth, Parametrization, Scaling


def standard_start(growth: Growth) -> float:
    return 1.0


def standard_rate(growth: Growth, scaling: Scaling) -> float:
    return 1.0


METHOD = Parametrization(
    start=standard_start,
    rate=standard_rate,
    looks=False,
    year=1998,
    when="the default",
    source="doi:10.1007/3-540-49430-8_2",
)
