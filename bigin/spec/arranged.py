"""Tensors made from those of another checkpoint: cut, transposed, joined, repeated, stacked, and altered."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bigin.core import dtypes
from bigin.core.errors import InputError
from bigin.core.record import Record
from bigin.core.regions import Shape
from bigin.core.source import Source
from bigin.core.text import counted, parse_shape
from bigin.fillers.arranged import AlteredFiller, AxisChoice, Choice, ViewFiller
from bigin.fillers.copied import CopyFiller
from bigin.fillers.filler import Array, Filler
from bigin.fillers.fused import FusedFiller
from bigin.methods.scalars import drawn_as
from bigin.spec.copied import check_dtype, of_common
from bigin.spec.spec import common
from bigin.spec.tensor import TensorSpec

Ends = tuple[int | None, int | None, int | None]
DRAWN_KEYS = ("method", "parameters")
LARGEST = 1 << 24  # copies of a tensor, and indices of an axis of which a fraction is drawn anew


@dataclass(frozen=True)
class Arrangement:
    """What is done with what is copied, in this order: cut, transposed, joined, repeated, stacked so many times.

    block: for each axis, how many indices are repeated together; 0 for all.
    """

    slices: tuple[Ends, ...] = ()
    transpose: bool = False
    concat: int = 0
    repeat: tuple[int, ...] = ()
    copies: int | None = None
    block: tuple[int, ...] = ()

    def cut(self, shape: Shape) -> list[range]:
        """The indices along each axis of a source that are copied; raises InputError for slices that do not fit."""
        if len(self.slices) > len(shape):
            raise InputError(
                f"expected slices of at most {counted(len(shape), 'axis', 'axes')}, those of shape {shape}, "
                f"got {len(self.slices)}"
            )
        ends = (*self.slices, *[(None, None, None)] * (len(shape) - len(self.slices)))
        return [range(size)[slice(*cut)] for size, cut in zip(shape, ends, strict=True)]

    def axes(self, ndim: int) -> list[int]:
        """The axes of a source in the order of those of the copy; raises InputError for one that has not two."""
        order = list(range(ndim))
        if self.transpose:
            if ndim < 2:
                raise InputError(f"expected two axes to transpose, got {ndim}")
            order[-2:] = order[-1], order[-2]
        return order

    def single(self, shape: Shape) -> Shape:
        """The shape of one source, cut and transposed."""
        cut = self.cut(shape)
        return tuple(len(cut[axis]) for axis in self.axes(len(shape)))

    def joined(self, shapes: list[Shape]) -> Shape:
        """The shape of all sources along an axis; raises InputError where they do not fit."""
        first, axis = shapes[0], self.concat
        if not 0 <= axis < max(1, len(first)):
            raise InputError(f"expected an axis of shape {first} to join along, got {axis}")
        others = [(*shape[:axis], *shape[axis + 1 :]) for shape in shapes]
        if any(other != others[0] for other in others):
            raise InputError(f"expected tensors that fit along axis {axis}, got shapes {', '.join(map(str, shapes))}")
        return first if len(shapes) == 1 else (*first[:axis], sum(shape[axis] for shape in shapes), *first[axis + 1 :])

    def shape(self, shapes: list[Shape]) -> Shape:
        """The shape of the whole."""
        joined = self.joined([self.single(shape) for shape in shapes])
        if self.repeat and len(self.repeat) != len(joined):
            raise InputError(f"expected a number for each axis of {joined} to repeat, got {list(self.repeat)}")
        for axis, (size, block) in enumerate(zip(joined, self.blocks(joined), strict=True)):
            if size % block:
                raise InputError(
                    f"expected a block that divides the {size} indices of axis {axis} of {joined}, got {block}"
                )
        times = self.repeat or (1,) * len(joined)
        repeated = tuple(size * number for size, number in zip(joined, times, strict=True))
        return repeated if self.copies is None else (self.copies, *repeated)

    def blocks(self, joined: Shape) -> tuple[int, ...]:
        """How many indices are repeated together, along each axis."""
        if self.block and (len(self.block) != len(joined) or not self.repeat):
            raise InputError(f"expected repeat, and a block for each axis of {joined}, got {list(self.block)}")
        return tuple(block or max(1, size) for size, block in zip(joined, self.block or joined, strict=True))

    def filler(self, sources: tuple[Source, ...]) -> Filler:
        """The filler of the whole, in the sources' dtype."""
        dtype, singles = sources[0].dtype, []
        for source in sources:
            single: Filler = CopyFiller(source, dtype)
            cut, axes = self.cut(source.shape), self.axes(len(source.shape))
            if self.transpose or any(indices != range(size) for indices, size in zip(cut, source.shape, strict=True)):
                chosen = [np.asarray(cut[axis], np.intp) for axis in axes]
                single = ViewFiller(single, dtype, self.single(source.shape), axes, chosen)
            singles.append(single)
        whole, joined = singles[0], self.joined([single.shape for single in singles])
        if len(singles) > 1:
            sizes = [single.shape[self.concat] for single in singles]
            whole = FusedFiller(joined, dtype, self.concat, sizes, singles, stack=False)
        times = self.repeat or (1,) * len(joined)
        if self.copies is None and set(times) <= {1}:
            return whole
        blocks = self.blocks(joined)
        indices: list[Array] = [repeated(*each) for each in zip(joined, times, blocks, strict=True)]
        axes_of: list[int | None] = [*range(len(joined))]
        if self.copies is not None:
            indices, axes_of = [np.empty(0, np.intp), *indices], [None, *axes_of]
        return ViewFiller(whole, dtype, self.shape([source.shape for source in sources]), axes_of, indices)

    def record(self) -> Record:
        """As a record tells it."""
        told: Record = {
            "slice": [list(cut) for cut in self.slices],
            "repeat": list(self.repeat),
            "block": list(self.block),
        }
        told["copies"] = self.copies
        return {key: value for key, value in told.items() if value} | {
            key: value for key, value in (("transpose", self.transpose), ("concat", self.concat)) if value
        }

    @classmethod
    def from_record(cls, told: Mapping[str, Any]) -> Arrangement:
        """What a record tells."""
        slices = tuple((cut[0], cut[1], cut[2]) for cut in told.get("slice", ()))
        repeat = tuple(int(times) for times in told.get("repeat", ()))
        block = tuple(int(size) for size in told.get("block", ()))
        return cls(slices, bool(told.get("transpose")), int(told.get("concat", 0)), repeat, told.get("copies"), block)


def repeated(size: int, times: int, block: int) -> Array:
    """Which index along an axis each is a copy of: blocks of indices, each so many times in a row."""
    if size == 0:
        return np.empty(0, np.intp)
    return np.repeat(np.arange(size).reshape(-1, 1, block), times, axis=1).reshape(-1)


@dataclass(frozen=True)
class Anew:
    """What of a copy is drawn anew: a fraction of its elements, or of the indices along an axis (before the stacking).

    `values` are those of the whole tensor. `group` names the stream of the choice along an axis.
    """

    values: TensorSpec
    fraction: float
    axis: int | None = None
    group: str = ""


@dataclass(frozen=True)
class ArrangedSpec:
    """A tensor made of those of another checkpoint."""

    sources: tuple[Source, ...]
    arrangement: Arrangement
    shape: Shape
    dtype: np.dtype[Any]
    name: str = ""
    seed: int = 0
    multiply: float = 1.0
    noise: TensorSpec | None = None
    anew: Anew | None = None

    def check(self) -> None:
        """Raises InputError where the parts do not fit each other."""
        for source in self.sources:
            check_dtype(source, self.dtype)
            if source.dtype != self.sources[0].dtype:
                raise InputError(f"expected sources of one dtype, got {self.sources[0].dtype}, {source.dtype}")
        made = self.arrangement.shape([source.shape for source in self.sources])
        if made != self.shape:
            names = ", ".join(f"{source.tensor} {source.shape}" for source in self.sources)
            raise InputError(f"expected a copy of shape {self.shape}, got {made} of {names}")
        floats = dtypes.name_of(self.dtype) in dtypes.FLOATS
        if not floats and (self.multiply != 1 or self.noise is not None):
            raise InputError(f"expected floats to multiply or to add noise to, got {self.dtype}")
        if self.anew is not None and self.anew.axis is not None:
            self._chosen_from(self.anew.axis)

    def _chosen_from(self, axis: int) -> tuple[int, int]:
        """The number of copies, and the number of indices from which each chooses."""
        inside = self.shape if self.arrangement.copies is None else self.shape[1:]
        if axis >= len(inside):
            raise InputError(f"expected an axis of shape {inside} to draw anew along, got {axis}")
        size = inside[axis]
        if len(self.sources) > 1 and axis == self.arrangement.concat:
            sizes = {self.arrangement.single(source.shape)[axis] for source in self.sources}
            if len(sizes) > 1:
                raise InputError(f"expected parts of one size along axis {axis}, got {sorted(sizes)}")
            size = sizes.pop()
        copies = self.arrangement.copies or 1
        if copies * size > LARGEST:
            raise InputError(f"expected at most {LARGEST} indices to choose from, got {copies * size}")
        return copies, size

    @property
    def work(self) -> np.dtype[Any]:
        """The type of products and sums."""
        return np.dtype(drawn_as(np.promote_types(drawn_as(self.sources[0].dtype), drawn_as(self.dtype))))

    def plan(self) -> Callable[[], Filler]:
        """What makes the filler.

        Raises InputError where the dtype cannot hold the values, SourceError where the other checkpoint is gone.
        """
        self.check()
        for source in self.sources:
            source.check()
        noise = None if self.noise is None else self.noise.plan()
        anew = None if self.anew is None else (self.anew.values.plan(), self._choice(self.anew))

        def make() -> Filler:
            return AlteredFiller(
                self.arrangement.filler(self.sources),
                self.sources[0].dtype,
                self.work,
                self.multiply,
                None if noise is None else noise(),
                None if anew is None else (anew[0](), anew[1]()),
            )

        return make

    def _choice(self, anew: Anew) -> Callable[[], Choice]:
        shape = self.shape if anew.axis is None else self._chosen_from(anew.axis)
        name = self.name if anew.axis is None else anew.group
        uniform = TensorSpec.parse("uniform", {}, self.seed, name, shape, np.dtype(np.float64))
        make = replace(uniform, purpose="reinit").plan()
        if anew.axis is None:
            return lambda: Choice(make(), anew.fraction)
        axis, stacked = anew.axis, self.arrangement.copies is not None
        return lambda: AxisChoice(make(), anew.fraction, axis, stacked=stacked)

    def record(self) -> Record:
        """The provenance record."""
        told: Record = {"from": [source.record() for source in self.sources], **self.arrangement.record()}
        if self.multiply != 1:
            told["multiply"] = self.multiply
        if self.noise is not None:
            told["noise"] = drawn_record(self.noise)
        if self.anew is not None:
            told["reinit"] = drawn_record(self.anew.values) | {"fraction": self.anew.fraction}
            if self.anew.axis is not None:
                told["reinit"] |= {"axis": self.anew.axis, "group": self.anew.group}
        return {"method": "copy", "arranged": told} | common(self.seed, self.name, self.shape, self.dtype)

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> ArrangedSpec:
        """What a record says; raises InputError where it says nothing that could be filled."""
        told, shape = record.get("arranged"), parse_shape(record.get("shape"))
        try:
            sources = tuple(map(Source.from_record, told["from"]))  # type: ignore[index]
            arrangement = Arrangement.from_record(told)  # type: ignore[arg-type]
            spec = cls(sources, arrangement, shape, dtypes.parse_dtype(record.get("dtype")), *of_common(record))
            spec = replace(spec, multiply=float(told.get("multiply", 1.0)))  # type: ignore[union-attr]
            noise, anew = told.get("noise"), told.get("reinit")  # type: ignore[union-attr]
            if noise is not None:
                spec = spec.with_noise(noise["method"], noise["parameters"])
            if anew is not None:
                values = spec.drawn(anew["method"], anew["parameters"], spec.dtype)
                spec = replace(
                    spec, anew=Anew(values, float(anew["fraction"]), anew.get("axis"), anew.get("group", ""))
                )
        except (KeyError, TypeError, IndexError, AttributeError) as error:
            raise InputError(f"expected a record of a copy, got {error!r:.100}") from None
        if not sources:
            raise InputError("expected a record of a copy with what it is of, got none")
        return spec

    def drawn(self, method: str, parameters: Mapping[str, Any], dtype: np.dtype[Any]) -> TensorSpec:
        """What a method says of the whole tensor."""
        return TensorSpec.parse(method, parameters, self.seed, self.name, self.shape, dtype)

    def with_noise(self, method: str, parameters: Mapping[str, Any]) -> ArrangedSpec:
        """The same with a method's values added, from a stream of their own."""
        return replace(self, noise=replace(self.drawn(method, parameters, self.work), purpose="noise"))

    def __str__(self) -> str:
        done = [f"{self.arrangement.copies} times"] if self.arrangement.copies is not None else []
        if self.multiply != 1:
            done.append(f"times {self.multiply:g}")
        if self.noise is not None:
            done.append(f"plus {self.noise.call}")
        if self.anew is not None:
            done.append(f"{self.anew.fraction:g} drawn anew by {self.anew.values.call}")
        return "; ".join([f"copy of {', '.join(source.tensor for source in self.sources)}", *done])


def drawn_record(spec: TensorSpec) -> Record:
    """A method and its parameters, as a record tells them; the rest is that of the tensor."""
    record = spec.record()
    return {key: record[key] for key in DRAWN_KEYS}
