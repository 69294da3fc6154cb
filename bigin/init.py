"""torch.nn.init's functions, with its names and parameters, for numpy and zarr arrays and torch tensors.

Each function fills its first argument in place and returns it. Without a seed and a name, every call gives other
values, as torch's functions do: the n-th call draws from the stream `#n` of a generator (see `bigin.Generator` and
`bigin.manual_seed`). With a seed or a name the values are a function of the arguments.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from bigin.core.errors import InputError
from bigin.core.floats import default_modes
from bigin.core.generator import DEFAULT, Generator
from bigin.core.limits import Limits
from bigin.jobs.job import FillOptions, Job
from bigin.jobs.what import What
from bigin.jobs.where import Where, opened
from bigin.methods.gain import calculate_gain as calculate_gain

A = TypeVar("A")
Axes = int | Sequence[int]


def uniform_(
    tensor: A,
    a: float = 0.0,
    b: float = 1.0,
    generator: Generator | None = None,
    *,
    seed: int | None = None,
    name: str | None = None,
    threads: int | None = None,
    max_memory: int | str | None = None,
    overwrite: bool = False,
) -> A:
    """Fill with values from the uniform distribution U[a, b).

    Args:
        tensor: a numpy or zarr array, a torch tensor, or another target of `bigin.fill`.
        a, b: lower bound, and upper bound, which is excluded.
        generator: the generator that gives the stream of this call; by default the one of `bigin.manual_seed`.
        seed, name: seed and name of the stream, instead of those of the generator.
        threads, max_memory, overwrite: as in `bigin.fill`.

    Returns:
        The tensor.

    Raises:
        InputError: an argument is invalid; nothing was changed.

    Example:
        >>> w = np.empty((64, 32), np.float32)
        >>> bigin.init.uniform_(w, -0.1, 0.1).shape
        (64, 32)
    """
    parameters: dict[str, Any] = {"a": a, "b": b}
    return _fill(
        tensor, "uniform", parameters, (generator, seed, name), Limits.parse(threads, max_memory), overwrite=overwrite
    )


def normal_(
    tensor: A,
    mean: float = 0.0,
    std: float = 1.0,
    generator: Generator | None = None,
    *,
    seed: int | None = None,
    name: str | None = None,
    threads: int | None = None,
    max_memory: int | str | None = None,
    overwrite: bool = False,
) -> A:
    """Fill with values from the normal distribution N(mean, std^2).

    Args:
        tensor: a numpy or zarr array, a torch tensor, or another target of `bigin.fill`.
        mean, std: mean and standard deviation of the distribution.
        generator: the generator that gives the stream of this call; by default the one of `bigin.manual_seed`.
        seed, name: seed and name of the stream, instead of those of the generator.
        threads, max_memory, overwrite: as in `bigin.fill`.

    Returns:
        The tensor.

    Raises:
        InputError: an argument is invalid; nothing was changed.

    Example:
        >>> w = np.empty((64, 32), np.float32)
        >>> bigin.init.normal_(w, std=0.02).shape
        (64, 32)
    """
    parameters: dict[str, Any] = {"mean": mean, "std": std}
    return _fill(
        tensor, "normal", parameters, (generator, seed, name), Limits.parse(threads, max_memory), overwrite=overwrite
    )


def trunc_normal_(
    tensor: A,
    mean: float = 0.0,
    std: float = 1.0,
    a: float | None = None,
    b: float | None = None,
    generator: Generator | None = None,
    *,
    lower: float | None = None,
    upper: float | None = None,
    seed: int | None = None,
    name: str | None = None,
    threads: int | None = None,
    max_memory: int | str | None = None,
    overwrite: bool = False,
) -> A:
    """Fill with values from N(mean, std^2) conditioned on [a, b].

    Args:
        tensor: a numpy or zarr array, a torch tensor, or another target of `bigin.fill`.
        mean, std: of the normal distribution before the truncation.
        a, b: bounds as values; -2 and 2 by default, as in torch.
        lower, upper: bounds in standard deviations from the mean, as in JAX, instead of a and b.
        generator: the generator that gives the stream of this call; by default the one of `bigin.manual_seed`.
        seed, name: seed and name of the stream, instead of those of the generator.
        threads, max_memory, overwrite: as in `bigin.fill`.

    Returns:
        The tensor.

    Raises:
        InputError: an argument is invalid; nothing was changed.

    Example:
        >>> w = np.empty((64, 32), np.float32)
        >>> bigin.init.trunc_normal_(w, std=0.02, lower=-2, upper=2).shape
        (64, 32)
    """
    parameters: dict[str, Any] = {"mean": mean, "std": std, "a": a, "b": b, "lower": lower, "upper": upper}
    return _fill(
        tensor,
        "trunc_normal",
        parameters,
        (generator, seed, name),
        Limits.parse(threads, max_memory),
        overwrite=overwrite,
    )


def constant_(
    tensor: A,
    val: complex,
    *,
    threads: int | None = None,
    max_memory: int | str | None = None,
    overwrite: bool = False,
) -> A:
    """Fill with a value.

    Args:
        tensor: a numpy or zarr array, a torch tensor, or another target of `bigin.fill`.
        val: the value of every element.
        threads, max_memory, overwrite: as in `bigin.fill`.

    Returns:
        The tensor.

    Raises:
        InputError: an argument is invalid; nothing was changed.

    Example:
        >>> w = np.empty((64, 32), np.float32)
        >>> bigin.init.constant_(w, 0.5).shape
        (64, 32)
    """
    parameters: dict[str, Any] = {"val": val}
    return _fill(
        tensor, "constant", parameters, (None, 0, None), Limits.parse(threads, max_memory), overwrite=overwrite
    )


def ones_(
    tensor: A,
    *,
    threads: int | None = None,
    max_memory: int | str | None = None,
    overwrite: bool = False,
) -> A:
    """Fill with 1.

    Args:
        tensor: a numpy or zarr array, a torch tensor, or another target of `bigin.fill`.
        threads, max_memory, overwrite: as in `bigin.fill`.

    Returns:
        The tensor.

    Raises:
        InputError: an argument is invalid; nothing was changed.

    Example:
        >>> w = np.empty((64, 32), np.float32)
        >>> bigin.init.ones_(w).shape
        (64, 32)
    """
    parameters: dict[str, Any] = {}
    return _fill(tensor, "ones", parameters, (None, 0, None), Limits.parse(threads, max_memory), overwrite=overwrite)


def zeros_(
    tensor: A,
    *,
    threads: int | None = None,
    max_memory: int | str | None = None,
    overwrite: bool = False,
) -> A:
    """Fill with 0.

    Args:
        tensor: a numpy or zarr array, a torch tensor, or another target of `bigin.fill`.
        threads, max_memory, overwrite: as in `bigin.fill`.

    Returns:
        The tensor.

    Raises:
        InputError: an argument is invalid; nothing was changed.

    Example:
        >>> w = np.empty((64, 32), np.float32)
        >>> bigin.init.zeros_(w).shape
        (64, 32)
    """
    parameters: dict[str, Any] = {}
    return _fill(tensor, "zeros", parameters, (None, 0, None), Limits.parse(threads, max_memory), overwrite=overwrite)


def xavier_uniform_(
    tensor: A,
    gain: float | str = 1.0,
    generator: Generator | None = None,
    *,
    in_axis: Axes = 1,
    out_axis: Axes = 0,
    batch_axis: Axes = (),
    seed: int | None = None,
    name: str | None = None,
    threads: int | None = None,
    max_memory: int | str | None = None,
    overwrite: bool = False,
) -> A:
    """Fill with values from U[-x, x), x = gain sqrt(6 / (fan_in + fan_out)) (Glorot and Bengio 2010).

    Args:
        tensor: a numpy or zarr array, a torch tensor, or another target of `bigin.fill`.
        gain: a factor, or a nonlinearity as in calculate_gain.
        in_axis, out_axis, batch_axis: the axes that the fans count; torch's layout by default, JAX's is -2 and -1.
        generator: the generator that gives the stream of this call; by default the one of `bigin.manual_seed`.
        seed, name: seed and name of the stream, instead of those of the generator.
        threads, max_memory, overwrite: as in `bigin.fill`.

    Returns:
        The tensor.

    Raises:
        InputError: an argument is invalid; nothing was changed.

    Example:
        >>> w = np.empty((64, 32), np.float32)
        >>> bigin.init.xavier_uniform_(w, gain="tanh").shape
        (64, 32)
    """
    parameters: dict[str, Any] = {"gain": gain, "in_axis": in_axis, "out_axis": out_axis, "batch_axis": batch_axis}
    return _fill(
        tensor,
        "xavier_uniform",
        parameters,
        (generator, seed, name),
        Limits.parse(threads, max_memory),
        overwrite=overwrite,
    )


def xavier_normal_(
    tensor: A,
    gain: float | str = 1.0,
    generator: Generator | None = None,
    *,
    in_axis: Axes = 1,
    out_axis: Axes = 0,
    batch_axis: Axes = (),
    seed: int | None = None,
    name: str | None = None,
    threads: int | None = None,
    max_memory: int | str | None = None,
    overwrite: bool = False,
) -> A:
    """Fill with values from N(0, s^2), s = gain sqrt(2 / (fan_in + fan_out)) (Glorot and Bengio 2010).

    Args:
        tensor: a numpy or zarr array, a torch tensor, or another target of `bigin.fill`.
        gain: a factor, or a nonlinearity as in calculate_gain.
        in_axis, out_axis, batch_axis: the axes that the fans count; torch's layout by default, JAX's is -2 and -1.
        generator: the generator that gives the stream of this call; by default the one of `bigin.manual_seed`.
        seed, name: seed and name of the stream, instead of those of the generator.
        threads, max_memory, overwrite: as in `bigin.fill`.

    Returns:
        The tensor.

    Raises:
        InputError: an argument is invalid; nothing was changed.

    Example:
        >>> w = np.empty((64, 32), np.float32)
        >>> bigin.init.xavier_normal_(w).shape
        (64, 32)
    """
    parameters: dict[str, Any] = {"gain": gain, "in_axis": in_axis, "out_axis": out_axis, "batch_axis": batch_axis}
    return _fill(
        tensor,
        "xavier_normal",
        parameters,
        (generator, seed, name),
        Limits.parse(threads, max_memory),
        overwrite=overwrite,
    )


def kaiming_uniform_(
    tensor: A,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator | None = None,
    *,
    in_axis: Axes = 1,
    out_axis: Axes = 0,
    batch_axis: Axes = (),
    seed: int | None = None,
    name: str | None = None,
    threads: int | None = None,
    max_memory: int | str | None = None,
    overwrite: bool = False,
) -> A:
    """Fill with values from U[-x, x), x = gain sqrt(3 / fan_mode) (He et al. 2015).

    Args:
        tensor: a numpy or zarr array, a torch tensor, or another target of `bigin.fill`.
        a: the negative slope of leaky_relu.
        mode: fan_in keeps the variance of the forward pass, fan_out that of the backward pass.
        nonlinearity: the function after the layer, as in calculate_gain.
        in_axis, out_axis, batch_axis: the axes that the fans count; torch's layout by default, JAX's is -2 and -1.
        generator: the generator that gives the stream of this call; by default the one of `bigin.manual_seed`.
        seed, name: seed and name of the stream, instead of those of the generator.
        threads, max_memory, overwrite: as in `bigin.fill`.

    Returns:
        The tensor.

    Raises:
        InputError: an argument is invalid; nothing was changed.

    Example:
        >>> w = np.empty((64, 32), np.float32)
        >>> bigin.init.kaiming_uniform_(w, nonlinearity="relu").shape
        (64, 32)
    """
    parameters: dict[str, Any] = {
        "a": a,
        "mode": mode,
        "nonlinearity": nonlinearity,
        "in_axis": in_axis,
        "out_axis": out_axis,
        "batch_axis": batch_axis,
    }
    return _fill(
        tensor,
        "kaiming_uniform",
        parameters,
        (generator, seed, name),
        Limits.parse(threads, max_memory),
        overwrite=overwrite,
    )


def kaiming_normal_(
    tensor: A,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator | None = None,
    *,
    in_axis: Axes = 1,
    out_axis: Axes = 0,
    batch_axis: Axes = (),
    seed: int | None = None,
    name: str | None = None,
    threads: int | None = None,
    max_memory: int | str | None = None,
    overwrite: bool = False,
) -> A:
    """Fill with values from N(0, s^2), s = gain / sqrt(fan_mode) (He et al. 2015).

    Args:
        tensor: a numpy or zarr array, a torch tensor, or another target of `bigin.fill`.
        a: the negative slope of leaky_relu.
        mode: fan_in keeps the variance of the forward pass, fan_out that of the backward pass.
        nonlinearity: the function after the layer, as in calculate_gain.
        in_axis, out_axis, batch_axis: the axes that the fans count; torch's layout by default, JAX's is -2 and -1.
        generator: the generator that gives the stream of this call; by default the one of `bigin.manual_seed`.
        seed, name: seed and name of the stream, instead of those of the generator.
        threads, max_memory, overwrite: as in `bigin.fill`.

    Returns:
        The tensor.

    Raises:
        InputError: an argument is invalid; nothing was changed.

    Example:
        >>> w = np.empty((64, 32), np.float32)
        >>> bigin.init.kaiming_normal_(w, mode="fan_out", nonlinearity="relu").shape
        (64, 32)
    """
    parameters: dict[str, Any] = {
        "a": a,
        "mode": mode,
        "nonlinearity": nonlinearity,
        "in_axis": in_axis,
        "out_axis": out_axis,
        "batch_axis": batch_axis,
    }
    return _fill(
        tensor,
        "kaiming_normal",
        parameters,
        (generator, seed, name),
        Limits.parse(threads, max_memory),
        overwrite=overwrite,
    )


def lecun_uniform_(
    tensor: A,
    generator: Generator | None = None,
    *,
    in_axis: Axes = 1,
    out_axis: Axes = 0,
    batch_axis: Axes = (),
    seed: int | None = None,
    name: str | None = None,
    threads: int | None = None,
    max_memory: int | str | None = None,
    overwrite: bool = False,
) -> A:
    """Fill with values from U[-x, x), x = sqrt(3 / fan_in) (LeCun et al. 1998).

    Args:
        tensor: a numpy or zarr array, a torch tensor, or another target of `bigin.fill`.
        in_axis, out_axis, batch_axis: the axes that the fans count; torch's layout by default, JAX's is -2 and -1.
        generator: the generator that gives the stream of this call; by default the one of `bigin.manual_seed`.
        seed, name: seed and name of the stream, instead of those of the generator.
        threads, max_memory, overwrite: as in `bigin.fill`.

    Returns:
        The tensor.

    Raises:
        InputError: an argument is invalid; nothing was changed.

    Example:
        >>> w = np.empty((64, 32), np.float32)
        >>> bigin.init.lecun_uniform_(w).shape
        (64, 32)
    """
    parameters: dict[str, Any] = {"in_axis": in_axis, "out_axis": out_axis, "batch_axis": batch_axis}
    return _fill(
        tensor,
        "lecun_uniform",
        parameters,
        (generator, seed, name),
        Limits.parse(threads, max_memory),
        overwrite=overwrite,
    )


def lecun_normal_(
    tensor: A,
    generator: Generator | None = None,
    *,
    in_axis: Axes = 1,
    out_axis: Axes = 0,
    batch_axis: Axes = (),
    seed: int | None = None,
    name: str | None = None,
    threads: int | None = None,
    max_memory: int | str | None = None,
    overwrite: bool = False,
) -> A:
    """Fill with a normal truncated at two standard deviations, of variance 1 / fan_in (LeCun et al. 1998).

    Args:
        tensor: a numpy or zarr array, a torch tensor, or another target of `bigin.fill`.
        in_axis, out_axis, batch_axis: the axes that the fans count; torch's layout by default, JAX's is -2 and -1.
        generator: the generator that gives the stream of this call; by default the one of `bigin.manual_seed`.
        seed, name: seed and name of the stream, instead of those of the generator.
        threads, max_memory, overwrite: as in `bigin.fill`.

    Returns:
        The tensor.

    Raises:
        InputError: an argument is invalid; nothing was changed.

    Example:
        >>> w = np.empty((64, 32), np.float32)
        >>> bigin.init.lecun_normal_(w).shape
        (64, 32)
    """
    parameters: dict[str, Any] = {"in_axis": in_axis, "out_axis": out_axis, "batch_axis": batch_axis}
    return _fill(
        tensor,
        "lecun_normal",
        parameters,
        (generator, seed, name),
        Limits.parse(threads, max_memory),
        overwrite=overwrite,
    )


def variance_scaling_(
    tensor: A,
    scale: float = 1.0,
    mode: str = "fan_in",
    distribution: str = "truncated_normal",
    generator: Generator | None = None,
    *,
    in_axis: Axes = 1,
    out_axis: Axes = 0,
    batch_axis: Axes = (),
    seed: int | None = None,
    name: str | None = None,
    threads: int | None = None,
    max_memory: int | str | None = None,
    overwrite: bool = False,
) -> A:
    """Fill with a distribution around 0 of variance scale / fan_mode (jax.nn.initializers.variance_scaling).

    Args:
        tensor: a numpy or zarr array, a torch tensor, or another target of `bigin.fill`.
        scale: a factor of the variance.
        mode: fan_in, fan_out, fan_avg or fan_geo_avg.
        distribution: truncated_normal, normal or uniform.
        in_axis, out_axis, batch_axis: the axes that the fans count; torch's layout by default, JAX's is -2 and -1.
        generator: the generator that gives the stream of this call; by default the one of `bigin.manual_seed`.
        seed, name: seed and name of the stream, instead of those of the generator.
        threads, max_memory, overwrite: as in `bigin.fill`.

    Returns:
        The tensor.

    Raises:
        InputError: an argument is invalid; nothing was changed.

    Example:
        >>> w = np.empty((64, 32), np.float32)
        >>> bigin.init.variance_scaling_(w, 2.0, "fan_avg", "uniform").shape
        (64, 32)
    """
    parameters: dict[str, Any] = {
        "scale": scale,
        "mode": mode,
        "distribution": distribution,
        "in_axis": in_axis,
        "out_axis": out_axis,
        "batch_axis": batch_axis,
    }
    return _fill(
        tensor,
        "variance_scaling",
        parameters,
        (generator, seed, name),
        Limits.parse(threads, max_memory),
        overwrite=overwrite,
    )


def eye_(
    tensor: A,
    *,
    threads: int | None = None,
    max_memory: int | str | None = None,
    overwrite: bool = False,
) -> A:
    """Fill a matrix with 1 on the diagonal and 0 elsewhere.

    Args:
        tensor: a numpy or zarr array, a torch tensor, or another target of `bigin.fill`.
        threads, max_memory, overwrite: as in `bigin.fill`.

    Returns:
        The tensor.

    Raises:
        InputError: an argument is invalid; nothing was changed.

    Example:
        >>> w = np.empty((64, 32), np.float32)
        >>> bigin.init.eye_(w).shape
        (64, 32)
    """
    parameters: dict[str, Any] = {}
    return _fill(tensor, "eye", parameters, (None, 0, None), Limits.parse(threads, max_memory), overwrite=overwrite)


def dirac_(
    tensor: A,
    groups: int = 1,
    *,
    threads: int | None = None,
    max_memory: int | str | None = None,
    overwrite: bool = False,
) -> A:
    """Fill a kernel of 3 to 5 axes with the Dirac delta, which passes channels on, in each of the groups.

    Args:
        tensor: a numpy or zarr array, a torch tensor, or another target of `bigin.fill`.
        groups: number of groups of the convolution.
        threads, max_memory, overwrite: as in `bigin.fill`.

    Returns:
        The tensor.

    Raises:
        InputError: an argument is invalid; nothing was changed.

    Example:
        >>> w = np.empty((8, 8, 3), np.float32)
        >>> bigin.init.dirac_(w).shape
        (8, 8, 3)
    """
    parameters: dict[str, Any] = {"groups": groups}
    return _fill(tensor, "dirac", parameters, (None, 0, None), Limits.parse(threads, max_memory), overwrite=overwrite)


def sparse_(
    tensor: A,
    sparsity: float,
    std: float = 0.01,
    generator: Generator | None = None,
    *,
    seed: int | None = None,
    name: str | None = None,
    threads: int | None = None,
    max_memory: int | str | None = None,
    overwrite: bool = False,
) -> A:
    """Fill a matrix with exactly ceil(sparsity rows) zeros in every column, and N(0, std^2) elsewhere (Martens 2010).

    Args:
        tensor: a numpy or zarr array, a torch tensor, or another target of `bigin.fill`.
        sparsity: the fraction of each column that is 0.
        std: standard deviation of the other values.
        generator: the generator that gives the stream of this call; by default the one of `bigin.manual_seed`.
        seed, name: seed and name of the stream, instead of those of the generator.
        threads, max_memory, overwrite: as in `bigin.fill`.

    Returns:
        The tensor.

    Raises:
        InputError: an argument is invalid; nothing was changed.

    Example:
        >>> w = np.empty((64, 32), np.float32)
        >>> bigin.init.sparse_(w, sparsity=0.1).shape
        (64, 32)
    """
    parameters: dict[str, Any] = {"sparsity": sparsity, "std": std}
    return _fill(
        tensor, "sparse", parameters, (generator, seed, name), Limits.parse(threads, max_memory), overwrite=overwrite
    )


def orthogonal_(
    tensor: A,
    gain: float | str = 1,
    generator: Generator | None = None,
    *,
    in_axis: Axes = 1,
    out_axis: Axes = 0,
    seed: int | None = None,
    name: str | None = None,
    threads: int | None = None,
    max_memory: int | str | None = None,
    overwrite: bool = False,
) -> A:
    """Fill with gain times a Haar-distributed matrix of orthonormal columns or rows (Saxe et al. 2013).

    Args:
        tensor: a numpy or zarr array, a torch tensor, or another target of `bigin.fill`.
        gain: a factor, or a nonlinearity as in calculate_gain.
        in_axis, out_axis: the layout, torch's by default; JAX's and Keras's is -2 and -1.
        generator: the generator that gives the stream of this call; by default the one of `bigin.manual_seed`.
        seed, name: seed and name of the stream, instead of those of the generator.
        threads, max_memory, overwrite: as in `bigin.fill`.

    Returns:
        The tensor.

    Raises:
        InputError: an argument is invalid; nothing was changed.

    Example:
        >>> w = np.empty((64, 32), np.float32)
        >>> bigin.init.orthogonal_(w).shape
        (64, 32)
    """
    parameters: dict[str, Any] = {"gain": gain, "in_axis": in_axis, "out_axis": out_axis}
    return _fill(
        tensor,
        "orthogonal",
        parameters,
        (generator, seed, name),
        Limits.parse(threads, max_memory),
        overwrite=overwrite,
    )


def delta_orthogonal_(
    tensor: A,
    gain: float | str = 1.0,
    generator: Generator | None = None,
    *,
    in_axis: Axes = 1,
    out_axis: Axes = 0,
    seed: int | None = None,
    name: str | None = None,
    threads: int | None = None,
    max_memory: int | str | None = None,
    overwrite: bool = False,
) -> A:
    """Fill a kernel with 0, and its centre with gain times orthonormal columns (Xiao et al. 2018).

    Args:
        tensor: a numpy or zarr array, a torch tensor, or another target of `bigin.fill`.
        gain: a factor, or a nonlinearity as in calculate_gain.
        in_axis, out_axis: the layout, torch's by default; JAX's and Keras's is -2 and -1.
        generator: the generator that gives the stream of this call; by default the one of `bigin.manual_seed`.
        seed, name: seed and name of the stream, instead of those of the generator.
        threads, max_memory, overwrite: as in `bigin.fill`.

    Returns:
        The tensor.

    Raises:
        InputError: an argument is invalid; nothing was changed.

    Example:
        >>> w = np.empty((8, 8, 3), np.float32)
        >>> bigin.init.delta_orthogonal_(w).shape
        (8, 8, 3)
    """
    parameters: dict[str, Any] = {"gain": gain, "in_axis": in_axis, "out_axis": out_axis}
    return _fill(
        tensor,
        "delta_orthogonal",
        parameters,
        (generator, seed, name),
        Limits.parse(threads, max_memory),
        overwrite=overwrite,
    )


def log_uniform_(
    tensor: A,
    a: float,
    b: float,
    floor: float = 0.0,
    generator: Generator | None = None,
    *,
    seed: int | None = None,
    name: str | None = None,
    threads: int | None = None,
    max_memory: int | str | None = None,
    overwrite: bool = False,
) -> A:
    """Fill with the exponential of values from U[ln a, ln b), at least floor.

    Args:
        tensor: a numpy or zarr array, a torch tensor, or another target of `bigin.fill`.
        a, b: lower bound, and upper bound; both positive.
        floor: the smallest value; smaller values are set to it.
        generator: the generator that gives the stream of this call; by default the one of `bigin.manual_seed`.
        seed, name: seed and name of the stream, instead of those of the generator.
        threads, max_memory, overwrite: as in `bigin.fill`.

    Returns:
        The tensor.

    Raises:
        InputError: an argument is invalid; nothing was changed.

    Example:
        >>> w = np.empty((64,), np.float32)
        >>> bigin.init.log_uniform_(w, 0.001, 0.1).shape
        (64,)
    """
    parameters: dict[str, Any] = {"a": a, "b": b, "floor": floor}
    limits = Limits.parse(threads, max_memory)
    return _fill(tensor, "log_uniform", parameters, (generator, seed, name), limits, overwrite=overwrite)


def log_of_uniform_(
    tensor: A,
    a: float,
    b: float,
    generator: Generator | None = None,
    *,
    seed: int | None = None,
    name: str | None = None,
    threads: int | None = None,
    max_memory: int | str | None = None,
    overwrite: bool = False,
) -> A:
    """Fill with the logarithm of values from U[a, b], as A_log of Mamba-2.

    Args:
        tensor: a numpy or zarr array, a torch tensor, or another target of `bigin.fill`.
        a, b: lower bound, which may be 0, and upper bound.
        generator: the generator that gives the stream of this call; by default the one of `bigin.manual_seed`.
        seed, name: seed and name of the stream, instead of those of the generator.
        threads, max_memory, overwrite: as in `bigin.fill`.

    Returns:
        The tensor.

    Raises:
        InputError: an argument is invalid; nothing was changed.

    Example:
        >>> w = np.empty((64,), np.float32)
        >>> bigin.init.log_of_uniform_(w, 1, 16).shape
        (64,)
    """
    parameters: dict[str, Any] = {"a": a, "b": b}
    limits = Limits.parse(threads, max_memory)
    return _fill(tensor, "log_of_uniform", parameters, (generator, seed, name), limits, overwrite=overwrite)


def inverse_softplus_(
    tensor: A,
    a: float,
    b: float,
    floor: float = 0.0,
    generator: Generator | None = None,
    *,
    seed: int | None = None,
    name: str | None = None,
    threads: int | None = None,
    max_memory: int | str | None = None,
    overwrite: bool = False,
) -> A:
    """Fill with values whose softplus is log-uniform from a to b, as dt_bias of Mamba.

    Args:
        tensor: a numpy or zarr array, a torch tensor, or another target of `bigin.fill`.
        a, b: lower bound, and upper bound, of the softplus.
        floor: the smallest softplus; smaller ones are set to it.
        generator: the generator that gives the stream of this call; by default the one of `bigin.manual_seed`.
        seed, name: seed and name of the stream, instead of those of the generator.
        threads, max_memory, overwrite: as in `bigin.fill`.

    Returns:
        The tensor.

    Raises:
        InputError: an argument is invalid; nothing was changed.

    Example:
        >>> w = np.empty((64,), np.float32)
        >>> bigin.init.inverse_softplus_(w, 0.001, 0.1, 1e-4).shape
        (64,)
    """
    parameters: dict[str, Any] = {"a": a, "b": b, "floor": floor}
    limits = Limits.parse(threads, max_memory)
    return _fill(tensor, "inverse_softplus", parameters, (generator, seed, name), limits, overwrite=overwrite)


def ring_decay_(
    tensor: A,
    a: float = 0.9,
    b: float = 0.999,
    generator: Generator | None = None,
    *,
    seed: int | None = None,
    name: str | None = None,
    threads: int | None = None,
    max_memory: int | str | None = None,
    overwrite: bool = False,
) -> A:
    """Fill with the parameters of decays from a to b whose squares are uniform, as those of RG-LRU.

    The decay of a value x is e^-softplus(x). Its square is uniform where decays are uniform on a ring.

    Args:
        tensor: a numpy or zarr array, a torch tensor, or whatever else `bigin.fill` takes.
        a, b: the least decay, above 0, and the largest, below 1.
        generator: names the stream of this call; by default the one that `bigin.manual_seed` seeds.
        seed, name: of the stream, instead of the next one of the generator.
        threads, max_memory, overwrite: as in `bigin.fill`.

    Returns:
        The tensor.

    Raises:
        InputError: something is wrong with what was asked for; nothing was changed.

    Example:
        >>> w = np.empty((64,), np.float32)
        >>> bigin.init.ring_decay_(w).shape
        (64,)
    """
    parameters: dict[str, Any] = {"a": a, "b": b}
    limits = Limits.parse(threads, max_memory)
    return _fill(tensor, "ring_decay", parameters, (generator, seed, name), limits, overwrite=overwrite)


def identity_plus_noise_(
    tensor: A,
    gain: float = 1.0,
    std: float = 0.01,
    generator: Generator | None = None,
    *,
    seed: int | None = None,
    name: str | None = None,
    threads: int | None = None,
    max_memory: int | str | None = None,
    overwrite: bool = False,
) -> A:
    """Fill a matrix with gain times the identity plus N(0, std^2).

    Args:
        tensor: a numpy or zarr array, a torch tensor, or another target of `bigin.fill`.
        gain: the mean of the diagonal.
        std: standard deviation of the noise.
        generator: the generator that gives the stream of this call; by default the one of `bigin.manual_seed`.
        seed, name: seed and name of the stream, instead of those of the generator.
        threads, max_memory, overwrite: as in `bigin.fill`.

    Returns:
        The tensor.

    Raises:
        InputError: an argument is invalid; nothing was changed.

    Example:
        >>> w = np.empty((64, 32), np.float32)
        >>> bigin.init.identity_plus_noise_(w, std=0.001).shape
        (64, 32)
    """
    parameters: dict[str, Any] = {"gain": gain, "std": std}
    limits = Limits.parse(threads, max_memory)
    return _fill(tensor, "identity_plus_noise", parameters, (generator, seed, name), limits, overwrite=overwrite)


def arange_(
    tensor: A,
    start: float = 0,
    step: float = 1,
    generator: Generator | None = None,
    *,
    seed: int | None = None,
    name: str | None = None,
    threads: int | None = None,
    max_memory: int | str | None = None,
    overwrite: bool = False,
) -> A:
    """Fill with start + step i along the last axis.

    Args:
        tensor: a numpy or zarr array, a torch tensor, or another target of `bigin.fill`.
        start, step: the first value, and the difference between adjacent values.
        generator: the generator that gives the stream of this call; by default the one of `bigin.manual_seed`.
        seed, name: seed and name of the stream, instead of those of the generator.
        threads, max_memory, overwrite: as in `bigin.fill`.

    Returns:
        The tensor.

    Raises:
        InputError: an argument is invalid; nothing was changed.

    Example:
        >>> w = np.empty((64,), np.float32)
        >>> bigin.init.arange_(w).shape
        (64,)
    """
    parameters: dict[str, Any] = {"start": start, "step": step}
    limits = Limits.parse(threads, max_memory)
    return _fill(tensor, "arange", parameters, (generator, seed, name), limits, overwrite=overwrite)


def linspace_(
    tensor: A,
    a: float,
    b: float,
    generator: Generator | None = None,
    *,
    seed: int | None = None,
    name: str | None = None,
    threads: int | None = None,
    max_memory: int | str | None = None,
    overwrite: bool = False,
) -> A:
    """Fill with equal steps from a to b along the last axis.

    Args:
        tensor: a numpy or zarr array, a torch tensor, or another target of `bigin.fill`.
        a, b: the first and the last value.
        generator: the generator that gives the stream of this call; by default the one of `bigin.manual_seed`.
        seed, name: seed and name of the stream, instead of those of the generator.
        threads, max_memory, overwrite: as in `bigin.fill`.

    Returns:
        The tensor.

    Raises:
        InputError: an argument is invalid; nothing was changed.

    Example:
        >>> w = np.empty((64,), np.float32)
        >>> bigin.init.linspace_(w, 0, 1).shape
        (64,)
    """
    parameters: dict[str, Any] = {"a": a, "b": b}
    limits = Limits.parse(threads, max_memory)
    return _fill(tensor, "linspace", parameters, (generator, seed, name), limits, overwrite=overwrite)


def log_arange_(
    tensor: A,
    start: float = 1.0,
    generator: Generator | None = None,
    *,
    seed: int | None = None,
    name: str | None = None,
    threads: int | None = None,
    max_memory: int | str | None = None,
    overwrite: bool = False,
) -> A:
    """Fill with ln(start + i) along the last axis, as A_log of Mamba.

    Args:
        tensor: a numpy or zarr array, a torch tensor, or another target of `bigin.fill`.
        start: the first value before the logarithm.
        generator: the generator that gives the stream of this call; by default the one of `bigin.manual_seed`.
        seed, name: seed and name of the stream, instead of those of the generator.
        threads, max_memory, overwrite: as in `bigin.fill`.

    Returns:
        The tensor.

    Raises:
        InputError: an argument is invalid; nothing was changed.

    Example:
        >>> w = np.empty((64, 16), np.float32)
        >>> bigin.init.log_arange_(w).shape
        (64, 16)
    """
    parameters: dict[str, Any] = {"start": start}
    limits = Limits.parse(threads, max_memory)
    return _fill(tensor, "log_arange", parameters, (generator, seed, name), limits, overwrite=overwrite)


def rotary_(
    tensor: A,
    base: float = 10000.0,
    generator: Generator | None = None,
    *,
    seed: int | None = None,
    name: str | None = None,
    threads: int | None = None,
    max_memory: int | str | None = None,
    overwrite: bool = False,
) -> A:
    """Fill with the inverse frequencies base^(-i / n) of rotary embeddings, along the last axis.

    Args:
        tensor: a numpy or zarr array, a torch tensor, or another target of `bigin.fill`.
        base: base of the frequencies.
        generator: the generator that gives the stream of this call; by default the one of `bigin.manual_seed`.
        seed, name: seed and name of the stream, instead of those of the generator.
        threads, max_memory, overwrite: as in `bigin.fill`.

    Returns:
        The tensor.

    Raises:
        InputError: an argument is invalid; nothing was changed.

    Example:
        >>> w = np.empty((32,), np.float32)
        >>> bigin.init.rotary_(w).shape
        (32,)
    """
    parameters: dict[str, Any] = {"base": base}
    limits = Limits.parse(threads, max_memory)
    return _fill(tensor, "rotary", parameters, (generator, seed, name), limits, overwrite=overwrite)


def sinusoidal_(
    tensor: A,
    base: float = 10000.0,
    order: str = "interleaved",
    generator: Generator | None = None,
    *,
    seed: int | None = None,
    name: str | None = None,
    threads: int | None = None,
    max_memory: int | str | None = None,
    overwrite: bool = False,
) -> A:
    """Fill a matrix with the sinusoidal positions of Vaswani et al. 2017.

    Args:
        tensor: a numpy or zarr array, a torch tensor, or another target of `bigin.fill`.
        base: base of the frequencies.
        order: sines and cosines side by side (interleaved), or in two halves (halves).
        generator: the generator that gives the stream of this call; by default the one of `bigin.manual_seed`.
        seed, name: seed and name of the stream, instead of those of the generator.
        threads, max_memory, overwrite: as in `bigin.fill`.

    Returns:
        The tensor.

    Raises:
        InputError: an argument is invalid; nothing was changed.

    Example:
        >>> w = np.empty((64, 32), np.float32)
        >>> bigin.init.sinusoidal_(w).shape
        (64, 32)
    """
    parameters: dict[str, Any] = {"base": base, "order": order}
    limits = Limits.parse(threads, max_memory)
    return _fill(tensor, "sinusoidal", parameters, (generator, seed, name), limits, overwrite=overwrite)


glorot_uniform_, glorot_normal_ = xavier_uniform_, xavier_normal_
he_uniform_, he_normal_ = kaiming_uniform_, kaiming_normal_

Stream = tuple[Generator | None, int | None, str | None]  # a generator, a seed, a name: as the caller gave them


def _fill(tensor: A, method: str, parameters: dict[str, Any], stream: Stream, limits: Limits, *, overwrite: bool) -> A:
    """Fills a tensor from the stream that the caller names, or from the next one of the generator."""
    if getattr(tensor, "is_meta", False):  # torch leaves it as it is, too
        return tensor
    generator, seed, name = stream
    if generator is not None and not isinstance(generator, Generator):
        raise InputError(
            f"expected a bigin.Generator, got {type(generator).__module__}.{type(generator).__name__}; make one with "
            "bigin.Generator(seed)"
        )
    chosen = generator or DEFAULT
    if seed is None and name is None:
        seed, name = chosen.next_stream()
    elif seed is None:
        seed = chosen.initial_seed()
    what = What.parse(method, parameters, seed, name, None)
    with default_modes(), opened(Where(tensor)) as target:
        Job(what.spec(target), target, limits).fill(FillOptions(overwrite=overwrite))
    return tensor
