"""bigin.keras.Initializer: methods as initializers of Keras 3."""

from __future__ import annotations

import importlib
import random
import threading
from typing import Any

import keras

from bigin.api.virtual_array import VirtualArray
from bigin.core import dtypes
from bigin.core.errors import InputError
from bigin.core.floats import default_modes
from bigin.core.generator import parse_seed
from bigin.core.limits import Limits
from bigin.core.text import parse_shape
from bigin.jobs.job import FillOptions, Job
from bigin.keras.names import KERAS
from bigin.spec.tensor import TensorSpec, parse_name
from bigin.targets.open import open_target

_lock = threading.Lock()
_calls: dict[int, int] = {}  # by seed, how many calls had no name: Keras copies initializers, so none counts alone


@keras.saving.register_keras_serializable(package="bigin")
class Initializer(keras.Initializer):  # type: ignore[misc]
    """A method as an initializer of Keras 3, on every backend.

    The n-th call without a name draws from the stream "keras#n" of its seed, in the order in which a process creates
    its variables. So no two variables are equal, even if they share the initializer, have initializers with the same
    seed, or have copies that Keras made. The same program gives the same values again.

    Args:
        method: a method of keras.initializers, such as "glorot_uniform" or "GlorotUniform", with its meaning,
            parameters and defaults; or a method that only bigin has. Kernels are (..., in, out).
        seed: an integer from 0 to 2^64 - 1; a keras.random.SeedGenerator, whose state is the seed of each call, with
            its first word high; or None for a seed from Python's random, which
            keras.utils.set_random_seed seeds. With None, the initializer counts only its own calls.
        name: the name of the tensor. Every call then returns the values of bigin.fill for this name, so no other tensor
            should have it.
        **parameters: the method's.

    Raises:
        InputError: the method or a parameter is unknown, or its value is wrong.

    Example:
        >>> layer = keras.layers.Dense(4, kernel_initializer=bigin.keras.Initializer("he_normal", seed=1, name="dense"))
        >>> layer.build((None, 8))
        >>> same = np.empty((8, 4), np.float32)
        >>> given = {"scale": 2, "distribution": "truncated_normal", "in_axis": -2, "out_axis": -1}
        >>> _ = bigin.fill(same, "variance_scaling", seed=1, name="dense", **given)
        >>> bool((layer.get_weights()[0] == same).all())
        True
    """

    def __init__(self, method: str, seed: Any = 0, name: str | None = None, **parameters: Any) -> None:
        if isinstance(seed, dict):
            seed = keras.saving.deserialize_keras_object(seed)
        self.method, self.parameters = method, parameters
        self.name = None if name is None else parse_name(name)
        self._given = seed
        self.seed = seed if isinstance(seed, keras.random.SeedGenerator) else parse_seed(_drawn(seed))
        self._calls = {} if seed is None else _calls
        own, given = KERAS.meaning(method, parameters, shape=(2, 2))
        TensorSpec.parse(own, given, 0, "", (2, 2), dtypes.parse_dtype("float32"))

    def __call__(self, shape: Any, dtype: Any = None, layout: Any = None) -> Any:
        """The values of a variable.

        Args:
            shape, dtype: of the variable; by default keras.config.floatx().
            layout: of the backend jax, where they are sharded: each device's shard is made alone.

        Returns:
            A tensor of the backend.
        """
        sizes = parse_shape(shape)
        kind = dtypes.parse_dtype(keras.backend.standardize_dtype(dtype))
        own, given = KERAS.meaning(self.method, self.parameters, shape=sizes)
        with default_modes():
            return _tensor(TensorSpec.parse(own, given, *self._stream(), sizes, kind), layout)

    def _stream(self) -> tuple[int, str]:
        """The seed and the name of a call."""
        seed = self.seed
        if isinstance(seed, keras.random.SeedGenerator):
            words = keras.ops.convert_to_numpy(seed.next()).astype("uint32")
            seed = int(words[0]) << 32 | int(words[1])
        if self.name is not None:
            return seed, self.name
        with _lock:
            self._calls[seed] = self._calls.get(seed, 0) + 1
            return seed, f"keras#{self._calls[seed]}"

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the initializer, for Keras's serialization.

        Returns:
            The arguments.
        """
        seed = keras.saving.serialize_keras_object(self._given)
        return {"method": self.method, "seed": seed, "name": self.name, **self.parameters}


def _drawn(seed: Any) -> Any:
    return random.getrandbits(63) if seed is None else seed


def _tensor(spec: TensorSpec, layout: Any) -> Any:
    """A tensor of the backend: torch's is filled where it lies, jax's is made shard by shard."""
    backend = keras.backend.backend()
    if backend == "jax":
        places = importlib.import_module("bigin.jax.places")
        layout = getattr(layout, "backend_layout", layout)
        return places.place(spec, places.parse_sharding(layout, spec.shape), Limits())
    if layout is not None:
        raise InputError(f"expected no layout on the backend {backend}, got {layout}; only jax has them")
    if backend == "torch":
        tensor = keras.ops.zeros(spec.shape, spec.dtype.name)
        if tensor.device.type != "meta":  # of which Keras wants the shape alone
            Job(spec, open_target(tensor), Limits()).fill(FillOptions())
        return tensor
    values = VirtualArray(spec, Limits())[...]
    return keras.ops.convert_to_tensor(values, dtype=spec.dtype.name)
