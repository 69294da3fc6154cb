"""Embedding tables of TorchRec and FBGEMM: whole, in shards, in one buffer with others, and quantized."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from bigin.api.virtual_array import VirtualArray
from bigin.core import dtypes
from bigin.core.errors import InputError
from bigin.core.floats import default_modes
from bigin.core.limits import Limits
from bigin.core.regions import parse_region
from bigin.core.text import parse_shape
from bigin.jobs.job import FillOptions, Job
from bigin.spec.part import RegionSpec
from bigin.spec.tensor import TensorSpec
from bigin.targets.open import open_target
from bigin.torch.distributed import is_distributed, local_parts, part_jobs
from bigin.torch.modules import Pairs, Rule, Rules, parse, parse_rules
from bigin.torch.sharding import calling_modules, evicted_rows, sharded_weights

BLOCK = 1 << 20  # elements of rows that are made as floats before they are quantized


@dataclass(frozen=True)
class InitFn:
    """A function that fills an embedding table, or this rank's parts of it; `bigin.torch.init_fn` makes one.

    Attributes:
        method, parameters, seed, name, padding_idx: the values of the whole table.
        limits: limits of threads and memory.
    """

    method: str
    parameters: Mapping[str, Any]
    seed: int
    name: str
    padding_idx: int | None
    limits: Limits

    def __call__(self, tensor: Any) -> Any:
        """Fill a table.

        Args:
            tensor: a whole table, or the parameter that a sharded module of TorchRec holds in place of one. One on
                the meta device is left as it is.

        Returns:
            The tensor.

        Raises:
            InputError: it is not known which part of the table this is, or something else is wrong.
        """
        if tensor.is_meta:  # as functions of torch.nn.init
            return tensor
        with default_modes(), torch.no_grad():
            if (evicted := evicted_rows()) is not None and evicted[0] is not tensor:
                return self._reset(tensor, *evicted)
            table = self._table_of(tensor)
            for job in part_jobs(table, self._spec(table), self.limits):
                job.fill(FillOptions())
        return tensor

    def _spec(self, table: Any) -> TensorSpec:
        """What the values of a whole table are."""
        shape, dtype = tuple(table.shape), dtypes.parse_dtype(table.dtype)
        return TensorSpec.parse(
            self.method, self.parameters, self.seed, self.name, shape, dtype, self.padding_idx, "caller"
        )

    def _reset(self, tensor: Any, part: Any, numbers: Any) -> Any:
        """Fill rows that managed collisions evict, by their numbers in this rank's part of the table."""
        table = self._table_of(part)
        parts = local_parts(table) if is_distributed(table) else [(table, tuple(map(slice, table.shape)))]
        region = next((region for held, region in parts if held.data_ptr() == part.data_ptr()), None)
        if region is None or len(numbers) != len(tensor):
            raise InputError(
                f"{self.name}: expected rows of a part of the table that lies here, got {tuple(tensor.shape)}; call "
                "bigin.torch.init_ with the sharded module"
            )
        rows = numbers.detach().cpu().numpy().astype(np.int64) + (region[0].start or 0)
        made = VirtualArray(self._spec(table), self.limits)[rows, region[1]]
        return tensor.copy_(torch.from_numpy(made.view(f"i{made.itemsize}")).view(tensor.dtype))

    def _table_of(self, tensor: Any) -> Any:
        """The sharded table of which a tensor is this rank's part, or the tensor itself, which is whole.

        TorchRec calls init_fn with the part alone, and the module that calls knows where in the table it lies.
        """
        modules = list(calling_modules())
        for module in modules:
            for held, table in sharded_weights(module).values():
                if held is tensor:
                    return table
        is_part = type(tensor).__name__ == "TableBatchedEmbeddingSlice"
        if is_part or (modules and not isinstance(tensor, torch.nn.Parameter)):  # rows that were evicted, say
            raise InputError(
                f"{self.name}: expected a table, or a sharded module's parameter of it, got a "
                f"{type(tensor).__name__} of shape {tuple(tensor.shape)} that does not say what part of the table it "
                "is; call bigin.torch.init_ with the sharded module"
            )
        return tensor


def init_fn(
    method: str,
    *,
    name: str,
    seed: int = 0,
    padding_idx: int | None = None,
    threads: int | None = None,
    max_memory: int | str | None = None,
    **parameters: Any,
) -> InitFn:
    """Return an `init_fn` for TorchRec's EmbeddingBagConfig and EmbeddingConfig.

    A whole table, and one that is sharded in any way (table-wise, row-wise, column-wise or both), gets the same values.
    Each rank makes only its own parts, in place.

    Args:
        method: as in bigin.fill.
        name: the table's name, which selects its stream.
        seed: an integer from 0 to 2^64 - 1.
        padding_idx, threads, max_memory, **parameters: as in bigin.fill.

    Returns:
        A function that fills a tensor in place.

    Raises:
        InputError: an argument is invalid.

    Example:
        >>> fill_users = bigin.torch.init_fn("normal", std=0.01, seed=3, name="users")
        >>> weight = fill_users(torch.empty(1000, 8))
        >>> np.array_equal(weight, bigin.virtual((1000, 8), "normal", std=0.01, seed=3, name="users"))
        True
    """
    TensorSpec.parse(method, parameters, seed, name, (1, 1), dtypes.parse_dtype("float32"), None)
    return InitFn(method, parameters, seed, name, padding_idx, Limits.parse(threads, max_memory))


def fill_quantized(
    rows: Any,
    method: str,
    *,
    bits: int = 8,
    seed: int = 0,
    name: str = "",
    padding_idx: int | None = None,
    shape: Any = None,
    region: Any = None,
    threads: int | None = None,
    max_memory: int | str | None = None,
    **parameters: Any,
) -> Any:
    """Fill quantized rows of an embedding table with the bytes that FBGEMM makes of a method's float32 values.

    Rows are made as floats and quantized a few megabytes at a time. Each row has its own scale and bias.

    Args:
        rows: a tensor of bytes, a row of it for each row of the table, in the layout of
            torch.ops.fbgemm.FloatToFused8BitRowwiseQuantized (8 bits: the values, then scale and bias in float32) or of
            FloatToFusedNBitRowwiseQuantizedSBHalf (4 and 2 bits; scale and bias in float16). Or a pair of tensors, as
            split_embedding_weights() of IntNBitTableBatchedEmbeddingBagsCodegen has for each table: the values, and
            scale and bias in float16, as FBGEMM's quantize_embs makes them; None in their place with 16 and 32 bits,
            which are float16 and float32.
        method, seed, name, padding_idx, threads, max_memory, **parameters: as in bigin.fill.
        bits: of a value: 8, 4 or 2; in a pair also 16 and 32.
        shape: (num_embeddings, embedding_dim) of the whole table, by default that of the rows.
        region: which part of the table the rows are, as in bigin.fill.

    Returns:
        The rows.

    Raises:
        InputError: an argument is invalid; nothing was changed.
        ModuleNotFoundError: FBGEMM is missing.

    Example:
        >>> weight = torch.empty(100, 8, dtype=torch.float32)
        >>> pair = bigin.torch.fill_quantized((weight.view(torch.uint8), None), "normal", bits=32, name="users")
        >>> torch.equal(weight, bigin.torch.init_fn("normal", name="users")(torch.empty(100, 8)))
        True
    """
    limits, layout = Limits.parse(threads, max_memory), QuantizedLayout.of(rows, bits)
    whole = layout.shape if shape is None else parse_shape(shape)
    ranges = parse_region((slice(None), slice(None)) if region is None else region, whole)
    if tuple(map(len, ranges)) != layout.shape:
        raise InputError(f"expected rows of shape {tuple(map(len, ranges))}, got such of {layout.shape}")
    with default_modes(), torch.no_grad():
        dtype = dtypes.parse_dtype("float32")
        spec = TensorSpec.parse(method, parameters, seed, name, whole, dtype, padding_idx, "caller")
        for part, values in blocks(spec, ranges, limits):
            for place, made in zip(layout.places, layout.quantized(values), strict=True):
                place[part].copy_(made)
    return rows


@dataclass(frozen=True)
class QuantizedLayout:
    """How quantized rows lie: tensors of bytes of which each has a row for a row of the table."""

    bits: int
    places: tuple[Any, ...]
    shape: tuple[int, int]
    split: bool

    @classmethod
    def of(cls, rows: Any, bits: int) -> QuantizedLayout:
        """The layout of rows as a caller gives them; raises InputError."""
        split = isinstance(rows, tuple | list)
        allowed = (2, 4, 8, 16, 32) if split else (2, 4, 8)
        if bits not in allowed:
            raise InputError(f"expected bits among {allowed}, got {bits}")
        places = tuple(place for place in rows if place is not None) if split else (rows,)
        if not all(isinstance(place, torch.Tensor) and place.dtype == torch.uint8 for place in places):
            raise InputError("expected rows as a tensor of bytes (uint8), or as a pair of such tensors")
        if any(place.ndim != 2 or len(place) != len(places[0]) for place in places) or not places:
            raise InputError(f"expected tensors of 2 axes, got shapes {[tuple(place.shape) for place in places]}")
        behind = 0 if split else 8 if bits == 8 else 4  # bytes of scale and bias in the same tensor
        size = places[0].shape[1] - behind
        layout = cls(bits, places, (len(places[0]), size * 8 // bits), split)
        expected = [layout.shape[1] * bits // 8 + behind, *([4] if split and bits < 16 else [])]
        if [place.shape[1] for place in places] != expected or size < 1:
            raise InputError(
                f"expected rows of {bits} bits a value with scale and bias ({expected} bytes), got "
                f"{[place.shape[1] for place in places]}"
            )
        return layout

    def quantized(self, values: Any) -> tuple[Any, ...]:
        """Rows of floats as bytes, for each place; as FBGEMM's quantize_embs for a pair."""
        if self.bits >= 16:
            return ((values.half() if self.bits == 16 else values).view(torch.uint8),)
        if self.bits == 8:
            made = operations().FloatToFused8BitRowwiseQuantized(values)
            if self.split:  # scale and bias, rounded to float16
                return made[:, :-8], made[:, -8:].contiguous().view(torch.float32).half().view(torch.uint8)
        else:
            made = operations().FloatToFusedNBitRowwiseQuantizedSBHalf(values, self.bits)
            if self.split:
                return made[:, :-4], made[:, -4:]
        return (made,)


def operations() -> Any:
    """FBGEMM's operations, which its package registers."""
    try:
        import fbgemm_gpu  # noqa: F401
    except ModuleNotFoundError:
        why = "expected fbgemm_gpu, which quantizes the rows; pip install fbgemm-gpu-cpu"
        raise ModuleNotFoundError(why, name="fbgemm_gpu") from None
    return torch.ops.fbgemm


def blocks(spec: TensorSpec, ranges: Sequence[range], limits: Limits) -> Iterator[tuple[slice, Any]]:
    """A part of a table block by block: (which of its rows, their values), in one buffer."""
    rows, columns = ranges
    step = max(1, BLOCK // max(1, len(columns)))
    buffer = torch.empty((min(step, len(rows)), len(columns)))
    for first in range(0, len(rows), step):
        chosen = rows[first : first + step]
        Job(RegionSpec(spec, (chosen, columns)), open_target(buffer[: len(chosen)]), limits).fill(FillOptions())
        yield slice(first, first + len(chosen)), buffer[: len(chosen)]


def fill_tables(
    tables: Any,
    names: Sequence[str],
    rules: Rules,
    *,
    seed: int = 0,
    threads: int | None = None,
    max_memory: int | str | None = None,
) -> None:
    """Fill the tables of a batched embedding of FBGEMM in place, each by the first rule that matches its name.

    Args:
        tables: SplitTableBatchedEmbeddingBagsCodegen, DenseTableBatchedEmbeddingBagsCodegen or
            IntNBitTableBatchedEmbeddingBagsCodegen, whose quantized rows are filled as fill_quantized fills them.
        names: names of the tables, in order; a name selects the stream.
        rules: a mapping, or a sequence of pairs, from a pattern of names to a method, or to a pair of a method's name
            and a mapping of parameters.
        seed: an integer from 0 to 2^64 - 1.
        threads, max_memory: as in bigin.fill.

    Raises:
        InputError: an argument is invalid, or a table has no rule; nothing was changed.

    Example:
        >>> class Tables:  # FBGEMM's classes have this method
        ...     def split_embedding_weights(self):
        ...         return [users, items]
        >>> users, items = torch.empty(100, 8), torch.ones(50, 8)
        >>> bigin.torch.fill_tables(Tables(), ["users", "items"], {"users": ("normal", {"std": 0.01}), "*": "zeros"})
        >>> items.any().item()
        False
    """
    if not hasattr(tables, "split_embedding_weights"):
        raise InputError(f"expected tables of FBGEMM with split_embedding_weights(), got {type(tables).__name__}")
    weights, pairs = tables.split_embedding_weights(), parse_rules(rules)
    if isinstance(names, str) or len(names) != len(weights):
        raise InputError(f"expected the names of {len(weights)} tables, got {names!r}")
    chosen = [(name, rule_for(pairs, name)) for name in names]
    limits = {"threads": threads, "max_memory": max_memory}
    fills: list[Callable[[], Any]] = []
    for number, ((name, rule), weight) in enumerate(zip(chosen, weights, strict=True)):
        told = {"seed": seed, "name": name, **limits, **rule.parameters}
        if isinstance(weight, tuple) or weight.dtype == torch.uint8:
            bits = tables.embedding_specs[number][3].bit_rate() if isinstance(weight, tuple) else 8
            shape = QuantizedLayout.of(weight, bits).shape
            fills.append(lambda w=weight, m=rule.method, b=bits, t=told: fill_quantized(w, m, bits=b, **t))  # type: ignore[misc]
        else:
            shape = tuple(weight.shape)
            made = init_fn(rule.method, **told)
            fills.append(lambda w=weight, f=made: f(w))  # type: ignore[misc]
        TensorSpec.parse(rule.method, rule.parameters, seed, name, shape, dtypes.parse_dtype("float32"), None).plan()
    for fill in fills:
        fill()


def rule_for(pairs: Pairs, name: str) -> Rule:
    """The first rule that matches a table's name; raises InputError where none is."""
    for key, rule in pairs:
        if not isinstance(key, str) or not isinstance(rule, Rule):
            raise InputError("expected rules from patterns of names to methods, got others")
        if parse(key).match(name) is not None:
            return rule
    raise InputError(f"expected a rule for every table, got none for {name}; add one for it, or for *")
