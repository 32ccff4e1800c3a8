"""The supernet: the network of `cells`, with a mixture of all candidates on each edge.

    o(x) = sum_k softmax(alpha_e)_k o_k(x)

It is built by the very functions that build the derived network; only what stands on an edge
differs. With one candidate an edge nothing is mixed, and the supernet is that network bit for
bit. All cells share the alphas of an edge.
Source: Liu et al. 2019, arXiv:1806.09055.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from automl.methods.architectures.cells import CELLS_EDGES, cells_network, cells_operation
from automl.methods.stages import Shape

_ALPHA_SCALE = 1e-3  # of the random start: near equal, but no tie


class Mixture(nn.Module):
    """Candidates weighted by softmax(alpha); `open` says which still take part."""

    open: Tensor

    def __init__(self, alpha: nn.Parameter, open_: Tensor, candidates: Sequence[nn.Module]) -> None:
        super().__init__()
        self.alpha = alpha
        self.register_buffer("open", open_)
        self.candidates = nn.ModuleList(candidates)

    def weights(self) -> Tensor:
        """[candidates], positive where open, summing to 1."""
        weights: Tensor = self.alpha.masked_fill(~self.open, -torch.inf).softmax(0)
        return weights

    def forward(self, x: Tensor) -> Tensor:
        kept = [k for k, still in enumerate(self.open.tolist()) if still]
        if len(kept) == 1:
            # No product with 1: a node more would change the order in which gradients are summed.
            alone: Tensor = self.candidates[kept[0]](x)
            return alone
        weights = self.weights()
        return torch.stack([weights[k] * self.candidates[k](x) for k in kept]).sum(0)


class Supernet(nn.Module):
    """A network over all architectures whose edges take one of their candidates.

    Args:
        candidates: for each edge of a cell the names of its operations.
        seed: of the alphas' start; the weights come from torch's global generator.
        affine: of the candidates' norms; True only where nothing is mixed.
    """

    def __init__(
        self,
        shape: Shape,
        *,
        candidates: Mapping[str, Sequence[str]],
        width: int = 8,
        cells: int = 1,
        seed: int = 0,
        affine: bool = False,
    ) -> None:
        super().__init__()
        self.candidates = {edge: tuple(candidates[edge]) for edge in CELLS_EDGES}
        generator = torch.Generator().manual_seed(seed)
        alphas, opens = {}, {}
        for edge, names in self.candidates.items():
            start = _ALPHA_SCALE * torch.randn(len(names), generator=generator)
            alphas[edge] = nn.Parameter(start)
            opens[edge] = torch.ones(len(names), dtype=torch.bool)

        def mixture(edge: str) -> nn.Module:
            made = [cells_operation(n, width, affine=affine) for n in self.candidates[edge]]
            return Mixture(alphas[edge], opens[edge], made)

        edges = [{edge: mixture(edge) for edge in CELLS_EDGES} for _ in range(cells)]
        self.network = cells_network(shape, width=width, dropout=0.0, edges=edges)

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.network(x)
        return output

    def mixtures(self) -> Iterator[tuple[str, Mixture]]:
        """(edge, its mixture) of every cell."""
        for name, module in self.named_modules():
            if isinstance(module, Mixture):
                yield name.rsplit(".", 1)[1], module

    def alphas(self) -> dict[str, nn.Parameter]:
        """The logits of each edge, shared by all cells."""
        return {edge: mixture.alpha for edge, mixture in self.mixtures()}

    def weights(self) -> list[nn.Parameter]:
        """All parameters but the alphas."""
        alphas = {id(a) for a in self.alphas().values()}
        return [p for p in self.parameters() if id(p) not in alphas]

    def restrict(self, edge: str, names: Sequence[str]) -> None:
        """Leave these candidates on the edge, in every cell."""
        wanted = torch.tensor([n in names for n in self.candidates[edge]])
        for at, mixture in self.mixtures():
            if at == edge:
                mixture.open.copy_(wanted)

    def open_names(self, edge: str) -> tuple[str, ...]:
        """The candidates that still take part on the edge."""
        mask = next(m.open for at, m in self.mixtures() if at == edge).tolist()
        return tuple(n for n, on in zip(self.candidates[edge], mask, strict=True) if on)


def every_candidate(names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The same candidates on each edge."""
    return dict.fromkeys(CELLS_EDGES, tuple(names))
