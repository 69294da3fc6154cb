"""Random numbers that code draws into a model's parameters, in place, by the law."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.weak import WeakTensorKeyDictionary

from bigin.core import dtypes
from bigin.core.errors import InputError
from bigin.core.floats import default_modes
from bigin.core.generator import parse_seed
from bigin.core.limits import Limits
from bigin.core.views import Positions, View
from bigin.core.warning import warn
from bigin.jobs.job import FillOptions, Job
from bigin.spec.layered import Layer, LayeredSpec
from bigin.spec.model import TensorValues
from bigin.spec.part import RegionSpec
from bigin.spec.tensor import TensorSpec
from bigin.targets.open import open_target
from bigin.torch.distributed import is_dtensor, local_parts, part_jobs
from bigin.torch.owners import Held, Owners, has_memory, local_of
from bigin.torch.partitions import GATHER
from bigin.torch.recording.functions import replaced
from bigin.torch.recording.lowering import Lowering, advising, layer
from bigin.torch.recording.memory import key_of, view_of
from bigin.torch.recording.recorder import NORMAL, RANDOM, UNIFORM, base_name
from bigin.torch.recording.values import Draw, Write

CONSTANTS = ("constant", "ones", "zeros")
NAMED = 3  # draws into other tensors that the warning about them names
TO_GATHER = f"gather it with {GATHER}(..., modifier_rank=0)"
REMEDY = "fill it with bigin.torch.init_ and a rule, or draw it outside of replaces_init"


@contextmanager
def replaces_init(
    model: Any,
    seed: int = 0,
    *,
    threads: int | None = None,
    max_memory: int | str | None = None,
) -> Iterator[list[TensorValues]]:
    """Replace the random numbers that code draws into a model's parameters with bigin's values.

    Within the context, functions of torch.nn.init (however they were imported) and `uniform_` and `normal_` write
    bigin's values into the parameters and buffers of the model, and into views of them. Everything else runs as it
    stands: what the code computes, what it does to other tensors, and constants. A draw's stream comes from the
    parameter's first name in the model, and for a further draw into other elements of the same parameter, or after the
    code has read what it drew before, from a purpose ("draw 2") as well. So the values depend neither on the rank nor
    on the order of the layers, and a DTensor's local part, which may be empty, holds what one process would have made.
    So does the partition of a parameter that DeepSpeed's ZeRO-3 has cut, which is drawn without gathering it.
    Generators that the code names are not used.

    Args:
        model: a torch.nn.Module in memory, on the CPU or on CUDA devices; sharded by fully_shard or parallelize_module,
            or not.
        seed: an integer from 0 to 2^64 - 1.
        threads, max_memory: as in bigin.fill.

    Returns:
        A context manager; it returns a list, to which the specification of each draw is added.

    Raises:
        InputError: a parameter is drawn in a way that no method makes, or has no memory.

    Example:
        >>> model = torch.nn.Linear(8, 4)
        >>> with bigin.torch.replaces_init(model, seed=42) as drawn:
        ...     model.reset_parameters()
        >>> print(*drawn, sep="\\n")
        kaiming_uniform(a=2.23606797749979), seed 42, name weight, 4x8 float32
        uniform(a=-0.35355339059327373, b=0.35355339059327373), seed 42, name bias, 4 float32
    """
    drawing = Drawing(Owners(model), parse_seed(seed), Limits.parse(threads, max_memory))
    with ExitStack() as stack:
        stack.enter_context(replaced(drawing.function, lambda tensor: drawing.find(tensor) is not None))
        stack.enter_context(Draws(drawing))
        yield drawing.done
    if drawing.foreign:
        listed = ", ".join([*drawing.foreign.values()][:NAMED])
        warn(
            f"the code drew random numbers into tensors that are no parameters ({listed}): these are torch's, and what "
            "the parameters get of them does not follow from the seed",
            UserWarning,
        )


class Drawing:
    """Draws into the members of a model, made by the law."""

    def __init__(self, owners: Owners, seed: int, limits: Limits) -> None:
        self.owners, self.seed, self.limits = owners, seed, limits
        # Views of members that are DTensors: the member, and the same view of a tensor as large as the whole.
        self.views: Any = WeakTensorKeyDictionary()
        self.copied: Any = WeakTensorKeyDictionary()  # views that DTensor has copied, after a draw into them
        self.done: list[TensorValues] = []
        self.pending: Any = WeakTensorKeyDictionary()  # draws into other tensors, which hold nothing else since
        self.foreign: dict[int, str] = {}  # the same in words, but those that were copied into a member

    def find(self, tensor: Any) -> Held | None:
        """The member that a tensor is, or is a view of."""
        if is_dtensor(tensor) and tensor in self.views:
            held: Held = self.views[tensor][0]
            return held
        return self.owners.find(tensor)

    def is_copy(self, tensor: Any) -> bool:
        """Whether DTensor has made a copy for a view, as it does where a sharded axis is cut."""
        if not is_dtensor(tensor) or tensor not in self.views:
            return False
        return key_of(local_of(tensor)) != key_of(self.views[tensor][0].local)

    def has_constant(self, tensor: Any) -> bool:
        """Whether torch's own fill would not reach what a tensor stands for."""
        held = self.owners.find(tensor, scan=tensor.numel() == 0)
        return self.is_copy(tensor) or (held is not None and held.is_away)

    def function(self, tensor: Any, method: str, parameters: dict[str, Any]) -> Any:
        """Do what a function of torch.nn.init does; constants are left to torch."""
        held = self.find(tensor)
        if method in CONSTANTS and not self.is_copy(tensor) and not (held and held.is_away):
            return NotImplemented
        return self.method(tensor, method, parameters)

    def method(self, tensor: Any, method: str, parameters: dict[str, Any]) -> None:
        """Fill a member of the model, or a view of one."""
        held = self.find(tensor)
        assert held is not None
        if self.is_copy(tensor):
            self.copied[tensor] = True
        with torch.no_grad(), default_modes():
            try:
                if held.local.is_meta:
                    raise InputError("expected a parameter in memory, got one on the meta device; call to_empty first")
                jobs = self._jobs(held, tensor, method, parameters)
            except InputError as error:
                raise InputError(f"{held.member.name}: {error}") from None
            for job in jobs:
                job.fill(FillOptions())

    def _jobs(self, held: Held, tensor: Any, method: str, parameters: dict[str, Any]) -> list[Job]:
        """What fills the elements of a tensor that lie here."""
        member, whole = held.member, held.member.tensor
        if 0 in (held.shape if held.is_away else tensor.shape):
            return []
        shape, dtype = held.shape, dtypes.parse_dtype(whole.dtype)
        where = self._where(held, tensor)
        if where is None:
            made = TensorSpec.parse(method, parameters, self.seed, member.name, shape, dtype)
            spec = replace(made, purpose=held.purpose(View.whole(shape)))
            self.done.append(spec)
            return part_jobs(whole, spec, self.limits)
        sizes = where.sizes
        purpose = "" if method in CONSTANTS else held.purpose(where)
        lowering = Lowering(dtype, self.seed, lambda _: (member.name, purpose))
        with advising(REMEDY):
            drawn = layer(
                Write(where, Draw(method, parameters, sizes, View.whole(sizes))), shape, whole.dtype, lowering
            )
        self.done.append(drawn.spec)
        return self._layer_jobs(whole, drawn)

    def _layer_jobs(self, whole: Any, drawn: Layer) -> list[Job]:
        """What fills some of the elements of a tensor, as a layer says them."""
        shape = tuple(whole.shape)
        axes = [positions for positions, _ in drawn.axes(shape)]
        spec = LayeredSpec((drawn,), shape, drawn.spec.dtype)
        everywhere = [(whole, tuple(slice(0, size) for size in shape))]
        jobs = []
        for part, region in local_parts(whole) if is_dtensor(whole) else everywhere:
            here = [within(positions, one) for positions, one in zip(axes, region, strict=True)]
            if all(map(len, here)):
                target = part[tuple(moved(one, by.start) for one, by in zip(here, region, strict=True))]
                jobs.append(Job(RegionSpec(spec, tuple(here)), open_target(target), self.limits))
                jobs[-1].check()
        return jobs

    def _where(self, held: Held, tensor: Any) -> View | None:
        """Which elements of a member a tensor has, in the tensor's own order; None for all of them."""
        whole = held.member.tensor
        if held.is_away and tensor._is_view():
            raise InputError(f"expected a draw into all of a parameter that ZeRO-3 has cut, got a view; {TO_GATHER}")
        if tensor.shape == whole.shape and view_of(local_of(tensor)) == view_of(held.local):
            return None
        if is_dtensor(whole):
            return self._where_distributed(held, tensor)
        if not whole.is_contiguous():
            raise InputError(f"expected a draw into all of a tensor that is not contiguous, got a part; {REMEDY}")
        if tensor.dtype != whole.dtype:
            raise InputError(f"expected a draw in {whole.dtype}, got a view of it in {tensor.dtype}; {REMEDY}")
        view = view_of(tensor)
        return View(view.offset - whole.storage_offset(), view.sizes, view.strides)

    def _where_distributed(self, held: Held, tensor: Any) -> View | None:
        """The same for a DTensor, whose views are told by how they were made."""
        if not is_dtensor(tensor):
            if view_of(tensor) == view_of(held.local):
                return None
            raise InputError(f"expected a draw into a DTensor or a view of it, got a part of this rank's own; {REMEDY}")
        if tensor not in self.views:
            raise InputError(
                f"expected a view of the DTensor that was made within replaces_init, got another; {REMEDY}"
            )
        return view_of(self.views[tensor][1])

    def note_draw(self, tensor: Any, name: str, told: tuple[str, dict[str, Any]] | None) -> None:
        """Remember a draw into a tensor that is no member, until it is copied into one."""
        shape = "x".join(map(str, tensor.shape)) or "scalar"
        self.foreign[id(tensor)] = f"{name} {shape}"
        if told is not None and has_memory(tensor):
            self.pending[tensor] = told

    def copy(self, tensor: Any, source: Any) -> bool:
        """Whether a copy into a member was of a draw, which has been made in it instead."""
        if not isinstance(source, torch.Tensor) or source not in self.pending or source.shape != tensor.shape:
            return False
        if self.owners.find(tensor) is None:
            return False
        self.foreign.pop(id(source), None)
        self.method(tensor, *self.pending[source])
        return True

    def note_write(self, tensor: Any) -> None:
        """Remember that other tensors hold more than a draw."""
        local = local_of(tensor)
        if self.pending and has_memory(local):
            for drawn in [each for each in self.pending if key_of(each) == key_of(local)]:
                del self.pending[drawn]

    def note_view(self, func: Any, args: Any, kwargs: Any, made: Any) -> None:
        """Remember which elements of the whole a view of a DTensor has."""
        base = next((leaf for leaf in tree_leaves((args, kwargs)) if is_dtensor(leaf)), None)
        outs = [leaf for leaf in tree_leaves(made) if is_dtensor(leaf)]
        if base is None or not outs:
            return
        held = self.owners.find(base, scan=False)
        if base not in self.views:
            if held is None or base.shape != held.member.tensor.shape:
                return
            self.views[base] = held, torch.empty(tuple(base.shape), device="meta", dtype=base.dtype)
        of, view = self.views[base]
        told_args, told_kwargs = tree_map(lambda leaf: view if leaf is base else leaf, (args, kwargs))
        for out, told in zip(outs, tree_leaves(func(*told_args, **told_kwargs)), strict=True):
            self.views[out] = of, told

    def note_operation(self, func: Any, args: Any, kwargs: Any) -> None:
        """Remember which members an operation has read, and what it has written into."""
        for given, is_written in arguments(func, args, kwargs):
            for leaf in tree_leaves(given):
                if not isinstance(leaf, torch.Tensor):
                    continue
                if self.is_copy(leaf) and (is_written or leaf in self.copied):
                    raise InputError(
                        f"{self.views[leaf][0].member.name}: expected draws and constants in a view that cuts a "
                        f"sharded axis, which DTensor copies, got {base_name(func)}; initialize it before it is "
                        "sharded, or with bigin.torch.deferred"
                    )
                held = self.owners.find(leaf, scan=is_written and leaf.numel() == 0)
                if is_written and held is not None and held.is_away:
                    raise InputError(
                        f"{held.member.name}: expected draws and constants in a parameter that ZeRO-3 has cut, got "
                        f"{base_name(func)}; {TO_GATHER}"
                    )
                if is_written:
                    self.note_write(leaf)
                elif held is not None:
                    held.seen = held.last


def within(positions: Positions, region: slice) -> range:
    """The indices along an axis that lie in a region."""
    if not isinstance(positions, range):
        raise InputError(f"expected a draw into a slice along each axis, got other indices; {REMEDY}")
    step = positions.step
    first = positions.start + max(0, -(-(region.start - positions.start) // step)) * step
    return range(first, min(positions.stop, region.stop), step)


def moved(indices: range, by: int) -> slice:
    """Indices along an axis as a slice of a part that begins at one of them."""
    return slice(indices.start - by, indices.stop - by, indices.step)


def arguments(func: Any, args: Any, kwargs: Any) -> Iterator[tuple[Any, bool]]:
    """The arguments of an operation, and whether it writes into each."""
    for place, argument in enumerate(func._schema.arguments):
        given = args[place] if place < len(args) else kwargs.get(argument.name)
        yield given, argument.alias_info is not None and argument.alias_info.is_write


class Draws(TorchDispatchMode):  # type: ignore[misc]
    """Makes what operations draw into the members of a model; all other operations run as they are."""

    def __init__(self, drawing: Drawing) -> None:
        super().__init__()
        self.drawing = drawing

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = base_name(func)
        if name in UNIFORM | NORMAL | RANDOM:
            return self._draw(func, name, args, kwargs)
        if name == "copy" and self.drawing.copy(args[0], args[1]):
            return args[0]
        if name in ("fill", "zero") and self.drawing.has_constant(args[0]):
            self.drawing.method(args[0], "constant", {"val": float(args[1] if name == "fill" else 0)})
            return args[0]
        made = func(*args, **kwargs)
        aliases = [each.alias_info for each in func._schema.returns]
        if any(alias is not None and not alias.is_write for alias in aliases):
            self.drawing.note_view(func, args, kwargs, made)
        else:
            self.drawing.note_operation(func, args, kwargs)
        return made

    def _draw(self, func: Any, name: str, args: Any, kwargs: Any) -> Any:
        drawing = self.drawing
        written = next((given for given, is_written in arguments(func, args, kwargs) if is_written), None)
        told = method_of(func, name, args, kwargs)
        held = None if written is None else drawing.find(written)
        if held is None:
            made = func(*args, **kwargs)
            for tensor in tree_leaves(made):
                drawing.note_draw(tensor, name, told)
            return made
        if told is None:
            raise InputError(f"{held.member.name}: expected a draw that a method makes, got {name}; {REMEDY}")
        drawing.method(written, *told)
        return written


def method_of(func: Any, name: str, args: Any, kwargs: Any) -> tuple[str, dict[str, Any]] | None:
    """The method of an operation that draws into a tensor; None where there is none."""
    names = [argument.name for argument in func._schema.arguments]
    given = {**dict(zip(names, args, strict=False)), **kwargs}
    if name in UNIFORM:
        return "uniform", {"a": float(given.get("from", 0.0)), "b": float(given.get("to", 1.0))}
    mean, std = given.get("mean", 0.0), given.get("std", 1.0)
    if name in NORMAL and not isinstance(mean, torch.Tensor) and not isinstance(std, torch.Tensor):
        return "normal", {"mean": float(mean), "std": float(std)}
    return None
