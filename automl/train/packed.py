"""K members' parameters as the rows of one flat buffer [k, p], their modules on top of it.

Each module's parameters become views of its member's row, and their `.grad` views of the same
place in a second buffer. Forward and backward are then the user's module as it is, while
optimizers, transforms and averages work on [k, p] at once. Buffers and weights that are not
trained lie side by side, too: the traced engine takes them as [k, ...]. With K = 1 no step copies
anything.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from automl.errors import RecipeError
from automl.methods.stages import Layout, Role, Slot
from automl.train.keyed_dropout import keyed
from automl.train.seeding import Bits, seed_torch


class Packed:
    """Modules of one architecture whose weights lie in `w` [k, p], gradients in `g` [k, p].

    Raises:
        RecipeError: members differ in the shapes of their weights.
    """

    def __init__(
        self, modules: Sequence[nn.Module], *, device: torch.device, dtype: torch.dtype
    ) -> None:
        self.modules = [m.to(device=device, dtype=dtype).train() for m in modules]
        self.bits = Bits(device)
        self._passings = [keyed(module, self.bits) for module in self.modules]
        layouts = [layout_of(m) for m in self.modules]
        self.layout = layouts[0]
        if any(layout != self.layout for layout in layouts):
            raise RecipeError("members of a pack differ in the shapes of their weights")
        if not self.layout.slots:
            raise RecipeError("the model has no weights to train")
        self.w = torch.stack([_row(m, self.layout) for m in self.modules])
        self.g = torch.zeros_like(self.w)
        self._bind()

    @property
    def buffers(self) -> list[Tensor]:
        """All buffers of all members [k, ...], such as batch norm's running statistics."""
        return [self.stacked[name] for name in self._buffers]

    def member_buffers(self, member: int) -> Mapping[str, Tensor]:
        return {name: self.stacked[name][member] for name in self._buffers}

    def state(self, member: int) -> dict[str, Tensor]:
        """The plain module's own state dict, copied."""
        return {n: x.detach().clone() for n, x in self.modules[member].state_dict().items()}

    def begin_pass(self, member: int, key: int) -> None:
        """Set what a member's model draws at random from here on."""
        seed_torch(key, self.w.device)
        self._passings[member].begin(key)

    def keep(self, members: Sequence[int]) -> None:
        """Go on with these members only."""
        self.modules = [self.modules[k] for k in members]
        self._passings = [self._passings[k] for k in members]
        self.w = self.w[list(members)]
        self.g = self.g[list(members)]
        self._bind()

    def _bind(self) -> None:
        for k, module in enumerate(self.modules):
            named = dict(module.named_parameters())
            for slot in self.layout.slots:
                parameter = named[slot.name]
                parameter.data = self.layout.view(self.w, slot)[k]
                parameter.grad = self.layout.view(self.g, slot)[k]
        self.views = [self.layout.view(self.w, slot) for slot in self.layout.slots]  # [k, *shape]
        self._buffers = [name for name, _ in self.modules[0].named_buffers()]
        # By name, [k, ...]: what belongs to a member and is in no row of w.
        self.stacked: dict[str, Tensor] = {}
        untrained: list[dict[str, Tensor]] = [dict(_untrained(m)) for m in self.modules]
        for name in untrained[0]:
            self.stacked[name] = torch.stack([named[name].detach() for named in untrained])
            for k, own in enumerate(untrained):
                own[name].data = self.stacked[name][k]


def _untrained(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from module.named_buffers()
    yield from ((n, p) for n, p in module.named_parameters() if not p.requires_grad)


def layout_of(module: nn.Module) -> Layout:
    """Where each trained parameter lies: those with ndim >= 2 first, which are decayed.

    A weight that two places share is one slot. "output" is the last such weight in the order of
    registration, unless the output layer shares the embedding's.
    """
    embeddings = {
        id(m.weight) for m in module.modules() if isinstance(m, nn.Embedding | nn.EmbeddingBag)
    }
    tied = any(isinstance(m, nn.Linear) and id(m.weight) in embeddings for m in module.modules())
    named = [(n, p) for n, p in module.named_parameters() if p.requires_grad]
    matrices = [(n, p) for n, p in named if p.ndim >= 2]
    vectors = [(n, p) for n, p in named if p.ndim < 2]
    hidden = [n for n, p in matrices if id(p) not in embeddings]
    output = hidden[-1] if hidden and not tied else None
    slots: list[Slot] = []
    offset = 0
    for name, p in (*matrices, *vectors):
        role: Role = "vector"
        if id(p) in embeddings:
            role = "embedding"
        elif p.ndim >= 2:
            role = "output" if name == output else "matrix"
        slots.append(Slot(name, tuple(p.shape), offset, role))
        offset += p.numel()
    return Layout(tuple(slots), offset, sum(p.numel() for _, p in matrices))


def _row(module: nn.Module, layout: Layout) -> Tensor:
    named = dict(module.named_parameters())
    return torch.cat([named[slot.name].detach().reshape(-1) for slot in layout.slots])
