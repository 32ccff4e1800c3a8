"""The supernet: a network over a cell space, with a mixture of all candidates on each edge.

    o(x) = sum_k softmax(alpha_e)_k o_k(x)

It is built by the very function that builds the derived network; only what stands on an edge
differs. With one candidate an edge nothing is mixed, and the supernet is that network bit for
bit. All cells share the alphas of an edge. A relative of DARTS may put other weights in the place
of the softmax, send a part of the channels past the mixture, and weigh the edges of a node.
Source: Liu et al. 2019, arXiv:1806.09055.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from automl.methods.stages import Architecture, CellSpace, Make, Shape
from automl.space.ranges import Choice

_ALPHA_SCALE = 1e-3  # of the random start: near equal, but no tie

Weigh = Callable[[str, Tensor], Tensor]
"""weigh(edge, alphas of the candidates that take part) -> their weights; 0: not computed."""


def softmax(edge: str, alpha: Tensor) -> Tensor:
    return alpha.softmax(0)


class Mixture(nn.Module):
    """Candidates on one edge of one cell; `open` says which still take part.

    With parts = K only the first 1/K of the channels go through the candidates; the others pass
    by, and the channels are shuffled so that the next edge takes others (PC-DARTS).
    """

    open: Tensor

    def __init__(
        self,
        edge: str,
        alpha: nn.Parameter,
        open_: Tensor,
        candidates: Sequence[nn.Module],
        *,
        parts: int = 1,
        channels: int = 1,
    ) -> None:
        super().__init__()
        self.edge, self.alpha, self._parts, self._dim = edge, alpha, parts, channels
        self.register_buffer("open", open_)
        self.candidates = nn.ModuleList(candidates)
        self.weigh: Weigh = softmax
        self.gate: Callable[[str], Tensor] | None = None  # weight of the edge in its node

    def weights(self) -> Tensor:
        """[candidates]: 0 where no longer open."""
        whole = torch.zeros_like(self.alpha)
        return whole.masked_scatter(self.open, self.weigh(self.edge, self.alpha[self.open]))

    def forward(self, x: Tensor) -> Tensor:
        if self._parts == 1:
            out = self._mixed(x)
        else:
            size = x.shape[self._dim] // self._parts
            some, others = x.split([size, x.shape[self._dim] - size], self._dim)
            mixed = self._mixed(some)
            if mixed.shape != some.shape:  # a stride: the others keep step with it
                others = nn.functional.adaptive_max_pool2d(others, mixed.shape[-2:])
            whole = torch.cat([mixed, others], self._dim)
            grid = whole.unflatten(self._dim, (self._parts, size))
            out = grid.transpose(self._dim, self._dim + 1).flatten(self._dim, self._dim + 1)
        return out if self.gate is None else self.gate(self.edge) * out

    def _mixed(self, x: Tensor) -> Tensor:
        kept = [k for k, still in enumerate(self.open.tolist()) if still]
        if len(kept) == 1:
            # No product with 1: a node more would change the order in which gradients are summed.
            alone: Tensor = self.candidates[kept[0]](x)
            return alone
        weights = self.weigh(self.edge, self.alpha[self.open])
        taking_part = [(w, k) for w, v, k in zip(weights, weights.tolist(), kept, strict=True) if v]
        return torch.stack([w * self.candidates[k](x) for w, k in taking_part]).sum(0)


class Supernet(nn.Module):
    """A network over all architectures whose edges take one of their candidates.

    Args:
        space: how networks are built from what stands on their edges.
        candidates: for each edge the names of its operations.
        hyper: what the space's `build` is given beside shape and place.
        seed: of the alphas' start; the weights come from torch's global generator.
        affine: of the candidates' norms; True only where nothing is mixed.
        parts: K: 1/K of the channels are mixed.
        gated: whether the edges into a node have weights of their own.
    """

    def __init__(
        self,
        shape: Shape,
        space: CellSpace,
        *,
        candidates: Mapping[str, Sequence[str]],
        hyper: Mapping[str, Any],
        seed: int = 0,
        affine: bool = False,
        parts: int = 1,
        gated: bool = False,
    ) -> None:
        super().__init__()
        self.candidates = {edge: tuple(candidates[edge]) for edge in space.edges}
        self._nodes, self.parts = space.nodes, parts
        generator = torch.Generator().manual_seed(seed)
        alphas, opens = {}, {}
        for edge, names in self.candidates.items():
            start = _ALPHA_SCALE * torch.randn(len(names), generator=generator)
            alphas[edge] = nn.Parameter(start)
            opens[edge] = torch.ones(len(names), dtype=torch.bool)

        def mixture(edge: str, make: Make) -> nn.Module:
            made = [make(n, affine=affine, parts=parts) for n in self.candidates[edge]]
            return Mixture(
                edge, alphas[edge], opens[edge], made, parts=parts, channels=space.channels
            )

        self.network = space.build(shape, mixture, **hyper)
        self.betas = nn.ParameterDict(
            {node: torch.zeros(len(edges)) for node, edges in space.nodes.items() if len(edges) > 1}
            if gated
            else {}
        )
        if gated:
            for mixed in self.mixtures():
                mixed.gate = self._gate

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.network(x)
        return output

    def mixtures(self) -> Iterator[Mixture]:
        """Those of every cell."""
        return (m for m in self.modules() if isinstance(m, Mixture))

    def alphas(self) -> dict[str, nn.Parameter]:
        """The logits of each edge, shared by all cells."""
        return {mixture.edge: mixture.alpha for mixture in self.mixtures()}

    def structure(self) -> list[nn.Parameter]:
        """All that is learnt of the architecture: alphas and weights of edges."""
        return [*self.alphas().values(), *self.betas.values()]

    def weights(self) -> list[nn.Parameter]:
        """All other parameters."""
        structure = {id(a) for a in self.structure()}
        return [p for p in self.parameters() if id(p) not in structure]

    def restrict(self, edge: str, names: Sequence[str]) -> None:
        """Leave these candidates on the edge, in every cell."""
        wanted = torch.tensor([n in names for n in self.candidates[edge]])
        for mixture in self.mixtures():
            if mixture.edge == edge:
                mixture.open.copy_(wanted)

    def open_names(self, edge: str) -> tuple[str, ...]:
        """The candidates that still take part on the edge."""
        mask = next(m.open for m in self.mixtures() if m.edge == edge).tolist()
        return tuple(n for n, on in zip(self.candidates[edge], mask, strict=True) if on)

    def weigh(self, how: Weigh) -> None:
        """Put other weights in the place of the softmax."""
        for mixture in self.mixtures():
            mixture.weigh = how

    def _gate(self, edge: str) -> Tensor:
        node = next(n for n, edges in self._nodes.items() if edge in edges)
        if node not in self.betas:
            return next(self.parameters()).new_ones(())
        shares: Tensor = self.betas[node].softmax(0)
        return shares[self._nodes[node].index(edge)]


def every_candidate(architecture: Architecture) -> dict[str, tuple[str, ...]]:
    """Each edge's operations as the architecture's file lists them.

    >>> from automl.methods.architectures.cells import METHOD
    >>> every_candidate(METHOD)["e12"]
    ('none', 'skip', 'conv1', 'conv3', 'avgpool')
    """
    assert architecture.cells is not None
    found = {}
    for edge in architecture.cells.edges:
        options = architecture.ranges[edge]
        assert isinstance(options, Choice)
        found[edge] = tuple(str(o) for o in options.options)
    return found
