"""A model whose checkpoints are written and read, and what they hold compared."""

from __future__ import annotations

import torch
from torch import nn


class Model(nn.Module):
    """With a tied head, a buffer and several dtypes."""

    def __init__(self, square=torch.float32):
        super().__init__()
        self.embedding = nn.Embedding(20, 8, padding_idx=3)
        self.up = nn.Linear(8, 6, dtype=torch.bfloat16)
        self.square = nn.Linear(8, 8, bias=False, dtype=square)
        self.norm = nn.BatchNorm1d(8)
        self.head = nn.Linear(8, 20, bias=False)
        self.head.weight = self.embedding.weight
        self.register_buffer("table", torch.arange(4.0))
        nn.init.orthogonal_(self.square.weight)


def same(found, wanted):
    assert set(found) == set(wanted)
    for name, tensor in wanted.items():
        assert found[name].dtype == tensor.dtype, name
        assert torch.equal(found[name], tensor), name
