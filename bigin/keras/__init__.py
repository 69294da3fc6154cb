"""What is Keras's alone: initializers, on every backend of Keras 3."""

from __future__ import annotations

from bigin.core.errors import InputError

try:
    import keras as _keras  # noqa: F401
except ModuleNotFoundError as error:
    if error.name != "keras":
        raise
    message = (
        "expected keras, which bigin.keras needs; pip install 'bigin[keras]' and a backend: jax, torch or tensorflow"
    )
    raise ModuleNotFoundError(message, name="keras") from None

from bigin.keras.initializers import Initializer

__all__ = ["Initializer", "InputError"]
