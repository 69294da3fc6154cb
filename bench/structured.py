"""Both sides of the structured methods' cases, and of the matrix product that orthogonal is made of."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np

from bench.check import QUICK, against_reference, some
from bench.measure import Work, WrongError, burst
from bench.setting import Setting
from bigin import init
from bigin.kernels import matmul

ACCURACY = {"float32": 3e-6, "float64": 1e-13}  # of bigin's; torch's is of the same order
SPACE = 8  # columns more, so that rows do not lie a multiple of 4096 bytes apart


def reduced(setting: Setting, shape: tuple[int, int]) -> tuple[int, int]:
    """The shape, or a small one where only the code is tried."""
    rows, columns = shape
    return (max(rows // 64, 8), max(columns // 64, 8)) if setting.size <= QUICK else shape


def operands(setting: Setting, n: int) -> tuple[Any, Any]:
    """Two square float32 matrices."""
    generator = np.random.default_rng(0)
    size = reduced(setting, (n, n))
    return generator.standard_normal(size, np.float32), generator.standard_normal(size, np.float32)


def product(setting: Setting, n: int) -> Work:
    """bigin's product, in its fixed order, in the calling thread. A multiplication and an addition count as two."""
    a, b = operands(setting, n)
    size = len(a)
    total = matmul.zeros((size, size + SPACE))
    worker = matmul.Product(size, size, a.dtype)
    left = np.ascontiguousarray(a.T)

    def multiply(i: int) -> int:
        total[...] = 0
        worker.add(left, b, total)
        return 2 * size**3

    def check() -> None:
        close(total[:, :size], a, b)

    return Work(lambda: burst(multiply, setting.seconds), check)


def numpy_product(setting: Setting, n: int) -> Work:
    """numpy's product (OpenBLAS) on one thread."""
    from threadpoolctl import threadpool_limits

    a, b = operands(setting, n)
    total = np.empty_like(a)

    def multiply(i: int) -> int:
        np.matmul(a, b, out=total)
        return 2 * len(a) ** 3

    def run() -> int:
        with threadpool_limits(1):
            return burst(multiply, setting.seconds)

    return Work(run, lambda: close(total, a, b))


def close(total: Any, a: Any, b: Any) -> None:
    """Compares a product with one in float64."""
    error = np.abs(total - a.astype(np.float64) @ b.astype(np.float64)).max()
    if error > 1e-3:
        raise WrongError(f"a product that is off by {error:.2g}")


def orthogonal(setting: Setting, shape: tuple[int, int], dtype: str) -> Work:
    """bigin.init.orthogonal_ of an array in memory, all cores."""
    values = np.zeros(reduced(setting, shape), dtype)

    def run() -> int:
        init.orthogonal_(values)
        return values.nbytes

    return Work(run, lambda: orthonormal(values, ACCURACY[dtype]))


def torch_orthogonal(setting: Setting, shape: tuple[int, int], dtype: str) -> Work:
    """torch.nn.init.orthogonal_ (LAPACK), all cores."""
    import torch

    values = torch.zeros(reduced(setting, shape), dtype=getattr(torch, dtype))

    def run() -> int:
        all_cores(torch)
        torch.nn.init.orthogonal_(values)
        return values.nbytes

    return Work(run, lambda: orthonormal(values.numpy(), 100 * ACCURACY[dtype]))


def orthonormal(values: Any, accuracy: float) -> None:
    """Whether the columns are, with sums in float64."""
    gram = np.zeros((values.shape[1],) * 2)
    for row in range(0, len(values), 1 << 14):
        part = values[row : row + (1 << 14)].astype(np.float64)
        gram += part.T @ part
    error = np.abs(gram - np.eye(len(gram))).max()
    if not error <= accuracy:
        raise WrongError(f"columns that are orthonormal but for {error:.2g}")


def sparse(setting: Setting, shape: tuple[int, int]) -> Work:
    """bigin.init.sparse_ of an array in memory with a tenth of zeros, all cores."""
    values = np.zeros(reduced(setting, shape), np.float32)

    def run() -> int:
        init.sparse_(values, 0.1, seed=0)
        return values.nbytes

    def check() -> None:
        counted(values)
        indices = some(0, values.size)
        against_reference("sparse", values.shape, "float32", indices, values.reshape(-1)[indices], sparsity=0.1)

    return Work(run, check)


def torch_sparse(setting: Setting, shape: tuple[int, int]) -> Work:
    """torch.nn.init.sparse_, all cores."""
    import torch

    values = torch.zeros(reduced(setting, shape))

    def run() -> int:
        all_cores(torch)
        torch.nn.init.sparse_(values, 0.1)
        return values.nbytes

    return Work(run, lambda: counted(values.numpy(), 5))


def counted(values: Any, more: int = 0) -> None:
    """Whether each column has its zeros, and no more, but for a few normals of torch that are 0 by their own."""
    zeros = (values == 0).sum(axis=0)
    expected = -(-len(values) // 10)
    if zeros.min() < expected or zeros.max() > expected + more:
        raise WrongError(f"columns with {zeros.min()} to {zeros.max()} zeros")


def all_cores(torch: Any) -> None:
    """Another case may have set torch to one thread."""
    from bench.setting import cores

    with contextlib.suppress(RuntimeError):
        torch.set_num_threads(cores())
