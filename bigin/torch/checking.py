"""bigin.torch.check: which parameters of a model in memory do not look as rules, a recipe or its own code say."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import nn

from bigin.core.errors import InputError
from bigin.core.floats import default_modes
from bigin.core.limits import Limits
from bigin.core.regions import Shape
from bigin.inspect.examining import Examined, Finding, How, Item, Levels, examine, share_of
from bigin.inspect.model_check import ModelCheck
from bigin.jobs.digests import digest_stored
from bigin.jobs.retries import Retries
from bigin.spec.model import TensorValues
from bigin.targets.memory import memory_target
from bigin.targets.target import Target
from bigin.torch.distributed import is_distributed, local_parts
from bigin.torch.filling import Asked, assigned_by, dtype_of
from bigin.torch.modules import Assigning, Member, Rules, Value, members, naming
from bigin.torch.partitions import GATHER, is_gathered, is_partitioned

SHOWN = 4  # ranks in a line about some


def check(
    module: Any,
    rules: Rules | Assigning | str | os.PathLike[str],
    *,
    default: Value | None = None,
    variables: Mapping[str, Any] | None = None,
    replicas: Any = None,
    threads: int | None = None,
    max_memory: int | str | None = None,
) -> ModelCheck:
    """Find the parameters of a module that do not look like rules, whatever code and seed initialized them.

    The check finds parameters that were never initialized (zeros, NaN, leftover memory), wrong standard deviations,
    distributions and fans, rows, shards and layers that are equal although they are random, and replicas that differ.
    Each rank checks its part of a DTensor. One correct model in a million fails, over all ranks.

    Args:
        module: a torch.nn.Module, initialized and not yet trained, on the CPU or on CUDA devices.
        rules: as in init_: rules, a recipe, or a recording of bigin.torch.deferred.
        default, variables: as in init_.
        replicas: the ranks whose plain tensors should be equal: a process group, or True for all ranks. By default
            those of DistributedDataParallel. Replicas of a DTensor are given by its placements. With replicas or
            DTensors, every rank must call this function.
        threads, max_memory: as in bigin.fill.

    Returns:
        Every parameter with its findings, the same on every rank. The attribute `right` is True if there are none.

    Raises:
        InputError: an argument is invalid, or a parameter has no rule.

    Example:
        >>> model = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.Linear(64, 64))
        >>> rules = {"*.bias": "zeros", torch.nn.Linear: "xavier_uniform"}
        >>> specs = bigin.torch.init_(model, rules, seed=1)
        >>> bigin.torch.check(model, rules).right
        True
        >>> _ = torch.nn.init.normal_(model[1].weight)
        >>> [(each.tensor, each.findings[0].kind) for each in bigin.torch.check(model, rules).wrong]
        [('1.weight', 'std')]
    """
    limits = Limits.parse(threads, max_memory)
    with default_modes(), torch.no_grad():
        every = list(members(module))
        told = assigned_by(module, Asked(rules, None, default, variables), every)
        chosen = [member for member in every if member.name in told]
        pieces = [piece for member in chosen for piece in pieces_here(member, told[member.name])]
        ranks = Ranks.of(module, chosen, replicas)
        items = [piece.item for piece in pieces]
        how = How(limits, others=ranks.others(share_of(items)))
        rows = examine(items, how)
        levels = Levels.of(items, how)
        here = [Here(piece, row) for piece, row in zip(pieces, rows, strict=True)]
        found = ranks.gathered([each.told(ranks.rank, limits) for each in here])
        whole = merged(chosen, found, ranks, levels)
    by = os.fspath(rules) if isinstance(rules, str | os.PathLike) else "the rules"
    return ModelCheck(type(module).__name__, by, whole)


@dataclass(frozen=True)
class LocalPiece:
    """What of a parameter lies here: a tensor, and the region of the whole."""

    member: Member
    tensor: Any
    region: tuple[tuple[int, int], ...]
    item: Item


def pieces_here(member: Member, spec: TensorValues) -> Iterator[LocalPiece]:
    """What of a parameter lies on this rank; nothing of one that has no values."""
    tensor = member.tensor
    if tensor.is_meta:
        raise InputError(f"{member.name}: expected values, got a parameter on the meta device")
    with naming(member):
        if is_partitioned(tensor) and not is_gathered(tensor):
            raise InputError(f"expected values, got a parameter that ZeRO-3 has cut; check it within {GATHER}")
        parts = local_parts(tensor) if is_distributed(tensor) else [(tensor, tuple(slice(0, n) for n in tensor.shape))]
    for part, region in parts:
        bounds = tuple(axis.indices(size)[:2] for axis, size in zip(region, tensor.shape, strict=True))
        if 0 in part.shape:
            continue
        origin = tuple(start for start, _ in bounds) if tuple(part.shape) != tuple(tensor.shape) else None
        item = Item(member.name, partial(target_of, part), spec, tuple(part.shape), dtype_of(member, None), origin)
        yield LocalPiece(member, part, bounds, item)


def target_of(tensor: Any) -> Target:
    """A tensor's values on the CPU."""
    target = memory_target(tensor.detach().to("cpu"))
    assert target is not None
    return target


@dataclass(frozen=True)
class Here:
    """What is found of a piece."""

    piece: LocalPiece
    row: Examined

    def told(self, rank: int, limits: Limits) -> tuple[int, tuple[tuple[int, int], ...], str, Examined]:
        """For the other ranks, with a digest of the values: that of their examination, which not every dtype has."""
        row = replace(self.row, statistics=None, expected=None)
        digest = self.row.digest.rpartition(" ")[2]
        if not digest:
            digest = digest_stored(target_of(self.piece.tensor), limits, Retries(remote=False))
        return rank, self.piece.region, digest, row


Told = tuple[int, tuple[tuple[int, int], ...], str, Examined]


@dataclass(frozen=True)
class Ranks:
    """The processes that hold a model together. group: whose plain tensors are replicas. alone: none is asked."""

    rank: int = 0
    alone: bool = True
    group: Any = None
    members: Sequence[int] = ()

    @classmethod
    def of(cls, module: Any, chosen: Sequence[Member], replicas: Any) -> Ranks:
        """Who has to be asked: nobody, unless a tensor is distributed or replicas are to be compared."""
        there = torch.distributed.is_available() and torch.distributed.is_initialized()
        group = replicas
        if replicas is None and isinstance(module, nn.parallel.DistributedDataParallel):
            group = module.process_group
        if not there:
            if replicas is not None and replicas is not False:
                raise InputError("expected replicas only where torch.distributed is initialized, got some")
            return cls()
        distributed = any(is_distributed(member.tensor) for member in chosen)
        if (group is None or group is False) and not distributed:
            return cls()
        listed: Sequence[int] = ()
        if group is True:
            group, listed = None, range(torch.distributed.get_world_size())
        elif group is not None and group is not False:
            listed = torch.distributed.get_process_group_ranks(group)
        return cls(torch.distributed.get_rank(), alone=False, group=group or None, members=list(listed))

    def others(self, pieces: int) -> int:
        """How many pieces the other ranks look at."""
        return 0 if self.alone else sum(self._all(pieces)) - pieces

    def gathered(self, told: list[Told]) -> list[Told]:
        """What all ranks tell, in the order of the ranks."""
        return told if self.alone else [each for rank in self._all(told) for each in rank]

    def _all(self, value: Any) -> list[Any]:
        held: list[Any] = [None] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(held, value)
        return held


def merged(chosen: Sequence[Member], found: Sequence[Told], ranks: Ranks, levels: Levels) -> list[Examined]:
    """A row for every parameter, from what all ranks have found."""
    rows = []
    for member in chosen:
        told = [each for each in found if each[3].tensor == member.name]
        if not told:
            continue
        findings: list[Finding] = []
        for kind, text in dict.fromkeys((f.kind, f.text) for each in told for f in each[3].findings):
            at = sorted({each[0] for each in told if Finding(kind, text) in each[3].findings})
            every = ranks.alone or len(at) == len({each[0] for each in told})
            findings.append(Finding(kind, text if every else f"{in_words(at)}: {text}"))
        findings += replicas_of(told, ranks, distributed=is_distributed(member.tensor))
        findings += shards_of(told, levels)
        shape: Shape = tuple(member.tensor.shape)
        rows.append(replace(told[0][3], shape=shape, findings=findings))
    return sorted(rows, key=lambda row: row.tensor)


def replicas_of(told: Sequence[Told], ranks: Ranks, *, distributed: bool) -> list[Finding]:
    """Whether the same part of a tensor differs between ranks that hold it."""
    if ranks.alone or not (distributed or ranks.members):
        return []
    by_region: dict[Any, dict[str, list[int]]] = {}
    for rank, region, digest, _ in told:
        if distributed or rank in ranks.members:
            by_region.setdefault(region, {}).setdefault(digest, []).append(rank)
    for held in by_region.values():
        if len(held) > 1:
            kinds = sorted(held.values(), key=len)
            text = f"replicas differ: {in_words(sorted(kinds[0]))} from {in_words(sorted(kinds[-1]))}"
            return [Finding("replicas", text)]
    return []


def shards_of(told: Sequence[Told], levels: Levels) -> list[Finding]:
    """Whether parts that lie on several ranks are equal, though they are drawn."""
    held: dict[str, tuple[int, Any]] = {}
    for rank, region, digest, row in told:
        rare = row.random + 2.0 * math.log(max(2, len(told))) < math.log(levels.repeats)
        if row.random == 0.0 or not rare or any(each.kind in ("untouched", "not finite") for each in row.findings):
            continue
        first, of = held.setdefault(digest, (rank, region))
        if of != region:
            return [Finding("identical", f"identical shards: those of {in_words([first])} and {in_words([rank])}")]
    return []


def in_words(ranks: Sequence[int]) -> str:
    """Some ranks."""
    shown = ", ".join(map(str, ranks[:SHOWN])) + (", ..." if len(ranks) > SHOWN else "")
    return f"rank {shown}" if len(ranks) == 1 else f"ranks {shown}"
