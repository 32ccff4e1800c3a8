"""Predictive coding: settle the layers' values first, then let each layer learn from its own error.

    layers u_l = f_l(h_(l-1)), l = 1 .. n, h_0 the input; h_l begins at the plain forward's value
    E = sum over l < n of v_l/2*|h_l - u_l|^2 + v_n*L(u_n)       summed over the batch
    for t = 0 .. rounds*n - 1:   h = h - eta*dE/dh               every h_l but h_0
        v_l = 1 where l = n - t, alpha elsewhere                 the precision of layer l
    loss, gradient = L(w), dE/dw at v = 1, divided by the batch's size
    forward = 1: there, the layers' inputs are those of the plain forward, else the settled h

No error travels through more than one layer at a time, so nothing here is backpropagation. With
alpha = 1 all precisions are alike: run to rest, and with forward = 0, it has backpropagation's
gradient as far as the loss is light beside the layers' own errors (that of c*L, as c goes to 0);
stopped early the deep layers' is smaller by orders of magnitude. A small alpha is the spike of
precision that walks back through the layers: at alpha = 0, forward = 1 the gradient of every layer
points along backpropagation's and is eta^(n-l)*(1 - eta) as long (the last layer's 1), so an
optimizer that does not mind lengths (Adam's kin, Muon) goes on top, not SGD.
A step costs about 1 + n/3 passes at rounds = 1; budgets are charged what it really takes.
The network's layers must stand in one line: a torch.nn.Sequential, at any depth; a residual block
in it is one layer. Others are declined by name. Members of a pack take turns. The paper's third,
decaying, precision and its momentum on h are left out.
Source: Qi et al. 2025, arXiv:2506.23800; predictive coding: Rao and Ballard 1999,
doi:10.1038/4580; against backpropagation: Whittington and Bogacz 2017, doi:10.1162/NECO_a_00949.
"""

from __future__ import annotations

import torch
from torch import Tensor

from automl.methods.stages import Chain, Closure, Gradient, Hyper, State
from automl.space.ranges import Choice, Float, Int


def predictive_coding_gradient(
    closure: Closure, w: Tensor, state: State, hyper: Hyper, t: Tensor, chain: Chain
) -> tuple[Tensor, Tensor]:
    losses, slopes = [], []
    for k in range(len(w)):
        start = chain.states(k)
        losses.append(chain.loss(k, start[-1]))
        settled = _predictive_coding_settled(chain, k, start, {n: h[k] for n, h in hyper.items()})
        inputs = start[:-1] if bool(hyper["forward"][k] > 0) else settled
        size = len(start[0])
        with torch.enable_grad():
            energy = w.new_zeros(())
            for layer in range(1, chain.depth):
                error = settled[layer] - chain.layer(k, layer, inputs[layer - 1])
                energy = energy + error.square().sum() / (2 * size)
            energy = energy + chain.loss(k, chain.layer(k, chain.depth, inputs[-1]))
        slopes.append(chain.gradient(k, energy))
    return torch.stack(losses), torch.stack(slopes)


def _predictive_coding_settled(
    chain: Chain, k: int, start: list[Tensor], hyper: Hyper
) -> list[Tensor]:
    """h_0 .. h_(n-1) of member k after `rounds` walks of the spike through the layers."""
    n, size = chain.depth, len(start[0])
    h = [x.clone() if layer else x for layer, x in enumerate(start[:-1])]
    for time in range(int(hyper["rounds"]) * n):
        # Below layer n - t nothing has moved yet: no error there, nothing to compute.
        lowest = max(n - time, 1)
        moved = range(max(lowest - 1, 1), n)
        if not moved:
            break
        with torch.enable_grad():
            free = {layer: h[layer].detach().requires_grad_() for layer in moved}
            energy = start[-1].new_zeros(())
            for layer in range(lowest, n + 1):
                precision = 1 if layer == n - time else hyper["alpha"]
                # h_1's prediction never changes: the input and the weights do not.
                u = start[1] if layer == 1 else chain.layer(k, layer, free[layer - 1])
                if layer < n:
                    energy = energy + precision / 2 * (free[layer] - u).square().sum()
                else:
                    energy = energy + precision * size * chain.loss(k, u)
            pulls = torch.autograd.grad(energy.sum(), list(free.values()))
        for layer, pull in zip(free, pulls, strict=True):
            h[layer] = h[layer] - hyper["eta"] * pull
    return h


METHOD = Gradient(
    compute=predictive_coding_gradient,
    # eta .8 in the authors' example, alpha .001 in their code; once through the layers.
    ranges={
        "eta": Float(0.01, 0.95, log=True, default=0.8),
        "alpha": Float(1e-4, 1.0, log=True, default=1e-3),
        "rounds": Int(1, 3, default=1),
        "forward": Choice([True, False]),
    },
    chain=True,
    passes=1.974,  # 1 and 2/3 of each layer that settling computes; of the tests' network
    when="experiments with learning that needs no backpropagation",
    source="arXiv:2506.23800",
)
