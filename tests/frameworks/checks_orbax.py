"""Orbax's ways to restore a checkpoint, each onto 8 devices of the CPU. test_orbax.py runs this in its own process."""

from __future__ import annotations

import shutil
import warnings

import jax
import numpy as np
import pytest
import zarr
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

import bigin

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of what is deprecated in Orbax
    import orbax.checkpoint as ocp

    try:
        import orbax.checkpoint.v1 as v1
    except ModuleNotFoundError:
        from orbax.checkpoint.experimental import v1

pytestmark = pytest.mark.filterwarnings("ignore")
bigin.register_dtypes()
RECIPE = '[[rule]]\nmatch = "*"\nmethod = "normal"\nstd = 0.02\n'
TENSORS = {
    "layers.0.kernel": ((64, 32), "bfloat16", P("x", "y")),
    "layers.0.bias": ((64,), "float32", P("x")),
    "layers.1.kernel": ((64, 32), "float8_e4m3fn", P(None, "y")),
    "scale": ((), "float32", P()),
}


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("orbax")
    group = zarr.create_group(folder / "like.zarr")
    for name, (shape, dtype, _) in TENSORS.items():
        group.create_array(name, shape=shape, dtype=dtype)
    (folder / "recipe.toml").write_text(RECIPE)
    bigin.initialize(folder / "recipe.toml", folder / "out", like=folder / "like.zarr", format="orbax")
    return folder / "out"


@pytest.fixture(scope="module")
def wanted():
    mesh = jax.make_mesh((4, 2), ("x", "y"))
    tree = {}
    for name, (shape, dtype, spec) in TENSORS.items():
        *above, last = name.split(".")
        inner = tree
        for part in above:
            inner = inner.setdefault(part, {})
        inner[last] = jax.ShapeDtypeStruct(shape, dtype, sharding=NamedSharding(mesh, spec))
    return tree


def by_pytree(folder, wanted):
    args = ocp.checkpoint_utils.construct_restore_args(wanted)
    return ocp.PyTreeCheckpointer().restore(folder, args=ocp.args.PyTreeRestore(item=wanted, restore_args=args))


def by_standard(folder, wanted):
    return ocp.StandardCheckpointer().restore(folder, wanted)


def by_async(folder, wanted):
    with ocp.AsyncCheckpointer(ocp.StandardCheckpointHandler()) as checkpointer:
        return checkpointer.restore(folder, args=ocp.args.StandardRestore(wanted))


def by_manager(folder, wanted):
    step = folder.parent / "run" / "0"
    shutil.copytree(folder, step / "default", dirs_exist_ok=True)
    with ocp.CheckpointManager(step.parent) as manager:
        assert manager.latest_step() == 0
        return manager.restore(0, args=ocp.args.StandardRestore(wanted))


def by_manager_of_items(folder, wanted):
    step = folder.parent / "items" / "7"
    shutil.copytree(folder, step / "params", dirs_exist_ok=True)
    with ocp.CheckpointManager(step.parent) as manager:
        args = ocp.args.Composite(params=ocp.args.StandardRestore(wanted))
        return manager.restore(7, args=args)["params"]


def by_v1_pytree(folder, wanted):
    return v1.load_pytree(folder, wanted)


def by_v1(folder, wanted):
    return v1.load(folder, wanted)


@pytest.mark.parametrize(
    "way", [by_pytree, by_standard, by_async, by_manager, by_manager_of_items, by_v1_pytree, by_v1]
)
def test_each_way_restores_shards(out, wanted, way):
    restored = way(out, wanted)
    for name, (shape, dtype, _) in TENSORS.items():
        found, said = restored, wanted
        for part in name.split("."):
            found, said = found[part], said[part]
        assert found.sharding == said.sharding
        assert found.dtype == dtype
        values = np.asarray(bigin.virtual(shape, "normal", std=0.02, dtype=dtype, name=name))
        assert np.asarray(found).tobytes() == values.tobytes(), name


def test_a_shape_or_a_name_that_is_not_there_is_orbaxs_error(out, wanted):
    with pytest.raises(ValueError, match=r"(?i)structure|keys|mismatch|match"):
        by_standard(out, {"layers": wanted["layers"], "another": wanted["scale"]})
