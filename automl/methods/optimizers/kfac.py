"""K-FAC: natural gradient, the Fisher matrix of a layer as a product of two small ones.

    A = E[a a^T], G = E[g g^T]      a: a layer's inputs, 1 for its bias; g: slopes of a sample's
                                    loss by its outputs, labels drawn from what the model expects
    pi = sqrt((tr A/dim A)/(tr G/dim G))
    U = (G + sqrt(damping)/pi*I)^-1 g_W (A + pi*sqrt(damping)*I)^-1         g_W: the gradient
    scale = min(1, sqrt(kl/(lr^2 * sum U*g_W)))     over all layers: bounds the change of outputs
    m = momentum*m + scale*U;  w = w*(1 - lr*wd) - lr*m

A and G are means that forget with ema, seen every `look_every` steps, each look a pass; inverses
are made every `every` steps. Convolutions sum over places: A = sum_t a a^T/b, G the mean. Linear
layers and plain convolutions are served, sides up to 2048; embeddings, norms, recurrent and
attention's joint weights take AdamW's step of rate rest_lr. The damping matters most.
Source: Martens and Grosse 2015, arXiv:1503.05671; convolutions: arXiv:1602.01407.
"""

from __future__ import annotations

import torch
from torch import Tensor

from automl.methods.optimizers._kronecker import (
    kronecker_due,
    kronecker_groups,
    kronecker_in,
    kronecker_init,
    kronecker_move,
    kronecker_put,
    kronecker_remember,
)
from automl.methods.optimizers._matrices import members_where
from automl.methods.stages import Hyper, Layout, Looks, Optimizer, State
from automl.space.ranges import Float, Int


def kfac_init(w: Tensor, layout: Layout) -> State:
    state = kronecker_init(w, layout)
    for name in [n for n in state if "x" in n]:
        state[f"inverse.{name}"] = torch.zeros_like(state[name])
    return state


def kfac_step(
    w: Tensor, g: Tensor, state: State, hyper: Hyper, t: Tensor, layout: Layout, looks: Looks
) -> None:
    moments, inverses, seen = kronecker_due(hyper, t, looks, w)
    rows, damping = members_where(inverses), hyper["damping"].sqrt()
    u, served = torch.zeros_like(w), torch.zeros_like(w)
    for (r, c), layers in kronecker_groups(layout).items():
        a, b = f"A.{r}x{c}", f"G.{r}x{c}"
        kronecker_remember(state, (r, c), layers, seen, moments, hyper["ema"])
        if len(rows):
            inputs, slopes = state[a][rows], state[b][rows]
            ratio = (_kfac_mean(inputs) / _kfac_mean(slopes).clamp_min(1e-30)).sqrt()
            ratio = ratio.clamp(1e-6, 1e6)
            state[f"inverse.{a}"][rows] = _kfac_inverse(inputs, damping[rows] * ratio)
            state[f"inverse.{b}"][rows] = _kfac_inverse(slopes, damping[rows] / ratio)
        direction = state[f"inverse.{b}"] @ kronecker_in(g, layers) @ state[f"inverse.{a}"]
        kronecker_put(u, layers, direction)
        fine = (_kfac_mean(state[b]) > 0)[..., None, None]
        kronecker_put(served, layers, fine.to(w.dtype).expand_as(direction))
    kronecker_move(w, g, u, served > 0, state, hyper, t, layout)


def _kfac_mean(x: Tensor) -> Tensor:
    """Mean eigenvalue [k, n] of x [k, n, d, d]."""
    return x.diagonal(dim1=2, dim2=3).mean(2)


def _kfac_inverse(x: Tensor, damping: Tensor) -> Tensor:
    """(x + damping*I)^-1 of x [k, n, d, d]; damping [k, n]."""
    identity = torch.eye(x.shape[-1], dtype=x.dtype, device=x.device)
    inverse: Tensor = torch.linalg.inv_ex(x + damping[..., None, None] * identity)[0]
    return inverse


METHOD = Optimizer(
    init=kfac_init,
    step=kfac_step,
    # The paper damps and rescales adaptively; fixed values as in later practice.
    ranges={
        "lr": Float(1e-4, 1.0, log=True, default=0.03),
        "wd": Float(1e-5, 0.1, log=True, default=1e-3),
        "momentum": Float(0.5, 0.98, default=0.9),
        "damping": Float(1e-5, 0.1, log=True, default=1e-2),
        "kl": Float(1e-4, 1e-1, log=True, default=1e-2),
        "ema": Float(0.9, 0.99, default=0.95),
        "look_every": Int(1, 20, log=True, default=10),
        "every": Int(1, 100, log=True, default=10),
        "rest_lr": Float(1e-4, 1e-2, log=True, default=1e-3),
    },
    # m, v, and twice r^2 + c^2 a layer: 6 where all are square, this much in the tests' network.
    scaling="own",
    buffers=7.23,
    passes=1.1,
    looks=True,
    source="arXiv:1503.05671",
    when="linear and convolutional layers of moderate size; few steps wanted",
    evidence="four short trainings: mean rank 2.2 of 34 (docs/methods.md)",
)
