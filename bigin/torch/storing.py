"""A checkpoint of torch.distributed.checkpoint, larger than memory: torch writes what stands around the values."""

from __future__ import annotations

import json
import math
import os
import pickle
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from bigin.api.plans import Plan
from bigin.core import dtypes
from bigin.core.errors import InputError
from bigin.core.floats import default_modes
from bigin.core.limits import Limits
from bigin.core.paths import expand
from bigin.core.regions import Shape
from bigin.core.text import parse_optional_size
from bigin.jobs.job import FillOptions, Job
from bigin.jobs.plans.begin import absolute, begin_fill, plan_fill
from bigin.jobs.report import Report
from bigin.jobs.retries import Retries
from bigin.spec.model import ModelSpec, TensorValues
from bigin.targets.distcp import SUFFIX, DistcpTarget, Framed, RowsInFile, new_distcp
from bigin.targets.models import SHARD
from bigin.targets.paths import is_url
from bigin.targets.pieces import rows_within
from bigin.targets.safetensors.header import lay_out, pack_header
from bigin.torch.modules import Value
from bigin.torch.sources import Arguments, StateTensors, source_of

if TYPE_CHECKING:
    from torch.distributed.checkpoint.metadata import Metadata

FORMATS = ("dcp", "dcp-safetensors")
ALIGNED = 64  # bytes at which a record begins, and torch.save puts its values at a multiple of 64 in it


def save_dcp(
    source: Any,
    out: str | os.PathLike[str],
    rules: Any = None,
    *,
    like: Any = None,
    seed: int | None = None,
    default: Value | None = None,
    variables: Mapping[str, Any] | None = None,
    strict: bool = False,
    dtype: Any = None,
    source_checkpoint: Any = None,
    format: str = "dcp",
    max_shard_size: int | str | None = None,
    overwrite: bool = False,
    threads: int | None = None,
    max_memory: int | str | None = None,
    sync: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Write a checkpoint that torch.distributed.checkpoint.load reads into a model on any mesh.

    The files are those of torch's own FileSystemWriter; the model may be larger than memory. A tied parameter is stored
    once, and loads under each of its names. `.metadata`, without which nothing loads, is written last: after an
    interruption the same call continues, and `bigin verify` compares.

    Args:
        source, rules, like, seed, default, variables, dtype: as in bigin.torch.reader.
        strict: for a recipe, as in bigin.initialize.
        source_checkpoint: the checkpoint that a recipe's rules copy from, as `source` of bigin.initialize.
        out: the folder. Buffers that state_dict() leaves out are not written.
        format: "dcp", or "dcp-safetensors" for the safetensors files of torch's HuggingFaceStorageWriter, which its
            HuggingFaceStorageReader reads and consolidate_safetensors_files joins. In these, a tied parameter has its
            first name alone.
        max_shard_size: the largest number of bytes of values in a file, or a string such as "5GB"; 5 GiB by default. A
            larger tensor is cut by rows into several files.
        overwrite, threads, max_memory, sync, progress: as in bigin.initialize.

    Returns:
        A report: the bytes of the tensors, the seconds and the record.

    Raises:
        InputError: an argument is invalid; nothing was changed.
        FillError: the checkpoint could not be finished; the same call continues where it stopped.

    Example:
        >>> with bigin.torch.deferred(seed=42) as init:
        ...     model = torch.nn.Linear(8, 4)
        >>> bigin.torch.save_dcp(init, "step-0").nbytes
        144
        >>> bigin.verify("step-0").equal
        True
    """
    limits, options = Limits.parse(threads, max_memory), FillOptions(overwrite=overwrite, sync=sync, progress=progress)
    wanted = Arguments(rules, like, seed, default, variables, dtype, strict=strict, source=source_checkpoint)
    with default_modes():
        spec, target = checkpoint_of(source, wanted, out, format, max_shard_size)
        try:
            return Job(spec, target, limits).fill(options)
        finally:
            target.close()


def plan_dcp(
    source: Any,
    out: str | os.PathLike[str],
    rules: Any = None,
    *,
    parts: int,
    like: Any = None,
    seed: int | None = None,
    default: Value | None = None,
    variables: Mapping[str, Any] | None = None,
    strict: bool = False,
    dtype: Any = None,
    source_checkpoint: Any = None,
    format: str = "dcp",
    max_shard_size: int | str | None = None,
    overwrite: bool = False,
) -> Plan:
    """Create the files of a checkpoint of torch.distributed.checkpoint, and cut its fill into parts.

    Args:
        source, out, rules, like, seed, default, variables, strict, dtype, source_checkpoint, format, max_shard_size,
            overwrite: as in `save_dcp`; every machine can access `out`.
        parts: as in bigin.plan.

    Returns:
        The plan. `.metadata`, without which nothing loads, is written by its `finish`.

    Raises:
        InputError: an argument is invalid; nothing was changed.

    Example:
        >>> with bigin.torch.deferred(seed=42) as init:
        ...     model = torch.nn.Linear(8, 4)
        >>> plan = bigin.torch.plan_dcp(init, "step-0", parts=2)
        >>> [done.nbytes for done in plan.work("0,1")]
        [16, 128]
        >>> plan.finish().nbytes
        144
    """
    wanted = Arguments(rules, like, seed, default, variables, dtype, strict=strict, source=source_checkpoint)
    with default_modes():
        place = absolute(expand(out))
        spec, target = checkpoint_of(source, wanted, place, format, max_shard_size)
        try:
            data = plan_fill(spec, target, place, parts, layout={}, model=target.outline())
            begin_fill(data, target, Retries(remote=False), overwrite=overwrite)
        finally:
            target.close()
    return Plan(data)


def checkpoint_of(
    source: Any, wanted: Arguments, out: str | os.PathLike[str], format: str, max_shard_size: int | str | None
) -> tuple[ModelSpec, DistcpTarget]:
    """What is written, and the target; nothing is changed."""
    shard = parse_optional_size(max_shard_size) or SHARD
    if not torch.distributed.is_available():
        raise InputError("expected a torch with torch.distributed, whose checkpoints these are")
    if format not in FORMATS:
        raise InputError(f"expected a format among {', '.join(FORMATS)}, got {format!r}")
    if is_url(out):
        raise InputError(f"{out}: expected a local folder for a checkpoint of torch.distributed, got a URL")
    found = source_of(source, wanted)
    specs = {name: found.spec(name) for name in found.tensors if name not in found.unsaved | found.aliases.keys()}
    if not specs:
        raise InputError("expected tensors to write, got none")
    if format == "dcp":
        files = list(packed(specs, shard))
        metadata = pickle.dumps(metadata_of(found, files))
    else:
        files, metadata = list(packed_as_safetensors(specs, shard)), None
    return ModelSpec(dict(sorted(specs.items()))), new_distcp(Path(expand(out)), files, metadata)


class Around:
    """A file that torch.save writes without its values: the bytes before and behind them."""

    def __init__(self) -> None:
        self.position, self.at, self.size = 0, 0, 0
        self.parts = [bytearray(), bytearray()]

    def write(self, data: Any) -> int:
        """Keep bytes."""
        self.parts[1 if self.at else 0] += data
        self.position += len(data)
        return len(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        """Leave out the values."""
        self.at, self.size = self.position, offset
        self.position += offset
        return self.position

    def flush(self) -> None:
        """Nothing waits."""


@lru_cache(256)
def around(dtype: str, shape: Shape) -> Around:
    """What torch.save writes before and behind the values of a tensor."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        tensor = torch.empty(shape, dtype=getattr(torch, dtype))
    file = Around()
    with torch.serialization.skip_data(materialize_fake_tensors=True):
        torch.save(tensor, file)
    return file


def cut(specs: Mapping[str, TensorValues], shard: int) -> Iterator[tuple[str, str, Shape]]:
    """Tensors in pieces of at most so many bytes: the name, the dtype, and the shape of the piece."""
    for name, spec in sorted(specs.items()):
        rows = rows_within(spec.shape, spec.dtype.itemsize, shard)
        for count in rows:
            yield name, dtypes.name_of(spec.dtype), spec.shape if len(rows) == 1 else (count, *spec.shape[1:])


def packed(specs: Mapping[str, TensorValues], shard: int) -> Iterator[Framed]:
    """The files, each of pieces with at most so many bytes, or of one piece that has more."""
    pieces: list[RowsInFile] = []
    frames: list[tuple[int, bytes]] = []
    number, held, end = 0, 0, 0
    for name, dtype, shape in cut(specs, shard):
        made = around(dtype, shape)
        if pieces and held + made.size > shard:
            yield Framed(f"__0_{number}{SUFFIX}", pieces, frames, end)
            number, held, pieces, frames, end = number + 1, 0, [], [], 0
        start = end + -end % ALIGNED
        pieces.append(RowsInFile(name, dtype, shape, start + made.at))
        frames += [(start, bytes(made.parts[0])), (start + made.at + made.size, bytes(made.parts[1]))]
        held, end = held + made.size, start + made.position
    yield Framed(f"__0_{number}{SUFFIX}", pieces, frames, end)


def packed_as_safetensors(specs: Mapping[str, TensorValues], shard: int) -> Iterator[Framed]:
    """The same as files of safetensors, whose metadata tells where in its tensor each piece begins."""
    from torch.distributed.checkpoint._hf_utils import _gen_file_name

    groups: list[dict[str, tuple[str, Shape, int]]] = [{}]
    held, last, start = 0, "", 0
    for name, dtype, shape in cut(specs, shard):
        size = math.prod(shape) * specs[name].dtype.itemsize
        start = start if name == last else 0
        if groups[-1] and held + size > shard:
            groups.append({})
            held = 0
        groups[-1][name] = (dtype, shape, start)
        held, last, start = held + size, name, start + (shape[0] if shape else 0)
    for number, group in enumerate(groups, 1):
        entries = lay_out((name, dtype, shape) for name, (dtype, shape, _) in group.items())
        offsets = {
            name: {"saved_offsets": [start, *[0] * (len(shape) - 1)][: len(shape)]}
            for name, (_, shape, start) in group.items()
        }
        told = {"format": "pt", "DCP_VERSION": "1.0", "DCP_SHARDING_INFO": json.dumps(offsets)}
        header = pack_header(entries, told)
        pieces = [
            RowsInFile(name, group[name][0], group[name][1], len(header) + entry.begin)
            for name, entry in entries.items()
        ]
        end = len(header) + max((entry.end for entry in entries.values()), default=0)
        yield Framed(_gen_file_name(1, 1, number), pieces, [(0, header)], end)


def metadata_of(source: StateTensors, files: list[Framed]) -> Metadata:
    """What FileSystemWriter keeps in .metadata: the chunks of every tensor, and the file and bytes of each."""
    from torch.distributed.checkpoint import filesystem, metadata

    told: dict[str, Any] = {}
    stored: dict[Any, Any] = {}
    names: dict[str, list[str]] = {}
    for name in source.tensors:
        names.setdefault(source.aliases.get(name, name), []).append(name)
    for file in files:
        for piece in file.pieces:
            made = around(piece.dtype, piece.shape)
            for name in names[piece.tensor]:
                shape = source.tensors[name][0]
                if name not in told:
                    properties = metadata.TensorProperties(getattr(torch, piece.dtype))
                    told[name] = metadata.TensorStorageMetadata(properties, torch.Size(shape), [])
                chunks = told[name].chunks
                first = chunks[-1].offsets[0] + chunks[-1].sizes[0] if chunks else 0
                offsets = torch.Size([first, *[0] * (len(shape) - 1)][: len(shape)])
                index = metadata.MetadataIndex(name, offsets, len(chunks))
                stored[index] = filesystem._StorageInfo(file.name, piece.offset - made.at, made.position)
                chunks.append(metadata.ChunkStorageMetadata(offsets, torch.Size(piece.shape)))
    held = metadata.Metadata(told, {name: (name,) for name in told}, stored, metadata.StorageMeta())
    held.version = filesystem.CURRENT_DCP_VERSION
    return held
