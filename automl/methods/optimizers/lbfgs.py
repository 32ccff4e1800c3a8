"""L-BFGS: the inverse Hessian from ten remembered steps, and a golden-section search along it.

    r = g;  for (s, y) from the newest:  a = s.r/(s.y + 1e-6);  r = r - a*y
    r = (s.y/y.y of the newest)*r;  back from the oldest:  r = r + s*(a - y.r/(s.y + 1e-6))
    search f(u) = L(w - u*r/|r|), `evaluations` times:
        first u = .2*|r|; while f falls, double u; while f has not fallen below f(0), u = .382*u
        once a < u < b with f(u) lowest: a new point .382 into the larger part
    w = w - u*r/|r| for the best u;  s = that step, y = g(w new) - g(w old), both on this batch

The history is forgotten, and r = g, where s.y < 1e-4 |s||y| for a pair, or where the search found
nothing lower. Meant for full or large batches; as y comes from one batch, small ones serve too.
It has no learning rate: the schedule, the gradient's method and the transforms stay out. A step
costs three passes and a third, and a third of one for each of the `evaluations`. Deeper minima
than SGD's, not better ones: mind the validation curve. Members search side by side.
Source: golden-section variant arXiv:2602.21276; two loops: Nocedal 1980,
doi:10.1090/S0025-5718-1980-0572855-7.
"""

from __future__ import annotations

import torch
from torch import Tensor

from automl.methods.stages import Hyper, Layout, Looks, Optimizer, State
from automl.space.ranges import Int

_LBFGS_PAIRS = 10


def lbfgs_init(w: Tensor, layout: Layout) -> State:
    pairs = w.new_zeros(len(w), _LBFGS_PAIRS, w.shape[1])
    return {"s": pairs, "y": pairs.clone()}  # newest first


def lbfgs_step(
    w: Tensor, g: Tensor, state: State, hyper: Hyper, t: Tensor, layout: Layout, looks: Looks
) -> None:
    s, y, g = state["s"], state["y"], g.clone()
    _lbfgs_forget(state, _lbfgs_bad(s, y))
    r = _lbfgs_direction(g, s, y)
    length = torch.linalg.vector_norm(r, dim=1, keepdim=True)
    r = r / length.clamp_min(1e-30)
    u = _lbfgs_search(w, r, 0.2 * length, hyper["evaluations"], looks)
    step = -u * r
    w.add_(step)
    change = looks.gradient(w)[1] - g
    s.copy_(torch.cat([step.unsqueeze(1), s[:, :-1]], 1))
    y.copy_(torch.cat([change.unsqueeze(1), y[:, :-1]], 1))
    _lbfgs_forget(state, u == 0)


def _lbfgs_direction(g: Tensor, s: Tensor, y: Tensor) -> Tensor:
    """The inverse Hessian of pairs s, y [k, 10, p] times g [k, p]; a pair of zeros does nothing."""
    r, sy = g.clone(), (s * y).sum(2)
    shares: list[Tensor] = []
    for i in range(_LBFGS_PAIRS):
        a = (s[:, i] * r).sum(1, keepdim=True) / (sy[:, i : i + 1] + 1e-6)
        r.addcmul_(y[:, i], -a)
        shares.append(a)
    newest = y[:, 0].square().sum(1, keepdim=True)
    r *= torch.where(newest > 0, sy[:, :1] / newest.clamp_min(1e-30), 1)
    for i in reversed(range(_LBFGS_PAIRS)):
        b = (y[:, i] * r).sum(1, keepdim=True) / (sy[:, i : i + 1] + 1e-6)
        r.addcmul_(s[:, i], shares[i] - b)
    return r


def _lbfgs_bad(s: Tensor, y: Tensor) -> Tensor:
    """[k, 1]: a pair of the member's is nearly at right angles, or not finite."""
    lengths = torch.linalg.vector_norm(s, dim=2) * torch.linalg.vector_norm(y, dim=2)
    fine: Tensor = (s * y).sum(2) >= 1e-4 * lengths
    return ~fine.all(1, keepdim=True)


def _lbfgs_forget(state: State, where: Tensor) -> None:
    for pairs in state.values():
        pairs.masked_fill_(where.unsqueeze(2), 0)


def _lbfgs_search(w: Tensor, r: Tensor, first: Tensor, evaluations: Tensor, looks: Looks) -> Tensor:
    """The best u [k, 1] found along -r, 0 where nothing is lower than L(w)."""
    a, u = torch.zeros_like(first), torch.zeros_like(first)
    b = torch.full_like(first, torch.inf)
    lowest = looks.loss(w).unsqueeze(1)
    for i in range(int(evaluations.max())):
        found, bounded = u > 0, b < torch.inf
        inside = torch.where(b - u > u - a, u + 0.382 * (b - u), u - 0.382 * (u - a))
        new = torch.where(bounded, torch.where(found, inside, 0.382 * b), 2 * u)
        new = torch.where(found | bounded, new, first)
        value = looks.loss(w - new * r).unsqueeze(1)
        active = i < evaluations
        lower, right = active & (value < lowest), new > u
        # The old best u becomes an end of the bracket, or the new point does.
        end = torch.where(lower, u, new)
        a = torch.where(active & (right == lower), end, a)
        b = torch.where(active & (right != lower), end, b)
        u, lowest = torch.where(lower, new, u), torch.where(lower, value, lowest)
    return u


METHOD = Optimizer(
    init=lbfgs_init,
    step=lbfgs_step,
    pins=("schedule", "gradient", "transform"),
    ranges={"evaluations": Int(4, 12, default=6)},  # at most 6 in the authors' code
    scaling="own",
    buffers=20,
    passes=4.33,  # a gradient before and after, and seven losses
    looks=True,
    source="arXiv:2602.21276",
    when="small networks, full or large batches, a training loss near 0 wanted",
    evidence="authors: training loss 1.3e-8 against SGD's 6e-4 on MNIST, test loss no better (not "
    "rerun here); mean rank 32.5 of 34 (docs/methods.md)",
)
