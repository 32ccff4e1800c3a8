"""Simmering: weights as particles in the loss's landscape, kept at a temperature; their mean.

    h = sqrt(lr), n the number of weights, K = sum v^2
    each step, with g at the present w:
        v = v - h/2*g; chain(h)                    the end of the step before
        chain(h); v = v - h/2*g; w = w + h*v       the first half of this one
    chain(h), a Nose-Hoover chain of three of masses n*tau^2, tau^2, tau^2, e_j = exp(-h/8*x_j):
        G_1 = (K - n*T)/(n*tau^2);  G_j = (mass_(j-1)*x_(j-1)^2 - T)/tau^2
        x_3 += h/4*G_3;  x_j = x_j*e_(j+1)^2 + h/4*G_j*e_(j+1) for j = 2, 1
        v = v*exp(-h/2*x_1);  then the same backwards: j = 1, 2, and x_3
    evaluated: the mean of all w so far, that after step i counted as i^8, roughly the last tenth

At temperature T each weight keeps the kinetic energy T/2, and w wanders among good solutions
instead of settling in one. With T near 0 it is gradient descent with momentum of rate lr. The
paper averages the predictions of sampled weights; here the weights themselves are averaged, which
is one network in the end, and is close to it while they stay in one basin. Noise of batches heats
beyond T. A small tau (in units of h's time) drains what the falling loss sets free; with a large
one the network boils. The mean's weights and the masses are our choice.
Source: Babayan et al. 2024, arXiv:2410.19912; integrator: Martyna et al. 1996.
"""

from __future__ import annotations

import torch
from torch import Tensor

from automl.methods.stages import Hyper, Layout, Optimizer, State
from automl.space.ranges import Float

_SIMMERING_RECENT = 8.0


def simmering_init(w: Tensor, layout: Layout) -> State:
    return {"v": torch.zeros_like(w), "chain": w.new_zeros(len(w), 3), "mean": w.clone()}


def simmering_step(
    w: Tensor, g: Tensor, state: State, hyper: Hyper, t: Tensor, layout: Layout
) -> None:
    v, h = state["v"], hyper["lr"].sqrt()
    started = (t > 1).to(w.dtype)
    v.addcmul_(g, -h / 2 * started)
    _simmering_chain(v, state["chain"], h * started, hyper)
    _simmering_chain(v, state["chain"], h, hyper)
    v.addcmul_(g, -h / 2)
    w.addcmul_(v, h)
    state["mean"].lerp_(w, (1 + _SIMMERING_RECENT) / (t + _SIMMERING_RECENT))


def simmering_evaluated(w: Tensor, state: State, hyper: Hyper) -> Tensor:
    return state["mean"]


def _simmering_chain(v: Tensor, chain: Tensor, h: Tensor, hyper: Hyper) -> None:
    """Let the thermostat act on v [k, p] for the time h [k, 1]; chain [k, 3] in place."""
    n, temperature, tau2 = v.shape[1], hyper["temperature"], hyper["tau"].square()
    x1, x2, x3 = (chain[:, j : j + 1].clone() for j in range(3))
    energy = v.square().sum(1, keepdim=True)
    for half in range(2):
        if half == 0:
            x3 = x3 + h / 4 * (tau2 * x2.square() - temperature) / tau2
            x2 = _simmering_link(x2, (n * tau2 * x1.square() - temperature) / tau2, x3, h)
        x1 = _simmering_link(x1, (energy - n * temperature) / (n * tau2), x2, h)
        if half == 0:
            scale = torch.exp(-h / 2 * x1)
            v.mul_(scale)
            energy = energy * scale.square()
        else:
            x2 = _simmering_link(x2, (n * tau2 * x1.square() - temperature) / tau2, x3, h)
            x3 = x3 + h / 4 * (tau2 * x2.square() - temperature) / tau2
    chain.copy_(torch.cat([x1, x2, x3], 1))


def _simmering_link(x: Tensor, force: Tensor, above: Tensor, h: Tensor) -> Tensor:
    drag = torch.exp(-h / 8 * above)
    return x * drag.square() + h / 4 * force * drag


METHOD = Optimizer(
    init=simmering_init,
    step=simmering_step,
    evaluated=simmering_evaluated,
    ranges={
        "lr": Float(3e-5, 0.3, log=True, default=1e-2),
        "temperature": Float(1e-7, 1e-3, log=True, default=1e-5),
        "tau": Float(0.01, 1.0, log=True, default=0.03),
    },
    scaling="gradient",
    buffers=2,
    source="arXiv:2410.19912",
)
