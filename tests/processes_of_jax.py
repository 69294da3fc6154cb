"""A process of a jax run of several: python processes_of_jax.py NUMBER COUNT PORT. Each makes only its own shards."""

from __future__ import annotations

import sys

import jax
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

import bigin
import bigin.jax
from bigin.api.virtual_array import VirtualArray

SHAPE = (16, 12)
made: list[int] = []  # elements of each shard


def counted(self, ranges, out):
    made.append(out.size)
    fill_region(self, ranges, out)


fill_region = VirtualArray.fill_region
VirtualArray.fill_region = counted


def main(number: int, count: int, port: str) -> None:
    jax.distributed.initialize(f"127.0.0.1:{port}", num_processes=count, process_id=number)
    assert len(jax.local_devices()) == 4
    assert len(jax.devices()) == 4 * count
    mesh = jax.make_mesh((4 * count // 2, 2), ("x", "y"))
    expected = np.empty(SHAPE, np.float32)
    bigin.fill(expected, "orthogonal", seed=1, name="a.kernel", in_axis=-2, out_axis=-1)
    shapes = {"a": {"kernel": jax.ShapeDtypeStruct(SHAPE, "float32")}}
    for spec, own in ((P("x", "y"), 2), (P("x"), 2), (P(None, "y"), 1), (P(), 1)):
        made.clear()
        array = bigin.jax.init(shapes, {"*": "orthogonal"}, 1, sharding=NamedSharding(mesh, spec))["a"]["kernel"]
        assert len(array.addressable_shards) == 4
        for shard in array.addressable_shards:
            np.testing.assert_array_equal(shard.data, expected[shard.index])
        assert sum(made) == expected.size // own, (spec, made)
    total = jax.jit(jax.numpy.sum, out_shardings=NamedSharding(mesh, P()))(array)
    np.testing.assert_allclose(np.asarray(total.addressable_data(0)), expected.sum(), rtol=1e-4)
    print("made", *made)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
