"""minGRU: places mixed by a recurrence whose gates see one place: W cell(norm(h)).

Source: Feng et al. 2024, arXiv:2410.01201.
"""

from __future__ import annotations

from torch import nn

from automl.methods.architectures._min_rnn import MinGruCell
from automl.methods.stages import Operation


def min_gru_mix_operation(width: int, *, affine: bool = True) -> nn.Module:
    norm = nn.LayerNorm(width, elementwise_affine=affine)
    return nn.Sequential(norm, MinGruCell(width, width), nn.Linear(width, width))


METHOD = Operation(make=min_gru_mix_operation, kinds=("tokens",), source="arXiv:2410.01201")
