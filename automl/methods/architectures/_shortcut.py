"""A branch beside a shortcut: how much of the branch is added, and for which samples.

    h + s * branch     "plain" s = 1;  "depth" s = 1/sqrt(number of branches in the network);
                       "layer_scale" s learned for each channel, 0.1 at the start

"depth" keeps the variance at the start from growing with depth. In training the branch of a sample
is left out with probability `drop`, and what is kept is scaled by 1/(1 - drop) (stochastic depth).
Source: Huang et al. 2016, arXiv:1603.09382 (stochastic depth); Touvron et al. 2021,
arXiv:2103.17239 (layer scale, 0.1 for shallow networks); Zhang et al. 2019, arXiv:1901.09321
(scaling by depth; the exponent here is the plain one half).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class Shortcut(nn.Module):
    """Adds branches [b, ...] to h [b, ...] of `width` channels.

    Args:
        residual: "plain", "depth" or "layer_scale".
        branches: in the whole network.
        trailing: dimensions behind the channels: 2 for images, 0 where the channels come last.
    """

    def __init__(
        self, width: int, *, residual: str, branches: int, drop: float, trailing: int = 0
    ) -> None:
        super().__init__()
        self.size = 1 / math.sqrt(branches) if residual == "depth" else 1.0
        if residual == "layer_scale":
            self.scale = nn.Parameter(torch.full((width,) + (1,) * trailing, 0.1))
        self.learned = residual == "layer_scale"
        self.kept = nn.Dropout(drop)

    def forward(self, h: Tensor, branch: Tensor) -> Tensor:
        if self.learned:
            branch = branch * self.scale
        elif self.size != 1:
            branch = branch * self.size
        if self.kept.p:
            ones = branch.new_ones(len(branch), *[1] * (branch.ndim - 1))
            branch = branch * self.kept(ones)
        return h + branch
