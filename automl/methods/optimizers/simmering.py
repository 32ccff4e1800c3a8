"""Simmering: weights as particles in the loss's landscape, kept at a temperature; an ensemble.

    h = sqrt(lr), n the number of weights, K = sum v^2
    each step, with g at the present w:
        v = v - h/2*g; chain(h)                    the end of the step before
        chain(h); v = v - h/2*g; w = w + h*v       the first half of this one
    chain(h), a Nose-Hoover chain of three of masses n*tau^2, tau^2, tau^2, e_j = exp(-h/8*x_j):
        G_1 = (K - n*T)/(n*tau^2);  G_j = (mass_(j-1)*x_(j-1)^2 - T)/tau^2
        x_3 += h/4*G_3;  x_j = x_j*e_(j+1)^2 + h/4*G_j*e_(j+1) for j = 2, 1
        v = v*exp(-h/2*x_1);  then the same backwards: j = 1, 2, and x_3
    whenever another `every` steps' worth of time has passed, counted in h at its peak, w is kept
    evaluated: the mean of the predictions of the eight w kept last; probabilities for classes

At temperature T each weight keeps the kinetic energy T/2, and w wanders among good solutions
instead of settling in one. With T near 0 it is gradient descent with momentum of rate lr. What is
evaluated, kept and exported is the ensemble: eight networks, eight times the cost of a prediction
(best.safetensors holds them as members.0 ... members.7); before eight were kept the present w
stands in for the others. An average of weights (`averaging`) takes their place where the recipe
has one. Noise of batches heats beyond T. A small tau (in units of h's time) drains what the
falling loss sets free; with a large one the network boils. Eight, the spacing and the masses are
our choice.
Source: Babayan et al. 2024, arXiv:2410.19912; integrator: Martyna et al. 1996.
"""

from __future__ import annotations

import torch
from torch import Tensor

from automl.methods.stages import Hyper, Layout, Optimizer, State
from automl.space.ranges import Float

_SIMMERING_MEMBERS = 8


def simmering_init(w: Tensor, layout: Layout) -> State:
    return {
        "v": torch.zeros_like(w),
        "chain": w.new_zeros(len(w), 3),
        "kept": w.new_zeros(len(w), _SIMMERING_MEMBERS, w.shape[1]),  # newest first
        "count": w.new_zeros(len(w), 1),
        "clock": w.new_zeros(len(w), 1),  # in steps at the peak of h
    }


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
    before = (state["clock"] / hyper["every"]).floor()
    state["clock"].add_(hyper["factor"].sqrt())
    due = (state["clock"] / hyper["every"]).floor() > before
    if bool(due.any()):
        newer = torch.cat([w.unsqueeze(1), state["kept"][:, :-1]], 1)
        state["kept"].copy_(torch.where(due.unsqueeze(2), newer, state["kept"]))
        state["count"].add_(due.to(w.dtype)).clamp_(max=_SIMMERING_MEMBERS)


def simmering_samples(w: Tensor, state: State, hyper: Hyper) -> Tensor:
    place = torch.arange(_SIMMERING_MEMBERS, device=w.device)
    there = (place < state["count"]).unsqueeze(2)
    return torch.where(there, state["kept"], w.unsqueeze(1))


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
    samples=simmering_samples,
    ranges={
        "lr": Float(3e-5, 0.3, log=True, default=1e-2),
        "temperature": Float(1e-7, 1e-3, log=True, default=1e-5),
        "tau": Float(0.01, 1.0, log=True, default=0.03),
        "every": Float(1.0, 100.0, log=True, default=10.0),
    },
    scaling="gradient",
    buffers=9,
    when="a prediction may cost eight times as much; small networks",
    source="arXiv:2410.19912",
    evidence="four short trainings: mean rank 31.0 of 34 (docs/methods.md)",
)
