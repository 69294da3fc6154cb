"""torch.nn.init's functions, with its names and parameters, for numpy and zarr arrays: in place, returning it."""

from __future__ import annotations

from typing import Any, TypeVar

from bigin.api.filling import fill
from bigin.methods.gain import calculate_gain as calculate_gain

A = TypeVar("A")

_COMMON = """

    Keyword arguments beside the method's own: seed (0), name (None), threads, max_memory, overwrite (False; it
    guards zarr arrays that hold data), as in bigin.fill. Raises bigin.InputError, a ValueError, for bad input.
    """


def _fill(array: A, method: str, options: dict[str, Any], **parameters: Any) -> A:
    fill(array, method, **options, **parameters)
    return array


def uniform_(array: A, a: float = 0.0, b: float = 1.0, **options: Any) -> A:
    """Fill with values from U[a, b)."""
    return _fill(array, "uniform", options, a=a, b=b)


def normal_(array: A, mean: float = 0.0, std: float = 1.0, **options: Any) -> A:
    """Fill with values from N(mean, std^2)."""
    return _fill(array, "normal", options, mean=mean, std=std)


def trunc_normal_(array: A, mean: float = 0.0, std: float = 1.0, a: float = -2.0, b: float = 2.0, **options: Any) -> A:
    """Fill with values from N(mean, std^2) conditioned on [a, b], two absolute bounds."""
    return _fill(array, "trunc_normal", options, mean=mean, std=std, a=a, b=b)


def constant_(array: A, val: float, **options: Any) -> A:
    """Fill with val."""
    return _fill(array, "constant", options, val=val)


def ones_(array: A, **options: Any) -> A:
    """Fill with 1."""
    return _fill(array, "ones", options)


def zeros_(array: A, **options: Any) -> A:
    """Fill with 0."""
    return _fill(array, "zeros", options)


def xavier_uniform_(array: A, gain: float = 1.0, **options: Any) -> A:
    """Fill with values from U[-x, x), x = gain sqrt(6 / (fan_in + fan_out)) (Glorot and Bengio 2010)."""
    return _fill(array, "xavier_uniform", options, gain=gain)


def xavier_normal_(array: A, gain: float = 1.0, **options: Any) -> A:
    """Fill with values from N(0, s^2), s = gain sqrt(2 / (fan_in + fan_out)) (Glorot and Bengio 2010)."""
    return _fill(array, "xavier_normal", options, gain=gain)


def kaiming_uniform_(
    array: A, a: float = 0, mode: str = "fan_in", nonlinearity: str = "leaky_relu", **options: Any
) -> A:
    """Fill with values from U[-x, x), x = gain sqrt(3 / fan_mode) (He et al. 2015); a is leaky_relu's slope."""
    return _fill(array, "kaiming_uniform", options, a=a, mode=mode, nonlinearity=nonlinearity)


def kaiming_normal_(
    array: A, a: float = 0, mode: str = "fan_in", nonlinearity: str = "leaky_relu", **options: Any
) -> A:
    """Fill with values from N(0, s^2), s = gain / sqrt(fan_mode) (He et al. 2015); a is leaky_relu's slope."""
    return _fill(array, "kaiming_normal", options, a=a, mode=mode, nonlinearity=nonlinearity)


def lecun_uniform_(array: A, **options: Any) -> A:
    """Fill with values from U[-x, x), x = sqrt(3 / fan_in) (LeCun et al. 1998)."""
    return _fill(array, "lecun_uniform", options)


def lecun_normal_(array: A, **options: Any) -> A:
    """Fill with a normal truncated at two standard deviations, of variance 1 / fan_in (LeCun et al. 1998)."""
    return _fill(array, "lecun_normal", options)


def variance_scaling_(
    array: A, scale: float = 1.0, mode: str = "fan_in", distribution: str = "truncated_normal", **options: Any
) -> A:
    """Fill with a distribution around 0 of variance scale / fan_mode (jax.nn.initializers.variance_scaling)."""
    return _fill(array, "variance_scaling", options, scale=scale, mode=mode, distribution=distribution)


def eye_(array: A, **options: Any) -> A:
    """Fill a matrix with 1 on the diagonal and 0 elsewhere."""
    return _fill(array, "eye", options)


def dirac_(array: A, groups: int = 1, **options: Any) -> A:
    """Fill a 3- to 5-d kernel with the Dirac delta, which passes channels on, in each of the groups."""
    return _fill(array, "dirac", options, groups=groups)


def sparse_(array: A, sparsity: float, std: float = 0.01, **options: Any) -> A:
    """Fill a matrix with exactly ceil(sparsity * rows) zeros in every column and N(0, std^2) elsewhere."""
    return _fill(array, "sparse", options, sparsity=sparsity, std=std)


def orthogonal_(array: A, gain: float = 1, **options: Any) -> A:
    """Fill with gain times a Haar-distributed matrix with orthonormal columns or rows (Saxe et al. 2013)."""
    return _fill(array, "orthogonal", options, gain=gain)


def delta_orthogonal_(array: A, gain: float = 1.0, **options: Any) -> A:
    """Fill a kernel (out, in, ...) with 0, and its centre with gain times orthonormal columns (Xiao et al. 2018)."""
    return _fill(array, "delta_orthogonal", options, gain=gain)


glorot_uniform_, glorot_normal_ = xavier_uniform_, xavier_normal_
he_uniform_, he_normal_ = kaiming_uniform_, kaiming_normal_

for _function in [f for n, f in list(globals().items()) if n.endswith("_") and not n.startswith("_")]:
    if _COMMON not in (_function.__doc__ or ""):
        _function.__doc__ = f"{_function.__doc__}{_COMMON}"
