"""K members' weights and gradients as the rows of one flat [k, p] buffer.

Each member keeps its own plain module; its parameters, and their gradients, are views of its row.
A method works on the buffer, autograd on the views, and nothing is copied between them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from automl.methods.stages import Layout, Role, Slot


class Members:
    """The modules of a pack and their flat buffers.

    w, g: weights and gradients [k, p]; modules[i]'s parameters are views of w[i].
    """

    def __init__(self, modules: list[nn.Module]) -> None:
        self.modules = modules
        self.layout = layout_of(modules[0])
        first = next(p for p in modules[0].parameters() if p.requires_grad)
        self.w = first.new_empty(len(modules), self.layout.size, requires_grad=False).detach()
        self.g = torch.zeros_like(self.w)
        for k, module in enumerate(modules):
            parameters = dict(module.named_parameters())
            for slot in self.layout.slots:
                parameter = parameters[slot.name]
                row = slice(slot.offset, slot.offset + slot.numel)
                place = self.w[k, row].view(slot.shape)
                place.copy_(parameter.detach())
                parameter.data = place
                parameter.grad = self.g[k, row].view(slot.shape)

    def statistics(self) -> list[Tensor]:
        """Buffers that training changes by itself: running statistics of normalization."""
        return [b for module in self.modules for b in module.buffers() if b is not None]


def layout_of(module: nn.Module) -> Layout:
    """Where each trained parameter of `module` lies in its row; tied weights have one place."""
    embeddings = {id(m.weight) for m in module.modules() if isinstance(m, nn.Embedding)}
    trained = [(n, p) for n, p in module.named_parameters() if p.requires_grad]
    if not trained:
        raise ValueError("the model has no parameter to train")
    last = next((n for n, p in reversed(trained) if p.ndim >= 2), None)
    slots: list[Slot] = []
    offset = 0
    for decayed in (True, False):
        for name, parameter in trained:
            if (parameter.ndim >= 2) != decayed:
                continue
            role: Role = "vector"
            if parameter.ndim >= 2:
                embedding = id(parameter) in embeddings
                role = "embedding" if embedding else "output" if name == last else "matrix"
            slots.append(Slot(name, tuple(parameter.shape), offset, role))
            offset += parameter.numel()
    decayed_size = sum(s.numel for s in slots if len(s.shape) >= 2)
    return Layout(tuple(slots), offset, decayed_size)
