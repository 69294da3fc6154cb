"""Models of Flax (linen and nnx) and Equinox, on 8 devices of the CPU. test_jax.py runs this in its own process."""

from __future__ import annotations

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import bigin
import bigin.jax

RULES = {"*.bias": "zeros", "*.kernel": "he_normal"}
X = np.random.default_rng(0).normal(size=(64, 8)).astype(np.float32)
Y = X @ np.arange(16, dtype=np.float32).reshape(8, 2) / 8
INIT = bigin.jax.initializer("he_normal")


@pytest.fixture(scope="module")
def mesh():
    return jax.make_mesh((4, 2), ("x", "y"))


def filled(name, shape, method="variance_scaling", seed=3, **given):
    he = {"scale": 2.0, "in_axis": -2, "out_axis": -1}
    out = np.empty(shape, np.float32)
    bigin.fill(out, method, name=name, seed=seed, **(he if method == "variance_scaling" else {}), **given)
    return out


def distinct(tree):
    """Whether no two arrays of the same shape are equal, but for constants."""
    drawn = [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(tree) if np.ptp(leaf) > 0]
    assert len(drawn) > 1
    return len(set(drawn)) == len(drawn)


def trains(loss, params):
    """Whether some steps of Adam make a loss much smaller."""
    optimizer = optax.adam(0.02)

    @jax.jit
    def step(params, state):
        value, grads = jax.value_and_grad(loss)(params)
        updates, state = optimizer.update(grads, state)
        return optax.apply_updates(params, updates), state, value

    state, values = optimizer.init(params), []
    for _ in range(60):
        params, state, value = step(params, state)
        values.append(float(value))
    return values[-1] < values[0] / 4


class Linen(nn.Module):
    kernel: object = INIT

    @nn.compact
    def __call__(self, x):
        for _ in range(3):
            x = nn.relu(nn.Dense(8, kernel_init=self.kernel)(x))
        return nn.Dense(2, kernel_init=nn.with_partitioning(self.kernel, (None, None)))(x)


class Nnx(nnx.Module):
    def __init__(self, rngs, init=INIT):
        self.layers = nnx.List([nnx.Linear(8, 8, kernel_init=init, rngs=rngs) for _ in range(3)])
        self.out = nnx.Linear(8, 2, kernel_init=init, rngs=rngs)
        self.dropout = nnx.Dropout(0.0, rngs=rngs)

    def __call__(self, x):
        for layer in self.layers:
            x = nnx.relu(layer(x))
        return self.dropout(self.out(x))


def test_linen():
    params = Linen().init(jax.random.key(0), X)
    assert distinct(params)
    jitted = jax.jit(Linen().init)(jax.random.key(0), X)
    jax.tree.map(np.testing.assert_array_equal, params, jitted)
    assert trains(lambda params: jnp.mean((Linen().apply(params, X) - Y) ** 2), params)


def test_linen_from_shapes(mesh):
    shapes = jax.eval_shape(Linen().init, jax.random.key(0), X)
    sharding = NamedSharding(mesh, P(None, "y"))
    where = {"params": {"Dense_0": {"kernel": sharding, "bias": None}, "Dense_1": mesh.devices[0, 0]}, "": None}
    params = bigin.jax.init(shapes, RULES, seed=3, sharding=where)
    assert distinct(params)
    assert isinstance(params["params"]["Dense_3"]["kernel"], nn.Partitioned)
    for layer, cut in ((0, sharding), (1, None), (2, None)):
        kernel = params["params"][f"Dense_{layer}"]["kernel"]
        np.testing.assert_array_equal(kernel, filled(f"params.Dense_{layer}.kernel", (8, 8)))
        assert cut is None or kernel.sharding == cut
    boxed = params["params"]["Dense_3"]["kernel"].value
    np.testing.assert_array_equal(boxed, filled("params.Dense_3.kernel", (8, 2)))
    plain = bigin.jax.init(shapes, RULES, seed=3)
    assert trains(lambda params: jnp.mean((Linen().apply(params, X) - Y) ** 2), plain)


class Layer(nn.Module):
    @nn.compact
    def __call__(self, x, _):
        return nn.Dense(8, kernel_init=INIT)(x), None


def test_layers_of_a_scan_differ():
    layers = nn.scan(Layer, variable_axes={"params": 0}, split_rngs={"params": True}, length=3)()
    kernels = layers.init(jax.random.key(0), X, None)["params"]["Dense_0"]["kernel"]
    assert kernels.shape == (3, 8, 8)
    assert len({np.asarray(kernel).tobytes() for kernel in kernels}) == 3


def test_nnx():
    model = Nnx(nnx.Rngs(0))
    graph, params, rest = nnx.split(model, nnx.Param, ...)
    assert distinct(params)
    again = nnx.jit(lambda: Nnx(nnx.Rngs(0)))()
    jax.tree.map(np.testing.assert_array_equal, params, nnx.state(again, nnx.Param))
    assert trains(lambda params: jnp.mean((nnx.merge(graph, params, rest)(X) - Y) ** 2), params)


@pytest.mark.parametrize("how", ["one", "function", "tree", "own"])
def test_nnx_from_shapes(mesh, how):
    model = nnx.eval_shape(lambda: Nnx(nnx.Rngs(0)))
    _, shapes, _ = nnx.split(model, nnx.Param, ...)
    everywhere, cut = NamedSharding(mesh, P()), NamedSharding(mesh, P("y"))
    if how == "one":
        expected = dict.fromkeys(("out", "layers"), everywhere)
        params = bigin.jax.init(shapes, RULES, seed=3, sharding=everywhere)
    elif how == "function":
        expected = {"out": cut, "layers": everywhere}
        params = bigin.jax.init(shapes, RULES, seed=3, sharding=lambda name, leaf: expected[name.partition(".")[0]])
    elif how == "tree":
        expected = {"out": cut, "layers": everywhere}
        params = bigin.jax.init(shapes, RULES, seed=3, sharding=expected)
    else:
        expected = {"out": cut, "layers": cut}
        shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=cut), shapes)
        params = bigin.jax.init(shapes, RULES, seed=3)
    assert isinstance(params, nnx.State)
    assert distinct(params)
    for number in range(3):
        kernel = params["layers"][number]["kernel"]
        np.testing.assert_array_equal(kernel[...], filled(f"layers.{number}.kernel", (8, 8)))
        assert kernel[...].sharding == expected["layers"]
    assert params["out"]["kernel"][...].sharding == expected["out"]
    assert not np.asarray(params["out"]["bias"][...]).any()
    built = Nnx(nnx.Rngs(1))
    nnx.update(built, params)
    np.testing.assert_array_equal(built.out.kernel[...], params["out"]["kernel"][...])


def test_nnx_shards_by_annotations_in_a_mesh():
    """Flax cuts an array that lies on the whole mesh, or tells by the shapes where it is to lie."""
    mesh = jax.make_mesh((4, 2), ("x", "y"), axis_types=(AxisType.Auto,) * 2)
    init = nnx.with_partitioning(INIT, (None, "y"))
    with jax.set_mesh(mesh):
        model = nnx.Linear(8, 4, kernel_init=init, rngs=nnx.Rngs(0))
        assert model.kernel[...].sharding.spec == P(None, "y")
        shapes = nnx.state(nnx.eval_shape(lambda: nnx.Linear(8, 4, kernel_init=init, rngs=nnx.Rngs(0))), nnx.Param)
        params = bigin.jax.init(shapes, {"*": "normal"}, seed=3)
    assert params["kernel"][...].sharding == NamedSharding(mesh, P(None, "y"))
    np.testing.assert_array_equal(params["kernel"][...], filled("kernel", (8, 4), "normal", std=0.01))


def test_an_nnx_module_whole():
    """With its keys and counts, which stay shapes."""
    model = nnx.eval_shape(lambda: Nnx(nnx.Rngs(0)))
    made = bigin.jax.init(nnx.state(model), RULES | {"dropout.*": None}, seed=3)
    np.testing.assert_array_equal(made["out"]["kernel"][...], filled("out.kernel", (8, 2)))
    assert isinstance(jax.tree.leaves(made["dropout"])[0], jax.ShapeDtypeStruct)
    with pytest.raises(bigin.InputError, match=r"dropout.rngs.key: expected an array of numbers, got key.*nnx.Param"):
        bigin.jax.init(nnx.state(model), RULES | {"*.count": None}, default="zeros")


def test_equinox():
    """Its layers take no initializer, and its weights are (out, in)."""
    build = lambda key: eqx.nn.MLP(8, 2, 8, 3, key=key)  # noqa: E731
    shapes = eqx.filter_eval_shape(build, jax.random.key(0))
    rules = {"*.bias": "zeros", "*.weight": ("he_normal", {"in_axis": 1, "out_axis": 0})}
    model = bigin.jax.init(shapes, rules, seed=3)
    arrays, rest = eqx.partition(model, eqx.is_array)
    assert distinct(arrays)
    expected = filled("layers.1.weight", (8, 8), "variance_scaling")  # square: the axes decide no fan
    np.testing.assert_array_equal(model.layers[1].weight, expected)
    assert trains(lambda arrays: jnp.mean((jax.vmap(eqx.combine(arrays, rest))(X) - Y) ** 2), arrays)
    keys = iter(jax.random.split(jax.random.key(1), 4))
    again = eqx.tree_at(
        lambda model: [layer.weight for layer in model.layers],
        build(jax.random.key(0)),
        replace_fn=lambda weight: INIT(next(keys), weight.shape, weight.dtype),
    )
    assert distinct(eqx.filter(again, eqx.is_array))


def test_an_attribute_that_is_called_value_is_a_part_of_the_name():
    class Attention(eqx.Module):
        query: object
        value: object

    shape = jax.ShapeDtypeStruct((4, 4), "float32")
    made = bigin.jax.init({"a": Attention(shape, shape)}, {"*": "normal"}, seed=1)
    np.testing.assert_array_equal(made["a"].value, filled("a.value", (4, 4), "normal", seed=1, std=0.01))


def test_a_recipe_means_what_it_means_elsewhere(tmp_path):
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        'seed = 3\n[[rule]]\nmatch = "*.bias"\nmethod = "zeros"\n'
        '[[rule]]\nmatch = "*.kernel"\nmethod = "glorot_normal"\nlayout = "transposed"\n'
    )
    shapes = jax.eval_shape(Linen().init, jax.random.key(0), X)["params"]
    params = bigin.jax.init(shapes, recipe)
    expected = filled("Dense_0.kernel", (8, 8), "xavier_normal")
    np.testing.assert_array_equal(params["Dense_0"]["kernel"], expected)


SHAPES = {"a": {"kernel": jax.ShapeDtypeStruct((4, 6), "float32")}, "b": jax.ShapeDtypeStruct((4,), "int32")}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: bigin.jax.init(SHAPES, {"*.kernel": "normal"}), "a rule for every array, got none for b; add"),
        (lambda: bigin.jax.init(SHAPES, {"*": "normal"}), "b: .*int32"),
        (lambda: bigin.jax.init(SHAPES, {"b": None, "*": "glorot_norml"}), "a.kernel: .*did you mean glorot_normal"),
        (lambda: bigin.jax.init(SHAPES, {"b": None, "*": 3}), "expected a method's name, a pair"),
        (lambda: bigin.jax.init(SHAPES, {3: "normal"}), "expected a pattern"),
        (lambda: bigin.jax.init(SHAPES, 3), "expected rules as a mapping"),
        (lambda: bigin.jax.init({}, {}), "got none in it"),
        (lambda: bigin.jax.init({"a.b": SHAPES["b"], "a": {"b": SHAPES["b"]}}, {"*": "zeros"}), "two named a.b"),
        (lambda: bigin.jax.init(SHAPES, {"*": "zeros"}, sharding={"a": None}), "b: expected a sharding for it"),
        (lambda: bigin.jax.init(SHAPES, {"*": "zeros"}, variables={"d": 1}), "variables only for a recipe"),
        (lambda: bigin.jax.init(SHAPES, "gpt2", default="zeros"), "no default beside a recipe"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(call, message):
    with pytest.raises(bigin.InputError, match=message) as raised:
        call()
    assert "\n" not in str(raised.value)
