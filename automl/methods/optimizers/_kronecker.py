"""Layers with the moments of their inputs and slopes: what kfac and ekfac share.

Shapes: k members, n layers of one shape, r outputs, c inputs, one more where there is a bias;
b samples, t positions of each. The matrix of a layer is [weight | bias], r x c.
"""

from __future__ import annotations

import torch
from torch import Tensor

from automl.methods.optimizers._matrices import LARGEST_SIDE
from automl.methods.stages import Hyper, LayerLook, Layout, Looks, Slot, State


def kronecker_groups(layout: Layout) -> dict[tuple[int, int], list[tuple[Slot, Slot | None]]]:
    """Layers that may have looks, by the shape (r, c) of their matrix, the bias's column in it."""
    vectors = {s.name: s for s in layout.slots if len(s.shape) == 1}
    groups: dict[tuple[int, int], list[tuple[Slot, Slot | None]]] = {}
    for slot in layout.slots:
        if len(slot.shape) < 2 or slot.role == "embedding" or not slot.name.endswith("weight"):
            continue
        bias = vectors.get(slot.name.removesuffix("weight") + "bias")
        r, c = slot.shape[0], slot.numel // slot.shape[0] + (bias is not None)
        if max(r, c) <= LARGEST_SIDE:
            groups.setdefault((r, c), []).append((slot, bias))
    return groups


def kronecker_init(w: Tensor, layout: Layout) -> State:
    state = {"m": torch.zeros_like(w), "v": torch.zeros_like(w)}
    for (r, c), layers in kronecker_groups(layout).items():
        state[f"A.{r}x{c}"] = w.new_zeros(len(w), len(layers), c, c)
        state[f"G.{r}x{c}"] = w.new_zeros(len(w), len(layers), r, r)
    return state


def kronecker_in(flat: Tensor, layers: list[tuple[Slot, Slot | None]]) -> Tensor:
    """The layers' matrices in flat [k, p], as [k, n, r, c]."""
    found = []
    for weight, bias in layers:
        part = flat[:, weight.offset : weight.offset + weight.numel].unflatten(
            1, (weight.shape[0], -1)
        )
        if bias is not None:
            column = flat[:, bias.offset : bias.offset + bias.numel].unsqueeze(2)
            part = torch.cat([part, column], 2)
        found.append(part)
    return torch.stack(found, 1)


def kronecker_put(flat: Tensor, layers: list[tuple[Slot, Slot | None]], x: Tensor) -> None:
    """Write x [k, n, r, c] to the layers' places in flat [k, p]."""
    for i, (weight, bias) in enumerate(layers):
        c = weight.numel // weight.shape[0]
        flat[:, weight.offset : weight.offset + weight.numel] = x[:, i, :, :c].flatten(1)
        if bias is not None:
            flat[:, bias.offset : bias.offset + bias.numel] = x[:, i, :, c]


def kronecker_look(look: LayerLook, bias: Slot | None) -> tuple[Tensor, Tensor]:
    """Inputs [k, b, t, c], a column of ones for the bias, and slopes [k, b, t, r]."""
    a = look.inputs
    return (a if bias is None else torch.cat([a, torch.ones_like(a[..., :1])], 3)), look.slopes


def kronecker_remember(
    state: State, shape: tuple[int, int], layers: list[tuple[Slot, Slot | None]],
    seen: dict[str, LayerLook], due: Tensor, ema: Tensor,
) -> None:  # fmt: skip
    """Take A = sum_t a a^T/b and G = sum_t g g^T/(b*t) into their means, where due [k, 1]."""
    for i, (weight, bias) in enumerate(layers):
        if weight.name not in seen:
            continue
        a, g = kronecker_look(seen[weight.name], bias)
        samples, rows = a.shape[1], a.shape[1] * a.shape[2]
        for name, x, count in (("A", a, samples), ("G", g, rows)):
            factor = state[f"{name}.{shape[0]}x{shape[1]}"][:, i]
            x = x.flatten(1, 2)
            new = x.mT @ x / count
            # The first moments are the mean so far.
            kept = torch.where(factor.diagonal(dim1=1, dim2=2).sum(1, keepdim=True) > 0, ema, 0)
            factor.lerp_(new, ((1 - kept) * due).unsqueeze(2))


def kronecker_move(
    w: Tensor, g: Tensor, u: Tensor, served: Tensor, state: State, hyper: Hyper, t: Tensor,
    layout: Layout,
) -> None:  # fmt: skip
    """Step along u [k, p] where served, else AdamW's; g the gradient.

    scale = min(1, sqrt(kl/(lr^2 * sum u*g)));  m = momentum*m + scale*u;  w = w - lr*m
    """
    lr, mu, m, v = hyper["lr"], hyper["momentum"], state["m"], state["v"]
    rest = hyper["rest_lr"] * hyper["factor"]
    length = (lr.square() * u * g * served).sum(1, keepdim=True).clamp_min(1e-30)
    scale = (hyper["kl"] / length).sqrt_().clamp_max_(1)
    m.mul_(torch.where(served, mu, 0.9)).add_(torch.where(served, scale * u, 0.1 * g))
    v.lerp_(g.square(), 1e-3 * torch.ones_like(lr))
    adam = m / ((v / (1 - 0.999**t)).sqrt_().add_(1e-8) * (1 - 0.9**t))
    w[:, : layout.decayed].mul_(1 - lr * hyper["wd"])
    w.sub_(torch.where(served, lr * m, rest * adam))


def kronecker_due(
    hyper: Hyper, t: Tensor, looks: Looks, w: Tensor
) -> tuple[Tensor, Tensor, dict[str, LayerLook]]:
    """Whether moments and whether bases are due, [k, 1] each, and the layers' looks if any are."""
    moments, bases = (t - 1) % hyper["look_every"] == 0, (t - 1) % hyper["every"] == 0
    return moments, bases, looks.layers(w) if moments.any() else {}
