"""A checkpoint that is stored nowhere: what a load asks for is computed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from bigin.core.errors import InputError
from bigin.core.floats import default_modes
from bigin.core.limits import Limits
from bigin.torch.modules import Value
from bigin.torch.sources import Arguments, source_of

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

    Each rank computes the regions that its plan requests, in place, on the device of its tensors. The values are those
    of `init_`, `initialize` and `materialize` for the same names. They do not depend on the mesh or the placements, and
    no checkpoint is written.

    Args:
        source: what bigin.torch.deferred has recorded; a Configuration; a recipe, its path or the name of one that
            ships, with `like`; a torch.nn.Module, the meta device will do, with `rules`; or specifications by name.
        rules: for a module, as in materialize: rules, a recipe, or what bigin.torch.deferred has recorded.
        like: for a recipe, as in bigin.initialize, or a torch.nn.Module.
        seed, default, variables: as in init_, for rules or a recipe. A recording and a Configuration have their own
            seed.
        dtype: the dtype of all float tensors in the reader's metadata. Values are loaded in the dtype of the tensor
            that they are loaded into.
        prefix: a prefix of the names in the state dict: "model." for dcp.load({"model": model.state_dict()}).
        threads, max_memory: as in bigin.fill.

    Returns:
        The reader, which can be used for any number of loads.

    Raises:
        InputError: an argument is invalid.

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
        found = source_of(source, Arguments(rules, like, seed, default, variables, dtype))
        return ComputedReader(found, prefix, limits)
