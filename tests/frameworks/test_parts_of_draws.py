"""Parts of one draw that become parameters of their own, as the parts of a fused projection do."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'bigin[torch]'")
from torch import nn  # noqa: E402

import bigin.torch  # noqa: E402


class Parts(nn.Module):
    """Two parameters from one draw."""

    def __init__(self, how: str) -> None:
        super().__init__()
        if how == "indices":
            self.q, self.k = map(nn.Parameter, torch.randn(2, 4, 4))
        elif how == "chunks":
            both = nn.init.normal_(torch.empty(8, 4))
            self.q, self.k = (nn.Parameter(part.clone()) for part in both.chunk(2))
        elif how == "columns":
            both = nn.init.uniform_(torch.empty(4, 8))
            self.q, self.k = (nn.Parameter(part.contiguous()) for part in both.chunk(2, dim=1))
        elif how == "transposed":
            both = nn.init.trunc_normal_(torch.empty(4, 8))
            self.q, self.k = (nn.Parameter(part.t().contiguous()) for part in both.chunk(2, dim=1))
        else:
            both = nn.init.orthogonal_(torch.empty(8, 4))
            self.q, self.k = (nn.Parameter(part.clone()) for part in both.chunk(2))


@pytest.mark.parametrize("how", ["indices", "chunks", "columns", "transposed", "orthogonal"])
def test_parts_of_one_draw_differ(how):
    with bigin.torch.deferred(seed=1) as init:
        model = Parts(how)
    bigin.torch.materialize(model, "parts.safetensors", init)
    model.to_empty(device="cpu")
    bigin.torch.init_(model, init)
    q, k = model.q.detach().flatten(), model.k.detach().flatten()
    assert not torch.isin(q, k).any()
    assert bigin.verify("parts.safetensors").equal


def test_the_same_part_twice_is_the_same():
    class Copied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            whole = torch.randn(2, 4)
            self.a, self.b = nn.Parameter(whole[1].clone()), nn.Parameter(whole[1].clone())

    with bigin.torch.deferred() as init:
        model = Copied()
    model.to_empty(device="cpu")
    bigin.torch.init_(model, init)
    assert torch.equal(model.a, model.b)
