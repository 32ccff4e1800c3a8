"""Lifting (experimental): train a second network, whose output the weights are.

    h1 = tanh(A z + a);  h2 = tanh(B h1 + b);  w = w0 + V h2 + c        z fixed, 8; h1, h2 of 16
    by the chain rule, g = dL/dw:
    dV = g h2^T, dc = g;  db = (V^T g)*(1 - h2^2), dB = db h1^T
    da = (B^T db)*(1 - h1^2), dA = da z^T
    Adam of rate lr on A, a, B, b, V, c (.9, .999, 1e-8)

V, c start at 0, so w starts at w0, its first value; A, a, B, b are drawn, the same for everyone.
Seventeen numbers stand for each weight: the hope is that minima which are local in w are not so
up there. It did not come true where it was measured for this catalogue: on Rastrigin's function in
ten dimensions lifted Adam ended at 106, plain Adam at 72 (median of ten). Here to be
tried on small networks; no claim is made. The step of a weight is about lr times 1 + sum |h2|, so
lr lies about ten times below AdamW's. No decay.
Source: the idea of deeplifting, github.com/sun-umn/Deeplifting; this form is ours.
"""

from __future__ import annotations

import torch
from torch import Tensor

from automl.methods.stages import Hyper, Layout, Optimizer, State
from automl.space.ranges import Float

_LIFTING_SIZES = {"A": (16, 8), "a": (16, 1), "B": (16, 16), "b": (16, 1)}


def lifting_init(w: Tensor, layout: Layout) -> State:
    generator = torch.Generator().manual_seed(0)
    state = {"w0": w.clone(), "V": w.new_zeros(*w.shape, 16), "c": w.new_zeros(*w.shape, 1)}
    drawn = {"z": (8, 1), **_LIFTING_SIZES}
    for name, shape in drawn.items():
        x = torch.randn(shape, generator=generator) / (1 if name == "z" else shape[1] ** 0.5)
        state[name] = x.to(w).expand(len(w), *shape).clone()
    for name in (*_LIFTING_SIZES, "V", "c"):
        state[f"m.{name}"] = torch.zeros_like(state[name])
        state[f"v.{name}"] = torch.zeros_like(state[name])
    return state


def lifting_step(
    w: Tensor, g: Tensor, state: State, hyper: Hyper, t: Tensor, layout: Layout
) -> None:
    for name, slope in _lifting_slopes(g, state).items():
        lr, age = hyper["lr"].unsqueeze(2), t.unsqueeze(2)
        m, v = state[f"m.{name}"], state[f"v.{name}"]
        m.lerp_(slope, 0.1)
        v.lerp_(slope.square(), 1e-3)
        root = (1 - 0.999**age).sqrt()
        state[name].addcmul_(m / v.sqrt().add_(1e-8 * root), -lr * root / (1 - 0.9**age))
    h2 = _lifting_layers(state)[1]
    w.copy_(state["w0"] + (state["V"] @ h2 + state["c"])[..., 0])


def _lifting_layers(state: State) -> tuple[Tensor, Tensor]:
    h1 = torch.tanh(state["A"] @ state["z"] + state["a"])
    return h1, torch.tanh(state["B"] @ h1 + state["b"])


def _lifting_slopes(g: Tensor, state: State) -> dict[str, Tensor]:
    """Gradients by A, a, B, b, V and c, from g [k, p] by the weights."""
    h1, h2 = _lifting_layers(state)
    out = g.unsqueeze(2)
    b = (state["V"].mT @ out) * (1 - h2.square())
    a = (state["B"].mT @ b) * (1 - h1.square())
    return {"A": a @ state["z"].mT, "a": a, "B": b @ h1.mT, "b": b, "V": out @ h2.mT, "c": out}


METHOD = Optimizer(
    init=lifting_init,
    step=lifting_step,
    ranges={"lr": Float(1e-6, 1e-2, log=True, default=3e-4)},
    scaling="own",
    buffers=52.73,  # 52 and what A, a, B, b take, here for the 1,732 weights of the tests
    source="https://github.com/sun-umn/Deeplifting",
    year=2023,
    when="experiments only",
    evidence="worse than plain Adam on Rastrigin's function, see above; mean rank 18.4 of 34 "
    "(docs/methods.md)",
)
