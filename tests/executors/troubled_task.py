"""A task file whose model does, in the middle of its training, what its argument says.

One that is "held" trains freely for 20 steps, and then half a second a step for as long as a file
named "hold" lies beside it: so a test may do something in its midst, however late it comes.
"""

from __future__ import annotations

TASK = """
import ctypes, os, pathlib, signal, subprocess, time
import torch
from torch import nn

x = torch.randn(200, 2, generator=torch.Generator().manual_seed(0))
data = (x, (x.norm(dim=1) > 1.2).long())
metric = "accuracy"
batch_size = 16
hold = pathlib.Path(__file__).with_name("hold")


class Troubled(nn.Module):
    def __init__(self, do):
        super().__init__()
        self.do, self.calls = do, 0
        self.net = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 2))

    def forward(self, x):
        self.calls += self.training
        if self.training and self.calls == 8:
            TROUBLE[self.do]()
        if self.do == "slow":
            time.sleep(0.02)
        if self.do == "held" and self.calls > 20 and hold.exists():
            time.sleep(0.5)
        return self.net(x)


def chatter():
    print('{"reports": []}', flush=True)
    subprocess.run(["echo", "from a child"])
    os.write(2, b"from C")


def memory():
    raise MemoryError


def cuda():
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")


kept = []


def leak():
    kept.append(b"x" * 300_000_000)


def asks():
    input()


def orphan():
    if os.fork() == 0:
        time.sleep(3)
        os._exit(0)
    os._exit(5)


def faint():
    assert (torch.tensor(1e-30) * torch.tensor(1e-9)).item() == 0  # 1e-39 is no normal number


TROUBLE = {
    "learn": lambda: None,
    "slow": lambda: None,
    "held": lambda: None,
    "exit": lambda: os._exit(3),
    "sys_exit": lambda: exit(4),
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "segfault": lambda: ctypes.string_at(0),
    "hang": lambda: time.sleep(600),
    "memory": memory,
    "cuda": cuda,
    "chatter": chatter,
    "asks": asks,
    "leak": leak,
    "orphan": orphan,
    "faint": faint,
}


Do = "learn|slow|held|exit|sys_exit|kill|segfault|hang|memory|cuda|chatter|asks|orphan|faint"


def model(do: Do = "learn"):
    return Troubled(do)
"""
