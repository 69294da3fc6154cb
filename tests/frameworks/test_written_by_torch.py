"""Checkpoints that torch.distributed.checkpoint has written, which no record of bigin lies in."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from common import run, run_ranks

torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'bigin[torch]'")
if not torch.distributed.is_available():
    pytest.skip("this torch has no torch.distributed", allow_module_level=True)

import torch.distributed.checkpoint as dcp  # noqa: E402

import bigin  # noqa: E402
from bigin.targets.distcp import existing_distcp  # noqa: E402
from bigin.targets.sharded import read_sharded  # noqa: E402

RECIPE = '[[rule]]\nmatch = "*"\nmethod = "normal"\n'


pytestmark = pytest.mark.usefixtures("alone")


def drawn(name: str, shape: tuple[int, ...], dtype: Any = torch.float32) -> torch.Tensor:
    out = torch.zeros(shape, dtype=dtype)
    bigin.fill(out, "normal", name=name)
    return out


def state() -> dict[str, Any]:
    """A training state: tensors of several dtypes, strides and kinds, and what is no tensor."""
    return {
        "model": {
            "w": drawn("model.w", (6, 4)),
            "p": torch.nn.Parameter(drawn("model.p", (300, 7), torch.bfloat16)),
            "columns": drawn("model.columns", (5, 3)).t().contiguous().t(),
            "view": drawn("model.view", (10, 10))[2:4],
            "f8": drawn("model.f8", (4, 4), torch.float8_e4m3fn),
            "scalar": drawn("model.scalar", ()),
            "one": drawn("model.one", (1, 5, 1)),
            "empty": torch.zeros(0, 3),
        },
        "step": torch.tensor(3),
        "epoch": 7,
        "names": ["a", "b"],
    }


def test_every_tensor_is_read() -> None:
    held = state()
    dcp.save(held, checkpoint_id="saved")
    target = existing_distcp(Path("saved"))
    assert set(target.members) == {*(f"model.{name}" for name in held["model"]), "step"}
    assert target.label == "saved (2 of other kinds left out)"
    for name, member in target.members.items():
        wanted = held["step"] if name == "step" else held["model"][name.removeprefix("model.")].detach()
        values = member.read(tuple((0, length) for length in member.shape))
        assert (member.shape, member.dtype.name) == (tuple(wanted.shape), str(wanted.dtype).removeprefix("torch.")), (
            name
        )
        assert values.tobytes() == wanted.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes(), name


def test_the_faces_take_it() -> None:
    Path("recipe.toml").write_text(RECIPE)
    held = {name: drawn(name, (40, 30), torch.bfloat16) for name in ("a.w", "b.w")}
    dcp.save(held, checkpoint_id="saved")
    assert [row.tensor for row in bigin.show_model("saved").tensors] == ["a.w", "b.w"]
    assert bigin.show("saved#a.w", "normal").looks_right
    assert bigin.verify("saved", recipe="recipe.toml").equal
    assert not bigin.verify("saved", recipe="recipe.toml", seed=1).equal
    assert bigin.check("saved", "recipe.toml").right
    assert bigin.attest("saved", "manifest.json", recipe="recipe.toml").check("saved").equal
    assert bigin.Attestation.read("manifest.json").check().equal
    bigin.initialize("recipe.toml", "new.safetensors", like="saved")
    assert bigin.Attestation.read("manifest.json").check("new.safetensors").equal
    held["b.w"][3] = held["a.w"][3]
    held["a.w"][...] = 0
    dcp.save(held, checkpoint_id="changed")
    assert not bigin.Attestation.read("manifest.json").check("changed").equal
    assert [each.tensor for each in bigin.check("changed", "recipe.toml").wrong] == ["a.w"]
    with pytest.raises(bigin.InputError, match=r"expected a record of a fill, got none; give --recipe"):
        bigin.verify("saved")
    with pytest.raises(bigin.InputError, match=r"expected one tensor, got 'c'; name one, such as saved#a.w"):
        bigin.show("saved#c")


@pytest.mark.slow
def test_tensors_cut_in_every_way(tmp_path: Path) -> None:
    for lines in run_ranks("ranks_saved.py", 4, tmp_path / "meeting"):
        assert lines == ["saved"]
    Path("recipe.toml").write_text(RECIPE)
    for folder, count in (("saved", 72), ("saved-safetensors", 60)):
        path = tmp_path / folder
        assert len(read_sharded(path).tensors) == count
        assert max(len(tensor.boxes) for tensor in read_sharded(path).tensors.values()) == 4
        checked = bigin.verify(path, recipe="recipe.toml", seed=7)
        assert checked.equal, checked
        assert len(checked.record["tensors"]) == count
        assert bigin.attest(path, recipe="recipe.toml", seed=7).check(path).equal
        assert len(bigin.show_model(path).tensors) == count
    assert run("verify", tmp_path / "saved", "--recipe", "recipe.toml", "--seed", 7).returncode == 0
    assert "60 tensors" in run("check", tmp_path / "saved-safetensors", "recipe.toml").stdout


class Harm:
    def __reduce__(self) -> Any:
        return os.mkdir, ("harmed",)


def test_a_pickle_that_runs_something_is_refused() -> None:
    dcp.save({"w": torch.zeros(3)}, checkpoint_id="saved")
    metadata = pickle.loads(Path("saved/.metadata").read_bytes())
    metadata.planner_data = Harm()
    Path("saved/.metadata").write_bytes(pickle.dumps(metadata))
    with pytest.raises(bigin.InputError, match=r"it names posix\.mkdir"):
        bigin.show_model("saved")
    assert not Path("harmed").exists()


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda: Path("saved/.metadata").write_bytes(b""), "expected a checkpoint of torch.distributed, got another"),
        (lambda: Path("saved/.metadata").write_bytes(pickle.dumps({"a": 1})), "got another .metadata"),
        (lambda: Path("saved/__0_0.distcp").unlink(), "expected the file __0_0.distcp with values of w, got none"),
        (lambda: os.truncate("saved/__0_0.distcp", 100), "expected what torch.save writes for w, got something else"),
    ],
)
def test_what_is_damaged_is_told_in_a_line(harm: Any, message: str) -> None:
    dcp.save({"w": torch.zeros(3)}, checkpoint_id="saved")
    harm()
    with pytest.raises((bigin.InputError, bigin.FillError), match=message):
        bigin.show_model("saved")


def test_parts_that_are_missing_are_told() -> None:
    dcp.save({"w": torch.zeros(4, 3)}, checkpoint_id="saved")
    metadata = pickle.loads(Path("saved/.metadata").read_bytes())
    metadata.state_dict_metadata["w"].size = torch.Size([6, 3])
    Path("saved/.metadata").write_bytes(pickle.dumps(metadata))
    with pytest.raises(bigin.FillError, match=r"expected parts that make up w of shape \(6, 3\), got 12 of its 18"):
        bigin.check("saved", None)


def test_memory_does_not_grow_with_the_checkpoint() -> None:
    held = {"w": drawn("w", (8 << 20,))}
    dcp.save(held, checkpoint_id="saved")
    bigin.show_model("saved")
    tracemalloc.start()
    bigin.show_model("saved", threads=1, max_memory="16MiB")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 << 20


def test_it_needs_no_torch() -> None:
    dcp.save({"w": drawn("w", (40, 30))}, checkpoint_id="saved")
    code = "import sys, bigin; print(bigin.show_model('saved').tensors[0].shape, 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.stdout == "(40, 30) False\n", done.stderr
