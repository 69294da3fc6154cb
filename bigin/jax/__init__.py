"""What is jax's alone: arrays that are made shard by shard, and initializers for Flax and others."""

from __future__ import annotations

from bigin.core.errors import InputError

try:
    import jax as _jax  # noqa: F401
except ModuleNotFoundError as error:
    if error.name != "jax":
        raise
    raise ModuleNotFoundError("expected jax, which bigin.jax needs; pip install 'bigin[jax]'", name="jax") from None

from bigin.jax.arrays import array
from bigin.jax.initializers import Initializer, initializer
from bigin.jax.models import init

__all__ = ["Initializer", "InputError", "array", "init", "initializer"]
