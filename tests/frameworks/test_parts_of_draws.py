"""Parts of one draw that become parameters of their own, as the parts of a fused projection do."""

from __future__ import annotations

import numpy as np
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


def permuted(weight: torch.Tensor) -> torch.Tensor:
    """Halves of heads by turns, as rotary embeddings are stored."""
    return weight.view(2, 2, 4, 6).transpose(1, 2).reshape(16, 6)


CONVERSIONS = {
    "experts": lambda held: {f"{i}": part.squeeze(0) for i, part in enumerate(held["w"].view(4, 4, 6).chunk(4))},
    "parts of experts": lambda held: {
        f"{i}.{j}": half[i].contiguous()
        for j, half in enumerate(held["w"].view(2, 8, 6).chunk(2, dim=1))
        for i in range(2)
    },
    "copied, then parts": lambda held: {
        f"{i}.{j}": half[i].contiguous()
        for j, half in enumerate(part.contiguous() for part in held["w"].view(2, 8, 6).chunk(2, dim=1))
        for i in range(2)
    },
    "transposed": lambda held: {"t": held["w"].t().contiguous()},
    "joined": lambda held: {"j": torch.cat([held["w"][8:], held["w"][:8]])},
    "permuted": lambda held: {"p": permuted(held["w"])},
    "permuted and joined": lambda held: {"p": torch.cat([permuted(held["w"]), permuted(held["w"])])},
}


@pytest.mark.parametrize("name", CONVERSIONS)
@pytest.mark.parametrize("method", ["normal_", "orthogonal_"])
def test_what_is_made_of_parameters_has_their_values_or_is_refused(name, method):
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.empty(16, 6))
            getattr(nn.init, method)(self.w)

    with bigin.torch.deferred() as init:
        model = Model()
    try:
        specs = init.converted(model, CONVERSIONS[name])
    except bigin.torch.InputError:
        assert "permuted" in name
        return
    model.to_empty(device="cpu")
    bigin.torch.init_(model, init)
    wanted = CONVERSIONS[name]({"w": model.w.detach()})
    assert set(specs) == set(wanted)
    for key, spec in specs.items():
        made = np.empty(spec.shape, spec.dtype)
        filler = spec.plan()()
        filler.setup(1, 1 << 30, lambda part: None)
        filler(tuple((0, size) for size in spec.shape), made)
        assert np.array_equal(made, wanted[key].numpy()), key


def test_a_parameter_whose_draw_lies_in_another_order_is_not_converted():
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.randn(4, 8).t().contiguous())

    with bigin.torch.deferred() as init:
        model = Model()
    with pytest.raises(bigin.torch.InputError, match="w: expected a draw that lies in it as it was drawn"):
        init.converted(model, lambda held: held)


def test_a_parameter_that_is_permuted_is_refused():
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(permuted(torch.randn(16, 6)))

    with bigin.torch.deferred() as init:
        model = Model()
    with pytest.raises(bigin.torch.InputError, match="w: expected values that a method makes, got a draw in another"):
        init.specs(model)
