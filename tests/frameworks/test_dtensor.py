"""Distributed tensors: all ranks together hold what one device makes."""

from __future__ import annotations

import pytest
from common import run_ranks
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'bigin[torch]'")
if not torch.distributed.is_available():
    pytest.skip("this torch has no torch.distributed", allow_module_level=True)

from torch.distributed.tensor import Replicate, Shard  # noqa: E402
from torch.distributed.tensor.placement_types import _StridedShard  # noqa: E402

from bigin.torch.distributed import local_pieces  # noqa: E402


@pytest.mark.slow
def test_four_ranks_make_what_one_device_makes(tmp_path):
    for lines in run_ranks("ranks.py", 4, tmp_path / "meeting"):
        assert lines == ["cuts", "axes", "strided", "models", "refused"]


@pytest.mark.slow
@pytest.mark.parametrize("world", [1, 2, 4])
def test_what_is_recorded_or_replaced_is_the_same_on_any_number_of_ranks(world, tmp_path):
    """FSDP2, CPU offload, tensor parallelism, both, DTensor alone, and a pipeline split in two."""
    for lines in run_ranks("ranks_recorded.py", world, tmp_path / "meeting"):
        assert lines == ["recordings", "stages", "traced", "replaced"]


@given(st.data())
def test_the_pieces_are_those_that_torch_cuts(data):
    """Along one axis: any number of mesh dimensions, of Shard, _StridedShard and Replicate."""
    size = data.draw(st.integers(0, 40))
    mesh = data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=3))
    coordinate = [data.draw(st.integers(0, count - 1)) for count in mesh]
    strided = st.builds(lambda factor: _StridedShard(0, split_factor=factor), st.integers(1, 4))
    placements = [data.draw(st.one_of(st.just(Shard(0)), strided, st.just(Replicate()))) for _ in mesh]
    expected = torch.arange(size)
    for count, place, placement in zip(mesh, coordinate, placements, strict=True):
        if not isinstance(placement, Replicate):
            expected = placement._split_tensor(expected, count, with_padding=False)[0][place]
    (pieces,) = local_pieces((size,), mesh, coordinate, placements)
    assert [element for piece in pieces for element in piece] == expected.tolist()
    assert all(len(piece) for piece in pieces) or size == 0 or not expected.numel()
