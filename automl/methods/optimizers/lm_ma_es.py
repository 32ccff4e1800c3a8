"""LM-MA-ES: evolution of the weights, without gradients, its search directions learnt.

    lam = 4 + floor(3 ln n) children, mu = floor(lam/2) parents, j = 0 .. kept - 1, kept = lam
    z_i normal;  d_i = z_i;  for each direction made:  d_i = (1 - cd_j)*d_i + cd_j*M_j*(M_j.d_i)
    children w + s*d_i, ranked by the loss on the batch;  weights c_i ~ ln(mu + 1/2) - ln(i)
    w   = w + s * sum c_i d_i                      over the parents, best first
    q   = (1 - cs)*q + sqrt(cs*(2 - cs)*me) * sum c_i z_i              me = 1/sum c_i^2
    M_j = (1 - cc_j)*M_j + sqrt(cc_j*(2 - cc_j)*me) * sum c_i z_i
    s   = s * exp(cs/2 * (|q|^2/n - 1))            s begins at sigma
    cs = min(1, 2*lam/n),  cd_j = 1/(1.5^j n),  cc_j = min(1, lam/(4^j n))

n is the number of weights. A generation a step: a forward pass a child, a third of a pass each;
the gradient's pass is made for the curve of the training loss alone. For networks of some hundred
to some ten thousand weights, and losses that have no gradient; elsewhere a gradient is worth n
evaluations. The two min(1, .) are ours: without them s explodes where n < 2*lam.
Source: Loshchilov, Glasmachers and Beyer 2017, arXiv:1705.06693.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from automl.methods.stages import Hyper, Layout, Looks, Optimizer, State
from automl.space.ranges import Float


def lm_ma_es_init(w: Tensor, layout: Layout) -> State:
    n = w.shape[1]
    return {
        "q": torch.zeros_like(w),
        "directions": w.new_zeros(len(w), _lm_ma_es_children(n), n),
        "growth": torch.ones_like(w[:, :1]),  # s/sigma
    }


def lm_ma_es_step(
    w: Tensor, g: Tensor, state: State, hyper: Hyper, t: Tensor, layout: Layout, looks: Looks
) -> None:
    n, lam = w.shape[1], _lm_ma_es_children(w.shape[1])
    mu = lam // 2
    c = math.log(mu + 0.5) - torch.arange(1, mu + 1, dtype=w.dtype, device=w.device).log()
    c = (c / c.sum()).view(1, mu, 1)
    me, cs = 1 / float(c.square().sum()), min(1.0, 2 * lam / n)

    q, directions, s = state["q"], state["directions"], hyper["sigma"] * state["growth"]
    z = looks.draws.normal(lam, n).to(w.dtype)
    d = z.clone()
    for j in range(lam):
        cd = (t > j + 1).to(w.dtype).unsqueeze(2) / (1.5**j * n)
        along = d @ directions[:, j].unsqueeze(2)  # [k, lam, 1]
        d = (1 - cd) * d + cd * along * directions[:, j].unsqueeze(1)
    fitness = torch.stack([looks.loss(w + s * d[:, i]) for i in range(lam)], 1)
    best = fitness.argsort(dim=1, stable=True)[:, :mu, None].expand(-1, -1, n)
    w.addcmul_((c * d.gather(1, best)).sum(1), s)
    mean = (c * z.gather(1, best)).sum(1)
    q.mul_(1 - cs).add_(mean, alpha=math.sqrt(cs * (2 - cs) * me))
    for j in range(lam):
        cc = min(1.0, lam / (4.0**j * n))
        directions[:, j].mul_(1 - cc).add_(mean, alpha=math.sqrt(cc * (2 - cc) * me))
    state["growth"].mul_((cs / 2 * (q.square().sum(1, keepdim=True) / n - 1)).exp())


def _lm_ma_es_children(n: int) -> int:
    return 4 + int(3 * math.log(n))


METHOD = Optimizer(
    init=lm_ma_es_init,
    step=lm_ma_es_step,
    pins=("schedule", "gradient", "transform"),
    # The first length of a child's step in each weight; weights of small networks are about .1.
    ranges={"sigma": Float(1e-3, 0.3, log=True, default=0.03)},
    scaling="own",
    buffers=27,  # 5 + floor(3 ln n), here for the 1,732 weights of the tests
    passes=9.67,  # likewise 1 + (4 + floor(3 ln n))/3
    looks=True,
    source="arXiv:1705.06693",
    when="networks of up to some ten thousand weights, losses without a useful gradient",
    evidence="four short trainings: mean rank 34.0 of 34 (docs/methods.md)",
)
