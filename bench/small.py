"""Arrays from one element up: what a call costs before it has made anything. torch beside it."""

from __future__ import annotations

from typing import Any

import numpy as np

import bigin.init
from bench.check import against_reference, some
from bench.measure import Work, WrongError
from bench.setting import Setting

ELEMENTS = 1 << 22  # that a run makes at least, in as many calls as that takes
PARAMETERS = 1000


def normal(setting: Setting, size: int) -> Work:
    """bigin.init.normal_ of an array of so many elements, again and again."""
    size = min(size, setting.size // 4)
    out = np.empty(size, np.float32)
    calls = max(1, min(2000, ELEMENTS // size))

    def run() -> int:
        for _ in range(calls):
            bigin.init.normal_(out, seed=0)
        return calls * out.nbytes

    def check() -> None:
        indices = some(0, size)
        against_reference("normal", (size,), "float32", indices, out[indices])

    return Work(run, check)


def torch_normal(setting: Setting, size: int) -> Work:
    """torch.nn.init.normal_ of the same, all cores."""
    import torch

    size = min(size, setting.size // 4)
    out = torch.empty(size)
    calls = max(1, min(2000, ELEMENTS // size))

    def run() -> int:
        for _ in range(calls):
            torch.nn.init.normal_(out)
        return calls * 4 * size

    return Work(run, lambda: None if bool(out.isfinite().all()) else wrong())


def parameters(setting: Setting) -> Work:
    """bigin.torch.init_ of a model of 1,000 small parameters."""
    import bigin.torch

    model = small_model()
    rules = {"*.bias": "zeros", "*.weight": "xavier_uniform"}

    def run() -> int:
        bigin.torch.init_(model, rules)
        return sum(4 * parameter.numel() for parameter in model.parameters())

    def check() -> None:
        import torch

        with torch.no_grad():
            weights = torch.cat([layer.weight.reshape(-1) for layer in model])
        if not 0 < float(weights.std()) < 1 or any(bool(layer.bias.any()) for layer in model):
            wrong()

    return Work(run, check)


def torch_parameters(setting: Setting) -> Work:
    """The same by torch.nn.init."""
    import torch

    model = small_model()

    def run() -> int:
        for layer in model:
            torch.nn.init.xavier_uniform_(layer.weight)
            torch.nn.init.zeros_(layer.bias)
        return sum(4 * parameter.numel() for parameter in model.parameters())

    return Work(run, lambda: None)


def small_model() -> Any:
    """1,000 parameters of 8 x 8 and 8."""
    import torch

    return torch.nn.ModuleList(torch.nn.Linear(8, 8) for _ in range(PARAMETERS // 2))


def wrong() -> None:
    raise WrongError("small arrays: the values are not those of the method")
