"""Where values go or lie, as a caller names it; and opening it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from bigin.core import dtypes
from bigin.core.errors import FillError, InputError, RecordError
from bigin.core.handlers import let_through
from bigin.core.paths import expand, is_path
from bigin.core.regions import Shape
from bigin.core.storage import given, using
from bigin.core.text import parse_shape
from bigin.core.threads import after_stragglers
from bigin.jobs.retries import Retries, explain
from bigin.spec.record import spec_of
from bigin.targets.objects.urls import is_cloud
from bigin.targets.open import open_target
from bigin.targets.paths import is_url, local_path, split_names
from bigin.targets.records import read_sidecar
from bigin.targets.target import Target


@dataclass(frozen=True)
class Blocks:
    """The shapes of the chunks and shards of a zarr array that is made, or that must be those of one that is there."""

    chunks: Shape | None = None
    shards: Shape | None = None

    @classmethod
    def parse(cls, chunks: Any, shards: Any) -> Blocks | None:
        """The shapes as a caller gives them; None where neither is given."""
        if chunks is None and shards is None:
            return None
        given = (None if blocks is None else parse_shape(blocks) for blocks in (chunks, shards))
        return cls(*given)


@dataclass(frozen=True)
class Where:
    """A target as a caller names it: a path, a URL, a store or an array, and what it is, where it cannot say so itself.

    shape: of the target. raw, offset: a file of values without a header, from a byte on. damaged: whether a file that
    ends too early is opened, too. models: whether a whole checkpoint or group is one target. blocks: chunks and shards.
    storage: the options of stores that are in force where this is made, as other processes have others.
    """

    target: Any
    shape: Shape | None = None
    dtype: Any = None
    raw: bool = False
    offset: int = 0
    damaged: bool = False
    models: bool = False
    blocks: Blocks | None = None
    storage: Mapping[str, str] = field(default_factory=given, repr=False)

    @property
    def remote(self) -> bool:
        """Whether errors in opening it may be transient, judged by its name alone: that of a URL or a store."""
        if is_path(self.target):
            return is_url(self.target)
        kind = type(self.target)  # a tensor takes a microsecond to say that it has no such attribute
        return hasattr(kind, "store_path") or hasattr(kind, "list_prefix")

    @property
    def missing(self) -> bool:
        """Whether it is a path that names nothing. A tensor of a checkpoint is path#name."""
        if local_path(self.target) is None:
            return False
        return not any(os.path.lexists(path) for path, _ in split_names(expand(self.target)))

    def absolute(self) -> Where:
        """The same, for a process that stands in another folder."""
        if not is_path(self.target) or "://" in str(self.target):
            return self
        return replace(self, target=os.path.abspath(expand(self.target)))

    def open(self) -> Target:
        """The target; raises InputError where there is none."""
        if self.storage == given():
            return self._open()
        with using(self.storage):
            return self._open()

    def _open(self) -> Target:
        return open_target(
            expand(self.target),
            shape=self.shape,
            dtype=None if self.dtype is None else dtypes.parse_stored(self.dtype),
            raw=self.raw,
            offset=self.offset,
            damaged=self.damaged,
            models=self.models,
            blocks=None if self.blocks is None else (self.blocks.chunks, self.blocks.shards),
        )


class opened:  # noqa: N801 (used as a function; contextlib's take 2 us, as much as the kernel of a small array)
    """The target, for as long as it is needed, also by threads that are still running after an interruption."""

    def __init__(self, where: Where, retries: Retries | None = None) -> None:
        self.where = where
        self.retries = retries

    def __enter__(self) -> Target:
        with as_fill_error(self.where.target):
            self.target = (self.retries or Retries(remote=self.where.remote)).attempt(self.where.open)
        return self.target

    def __exit__(self, *error: object) -> None:
        after_stragglers(self.target.close)


class as_fill_error:  # noqa: N801
    """Whatever goes wrong with what is labelled is a FillError of one line."""

    def __init__(self, label: Any) -> None:
        self.label = label

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, Exception) and not isinstance(error, InputError | FillError):
            let_through(error)
            raise FillError(explain(error, str(self.label))) from error


def recorded_layout(target: Any) -> tuple[Shape, Any, int]:
    """Shape, dtype and offset of the values in a raw file, as its record says."""
    if is_cloud(target):
        from bigin.targets.objects.open import raw_record

        record = raw_record(os.fsdecode(target))
    else:
        record = None if (path := local_path(target)) is None else read_sidecar(path)
    if record is None:
        raise RecordError(
            f"{target}: expected a record of a fill, got none; give --method (method=), --shape (shape=) and --dtype "
            "(dtype=)"
        )
    offset = record.get("offset", 0)
    order = record.get("byte_order", "=")
    dtype = dtypes.parse_dtype(record.get("dtype")).newbyteorder(order if order in ("<", ">") else "=")
    return spec_of(record).shape, dtype, offset if isinstance(offset, int) else 0
