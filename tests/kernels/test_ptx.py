"""Every CUDA kernel, compiled for two architectures with no GPU: nothing is left that a GPU could do otherwise."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from collections import Counter

import ptx
import pytest

from bigin.core.dtypes import FLOATS

if importlib.util.find_spec("numba_cuda") is None:
    pytest.skip("numba-cuda is not installed: pip install 'bigin[test-cuda]'", allow_module_level=True)

from numba import types

from bigin.kernels.cpu import STORES
from bigin.kernels.cuda import device as cuda_device
from bigin.kernels.cuda import fill as kernels
from bigin.kernels.cuda import matrix
from bigin.rng.draws import DRAWS

if cuda_device.SIMULATED:
    pytest.skip("NUMBA_ENABLE_CUDASIM is set: the simulator compiles nothing", allow_module_level=True)

U64, I64, F32, F64 = types.uint64, types.int64, types.float32, types.float64
SCALARS = {
    "uniform": 4,
    "normal": 2,
    "trunc_normal": 11,
    "log_uniform": 5,
    "log_of_uniform": 4,
    "inverse_softplus": 7,
    "ring_decay": 5,
}
STORED = {name: {8: F64, 4: F32, 2: types.uint16, 1: types.uint8}[dtype.itemsize] for name, dtype in FLOATS.items()}


def region_arguments(stored, drawn, count):
    """The types of a region kernel's arguments."""
    triple, signed = types.UniTuple(U64, 3), types.UniTuple(I64, 3)
    place = (stored[::1], I64, U64, I64, U64, triple, triple, signed, U64)
    return (*place, U64, U64, types.UniTuple(drawn, count), U64)


def draws():
    for distribution in DRAWS:
        for dtype in STORES:
            drawn = F64 if dtype == "float64" else F32
            arguments = region_arguments(STORED[dtype], drawn, SCALARS[distribution])
            yield pytest.param(distribution, dtype, arguments, id=f"{distribution}-{dtype}")


@pytest.mark.slow
@pytest.mark.parametrize(("distribution", "dtype", "arguments"), [*draws()])
def test_draws(distribution, dtype, arguments):
    kernel, _ = kernels.fill_kernel(distribution, dtype)
    for architecture, code in ptx.compiled(kernel.py_func, arguments).items():
        assert [*ptx.breaches(code, double=dtype == "float64")] == [], architecture
        operations = [operation for operation, _ in ptx.instructions(code[0])]
        assert any(operation.startswith("fma.rn.f") for operation in operations)  # it is the kernel that we mean
        stores = {"float64": "st.global.v2.f64", "float32": "st.global.v4.f32"}
        bits = 8 * FLOATS[dtype].itemsize
        assert stores.get(dtype, f"st.global.v4.u{bits}") in operations  # whole blocks are written at once
        assert operations.count("mul.wide.u32") >= 18  # philox's products are one instruction each
        assert not re.search(r"\b(ld|st)\.local", code[0]), "values went through memory"


@pytest.mark.slow
@pytest.mark.parametrize(("distribution", "dtype", "arguments"), [*draws()])
def test_rows_by_key(distribution, dtype, arguments):
    """The draws of rows that have a stream each."""
    kernel, _ = kernels.keyed_kernel(distribution, dtype)
    rows = (arguments[0], I64, U64, U64[::1], U64, U64, *arguments[10:])
    for architecture, code in ptx.compiled(kernel.py_func, rows).items():
        assert [*ptx.breaches(code, double=dtype == "float64")] == [], architecture
        operations = [operation for operation, _ in ptx.instructions(code[0])]
        assert any(operation.startswith("fma.rn.f") for operation in operations)
        stores = {"float64": "st.global.v2.f64", "float32": "st.global.v4.f32"}
        assert stores.get(dtype, f"st.global.v4.u{8 * FLOATS[dtype].itemsize}") in operations
        assert not re.search(r"\b(ld|st)\.local", code[0]), "values went through memory"


@pytest.mark.slow
@pytest.mark.parametrize("itemsize", [1, 2, 4, 8])
def test_constants(itemsize):
    kernel, _ = kernels.constant_kernel(itemsize)
    stored = {8: U64, 4: types.uint32, 2: types.uint16, 1: types.uint8}[itemsize]
    for code in ptx.compiled(kernel.py_func, region_arguments(stored, stored, 1)).values():
        assert [*ptx.breaches(code, double=False)] == []
        assert any(re.match(r"st\.global\.v[24]\.", operation) for operation, _ in ptx.instructions(code[0]))


@pytest.mark.slow
@pytest.mark.parametrize("stored", [types.uint8, types.uint16, types.uint32, U64], ids=str)
def test_places(stored):
    """sparse, eye and dirac work on integers alone."""
    pair, signed = types.UniTuple(U64, 2), types.UniTuple(I64, 2)
    sparse = (stored[::1], I64, signed, pair, pair, U64, U64, pair, U64, U64)
    ones = (stored[::1], I64, signed, pair, pair, U64, U64, stored)
    for kernel, arguments in ((kernels.sparse_kernel, sparse), (kernels.ones_kernel, ones)):
        for code in ptx.compiled(kernel.py_func, arguments).values():
            assert [*ptx.breaches(code, double=False)] == []
            assert not any(ptx.FLOAT.search(operation) for operation, _ in ptx.instructions(code[0]))


LIST, DOUBLES = F32[::1], F64[::1]
INTEGERS = (I64,) * 4
MATRIX = [
    *(
        pytest.param(
            matrix.product_kernel(double, by_rows), (a, *INTEGERS[:3], a, I64, I64, DOUBLES, *(I64,) * 10), id=name
        )
        for double, a, kind in ((False, LIST, "float32"), (True, DOUBLES, "float64"))
        for by_rows, name in ((False, f"product-{kind}-columns"), (True, f"product-{kind}-rows"))
    ),
    pytest.param(matrix.trapezoid_kernel, (LIST, *INTEGERS, LIST, I64), id="trapezoid"),
    pytest.param(matrix.diagonal_kernel, (DOUBLES, I64, DOUBLES), id="diagonal"),
    pytest.param(matrix.triangle_kernel, (DOUBLES, I64, LIST, I64, I64, DOUBLES, DOUBLES), id="triangle-float32"),
    pytest.param(matrix.triangle_kernel, (DOUBLES, I64, DOUBLES, I64, I64, DOUBLES, DOUBLES), id="triangle-float64"),
    pytest.param(matrix.inverse_kernel, (DOUBLES, I64, I64, I64, DOUBLES), id="inverse"),
    pytest.param(matrix.right_side_kernel, (LIST, I64, I64, DOUBLES, I64, DOUBLES), id="right side"),
    pytest.param(matrix.subtract_kernel, (DOUBLES, DOUBLES, I64), id="subtract"),
    pytest.param(matrix.scale_kernel(False), (DOUBLES, I64, DOUBLES, LIST), id="scale-float32"),
    pytest.param(matrix.scale_kernel(True), (DOUBLES, I64, DOUBLES, DOUBLES), id="scale-float64"),
    *(
        pytest.param(
            matrix.finish_kernel(dtype),
            (DOUBLES, *INTEGERS, DOUBLES, F64, STORED[dtype][::1], I64, types.UniTuple(I64, 2)),
            id=f"finish-{dtype}",
        )
        for dtype in STORES
    ),
]


@pytest.mark.slow
@pytest.mark.parametrize(("kernel", "arguments"), MATRIX)
def test_matrices(kernel, arguments):
    """The float64 in them is the stream's own: sums of blocks, the triangle, the values before they are rounded."""
    for code in ptx.compiled(kernel.py_func, arguments).values():
        assert [*ptx.breaches(code, double=True)] == []
        assert not re.search(r"\b(ld|st)\.local", code[0]), "sums went through memory"


@pytest.mark.slow
@pytest.mark.parametrize("by_rows", [False, True])
def test_the_product_is_summed_in_its_own_type(by_rows):
    """Of float32 factors, only the sums of blocks are float64: as many additions and conversions as a thread has."""
    arguments = (LIST, *INTEGERS[:3], LIST, I64, I64, DOUBLES, *(I64,) * 10)
    for allowed, _ in ptx.compiled(matrix.product_kernel(False, by_rows).py_func, arguments).values():
        counts = Counter(operation for operation, _ in ptx.instructions(allowed) if re.search(r"\.f(32|64)", operation))
        arithmetic = {name: count for name, count in counts.items() if not re.match("ld|st|mov|selp", name)}
        assert arithmetic.pop("fma.rn.f32") % matrix.SQUARE == 0
        assert set(arithmetic) <= {"add.f64", "cvt.f64.f32"}


# Kernels that break the rule, each in one way. That the check is quiet above means nothing unless it is loud here.


def contracted(out, a, b, c):
    out[0] = a * b + c


def subtracted(out, a, b, c):
    out[0] = c - a * b


def through_a_sign(out, a, b, c):
    out[0] = c + -(a * b)


def through_a_choice(out, a, b, c):
    product = a * b
    out[0] = (product if product > c else a) + c


def round_a_loop(out, a, b, c):
    product = a
    total = c
    for _ in range(out.shape[0]):
        total += product
        product *= b
    out[0] = total


def divided(out, a, b, c):
    out[0] = a / b


@pytest.mark.parametrize("kernel", [contracted, subtracted, through_a_sign, through_a_choice, round_a_loop])
@pytest.mark.parametrize("kind", [F32, F64], ids=str)
def test_the_check_finds_products(kernel, kind):
    for code in ptx.compiled(kernel, (kind[::1], kind, kind, kind)).values():
        assert any(breach.startswith("a product feeds an addition") for breach in ptx.breaches(code, double=True))


@pytest.mark.parametrize("kind", [F32, F64], ids=str)
def test_the_check_finds_what_was_fused(kind):
    """Where NVVM fuses at once, the PTX holds one fma and no product: one text alone would look right."""
    for allowed, forbidden in ptx.compiled(contracted, (kind[::1], kind, kind, kind)).values():
        assert [*ptx.unsafe(allowed, double=True)] == []
        assert any("was fused" in breach for breach in ptx.breaches((allowed, forbidden), double=True))


def test_the_check_finds_detours():
    for code in ptx.compiled(contracted, (F32[::1], F64, F32, F32)).values():
        assert any(breach.startswith("float64") for breach in ptx.breaches(code, double=False))


def test_the_check_finds_what_is_not_rounded_to_nearest():
    """Division is right as it is compiled, and wrong under fastmath."""
    arguments = (F32[::1], F32, F32, F32)
    for code in ptx.compiled(divided, arguments).values():
        assert [*ptx.breaches(code, double=False)] == []
        assert "div.rn.f32" in code[0]
        for other in ("div.approx.ftz.f32", "div.full.f32", "div.rz.f32"):
            assert [*ptx.unsafe(code[0].replace("div.rn.f32", other), double=False)]


def test_importing_bigin_does_not_touch_cuda():
    code = """
import sys, bigin
bigin.fill, bigin.init.normal_
assert "bigin.kernels.cuda.fill" not in sys.modules and "numba.cuda.cudadrv" not in sys.modules, "CUDA was imported"
"""
    subprocess.run([sys.executable, "-c", code], check=True)
