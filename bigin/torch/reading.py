"""A checkpoint that is stored nowhere: what a load asks for is computed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from bigin.core.errors import InputError
from bigin.core.floats import default_modes
from bigin.core.limits import Limits
from bigin.torch.modules import Value
from bigin.torch.sources import Wanted, source_of

if TYPE_CHECKING:
    from bigin.torch.computed import ComputedReader


def reader(
    source: Any,
    rules: Any = None,
    *,
    like: Any = None,
    seed: int | None = None,
    default: Value | None = None,
    variables: Mapping[str, Any] | None = None,
    dtype: Any = None,
    prefix: str = "",
    threads: int | None = None,
    max_memory: int | str | None = None,
) -> ComputedReader:
    """Return a reader for torch.distributed.checkpoint.load that computes the values instead of reading them.

    Each rank makes the regions that its plan asks for, in place, on the device where its tensors lie, with the bits
    that `init_`, `initialize` and `materialize` make of the same names. The mesh and the placements change no bit, and
    no checkpoint is written.

    Args:
        source: what bigin.torch.deferred has recorded; a Configuration; a recipe, its path or the name of one that
            ships, with `like`; a torch.nn.Module, the meta device will do, with `rules`; or specifications by name.
        rules: for a module, as in materialize: rules, a recipe, or what bigin.torch.deferred has recorded.
        like: for a recipe, as in bigin.initialize, or a torch.nn.Module.
        seed, default, variables: as in init_, for rules or a recipe. What was recorded and a Configuration have a seed.
        dtype: the dtype of all floats that the reader's metadata tells. A tensor that is loaded into decides its own.
        prefix: what the names in the state dict begin with: "model." for dcp.load({"model": model.state_dict()}).
        threads, max_memory: as in bigin.fill.

    Returns:
        The reader, which any number of loads may use.

    Raises:
        InputError: something is wrong with what was asked for.

    Example:
        >>> import torch.distributed.checkpoint as dcp  # doctest: +SKIP
        >>> with bigin.torch.deferred(seed=42) as init:
        ...     model = torch.nn.Linear(8, 4)
        >>> reader = bigin.torch.reader(init)
        >>> reader.names
        ['weight', 'bias']
        >>> dcp.load(model.to_empty(device="cpu").state_dict(), storage_reader=reader)  # doctest: +SKIP
    """
    if not torch.distributed.is_available():
        raise InputError("expected a torch with torch.distributed, whose checkpoints the reader is for")
    from bigin.torch.computed import ComputedReader

    limits = Limits.parse(threads, max_memory)
    if not isinstance(prefix, str):
        raise InputError(f'expected a prefix such as "model.", got {prefix!r}')
    with default_modes():
        found = source_of(source, Wanted(rules, like, seed, default, variables, dtype))
        return ComputedReader(found, prefix, limits)
