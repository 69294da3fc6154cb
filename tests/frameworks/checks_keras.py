"""Initializers of Keras, on the backend that KERAS_BACKEND names. test_keras.py runs this in a process of its own."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from common import few
from keras import layers

import bigin
import bigin.keras
from bigin.core import dtypes
from bigin.keras.names import KERAS

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of Keras itself
BACKEND = keras.backend.backend()
X = np.random.default_rng(0).normal(size=(64, 12, 8)).astype(np.float32)
Y = X.mean(1) @ np.arange(8, dtype=np.float32).reshape(8, 1)
needs_training = pytest.mark.skipif(BACKEND == "numpy", reason="Keras does not train on the backend numpy")


def filled(shape, method, dtype="float32", **given):
    out = np.empty(shape, dtypes.parse_dtype(dtype))
    bigin.fill(out, method, **given)
    return out


def host(tensor):
    """The values of a tensor. numpy has no name for torch's bfloat16."""
    return np.asarray(keras.ops.convert_to_numpy(keras.ops.cast(tensor, "float32")))


@pytest.mark.parametrize("dtype", few("bfloat16", "float32", "float16"))
def test_a_name_has_the_values_of_fill(dtype):
    made = bigin.keras.Initializer("random_normal", seed=3, name="w")((6, 4), dtype)
    assert keras.backend.standardize_dtype(made.dtype) == dtype
    expected = filled((6, 4), "normal", dtype, std=0.05, seed=3, name="w")
    np.testing.assert_array_equal(host(made), expected.astype(np.float32))
    assert keras.ops.is_tensor(made)


GIVEN = {
    "variance_scaling": {"scale": 1.5, "mode": "fan_avg", "distribution": "untruncated_normal"},
    "VarianceScaling": {"scale": 1.5, "mode": "fan_out", "distribution": "normal"},
    "constant": {"value": 0.5},
    "Constant": {"value": 0.5},
    "identity": {"gain": 2.0},
    "truncated_normal": {"mean": 1.0, "stddev": 0.5},
    "orthogonal": {"gain": 3.0},
}
QUICK = ("glorot_normal", "VarianceScaling", "identity")


@pytest.mark.parametrize("method", [*QUICK, *(sorted({*KERAS.rows} - {*QUICK}) if BACKEND == "numpy" else [])])
def test_a_name_means_what_it_means_in_keras(method):
    """The same bounds, mean and deviation as the initializer of that name, of matrices, kernels and vectors."""
    keras.utils.set_random_seed(0)  # of Keras's own values
    given = GIVEN.get(method, {})
    theirs = keras.initializers.get({"class_name": method, "config": given})
    if "onstant" not in method:  # which has no default
        assert type(theirs) is type(keras.initializers.get(method))
    for shape in [(300, 200)] if "dentity" in method else [(300, 200), (3, 3, 40, 60), (20000,)]:
        if "rthogonal" in method and len(shape) == 1:
            continue
        own = host(theirs(shape)).astype(float)
        ours = host(bigin.keras.Initializer(method, seed=1, name="w", **given)(shape)).astype(float)
        assert abs(ours.mean() - own.mean()) < 0.02 * abs(own).max() + 1e-9
        assert ours.std() == pytest.approx(own.std(), rel=0.03, abs=1e-9)
        np.testing.assert_array_equal(ours == 0, own == 0)
        bounded = "ormal" not in method or "runc" in method or "lorot" in method
        if bounded and given.get("distribution") != "untruncated_normal":
            # Not of the largest: Keras on torch leaves one of 200,000 truncated normals beyond the bound.
            most, its_most = np.quantile(ours, 0.9995), np.quantile(own, 0.9995)
            assert most == pytest.approx(its_most, rel=0.3 if "rthogonal" in method else 0.02)


def test_axes_of_a_fan():
    """Keras leaves the axes that are not named out of the fans."""
    given = {"input_axes": [1], "output_axes": [0]}
    ours = host(bigin.keras.Initializer("he_normal", name="w", **given)((3, 50, 400)))
    assert ours.std() == pytest.approx((2 / 50) ** 0.5, rel=0.03)
    assert ours.std() == pytest.approx(host(keras.initializers.HeNormal(**given)((3, 50, 400))).std(), rel=0.03)


def model(*initializers):
    """A model in which Keras copies initializers, too. Each layer takes the next initializer, around and around."""
    some = iter(initializers * 20)
    inputs = keras.Input((12, 8))
    x = layers.MultiHeadAttention(2, 4, kernel_initializer=next(some))(inputs, inputs)
    x = layers.GlobalAveragePooling1D()(x)
    for _ in range(3):
        x = layers.Dense(8, activation="relu", kernel_initializer=next(some))(x)
    return keras.Model(inputs, layers.Dense(1, kernel_initializer=next(some))(x))


def distinct(of):
    """Whether no two weights share values, but for constants: equal draws of other sizes begin alike."""
    drawn = [host(weight.value).ravel() for weight in of.weights if np.ptp(host(weight.value)) > 0]
    assert len(drawn) == 8
    scaled = {tuple(np.round(each[:4] / each[0], 4)) for each in drawn}
    return len(scaled) == len(drawn)


@pytest.mark.parametrize("how", ["one instance", "one seed", "one generator", "keras clones"])
def test_no_two_weights_share_values(how):
    if how == "one instance":
        built = model(bigin.keras.Initializer("glorot_uniform", seed=1))
    elif how == "one seed":
        built = model(*(bigin.keras.Initializer("glorot_uniform", seed=1) for _ in range(20)))
    elif how == "one generator":
        built = model(bigin.keras.Initializer("glorot_uniform", seed=keras.random.SeedGenerator(5)))
    else:
        built = model(bigin.keras.Initializer("glorot_uniform", seed=1))
        clone = keras.models.clone_model(built)
        both = {host(w.value).tobytes() for of in (built, clone) for w in of.weights if np.ptp(host(w.value)) > 0}
        assert len(both) == 2 * sum(bool(np.ptp(host(w.value)) > 0) for w in built.weights)
    assert distinct(built)


def test_a_program_draws_the_same_again(monkeypatch):
    monkeypatch.setattr("bigin.keras.initializers._calls", {})
    values = [host(bigin.keras.Initializer("he_normal", seed=9)((4, 4))) for _ in range(2)]
    for number, made in enumerate(values, 1):
        given = {"scale": 2.0, "in_axis": -2, "out_axis": -1}
        np.testing.assert_array_equal(made, filled((4, 4), "variance_scaling", seed=9, name=f"keras#{number}", **given))
    keras.utils.set_random_seed(3)
    first = host(bigin.keras.Initializer("he_normal", seed=None)((4, 4)))
    keras.utils.set_random_seed(3)
    np.testing.assert_array_equal(first, host(bigin.keras.Initializer("he_normal", seed=None)((4, 4))))


def test_the_state_of_a_seed_generator_is_the_seed(monkeypatch):
    monkeypatch.setattr("bigin.keras.initializers._calls", {})
    made = bigin.keras.Initializer("random_normal", seed=keras.random.SeedGenerator(5))
    for number in range(2):
        expected = filled((3, 4), "normal", std=0.05, seed=(5 << 32) + number, name="keras#1")
        np.testing.assert_array_equal(host(made((3, 4))), expected)


def test_configurations():
    made = bigin.keras.Initializer("variance_scaling", seed=3, name="w", scale=2.0, input_axes=[0], output_axes=[1])
    config = made.get_config()
    assert config == {
        "method": "variance_scaling",
        "seed": 3,
        "name": "w",
        "scale": 2.0,
        "input_axes": [0],
        "output_axes": [1],
    }
    told = keras.initializers.serialize(made)
    assert told["registered_name"] == "bigin>Initializer"
    for again in (type(made).from_config(config), keras.initializers.deserialize(told), keras.initializers.get(told)):
        assert again.get_config() == config
        np.testing.assert_array_equal(host(again((4, 5))), host(made((4, 5))))
    generated = bigin.keras.Initializer("ones", seed=keras.random.SeedGenerator(4))
    again = keras.initializers.deserialize(keras.initializers.serialize(generated))
    assert again.get_config()["seed"] == generated.get_config()["seed"]


@needs_training
@pytest.mark.slow
def test_a_model_trains_and_is_saved(tmp_path):
    keras.utils.set_random_seed(0)
    built = model(bigin.keras.Initializer("he_normal", seed=1))
    built.compile(keras.optimizers.Adam(0.01), "mse")
    losses = built.fit(X, Y, epochs=30, batch_size=64, verbose=0).history["loss"]
    assert losses[-1] < losses[0] / 2
    built.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(again.predict(X, verbose=0), built.predict(X, verbose=0), rtol=1e-5, atol=1e-5)
    assert isinstance(again.layers[-1].kernel_initializer, bigin.keras.Initializer)


@pytest.mark.skipif(BACKEND != "jax", reason="only the backend jax has layouts")
@pytest.mark.slow
def test_a_layout_makes_each_shard_alone(monkeypatch):
    from bigin.api.virtual_array import VirtualArray

    made = []
    fill_region = VirtualArray.fill_region

    def counted(self, ranges, out):
        made.append(out.shape)
        fill_region(self, ranges, out)

    monkeypatch.setattr(VirtualArray, "fill_region", counted)
    devices = keras.distribution.list_devices()
    assert len(devices) == 8
    mesh = keras.distribution.DeviceMesh((2, 4), ("batch", "model"), devices)
    layout = keras.distribution.LayoutMap(mesh)
    layout[".*wide.*kernel"] = (None, "model")
    with keras.distribution.ModelParallel(layout_map=layout, batch_dim_name="batch").scope():
        dense = layers.Dense(
            64, kernel_initializer=bigin.keras.Initializer("glorot_normal", seed=3, name="w"), name="wide"
        )
        built = keras.Sequential([keras.Input((16,)), dense, layers.Dense(1)])
        assert made == [(16, 16)] * 4
        kernel = dense.kernel.value
        assert {shard.data.shape for shard in kernel.addressable_shards} == {(16, 16)}
        given = {"mode": "fan_avg", "in_axis": -2, "out_axis": -1}
        np.testing.assert_array_equal(kernel, filled((16, 64), "variance_scaling", seed=3, name="w", **given))
        built.compile("adam", "mse")
        assert np.isfinite(built.fit(X[:, :2].reshape(64, 16), Y, verbose=0).history["loss"][0])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: bigin.keras.Initializer("he_norml"), "did you mean he_normal"),
        (
            lambda: bigin.keras.Initializer("he_normal", scale=1),
            "he_normal of keras.initializers does not take 'scale'",
        ),
        (
            lambda: bigin.keras.Initializer("variance_scaling", mode="fan_geo_avg"),
            "mode among fan_in, fan_out, fan_avg",
        ),
        (lambda: bigin.keras.Initializer("variance_scaling", distribution="cauchy"), "distribution among"),
        (lambda: bigin.keras.Initializer("ones", seed=-1), "expected a seed from 0"),
        (lambda: bigin.keras.Initializer("ones", seed="x"), "expected a seed from 0"),
        (lambda: bigin.keras.Initializer("ones", name=3), "expected a name that is text"),
        (lambda: bigin.keras.Initializer("random_normal", name="w")((2, 2), "int32"), "int32"),
        (lambda: bigin.keras.Initializer("orthogonal", name="w")((2,)), "2 or more dimensions"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(call, message):
    with pytest.raises(bigin.InputError, match=message) as raised:
        call()
    assert "\n" not in str(raised.value)
