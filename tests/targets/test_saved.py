"""Files of torch.save, which are read without torch."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from common import NORMAL_WEIGHTS, run

import bigin

torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'bigin[test-torch]'")
RECIPE = 'skip = ["*num_batches_tracked"]\n' + NORMAL_WEIGHTS


@pytest.fixture(name="model")
def _model() -> Any:
    """A model with the values of the recipe."""
    Path("recipe.toml").write_text(RECIPE)
    model = torch.nn.Sequential(torch.nn.Linear(48, 32), torch.nn.BatchNorm1d(32), torch.nn.Linear(32, 48))
    import bigin.torch

    bigin.torch.init_(model, "recipe.toml")
    for name, buffer in model.named_buffers():
        if buffer.is_floating_point():
            bigin.fill(buffer, "uniform", seed=4, name=name)
    return model


def test_a_state_dict_is_verified_and_checked(model: Any) -> None:
    torch.save(model.state_dict(), "model.pt")
    names = sorted(name for name in model.state_dict() if "tracked" not in name)
    found = bigin.verify("model.pt", recipe="recipe.toml", seed=4)
    assert found.equal
    assert not bigin.verify("model.pt", recipe="recipe.toml", seed=5).equal
    assert [each.tensor for each in bigin.show_model("model.pt").tensors if each.tensor in names] == names
    assert bigin.check("model.pt", "recipe.toml").right
    attested = bigin.attest("model.pt", recipe="recipe.toml", seed=4)
    assert attested.check("model.pt").equal
    assert bigin.verify("model.pt#0.weight", "normal", std=0.02, seed=4).equal
    with pytest.raises(bigin.InputError, match=r"expected one tensor, got a checkpoint; name one, such as model\.pt#"):
        bigin.fill("model.pt", "normal")
    assert "model.pt: all regions compared" in run("verify", "model.pt", "--recipe", "recipe.toml", "--seed", 4).stdout


@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16", "float8_e4m3fn", "int64", "bool", "complex64"])
def test_every_dtype_and_order(dtype: str) -> None:
    kind = getattr(torch, dtype)
    base = torch.arange(60).reshape(6, 10).to(kind)
    held = {"a": base, "b": {"t": base.t(), "rows": base[2:4], "one": base[:1].t()}, "p": torch.zeros(0, 3, dtype=kind)}
    torch.save(held | {"step": 7, "s": torch.tensor(1).to(kind)}, "x.pt")
    target = {each.tensor: each for each in bigin.show_model("x.pt").tensors}
    assert sorted(target) == ["a", "b.one", "b.rows", "b.t", "p", "s"]
    from bigin.targets.distcp import existing_distcp

    opened = existing_distcp(Path("x.pt"))
    assert opened.label == "x.pt (1 of other kinds left out)"
    for name, tensor in {"a": base, "b.t": base.t(), "b.rows": base[2:4], "b.one": base[:1].t()}.items():
        member = opened.members[name]
        stored = member.read(tuple((0, size) for size in member.shape))
        wanted = tensor.contiguous().reshape(-1).view(torch.uint8).numpy()
        assert np.ascontiguousarray(stored).view(np.uint8).tobytes() == wanted.tobytes(), name


def test_what_is_no_such_file_is_refused() -> None:
    class Thing:
        pass

    globals()["Thing"] = Thing
    Thing.__qualname__ = "Thing"
    torch.save({"a": torch.arange(10)[::2]}, "strided.pt")
    torch.save({"a": Thing()}, "other.pt")
    torch.save({"a": 1}, "none.pt")
    loop: dict[str, Any] = {}
    loop["a"] = loop
    torch.save(loop, "loop.pt")
    Path("cut.pt").write_bytes(Path("strided.pt").read_bytes()[:300])
    for file, message in (
        ("strided.pt", r"expected values one behind the other, got strides \(2,\)"),
        ("other.pt", "expected a file of torch.save with tensors, got another one: it names .*Thing"),
        ("loop.pt", "expected a file of torch.save with tensors, got another one: maximum recursion depth exceeded"),
        ("none.pt", "expected a checkpoint with tensors, got one without"),
        ("cut.pt", "expected a file of torch.save with tensors, got another one: File is not a zip file"),
    ):
        with pytest.raises(bigin.InputError, match=message) as error:
            bigin.show_model(file)
        assert "\n" not in str(error.value)
    Path("old.pt").write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(bigin.InputError, match=r"expected a file of torch\.save, got one in an old or another form"):
        bigin.show_model("old.pt")
