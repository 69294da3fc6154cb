"""What a function that initializes a tensor makes of it, as a specification."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from bigin.core import dtypes
from bigin.core.errors import InputError
from bigin.core.regions import Shape
from bigin.spec.model import TensorValues
from bigin.spec.tensor import TensorSpec
from bigin.torch.recording.functions import replaced
from bigin.torch.recording.lowering import advising, lower, visible
from bigin.torch.recording.recorder import Factories, Recorder
from bigin.torch.recording.values import Draw


def values_of_call(
    function: Callable[[Any], Any],
    shape: Shape,
    dtype: np.dtype[Any],
    stream: tuple[int, str],
    padding_idx: int | None = None,
) -> TensorValues:
    """Record what a function does to a tensor; raises InputError for what no method says.

    stream: the seed, and the name of the tensor.
    """
    seed, name = stream
    recorder = Recorder()
    kind = getattr(torch, dtypes.name_of(dtype))
    try:
        with replaced(recorder.method, lambda tensor: tensor.is_meta), recorder, Factories(recorder), torch.no_grad():
            tensor = torch.empty(shape, dtype=kind, device="meta")
            function(tensor)
    except (TypeError, NotImplementedError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"expected a function that initializes a torch tensor in place, got {function!r}, which fails: "
            f"{reason:.200}"
        ) from None
    writes = visible(recorder.memory, tensor)
    draws = [write.value for write in writes if isinstance(write.value, Draw)]
    purposes = {id(draw): f"draw {n}" if n > 1 else "" for n, draw in enumerate(draws, 1)}
    with advising("give the rule a method's name, or None to leave the tensor as it is"):
        spec = lower(writes, tensor, dtype, seed, lambda draw: (name, "" if draw is None else purposes[id(draw)]))
    return replace(spec, padding_idx=padding_idx) if isinstance(spec, TensorSpec) and padding_idx is not None else spec
