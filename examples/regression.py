"""Regression with a metric and a loss of one's own: how far a disease went in a year.

automl tune examples/regression.py --budget 3m
"""

import torch
from sklearn.datasets import load_diabetes
from torch import nn

epochs = 60
batch_size = 32


def data():
    x, y = load_diabetes(return_X_y=True)
    x = torch.tensor(x / x.std(0), dtype=torch.float32)
    return x, torch.tensor(y / 100, dtype=torch.float32).unsqueeze(1)  # hundreds of points


def model(width: "log 8..128" = 32, dropout: "0.0..0.4" = 0.1):
    return nn.Sequential(nn.Linear(10, width), nn.SiLU(), nn.Dropout(dropout), nn.Linear(width, 1))


def loss(output, target):
    return nn.functional.smooth_l1_loss(output, target, reduction="none").mean(1)


def median_error(outputs, targets):
    """Half of the patients are predicted closer than this, in points."""
    return 100 * (outputs - targets).abs().median()


metric = median_error
maximize = False
