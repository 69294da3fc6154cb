"""torch.distributed.checkpoint's reader of a checkpoint that is computed."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from typing import Any

import torch
from torch.distributed.checkpoint.default_planner import flatten_state_dict
from torch.distributed.checkpoint.metadata import (
    BytesStorageMetadata,
    ChunkStorageMetadata,
    Metadata,
    StorageMeta,
    TensorProperties,
    TensorStorageMetadata,
)
from torch.distributed.checkpoint.planner import LoadItemType, LoadPlan, LoadPlanner, ReadItem
from torch.distributed.checkpoint.storage import StorageReader
from torch.futures import Future

from bigin.core import dtypes
from bigin.core.errors import InputError
from bigin.core.floats import default_modes
from bigin.core.limits import Limits
from bigin.core.regions import Shape
from bigin.core.text import similar
from bigin.jobs.job import FillOptions
from bigin.spec.model import TensorValues
from bigin.torch.distributed import part_jobs_of
from bigin.torch.modules import naming
from bigin.torch.sources import StateTensors

MENTIONED = 5  # names in an error


class ComputedReader(StorageReader):  # type: ignore[misc]
    """Computes what a load plan asks for; `bigin.torch.reader` makes one."""

    def __init__(self, source: StateTensors, prefix: str, limits: Limits) -> None:
        self._source = source.under(prefix)
        self._prefix = prefix
        self._limits = limits

    @property
    def names(self) -> list[str]:
        """The names that a state dict may have."""
        return [*self._source.tensors, *self._source.objects]

    def spec(self, name: str) -> TensorValues:
        """What the values of a tensor are.

        Args:
            name: its name in the state dict.

        Returns:
            The specification.

        Raises:
            InputError: there is no such tensor, or no method says its values.
        """
        if name not in self._source.tensors:
            raise InputError(self._unknown([name]))
        return self._source.spec(name)

    def check(self, state_dict: Mapping[str, Any]) -> None:
        """Raise InputError, in one line, where a state dict has other names or shapes than the reader.

        Args:
            state_dict: what dcp.load is to be given.

        Raises:
            InputError: dcp.load would refuse it.
        """
        flat, _ = flatten_state_dict(dict(state_dict))
        unknown = [name for name in flat if name not in self._source.tensors and name not in self._source.objects]
        if unknown:
            raise InputError(self._unknown(unknown))
        for name, held in flat.items():
            expected = self._source.tensors[name][0] if name in self._source.tensors else None
            shape = tuple(held.shape) if isinstance(held, torch.Tensor) else None
            if shape != expected and shape is not None:
                raise InputError(f"{name}: expected shape {expected}, as {self._source.label} has it, got {shape}")

    def _unknown(self, names: list[str]) -> str:
        known = self.names
        listed = ", ".join(names[:MENTIONED])
        more = f" and {len(names) - MENTIONED} more" if len(names) > MENTIONED else ""
        such = f", such as {known[0]}" if known else ""
        hint = similar(names[0], known) or (
            "; load the model's state dict alone, or give DefaultLoadPlanner(allow_partial_load=True)"
        )
        return f"expected names that {self._source.label} has{such}, got {listed}{more}{hint}"

    def reset(self, checkpoint_id: str | os.PathLike[str] | None = None) -> None:
        """Begin another load. Nothing is kept of the last one."""

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        """What the checkpoint would hold: every tensor in one piece."""
        parents = tuple(self._prefix.removesuffix(".").split(".")) if self._prefix else ()
        told: dict[str, Any] = {
            name: TensorStorageMetadata(
                TensorProperties(getattr(torch, dtype)),
                torch.Size(shape),
                [ChunkStorageMetadata(torch.Size([0] * len(shape)), torch.Size(shape))],
            )
            for name, (shape, dtype) in self._source.tensors.items()
        }
        told |= {name: BytesStorageMetadata() for name in self._source.objects}
        paths = {name: (*parents, name.removeprefix(self._prefix)) for name in told}
        return Metadata(told, planner_data=paths, storage_data={}, storage_meta=StorageMeta())

    def set_up_storage_reader(self, metadata: Metadata, is_coordinator: bool, *args: Any, **kwargs: Any) -> None:
        """Nothing is opened."""

    def prepare_local_plan(self, plan: LoadPlan) -> LoadPlan:
        """The plan as it is."""
        return plan

    def prepare_global_plan(self, plans: list[LoadPlan]) -> list[LoadPlan]:
        """The plans as they are."""
        return plans

    def read_data(self, plan: LoadPlan, planner: LoadPlanner) -> Future:
        """Make the regions of the plan, one after the other, in the tensors that they are for."""
        with default_modes(), torch.no_grad():
            for item in plan.items:
                if item.type == LoadItemType.BYTE_IO:
                    planner.load_bytes(item, self._object(item.storage_index.fqn))
                else:
                    part = planner.resolve_tensor(item).detach()
                    self._make(item, part)
                    planner.commit_tensor(item, part)
        done: Future = Future()
        done.set_result(None)
        return done

    def _make(self, item: ReadItem, part: Any) -> None:
        name = item.storage_index.fqn
        starts: Shape = tuple(item.storage_offsets)
        region = tuple(slice(start, start + size) for start, size in zip(starts, item.lengths, strict=True))
        with naming(name):
            spec = self._source.spec(name, dtypes.name_of(dtypes.parse_dtype(part.dtype)))
            for job in part_jobs_of([(part, region)], spec, self._limits):
                job.fill(FillOptions())

    def _object(self, name: str) -> io.BytesIO:
        made = io.BytesIO()
        torch.save(self._source.objects[name], made)
        made.seek(0)
        return made

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: str | os.PathLike[str]) -> bool:
        """Whether a path names such a checkpoint: none does."""
        return False
