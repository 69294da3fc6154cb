"""The table of distributions: one row each, with all that the package knows about a distribution.

It stands here and not in methods/, because its rows name filler classes, and fillers are built on methods. Nothing else
asks which distribution it has: whoever needs something of a distribution looks it up in its row.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np

from bigin.core import dtypes
from bigin.core.errors import InputError
from bigin.core.regions import Shape
from bigin.core.text import counted
from bigin.fillers.computed import NoisyIdentityFiller, RowsFiller, SinusoidalFiller, check_rows, row_of
from bigin.fillers.filler import ConstantFiller, Cost, DrawnFiller, Filler, Stream
from bigin.fillers.structured import DiracFiller, EyeFiller, SparseFiller
from bigin.methods import expected as expectations
from bigin.methods import scalars
from bigin.methods.distributions import (
    Arange,
    Constant,
    Dirac,
    Distribution,
    Eye,
    IdentityPlusNoise,
    InverseSoftplus,
    Linspace,
    LogArange,
    LogOfUniform,
    LogUniform,
    Normal,
    Orthogonal,
    RingDecay,
    Rotary,
    Sinusoidal,
    Sparse,
    TruncNormal,
    Uniform,
)
from bigin.methods.expected import Expected
from bigin.methods.scalars import Scalars

Make = Callable[[], Filler]
DType = np.dtype[Any]


def unchanged(old: Distribution, new: Distribution) -> bool:
    """Whether the values of the rows that two sizes share are the same: they are if the distribution is."""
    return old == new


def never(old: Distribution, new: Distribution) -> bool:
    """For distributions whose values all depend on the number of rows."""
    return False


def no_cost(distribution: Any, shape: Shape, dtype: DType) -> Cost:
    """For values that cost next to nothing."""
    return Cost()


@dataclass(frozen=True)
class Family:
    """A row of the table; all functions take the distribution first.

    plan: (shape, dtype, stream) to what makes the filler, with all checks done and nothing compiled. expected: (shape,
    dtype, whole=) to what the values should be like. formula: the distribution with its numbers, as people write it.
    cost: (shape, dtype) to an estimate. random: whether values depend on the stream. region_bytes: the filler's,
    which is made late. grows: whether a table may grow,
    from the distributions of the old and the new size. scalars: of independent draws, (dtype) to a kernel's numbers.

    The filler class names the class that makes the same values on a CUDA device (Filler.on_device).
    """

    plan: Callable[[Any, Shape, DType, Stream], Make]
    expected: Callable[..., Expected]
    formula: Callable[[Any], str]
    cost: Callable[[Any, Shape, DType], Cost] = no_cost
    random: bool = True
    region_bytes: int = 0
    grows: Callable[[Distribution, Distribution], bool] = unchanged
    scalars: Callable[[Any, DType], Scalars] | None = None


def drawn(scalars_of: Callable[[Any, DType], Scalars], rate: float, **row: Any) -> Family:
    """The row of a distribution of independent draws, of which a core makes `rate` bytes per second."""

    def plan(distribution: Any, shape: Shape, dtype: DType, stream: Stream) -> Callable[[], DrawnFiller]:
        return partial(DrawnFiller, shape, dtype, scalars_of(distribution, dtype), stream)

    return Family(plan, cost=lambda distribution, shape, dtype: Cost(rate), scalars=scalars_of, **row)


def constant_plan(distribution: Constant, shape: Shape, dtype: DType, stream: Stream) -> Make:
    """One value."""
    return partial(ConstantFiller, shape, scalars.constant(distribution.value, dtype))


def eye_plan(distribution: Eye, shape: Shape, dtype: DType, stream: Stream) -> Make:
    """Ones on the diagonal."""
    return partial(EyeFiller, shape, scalars.constant(1, dtype))


def dirac_plan(distribution: Dirac, shape: Shape, dtype: DType, stream: Stream) -> Make:
    """Ones at the centres of kernels."""
    return partial(DiracFiller, shape, scalars.constant(1, dtype), distribution.groups)


def sparse_plan(distribution: Sparse, shape: Shape, dtype: DType, stream: Stream) -> Make:
    """Normal values from the tensor's own stream, and a permutation of another purpose."""
    values: Any = FAMILIES[Normal].plan(Normal(0.0, distribution.std), shape, dtype, stream)
    return lambda: SparseFiller(shape, values(), distribution.zeros, stream)


def orthogonal_plan(distribution: Orthogonal, shape: Shape, dtype: DType, stream: Stream) -> Make:
    """The matrix draws a Gaussian one of its own purpose, always the tall way up."""
    scalars.fits(-abs(distribution.gain), abs(distribution.gain), dtype)
    rows, columns = distribution.matrix(shape)
    drawn_type = np.dtype(scalars.drawn_as(dtype))
    tall = (max(rows, columns), min(rows, columns))
    gaussian: Any = FAMILIES[Normal].plan(Normal(0.0, 1.0), tall, drawn_type, stream.of("orthogonal"))
    others = distribution.columns(len(shape))
    inner = (rows, *(shape[axis] for axis in others))
    moved = (*distribution.out_axes, *others) != tuple(range(len(shape)))

    def make() -> Filler:
        from bigin.fillers.axes import MovedAxesFiller
        from bigin.fillers.orthogonal import DeltaOrthogonalFiller, OrthogonalFiller

        kind = DeltaOrthogonalFiller if distribution.delta else OrthogonalFiller
        filler: Filler = kind(inner, gaussian(), drawn_type, distribution.gain)
        if moved or len(distribution.out_axes) > 1:
            filler = MovedAxesFiller(filler, shape, distribution.out_axes, others)
        return filler

    return make


def rows_plan(distribution: Any, shape: Shape, dtype: DType, stream: Stream) -> Make:
    """Values that follow from the index along the last axis, or of a row and a column."""
    low, high = check_rows(distribution, shape, dtype)
    if dtype.kind in "iu":
        scalars.constant(int(low), dtype), scalars.constant(int(high), dtype)
    else:
        scalars.fits(low, high, dtype)
    if isinstance(distribution, Sinusoidal):
        return partial(SinusoidalFiller, shape, dtype, distribution)
    return lambda: RowsFiller(shape, dtype, row_of(distribution, shape, dtype))


def identity_plus_noise_plan(distribution: IdentityPlusNoise, shape: Shape, dtype: DType, stream: Stream) -> Make:
    """Normal values around 0, and on the diagonal those of the same draws around the gain."""
    around = (Normal(mean, distribution.std) for mean in (0.0, distribution.gain))
    values, diagonal = (FAMILIES[Normal].plan(normal, shape, dtype, stream) for normal in around)
    return lambda: NoisyIdentityFiller(shape, values(), diagonal())  # type: ignore[arg-type]


def rows_family(formula: Callable[[Any], str]) -> Family:
    """The row of values that follow from the index."""
    return Family(rows_plan, expectations.rows, formula, random=False)


def floored(distribution: Any) -> str:
    """What a floor adds to a formula."""
    return f", at least {distribution.floor:.6g}" if distribution.floor > distribution.a else ""


def orthogonal_cost(distribution: Orthogonal, shape: Shape, dtype: DType) -> Cost:
    """The operations of its two products and of the triangle."""
    rows, columns = distribution.matrix(shape)
    m, n = max(rows, columns), min(rows, columns)
    width = np.dtype(scalars.drawn_as(dtype)).itemsize / 4
    return Cost(products=width * (3.0 * m * n * n - 5 / 3 * n**3))


# The rates were measured on a 2-core Zen 5 (README); they only decide where `--device auto` makes the values.
FAMILIES: dict[type, Family] = {
    Constant: Family(
        constant_plan,
        expectations.constant,
        lambda d: f"{d.value:g}",
        random=False,
    ),
    Uniform: drawn(
        scalars.uniform,
        12e9,
        expected=expectations.uniform,
        formula=lambda d: f"U[{d.low:.6g}, {d.high:.6g})",
    ),
    Normal: drawn(
        scalars.normal,
        8e9,
        expected=expectations.normal,
        formula=lambda d: f"N({d.mean:.6g}, {d.std:.6g}^2)",
    ),
    TruncNormal: drawn(
        scalars.trunc_normal,
        3.3e9,
        expected=expectations.trunc_normal,
        formula=lambda d: f"N({d.mean:.6g}, {d.std:.6g}^2) on [{d.a:.6g}, {d.b:.6g}]",
    ),
    LogUniform: drawn(
        scalars.log_uniform,
        4e9,
        expected=expectations.log_uniform,
        formula=lambda d: f"exp(U[ln {d.a:.6g}, ln {d.b:.6g})){floored(d)}",
    ),
    LogOfUniform: drawn(
        scalars.log_of_uniform,
        4e9,
        expected=expectations.log_of_uniform,
        formula=lambda d: f"ln(U[{d.a:.6g}, {d.b:.6g}])",
    ),
    InverseSoftplus: drawn(
        scalars.inverse_softplus,
        2e9,
        expected=expectations.log_uniform,
        formula=lambda d: f"ln(e^t - 1), t = exp(U[ln {d.a:.6g}, ln {d.b:.6g})){floored(d)}",
    ),
    RingDecay: drawn(
        scalars.ring_decay,
        3e9,
        expected=expectations.ring_decay,
        formula=lambda d: f"ln(1 / r - 1), r^2 = U[{d.a:.6g}^2, {d.b:.6g}^2]",
    ),
    IdentityPlusNoise: Family(
        identity_plus_noise_plan,
        expectations.identity_plus_noise,
        lambda d: f"{d.gain:g} on the diagonal plus N(0, {d.std:.6g}^2)",
        cost=lambda d, shape, dtype: Cost(8e9),
    ),
    Arange: rows_family(lambda d: f"{d.start:g} + {d.step:g} i"),
    Linspace: rows_family(lambda d: f"from {d.a:g} to {d.b:g} in equal steps"),
    LogArange: rows_family(lambda d: f"ln({d.start:g} + i)"),
    Rotary: rows_family(lambda d: f"{d.base:g}^(-i / n)"),
    Sinusoidal: rows_family(lambda d: f"sin and cos of p {d.base:g}^(-2 i / d), {d.order}"),
    Eye: Family(
        eye_plan,
        expectations.eye,
        lambda d: "1 on the diagonal",
        random=False,
    ),
    Dirac: Family(
        dirac_plan,
        expectations.dirac,
        lambda d: f"1 where a channel passes, {counted(d.groups, 'group')}",
        random=False,
    ),
    Sparse: Family(
        sparse_plan,
        expectations.sparse,
        lambda d: f"{counted(d.zeros, 'zero')} in every column, else N(0, {d.std:.6g}^2)",
        cost=lambda d, shape, dtype: Cost(rate=1.6e9),
        grows=never,
    ),
    Orthogonal: Family(
        orthogonal_plan,
        expectations.orthogonal,
        lambda d: f"{d.gain:g} Q" + (" at the centre" if d.delta else ""),
        cost=orthogonal_cost,
        region_bytes=16 << 20,  # that of OrthogonalFiller, which is imported late
        grows=never,
    ),
}


def family(distribution: Distribution) -> Family:
    """The row of a distribution."""
    return FAMILIES[type(distribution)]


def require_float(row: Family, dtype: DType) -> None:
    """Raises InputError for random values in a dtype that is no float."""
    if row.random and dtypes.name_of(dtype) not in dtypes.FLOATS:
        raise InputError(
            f"expected a float dtype for random values, got {dtype.name}; fill it with constant, ones, zeros, eye or "
            "dirac"
        )


def plan(distribution: Distribution, shape: Shape, dtype: DType, seed: int, name: str, purpose: str = "") -> Make:
    """What makes the filler of a tensor; all checks are done, and nothing is compiled.

    Raises InputError where the dtype cannot hold the distribution's values.
    """
    row = family(distribution)
    require_float(row, dtype)
    make = row.plan(distribution, shape, dtype, Stream(seed, name, purpose))
    cost = row.cost(distribution, shape, dtype) if math.prod(shape) else Cost()

    def made() -> Filler:
        filler = make()
        filler.cost = cost
        return filler

    return made


def shared_plan(distribution: Distribution, shape: Shape, dtype: DType) -> Callable[[Stream], Make]:
    """`plan` for tensors that differ in their streams alone: what does not depend on the stream is done once."""
    row = family(distribution)
    if not row.random:
        one = cache(plan(distribution, shape, dtype, 0, ""))
        return lambda stream: one
    if row.scalars is None:
        return lambda stream: plan(distribution, shape, dtype, stream.seed, stream.name, stream.purpose)
    require_float(row, dtype)
    numbers = row.scalars(distribution, dtype)
    cost = row.cost(distribution, shape, dtype) if math.prod(shape) else Cost()
    made: list[DrawnFiller] = []

    def make(stream: Stream) -> Filler:
        if not made:
            made.append(DrawnFiller(shape, dtype, numbers, stream))
            made[0].cost = cost
            return made[0]
        return made[0].with_stream(stream)

    return lambda stream: partial(make, stream)
