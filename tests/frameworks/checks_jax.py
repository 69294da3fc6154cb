"""Arrays and initializers of jax, on 8 devices of the CPU. test_jax.py runs this in a process of its own."""

from __future__ import annotations

import hashlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common import few
from jax.sharding import AxisType, NamedSharding, SingleDeviceSharding
from jax.sharding import PartitionSpec as P

import bigin
import bigin.jax
from bigin.api.virtual_array import VirtualArray
from bigin.core import dtypes
from bigin.jax.names import JAX

SHAPE = (24, 16)
DTYPES = few("bfloat16", "float32", "float16", "float8_e4m3fn", "float8_e5m2")
QUICK = ("glorot_normal", "constant")  # jax compiles each of its initializers
METHODS = {  # jax's name and parameters, and what bigin.fill takes for the same
    "glorot_uniform": ({}, "xavier_uniform", {"in_axis": -2, "out_axis": -1}),
    "normal": ({"stddev": 0.02}, "normal", {"std": 0.02}),
    "orthogonal": ({"column_axis": 0}, "orthogonal", {"in_axis": 1, "out_axis": 0}),
    "truncated_normal": ({"stddev": 2, "upper": 1.5}, "trunc_normal", {"std": 2, "lower": -2, "upper": 1.5}),
    "sparse": ({"sparsity": 0.25}, "sparse", {"sparsity": 0.25}),
}


@pytest.fixture(scope="module", params=few(AxisType.Explicit, AxisType.Auto), ids=str)
def mesh(request):
    assert len(jax.devices()) == 8
    return jax.make_mesh((4, 2), ("x", "y"), axis_types=(request.param,) * 2)


def filled(shape, method, dtype="float32", **given):
    out = np.empty(shape, dtypes.parse_dtype(dtype))
    bigin.fill(out, method, **given)
    return out


def same(array, expected):
    assert array.dtype == expected.dtype
    assert array.shape == expected.shape
    return np.asarray(array).tobytes() == expected.tobytes()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("method", METHODS)
def test_shards_and_meshes_change_no_bit(mesh, method, dtype):
    given, own, parameters = METHODS[method]
    expected = filled(SHAPE, own, dtype, seed=5, name="w", **parameters)
    for spec in (P("x", "y"), P("y", "x"), P("x"), P(None, "x"), P(("x", "y")), P(("y", "x"), None), P()):
        sharding = NamedSharding(mesh, spec)
        made = bigin.jax.array(SHAPE, method, sharding=sharding, seed=5, name="w", dtype=dtype, **given)
        assert same(made, expected), spec
        assert made.sharding == sharding
        for shard in made.addressable_shards:
            assert same(shard.data, expected[shard.index]), spec
    assert same(bigin.jax.array(SHAPE, method, seed=5, name="w", dtype=dtype, **given), expected)


def test_a_shard_is_made_once_and_alone(mesh, monkeypatch):
    made = []
    fill_region = VirtualArray.fill_region

    def counted(self, ranges, out):
        made.append(ranges)
        fill_region(self, ranges, out)

    monkeypatch.setattr(VirtualArray, "fill_region", counted)
    bigin.jax.array(SHAPE, "normal", sharding=NamedSharding(mesh, P("x")), name="w")
    assert made == [(range(start, start + 6), range(16)) for start in range(0, 24, 6)]  # two devices have each
    made.clear()
    bigin.jax.array(SHAPE, "normal", sharding=NamedSharding(mesh, P()), name="w")
    assert made == [(range(24), range(16))]


def test_other_places(mesh):
    expected = filled((6, 4), "normal", std=0.01, name="w")
    device = jax.devices()[3]
    for place in (device, SingleDeviceSharding(device)):
        made = bigin.jax.array((6, 4), "normal", name="w", sharding=place)
        assert same(made, expected)
        assert made.devices() == {device}
    with jax.set_mesh(mesh):
        made = bigin.jax.array((8, 4), "zeros", sharding=P("x", None), dtype="int8")
    assert made.sharding == NamedSharding(mesh, P("x", None))
    assert not np.asarray(made).any()
    assert bigin.jax.array((), "constant", value=2, name="s") == 2
    assert bigin.jax.array((0, 4), "normal", name="e", sharding=NamedSharding(mesh, P("x"))).shape == (0, 4)


def test_an_array_is_trained_and_donated(mesh):
    """Its memory is jax's to read and not to write."""
    sharding = NamedSharding(mesh, P("x"))
    made = bigin.jax.array((64, 16), "normal", name="w", sharding=sharding)
    expected = np.asarray(made).copy()
    step = jax.jit(lambda w: w + 1, donate_argnums=0)
    stepped = made
    with jax.default_matmul_precision("float32"):
        for _ in range(3):
            stepped = step(stepped)
    np.testing.assert_allclose(np.asarray(stepped), expected + 3, rtol=1e-6)
    assert same(bigin.jax.array((64, 16), "normal", name="w", sharding=sharding), expected)


def in_mesh(mesh, call):
    with jax.set_mesh(mesh):
        return call()


def test_rows_keep_their_values_where_a_shape_is_padded(mesh):
    """For shapes that a mesh does not divide: make more rows than are used."""
    sharding = NamedSharding(mesh, P("x", "y"))
    with pytest.raises(ValueError, match="evenly divide"):
        jax.device_put(np.zeros((30, 8), np.float32), sharding)  # as jax says itself
    for method in ("normal", "uniform", "truncated_normal"):
        padded = bigin.jax.array((32, 8), method, sharding=sharding, name="w")
        assert same(np.asarray(padded)[:30], bigin.jax.array((30, 8), method, name="w"))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda mesh: bigin.jax.array((10, 3), "normal", sharding=NamedSharding(mesh, P("x"))), "equal shards: .*10"),
        (lambda mesh: bigin.jax.array((4, 3), "normal", sharding=P("x")), "no mesh; use jax.set_mesh"),
        (lambda mesh: bigin.jax.array((4, 3), "normal", sharding="x"), "PartitionSpec or a device, got 'x'"),
        (lambda mesh: bigin.jax.array((8,), "normal", sharding=NamedSharding(mesh, P("x", "y"))), "at most 1 axes for"),
        (lambda mesh: in_mesh(mesh, lambda: bigin.jax.array((8,), "normal", sharding=P("z"))), "mesh, x, y, got P"),
        (lambda mesh: bigin.jax.array((4, 3), "normal", dtype="float64"), "jax_enable_x64"),
        (lambda mesh: bigin.jax.array((4, 3), "normall"), "did you mean normal"),
        (lambda mesh: bigin.jax.array((4, 3), "normal", std=1), "normal of jax.nn.initializers does not take 'std'"),
        (lambda mesh: bigin.jax.array((4, 3), "variance_scaling", scale=1), "needs mode"),
        (lambda mesh: bigin.jax.array((4, 3), 3), "expected a method's name, got 3"),
        (lambda mesh: bigin.jax.array((4, 3), "orthogonal", column_axis="x"), "expected column_axis to be an axis"),
        (lambda mesh: jax.jit(lambda: bigin.jax.array((4, 3), "normal"))(), "outside of jax.jit"),
        (lambda mesh: bigin.jax.initializer("normal", std=1), "does not take 'std'"),
        (lambda mesh: bigin.jax.initializer("normal")(3, (2, 2)), "expected a key"),
        (lambda mesh: bigin.jax.initializer("normal")(jax.random.split(jax.random.key(0)), (2, 2)), "use jax.vmap"),
        (lambda mesh: bigin.jax.initializer("glorot_normal")(jax.random.key(0), (2,)), "2 or more dimensions"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(mesh, call, message):
    with pytest.raises(bigin.InputError, match=message) as raised:
        call(mesh)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "method", [*QUICK, *(pytest.param(m, marks=pytest.mark.slow) for m in sorted({*JAX.rows} - {*QUICK}))]
)
def test_a_name_means_what_it_means_in_jax(method):
    """The same bounds, mean and deviation as the initializer of that name; orthonormal columns where it has them."""
    given = {
        "constant": {"value": 0.5},
        "variance_scaling": {"scale": 1.5, "mode": "fan_geo_avg", "distribution": "truncated_normal"},
        "truncated_normal": {"stddev": 0.3, "lower": -1, "upper": 2.5},
        "orthogonal": {"scale": 2.0, "column_axis": -2},
    }.get(method, {})
    shape = (3, 3, 40, 60) if "delta" not in method else (3, 4, 30, 50)
    theirs = getattr(jax.nn.initializers, method)
    own = np.asarray((theirs if method in ("zeros", "ones") else theirs(**given))(jax.random.key(1), shape), float)
    ours = np.asarray(bigin.jax.array(shape, method, seed=1, name="w", **given), float)
    largest = max(abs(own).max(), 1e-9)
    assert abs(ours.mean() - own.mean()) < 0.02 * largest
    assert ours.std() == pytest.approx(own.std(), rel=0.03)
    if method != "normal":  # whose largest value is a matter of luck
        assert ours.max() == pytest.approx(own.max(), rel=0.01 if "orthogonal" not in method else 0.3)
    np.testing.assert_array_equal(ours == 0, own == 0)
    if "orthogonal" in method:
        flat = ours[1, 1] if "delta" in method else np.moveaxis(ours, -2, -1).reshape(-1, 40)
        theirs = own[1, 1] if "delta" in method else np.moveaxis(own, -2, -1).reshape(-1, 40)
        gram, expected = ((m @ m.T if "delta" in method else m.T @ m) for m in (flat, theirs))
        np.testing.assert_allclose(gram, expected, atol=1e-5)


def test_the_layout_is_jaxs():
    """(..., in, out), and another where it is given."""
    for method, gain in (("lecun_normal", 1), ("he_normal", 2)):
        deviation = np.asarray(bigin.jax.array((50, 2000), method, name="w")).std()
        assert deviation == pytest.approx((gain / 50) ** 0.5, rel=0.02)
        turned = np.asarray(bigin.jax.array((50, 2000), method, name="w", in_axis=1, out_axis=0)).std()
        assert turned == pytest.approx((gain / 2000) ** 0.5, rel=0.02)
    fan_out = np.asarray(bigin.jax.array((50, 2000), "kaiming_normal", mode="fan_out", name="w"))
    assert fan_out.std() == pytest.approx((2 / 2000) ** 0.5, rel=0.02)


class TestInitializer:
    init = staticmethod(bigin.jax.initializer("normal"))

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_the_data_of_a_key_is_the_seed_also_inside_jit(self, dtype):
        expected = filled(SHAPE, "normal", dtype, std=0.01, seed=7)
        for key in (jax.random.key(7, impl="threefry2x32"), jax.random.PRNGKey(7, impl="threefry2x32")):
            assert same(self.init(key, SHAPE, dtype), expected)
            assert same(jax.jit(lambda key: self.init(key, SHAPE, dtype))(key), expected)
        big = (3 << 32) + 5
        key = jax.random.wrap_key_data(np.array([3, 5], np.uint32), impl="threefry2x32")
        assert same(self.init(key, SHAPE, dtype), filled(SHAPE, "normal", dtype, std=0.01, seed=big))

    @pytest.mark.parametrize("impl", ["rbg", "unsafe_rbg"])
    def test_keys_of_more_words_are_hashed(self, impl):
        words = np.asarray(jax.random.key_data(jax.random.key(7, impl=impl)))
        digest = hashlib.blake2b(words.astype("<u4").tobytes(), digest_size=8, person=b"bigin-key").digest()
        expected = filled(SHAPE, "normal", std=0.01, seed=int.from_bytes(digest, "little"))
        assert same(self.init(jax.random.key(7, impl=impl), SHAPE), expected)
        assert same(jax.jit(lambda key: self.init(key, SHAPE))(jax.random.key(7, impl=impl)), expected)

    def test_each_key_of_a_vmap_has_its_own_values(self):
        keys = jax.random.split(jax.random.key(0), (2, 3))
        each = jax.vmap(jax.vmap(lambda key: self.init(key, SHAPE)))
        for made in (each(keys), jax.jit(each)(keys)):
            for place in np.ndindex(2, 3):
                assert same(made[place], np.asarray(self.init(keys[place], SHAPE)))
        assert len({made[place].tobytes() for place in np.ndindex(2, 3)}) == 6

    def test_a_loop_of_the_program_draws_anew(self):
        made = jax.jit(lambda keys: jax.lax.map(lambda key: self.init(key, (3,)), keys))(
            jax.random.split(jax.random.key(0), 3)
        )
        assert len(set(np.asarray(made).ravel().tolist())) == 9

    def test_out_sharding_makes_each_shard_alone_also_inside_jit(self, mesh):
        key, expected = jax.random.key(7), filled(SHAPE, "normal", std=0.01, seed=7)
        for spec in (P("x", "y"), P(("y", "x")), P(None, "y"), P()):
            sharding = NamedSharding(mesh, spec)
            for init in (self.init, jax.jit(self.init, static_argnums=(1, 2, 3))):
                assert same(init(key, SHAPE, "float32", sharding), expected)
                with jax.set_mesh(mesh):
                    made = init(key, SHAPE, "float32", spec)
                assert same(made, expected)
                assert made.sharding.is_equivalent_to(sharding, 2)
                assert {shard.data.shape for shard in made.addressable_shards} == {sharding.shard_shape(SHAPE)}

    def test_shapes_need_no_values(self):
        made = jax.eval_shape(lambda key: self.init(key, (1 << 40, 1 << 10), "bfloat16"), jax.random.key(0))
        assert made.shape == (1 << 40, 1 << 10)

    def test_constants_need_no_host(self):
        ones = bigin.jax.initializer("ones", dtype="bfloat16")
        assert "callback" not in str(jax.make_jaxpr(lambda key: ones(key, (3,)))(jax.random.key(0)))
        assert same(ones(jax.random.key(0), (3,)), np.ones(3, jnp.bfloat16))

    def test_it_is_a_value(self):
        a, b = (bigin.jax.initializer("he_normal", in_axis=[0], batch_axis=()) for _ in range(2))
        assert a == b
        assert hash(a) == hash(b)
        assert repr(a) == "bigin.jax.initializer('he_normal', batch_axis=(), in_axis=(0,))"
        assert isinstance(a, jax.nn.initializers.Initializer)


def test_a_second_array_of_the_same_draws_is_told(monkeypatch):
    monkeypatch.setattr("bigin.api.streams._told", False)
    monkeypatch.setattr("bigin.api.streams._filled", {})
    first = bigin.jax.array((4,), "normal")
    with pytest.warns(bigin.core.errors.StreamWarning, match="give each tensor its name"):
        second = bigin.jax.array((4,), "normal")
    assert same(first, np.asarray(second))
