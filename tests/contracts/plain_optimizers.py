"""Optimizers that no library has, a second time: one tensor at a time, in the papers' own terms.

Each is a generator over one parameter, which makes a step whenever it is asked to go on. It shares
no line with ours: matrices stand alone, powers are Python's, Newton-Schulz acts on singular values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor

Values = Mapping[str, float]
Steps = Iterator[None]
Maker = Callable[[Tensor, Values, bool], Steps]  # parameter, hyperparameters, is it hidden


class PlainOptimizer(torch.optim.Optimizer):
    """One of these generators for each of the tiny problem's parameters, hidden matrices first."""

    def __init__(self, make: Maker, values: Values, parameters: list[Tensor]) -> None:
        super().__init__(parameters, {})
        self._steps = [make(p, values, i < 2) for i, p in enumerate(parameters)]

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        for steps in self._steps:
            next(steps)


def _gradient(p: Tensor) -> Tensor:
    assert p.grad is not None
    return p.grad.clone()


def newton_schulz(u: Tensor) -> Tensor:
    """Five times x -> 3.4445 x - 4.775 x^3 + 2.0315 x^5 on the singular values of u/|u|."""
    left, s, right = torch.linalg.svd(u / u.norm(), full_matrices=False)
    for _ in range(5):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    return (left * s) @ right  # type: ignore[no-any-return]


def adamw(
    p: Tensor, *, lr: float, b1: float, b2: float, wd: float = 0.0, eps: float = 1e-8
) -> Steps:
    m, v, t = torch.zeros_like(p), torch.zeros_like(p), 0
    while True:
        g, t = _gradient(p), t + 1
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
        update = (m / (1 - b1**t)) / ((v / (1 - b2**t)).sqrt() + eps)
        p.mul_(1 - lr * wd).sub_(lr * update)
        yield


def cautious(p: Tensor, h: Values, hidden: bool) -> Steps:
    b1, b2, lr = h["b1"], h["b2"], h["lr"]
    m, v, t = torch.zeros_like(p), torch.zeros_like(p), 0
    while True:
        g, t = _gradient(p), t + 1
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
        u = (m / (1 - b1**t)) / ((v / (1 - b2**t)).sqrt() + h["eps"])
        mask = torch.where(u * g > 0, 1.0, 0.0)
        if p.ndim > 1:
            decayed = torch.where(u * p >= 0, 1.0, 0.0) if h["cautious_wd"] else 1.0
            p.sub_(lr * h["wd"] * decayed * p)
        p.sub_(lr * u * mask * (p.numel() / (mask.sum() + 1)))
        yield


def m3(p: Tensor, h: Values, hidden: bool) -> Steps:
    wd = h["wd"] if p.ndim > 1 else 0.0
    if not hidden:
        yield from adamw(p, lr=h["lr"], b1=h["b1"], b2=h["b2"], wd=wd, eps=h["eps"])
    fast = slow = square = chunk = slow_step = torch.zeros_like(p)
    t = 0
    while True:
        g, t = _gradient(p), t + 1
        fast = fast + (1 - h["b1"]) * (g - fast)
        square = square + (1 - h["b2"]) * (g**2 - square)
        chunk = chunk + g
        if t % h["period"] == 0:
            slow = h["b3"] * slow + (1 - h["b3"]) * chunk / h["period"]
            slow_step, chunk = newton_schulz(slow), torch.zeros_like(p)
        u = newton_schulz(fast) + h["alpha"] * slow_step
        u = u / ((square / (1 - h["b2"] ** t)).sqrt() + h["eps"])
        p.mul_(1 - h["lr"] * wd).sub_(h["lr"] * u / u.square().mean().sqrt())
        yield


def sisa(p: Tensor, h: Values, hidden: bool) -> Steps:
    """The paper's round: consensus first, then the worker's weights and the multiplier."""
    rho, sigma = 1 / h["lr"], h["ratio"] / h["lr"]
    penalty = h["wd"] if p.ndim > 1 else 0.0
    pi, v, t = torch.zeros_like(p), torch.zeros_like(p), 0
    while True:
        c, t = pi + _gradient(p), t + 1
        v = h["b2"] * v + (1 - h["b2"]) * c**2
        q = (v / (1 - h["b2"] ** t)).sqrt()
        worker = p - c / (sigma + rho * (q + 1e-8))
        pi = pi + sigma * (worker - p)
        p.copy_((sigma * worker + pi) / (sigma + penalty))
        yield


def nsisa(p: Tensor, h: Values, hidden: bool) -> Steps:
    rho, sigma = 1 / h["lr"], h["ratio"] / h["lr"]
    penalty = h["wd"] if p.ndim > 1 else 0.0
    if not hidden:
        for _ in adamw(p, lr=h["lr"], b1=h["b1"], b2=h["b2"]):
            p.mul_(sigma / (sigma + penalty))
            yield
    pi, b = torch.zeros_like(p), torch.zeros_like(p)
    while True:
        g = _gradient(p)
        b = h["momentum"] * b + g
        o = newton_schulz(g + h["momentum"] * b) * max(1.0, p.shape[0] / p.shape[1]) ** 0.5
        c = o + pi
        worker = p - c / (sigma + rho * (c.abs() + 1e-8))
        pi = pi + sigma * (worker - p)
        p.copy_((sigma * worker + pi) / (sigma + penalty))
        yield


def namo(p: Tensor, h: Values, hidden: bool) -> Steps:
    yield from _namo(p, h, hidden, by_column=False)


def namo_d(p: Tensor, h: Values, hidden: bool) -> Steps:
    yield from _namo(p, h, hidden, by_column=True)


def _namo(p: Tensor, h: Values, hidden: bool, *, by_column: bool) -> Steps:
    mu, b2, lr, wd = h["momentum"], h["b2"], h["lr"], h["wd"]
    if not hidden:
        yield from adamw(p, lr=lr, b1=0.9, b2=0.95, wd=wd if p.ndim > 1 else 0.0)
    m, v, t = torch.zeros_like(p), torch.zeros(p.shape[1] if by_column else 1), 0
    while True:
        g, t = _gradient(p), t + 1
        m = mu * m + (1 - mu) * g
        ahead = mu * m + (1 - mu) * g
        v = b2 * v + (1 - b2) * (g.norm(dim=0) if by_column else g.norm()) ** 2
        s = (ahead.norm(dim=0) if by_column else ahead.norm()) / (v.sqrt() + 1e-8)
        if by_column:
            s = s.clamp(float(h["clamp"] * s.mean()), float(s.mean() / h["clamp"]))
        a = lr * (1 - b2**t) ** 0.5 / (1 - mu**t) * s
        step = newton_schulz(ahead) @ torch.diag(
            (0.2 * max(p.shape) ** 0.5 * a).expand(p.shape[1]).clamp(max=1)
        )
        p.copy_(p @ torch.diag(1 - wd * a.expand(p.shape[1]).clamp(max=1)) - step)
        yield


PLAIN: Mapping[str, Maker] = {
    make.__name__: make for make in (cautious, m3, namo, namo_d, nsisa, sisa)
}
