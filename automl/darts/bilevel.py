"""The alphas' gradient: of the validation loss, at the weights or one step of training ahead.

    first order     grad_alpha L_val(w, alpha)
    second order    w' = w - eta*(momentum*buffer + grad_w L_train(w, alpha) + wd*w)
                    v = grad_w' L_val(w', alpha),  r = 0.01/|v|,  w+- = w +- r*v
                    grad_alpha L_val(w', alpha)
                      - eta*(grad_alpha L_train(w+, alpha) - grad_alpha L_train(w-, alpha))/(2*r)

The finite difference stands for the product of the mixed second derivative with v. Weights and
running statistics are copied and put back, so both are bit for bit what they were.

The difference is as good as the loss is smooth within the radius. On a mini cell in float64 it was
off by 1e-6 with softplus; with ReLU, whose kinks lie inside the radius, by 7 % at the published
0.01/|v| and 15 % at 0.001/|v|, where first order is off by 10 %; by 1e-11 at 1e-5/|v|, a radius
that float32 cannot resolve. So second order need not be nearer the truth than first order.
Source: Liu et al. 2019, arXiv:1806.09055, and its program, cnn/architect.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

Loss = Callable[[], Tensor]


def first_order(alphas: Sequence[Tensor], valid: Loss) -> list[Tensor]:
    """Gradient of valid() to each of the alphas; 0 where an alpha has no part in it."""
    return list(torch.autograd.grad(valid(), list(alphas), materialize_grads=True))


def second_order(
    weights: Sequence[Tensor],
    alphas: Sequence[Tensor],
    train: Loss,
    valid: Loss,
    *,
    eta: float,
    momentum: float = 0.0,
    wd: float = 0.0,
    buffers: Sequence[Tensor] = (),
    radius: float = 0.01,
) -> list[Tensor]:
    """Gradient to the alphas through one step of SGD.

    Args:
        weights, alphas: leaves that `train` and `valid` read when they are called.
        eta: learning rate of the step looked ahead.
        buffers: SGD's momentum for each weight; () before its first step.
        radius: |w+ - w|, Euclidean over all weights together.
    """
    before = [w.detach().clone() for w in weights]
    step = torch.autograd.grad(train(), list(weights), materialize_grads=True)
    with torch.no_grad():
        for i, (w, g) in enumerate(zip(weights, step, strict=True)):
            carried = momentum * buffers[i] if buffers else 0.0
            w -= eta * (carried + g + wd * before[i])
    ahead = torch.autograd.grad(valid(), [*alphas, *weights], materialize_grads=True)
    direct, v = ahead[: len(alphas)], ahead[len(alphas) :]
    norm = float(torch.sqrt(sum((x.double().square().sum() for x in v), torch.zeros(()).double())))
    if norm == 0:  # nothing that the step moves is felt
        _place(weights, before)
        return list(direct)
    r = radius / norm
    sides = []
    for sign in (1, -1):
        _place(weights, [b + sign * r * x for b, x in zip(before, v, strict=True)])
        sides.append(torch.autograd.grad(train(), list(alphas), materialize_grads=True))
    _place(weights, before)
    return [
        d - eta * (plus - minus) / (2 * r) for d, plus, minus in zip(direct, *sides, strict=True)
    ]


@contextmanager
def statistics_kept(module: nn.Module) -> Iterator[None]:
    """Running statistics come out of the block as they went in."""
    before = [b.clone() for b in module.buffers()]
    try:
        yield
    finally:
        for buffer, old in zip(module.buffers(), before, strict=True):
            buffer.copy_(old)


@torch.no_grad()
def _place(weights: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    for w, value in zip(weights, values, strict=True):
        w.copy_(value)
