"""minLSTM: a recurrent language model whose gates see the present input alone.

    f = sigmoid(W_f x + forget_bias), i = sigmoid(W_i x);   f, i = f/(f + i), i/(f + i)
    h_t = f h_{t-1} + i g(W_h x)

so all steps are computed at once, by a scan (`_min_rnn.py`). `depth` layers, each a branch of its
own with a norm before it: h + W cell(norm(h)); `width` wide, the cell `expansion` times that.
norm, residual, drop_path and dropout are as in the transformer. One layer cannot let its state
decide what to remember: take two or more. 1,632 weights from 16 to 32, the LSTM of torch 6,400.
On a CPU the scan is no faster than torch's own recurrences; its promise is for GPUs. Rows of
digits, two layers, 15 epochs: .969, the LSTM of torch .987.
Source: Feng et al. 2024, arXiv:2410.01201.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import nn

from automl.methods.architectures._min_rnn import MinLstmCell, MinRnnModel
from automl.methods.stages import Architecture, Shape
from automl.space.ranges import Choice, Float, Int


def min_lstm(shape: Shape, *, forget_bias: float, **hyper: Any) -> nn.Module:
    return MinRnnModel(shape, partial(MinLstmCell, forget_bias=forget_bias), **hyper)


METHOD = Architecture(
    build=min_lstm,
    kinds=("tokens",),
    ranges={
        "width": Choice([32, 64, 128], default=64),
        "depth": Int(1, 4, default=2),
        "expansion": Int(1, 2, default=1),
        "forget_bias": Float(0.0, 3.0, default=0.0),
        "norm": Choice(["layer", "rms"]),
        "residual": Choice(["plain", "depth", "layer_scale"]),
        "dropout": Float(0.0, 0.4, default=0.0),
        "drop_path": Float(0.0, 0.3, default=0.0),
    },
    when="long texts on a GPU",
    source="arXiv:2410.01201",
)
