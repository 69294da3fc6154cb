"""bigin.grow_vocabulary: a checkpoint with more rows for tokens, from one that is there."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from bigin.api.sources import grown_companions, grown_model, refuse_itself
from bigin.api.writing import Out, companions_like, fill_model
from bigin.core.errors import InputError
from bigin.core.floats import default_modes
from bigin.core.generator import parse_seed
from bigin.core.limits import Limits
from bigin.core.names import dotted
from bigin.core.paths import expand
from bigin.core.source import Source
from bigin.core.text import parse_optional_size
from bigin.jobs.job import FillOptions
from bigin.jobs.report import Report
from bigin.methods import table
from bigin.recipes.vocabulary import Vocabulary, find_vocabulary
from bigin.spec.copied import COVARIANCE, MEAN, ROW, CopySpec, GrownSpec, NewRows, grown
from bigin.spec.model import TensorValues
from bigin.targets.models import read_model
from bigin.targets.safetensors.companions import CONFIG, parse_config
from bigin.targets.sources import sources_in

AUTO = "auto"


def grow_vocabulary(
    checkpoint: str | os.PathLike[str],
    out: str | os.PathLike[str],
    rows: int | None = None,
    *,
    new: str = MEAN,
    multiple: int = 1,
    tied: bool | str = AUTO,
    tensors: Iterable[str] | None = None,
    seed: int = 0,
    max_shard_size: int | str | None = None,
    overwrite: bool = False,
    threads: int | None = None,
    max_memory: int | str | None = None,
    sync: bool = True,
    progress: Callable[[int, int], None] | None = None,
    **parameters: Any,
) -> Report:
    """Write a copy of a checkpoint with more rows in its token embeddings.

    The input and output embeddings grow together, config.json gets the new `vocab_size`, and everything else is copied
    bit for bit. The checkpoint may be larger than memory.

    Args:
        checkpoint: a safetensors file, the folder or index of a checkpoint, or a zarr group; local or in an object
            store.
        out: the new checkpoint: a folder, or a path that ends in .safetensors.
        rows: the new number of rows of the embeddings. By default the present number, rounded up to `multiple`.
        new: the values of new rows: "mean" of the old rows, "mean+covariance" (a normal distribution with the mean and
            10^-9 times the covariance of the old ones, as `resize_token_embeddings` of transformers draws them),
            "row:17" for copies of a row, or a method.
        multiple: round the number of rows up to a multiple of this, such as 64.
        tied: whether input and output embeddings are one tensor and get the same new rows: True, False, or "auto" to
            follow config.json.
        tensors: names of the tensors to grow. By default they are found by name and number of rows.
        seed: an integer from 0 to 2^64 - 1.
        max_shard_size: as in `initialize`.
        overwrite, threads, max_memory, sync, progress: as in `fill`.
        **parameters: the method's, with torch's names and defaults.

    Returns:
        A report: bytes, seconds and the record of all tensors, which says which rows are new.

    Raises:
        InputError: an argument is invalid; nothing was changed.
        FillError: the checkpoint could not be finished; the same call continues where it stopped.

    Example:
        >>> from safetensors.numpy import load_file, save_file
        >>> save_file({"wte.weight": np.arange(6, dtype=np.float32).reshape(3, 2)}, "old.safetensors")
        >>> report = bigin.grow_vocabulary("old.safetensors", "new.safetensors", 4)
        >>> load_file("new.safetensors")["wte.weight"][-1]
        array([2., 3.], dtype=float32)
    """
    limits, options = Limits.parse(threads, max_memory), FillOptions(overwrite=overwrite, sync=sync, progress=progress)
    shard = parse_optional_size(max_shard_size)
    fresh = parse_new(new, parameters)
    with default_modes():
        place = expand(out)
        source, sources = sources_in(expand(checkpoint))
        refuse_itself(source, place)
        model, beside = read_model(source), companions_like(source, None)
        config = parse_config(beside.content(CONFIG), f"{source}/{CONFIG}") if CONFIG in beside.files else {}
        vocabulary = find_vocabulary(source, model.tensors, config, tensors, tied=parse_tied(tied))
        count = rounded_rows(vocabulary.rows if rows is None else rows, multiple)
        specs = specs_of(model.tensors, sources, vocabulary, count, fresh, parse_seed(seed))
        wanted = Out(place, grown_model(model, specs), shard, beside=grown_companions(beside, specs))
        return fill_model(specs, wanted, limits, options)


def parse_new(new: Any, parameters: Mapping[str, Any]) -> NewRows:
    """The values of new rows, as a caller gives them."""
    if not isinstance(new, str):
        raise InputError(f"expected new rows such as 'mean', 'mean+covariance', 'row:17' or a method, got {new!r}")
    word, sign, number = new.partition(":")
    simple = new in (MEAN, COVARIANCE) or (word == ROW and sign)
    if simple and parameters:
        raise InputError(f"expected no parameters beside {new}, got {', '.join(parameters)}; a method takes them")
    if new in (MEAN, COVARIANCE):
        return NewRows(new)
    if word == ROW and sign:
        if not (number.isascii() and number.isdigit()):
            raise InputError(f"expected the number of a row, such as row:17, got {new!r}")
        return NewRows(ROW, int(number))
    try:
        row = table.find(new)
    except InputError as error:
        raise InputError(f"{error}; or mean, mean+covariance or row:17") from None
    return NewRows("method", method=row.name, parameters=dict(parameters))


def parse_tied(tied: Any) -> bool | None:
    """Whether embeddings are tied, as a caller says; None to follow the configuration."""
    if tied == AUTO:
        return None
    if not isinstance(tied, bool):
        raise InputError(f"expected tied to be True, False or 'auto', got {tied!r}")
    return tied


def rounded_rows(rows: Any, multiple: Any) -> int:
    """The number of rows, rounded up to a multiple."""
    for what, number in (("rows", rows), ("multiple", multiple)):
        if isinstance(number, bool) or not hasattr(number, "__index__") or number.__index__() < 1:
            raise InputError(f"expected {what} to be an integer above 0, got {number!r}")
    return -(-int(rows) // int(multiple)) * int(multiple)


def specs_of(
    names: Iterable[str],
    sources: Mapping[str, Source],
    vocabulary: Vocabulary,
    rows: int,
    new: NewRows,
    seed: int,
) -> dict[str, TensorValues]:
    """What each tensor of the new checkpoint holds."""
    specs: dict[str, TensorValues] = {}
    first = vocabulary.inputs[0] if vocabulary.inputs else None
    inputs = None if first is None else sources[dotted(first)].digested()
    for name in names:
        source = sources[dotted(name)].digested()
        if name not in vocabulary.names:
            specs[name] = CopySpec(source, source.dtype, dotted(name), seed)
            continue
        tied = vocabulary.tied and len(source.shape) > 1 and inputs is not None and inputs.shape == source.shape
        stream = dotted(first if tied and first is not None else name)
        axis = int(name in vocabulary.columns)
        one = len(source.shape) == 1 or (axis == 1 and source.shape[0] == 1)  # a bias
        specs[name] = grown(source, of_vector(new) if one else new, rows, None, stream, seed, axis)
        if tied and name != first:
            specs[name] = GrownSpec(**vars(specs[name]) | {"like": inputs})
    return specs


def of_vector(new: NewRows) -> NewRows:
    """What new elements of a bias are, where the matrix beside it has such rows: its mean, or 0 beside a method's."""
    if new.method:
        return NewRows("method", method="zeros", parameters={})
    return new if new.kind == ROW else NewRows(MEAN)
