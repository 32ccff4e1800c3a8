"""Shampoo: AdamW's step length, in a direction scaled by what rows and columns have seen.

    m = b1*m + (1 - b1)*g;  v = b2*v + (1 - b2)*g^2;  m', v' = m/(1 - b1^t), v/(1 - b2^t)
    a = m'/(sqrt(v') + 1e-8)                            Adam's step
    L = b3*L + G G^T;  R = b3*R + G^T G                 G is g as a matrix [r, c]
    P = (L + eps*l*I)^(-1/4) m (R + eps*l*I)^(-1/4)     l: mean eigenvalue; every `every` steps
    w = w*(1 - lr*wd) - lr * P*|a|/|P|                  |.| of each matrix

The length comes from Adam ("grafting"), so lr and wd mean what they mean there. b3 = 1 is the
paper's sum; less forgets old gradients. Before the first refresh, for biases and norms, and where
a matrix has a side above 2048 (on that side no factor), it is AdamW's a. A kernel OIHW is O x IHW.
Between refreshes a step costs four matrix products a layer; a refresh two eigendecompositions.
Source: Gupta et al. 2018, arXiv:1802.09568; grafting, b3 and refreshes: Shi et al. 2023,
arXiv:2309.06497.
"""

from __future__ import annotations

import torch
from torch import Tensor

from automl.methods.optimizers._matrices import (
    LARGEST_SIDE,
    eigenbasis,
    matrices_in,
    matrix_groups,
    members_where,
    put_matrices,
)
from automl.methods.stages import Hyper, Layout, Optimizer, State
from automl.space.ranges import Float, Int


def shampoo_init(w: Tensor, layout: Layout) -> State:
    state = {"m": torch.zeros_like(w), "v": torch.zeros_like(w)}
    for (r, c), slots in matrix_groups(layout).items():
        for side, d in (("left", r), ("right", c)):
            if d <= LARGEST_SIDE:
                zero = w.new_zeros(len(w), len(slots), d, d)
                state[f"{side}.{r}x{c}"] = zero
                state[f"{side}_root.{r}x{c}"] = zero.clone()
    return state


def shampoo_step(
    w: Tensor, g: Tensor, state: State, hyper: Hyper, t: Tensor, layout: Layout
) -> None:
    lr, b1, b2 = hyper["lr"], hyper["b1"], hyper["b2"]
    m, v, every = state["m"], state["v"], hyper["every"]
    m.lerp_(g, 1 - b1)
    v.lerp_(g.square(), 1 - b2)
    root = (1 - b2**t).sqrt()
    a = m / (v.sqrt() + 1e-8 * root) * (root / (1 - b1**t))
    due, begun = members_where(t % every == 0), (t >= every)[..., None, None]
    for (r, c), slots in matrix_groups(layout).items():
        seen, p = matrices_in(g, slots, (r, c)), matrices_in(m, slots, (r, c))
        for side in ("left", "right"):
            factor = state.get(f"{side}.{r}x{c}")
            if factor is None:
                continue
            power = state[f"{side}_root.{r}x{c}"]
            outer = seen @ seen.mT if side == "left" else seen.mT @ seen
            factor.mul_(hyper["b3"][..., None, None]).add_(outer)
            if len(due):
                power[due] = _shampoo_root(factor[due], hyper["eps"][due, :, None])
            p = power @ p if side == "left" else p @ power
        adam = matrices_in(a, slots, (r, c))
        length = torch.linalg.vector_norm(adam, dim=(2, 3), keepdim=True)
        p.mul_(length / torch.linalg.vector_norm(p, dim=(2, 3), keepdim=True).clamp_min(1e-30))
        put_matrices(a, slots, torch.where(begun, p, adam))
    w[:, : layout.decayed].mul_(1 - lr * hyper["wd"])
    w.addcmul_(a, -lr)


def _shampoo_root(a: Tensor, eps: Tensor) -> Tensor:
    """(a + eps*mean eigenvalue*I)^(-1/4), up to a factor, of a [k, n, d, d]; eps [k, 1, 1]."""
    values, vectors = eigenbasis(a)
    values = values.clamp_min(0) / values.mean(-1, keepdim=True).clamp_min(1e-30) + eps
    return (vectors * values.pow(-0.25).unsqueeze(-2)) @ vectors.mT


METHOD = Optimizer(
    init=shampoo_init,
    step=shampoo_step,
    scaling="entry",
    # lr, wd, b1, b2 as AdamW's, thanks to grafting. eps is relative, below 1e-7 lost in float32.
    # The distributed implementation refreshes every 10 to 100 steps and forgets with .999.
    ranges={
        "lr": Float(1e-5, 1e-1, log=True, default=2e-3),
        "wd": Float(1e-4, 0.5, log=True, default=1e-2),
        "b1": Float(0.8, 0.98, default=0.9),
        "b2": Float(0.9, 0.9999, default=0.999),
        "b3": Float(0.9, 1.0, default=0.99),
        "eps": Float(1e-7, 1e-3, log=True, default=1e-5),
        "every": Int(1, 100, log=True, default=10),
    },
    # m, v, and twice r^2 + c^2 a matrix: 6 where all are square, this much for the layers
    # 16-32-32-4 of the tests, less for wide ones.
    buffers=7.04,
    source="arXiv:1802.09568",
    when="matrices of moderate size, and passes that cost more than the step",
    evidence="AlgoPerf (distributed Shampoo, grafted): v0.5 .779 tuned, first of eleven; v0.6 .624 "
    "against NadamW's .458 (benchmarks/algoperf.py)",
)
