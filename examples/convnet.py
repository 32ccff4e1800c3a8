"""A convolutional network of one's own on handwritten digits.

automl tune examples/convnet.py --budget 5m
"""

import torch
from sklearn.datasets import load_digits
from torch import nn

metric = "accuracy"
epochs = 15


def data():
    digits = load_digits()
    x = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 8 - 1
    return x, torch.tensor(digits.target)


def model(width: "log 8..48" = 16, act: "relu|gelu|silu" = "relu", dropout: "0.0..0.5" = 0.0):
    activation = {"relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU}[act]
    return nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        activation(),
        nn.MaxPool2d(2),
        nn.Conv2d(width, 2 * width, 3, padding=1, bias=False),
        nn.BatchNorm2d(2 * width),
        activation(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(dropout),
        nn.Linear(2 * width, 10),
    )
