"""A training loop of one's own: it says what may vary, reports, and can go on where it stopped.

automl tune examples/own_loop.py --budget 20full
"""

import torch
from sklearn.datasets import load_wine
from torch import nn

space = {
    "lr": "log 1e-4..1e-1 = 3e-3",
    "width": "log 8..64 = 16",
    "noise": "0.0..0.5 = 0.0",
}
metric = "accuracy"
steps = 30  # of a full training: epochs, as this loop counts


def train(trial):
    torch.manual_seed(trial.seed)
    x, y = (torch.tensor(a) for a in load_wine(return_X_y=True))
    x = ((x - x.mean(0)) / x.std(0)).float()
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    train_rows, valid_rows = order[:120], order[120:]

    width = trial.recipe["width"]
    net = nn.Sequential(nn.Linear(13, width), nn.ReLU(), nn.Linear(width, 3))
    optimizer = torch.optim.Adam(net.parameters(), lr=trial.recipe["lr"])
    state = trial.checkpoint / "state.pt"  # a folder of this trial's own
    if trial.start > 0:
        saved = torch.load(state)
        net.load_state_dict(saved["net"])
        optimizer.load_state_dict(saved["optimizer"])

    for epoch in range(trial.start + 1, trial.stop + 1):
        for rows in train_rows[torch.randperm(120)].split(24):
            noisy = x[rows] + trial.recipe["noise"] * torch.randn(len(rows), 13)
            loss = nn.functional.cross_entropy(net(noisy), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        right = net(x[valid_rows]).argmax(1) == y[valid_rows]
        trial.report(epoch, {"accuracy": right.float().mean().item(), "train/loss": loss.item()})
    torch.save({"net": net.state_dict(), "optimizer": optimizer.state_dict()}, state)
