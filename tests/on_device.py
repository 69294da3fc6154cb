"""The CUDA kernels against those of the CPU, bit by bit: run by test_cuda.py under the simulator, and on a GPU by
scripts/check-gpu. No test_ in its name: pytest would collect it where it can run neither way.
"""

from __future__ import annotations

import numpy as np
import pytest
import reference
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bigin.core.dtypes import DTYPES, FLOATS
from bigin.core.regions import extent
from bigin.fillers.cuda.fillers import on_device
from bigin.fillers.cuda.keyed import rows_on_device
from bigin.fillers.parts import FlatSliceFiller, RegionFiller
from bigin.kernels.cuda import device as cuda_device
from bigin.spec.keyed import KeyedSpec
from bigin.spec.tensor import TensorSpec

POISON = 0xA5
RANDOM = {"uniform": {"a": -1.0, "b": 2.0}, "normal": {"std": 0.7}, "trunc_normal": {"a": -1.5, "b": 2.5}}


def make(method, shape, dtype, seed=7, name="layer", padding_idx=None, **parameters):
    return TensorSpec.parse(method, parameters, seed, name, shape, DTYPES[dtype], padding_idx).plan()()


def ready(filler):
    """A filler of the CPU, and its like on the device, both set up."""
    if filler.has_setup:
        filler.setup(1, 1 << 30, lambda part: None)
    return filler


def device_values(filler, dtype, region, order=None, pad=3):
    """A region from the device, through a view whose axes lie as `order` says: (axis, step) from the outermost in.

    All that lies around it and between its elements must be as it was.
    """
    sizes = extent(region)
    order = order or [(axis, 1) for axis in range(len(sizes))]
    dtype = DTYPES[dtype]
    strides, span = [0] * len(sizes), 1
    for axis, step in reversed(order):
        strides[axis] = span * step
        span *= max(1, sizes[axis]) * abs(step)
    base = cuda_device.contiguous((span + 2 * pad,), dtype)
    with cuda_device.on_stream(None) as stream:
        poison = np.full(span + 2 * pad, int.from_bytes([POISON] * dtype.itemsize, "little"), f"u{dtype.itemsize}")
        cuda_device.copy_to_device(poison, base, stream)
        place = pad + sum(max(0, size - 1) * -stride for size, stride in zip(sizes, strides, strict=True) if stride < 0)
        view = base.at(place, sizes, tuple(strides))
        device = on_device(filler, dtype)
        device.setup(stream, lambda part: None)
        device(region, view, stream)
        memory = cuda_device.to_host(base, dtype, stream)
    bits = memory.view(poison.dtype)
    made = np.lib.stride_tricks.as_strided(bits[place:], sizes, [s * dtype.itemsize for s in strides])
    values = made.copy().view(dtype)
    made[...] = poison[0]
    assert memory.tobytes() == poison.tobytes(), "written beside the view"
    return values


def host_values(filler, dtype, region):
    out = np.empty(extent(region), DTYPES[dtype])
    filler(region, out)
    return out


def assert_same(filler, dtype, region, order=None, pad=3):
    filler = ready(filler)
    made, expected = device_values(filler, dtype, region, order, pad), host_values(filler, dtype, region)
    assert made.tobytes() == expected.tobytes()
    return made


@pytest.mark.parametrize("method", RANDOM)
@pytest.mark.parametrize("dtype", FLOATS)
def test_draws(method, dtype):
    """Inside and at the edges of blocks, aligned or not, past 2^32 and 2^62, and under 64-bit seeds."""
    parameters = RANDOM[method]
    for shape, region in (
        ((40,), ((0, 40),)),
        ((41,), ((3, 38),)),
        ((5, 7, 3), ((1, 4), (2, 6), (1, 3))),
        ((2**31 + 5, 3), ((2**31 - 1, 2**31 + 4), (0, 3))),
        ((2**16, 2**16 + 3), ((2**16 - 2, 2**16), (2**16 - 3, 2**16 + 3))),
        ((2**62 + 8,), ((2**62 - 5, 2**62 + 8),)),
    ):
        for pad in (0, 1):
            made = assert_same(make(method, shape, dtype, seed=2**64 - 3, **parameters), dtype, region, pad=pad)
            assert len(np.unique(made)) > 1


@settings(max_examples=40, suppress_health_check=list(HealthCheck), deadline=None)
@given(data=st.data())
def test_any_region_into_any_view(data):
    dtype = data.draw(st.sampled_from([*FLOATS]))
    shape = tuple(data.draw(st.lists(st.integers(1, 6), min_size=0, max_size=6)))
    bounds = [sorted(data.draw(st.tuples(st.integers(0, n), st.integers(0, n)))) for n in shape]
    axes = data.draw(st.permutations(range(len(shape))))
    order = [(axis, data.draw(st.sampled_from([1, 1, 2, -1, -3]))) for axis in axes]
    filler = make("uniform", shape, dtype, seed=data.draw(st.integers(0, 2**64 - 1)))
    assert_same(filler, dtype, tuple(map(tuple, bounds)), order, pad=data.draw(st.integers(0, 4)))


@pytest.mark.parametrize(
    ("method", "parameters", "shape", "region", "dtypes"),
    [
        ("constant", {"val": -3}, (4, 9), ((1, 4), (2, 9)), ("int8", "int16", "int32", "int64", "float32", "float16")),
        ("ones", {}, (33,), ((5, 32),), ("uint64", "bfloat16", "float8_e5m2", "float64")),
        ("eye", {}, (7, 9), ((2, 6), (1, 8)), ("float32", "int8", "bfloat16")),
        ("eye", {}, (9, 4), ((0, 9), (2, 4)), ("float64",)),
        ("dirac", {"groups": 2}, (6, 4, 3, 3), ((1, 6), (0, 3), (0, 3), (1, 3)), ("float32", "float16")),
        ("dirac", {}, (3, 5, 4), ((0, 3), (1, 5), (0, 2)), ("int64",)),
        ("sparse", {"sparsity": 0.3}, (30, 9), ((2, 25), (1, 8)), ("float32", "float64", "bfloat16", "float8_e4m3fn")),
        ("sparse", {"sparsity": 1.0}, (5, 3), ((0, 5), (0, 3)), ("float16",)),
        ("ones", {}, (3, 7), ((1, 3), (2, 6)), ("bool", "complex64")),
        ("constant", {"val": "-inf"}, (3, 7), ((1, 3), (2, 6)), ("float32", "float8_e5m2")),
    ],
)
def test_structured(method, parameters, shape, region, dtypes):
    for dtype in dtypes:
        filler = make(method, shape, dtype, **parameters)
        whole = tuple((0, size) for size in shape)
        for part in (region, whole):
            assert_same(filler, dtype, part)
            backwards = [(axis, -2 if axis == 0 else 1) for axis in reversed(range(len(shape)))]
            assert_same(filler, dtype, part, backwards)


ORTHOGONAL = [
    ((20, 9), ((2, 18), (1, 8)), "float32"),
    ((6, 17), ((2, 5), (0, 16)), "float64"),  # transposed
    ((9, 4, 5), ((2, 8), (1, 4), (0, 3)), "bfloat16"),  # trailing axes, in runs
    ((7, 3, 3), ((0, 7), (0, 3), (1, 3)), "delta"),
]


@pytest.mark.parametrize(("shape", "region", "dtype"), ORTHOGONAL)
def test_orthogonal(shape, region, dtype):
    method, dtype = ("delta_orthogonal", "float16") if dtype == "delta" else ("orthogonal", dtype)
    assert_same(make(method, shape, dtype, gain=1.5), dtype, region)


def test_orthogonal_in_other_layouts():
    jax = {"in_axis": -2, "out_axis": -1}
    assert_same(make("orthogonal", (2, 3, 4, 7), "float32", **jax), "float32", ((0, 2), (1, 3), (0, 3), (2, 7)))
    assert_same(make("delta_orthogonal", (3, 4, 5), "float32", **jax), "float32", ((0, 2), (1, 4), (0, 5)))
    several = make("orthogonal", (6, 3, 4), "float64", in_axis=0, out_axis=[1, 2])
    assert_same(several, "float64", ((1, 6), (0, 3), (1, 4)))


def test_products_of_several_tiles_and_blocks(monkeypatch):
    """Larger than a tile of the product in both directions and than a block of k: every bound is met.

    The grid is wider than the product, as it is where numba would warn of a small one.
    """
    monkeypatch.setattr(cuda_device, "GRID", 3 if cuda_device.SIMULATED else cuda_device.GRID)
    from bigin.kernels import matmul
    from bigin.kernels.cuda import matrix as cuda_matrix

    rows, columns, depth = (66, 40, 259) if cuda_device.SIMULATED else (1000, 700, 1900)
    random = np.random.default_rng(3)
    for dtype in (np.float32, np.float64) if not cuda_device.SIMULATED else (np.float32,):
        a, b = random.standard_normal((depth, rows), dtype), random.standard_normal((depth, columns), dtype)
        expected = np.zeros((rows, columns))
        matmul.Product(rows, columns, np.dtype(dtype)).add(a, b, expected)
        with cuda_device.on_stream(None) as stream:
            left, right = (cuda_device.to_device(x.reshape(-1), stream) for x in (a, b))
            out = cuda_device.contiguous((rows, columns), np.dtype(np.float64))
            place = (out.array(np.float64), 0, columns)
            size = (rows, columns, depth)
            cuda_matrix.product(stream, (left, 0, 1, rows), (right, 0, columns), place, size)
            made = cuda_device.to_host(out, np.dtype(np.float64), stream)
        assert made.tobytes() == expected.tobytes()


def test_products_leave_out_blocks_of_zeros_alone():
    """B is a band: of the first tile the end is left out, of the second the first block."""
    from bigin.kernels import matmul
    from bigin.kernels.cuda import matrix as cuda_matrix

    rows, columns, depth, lower, upper = 5, 66, 300, 200, 220
    random = np.random.default_rng(4)
    a, b = (random.standard_normal((depth, size), np.float32) for size in (rows, columns))
    k, j = np.ogrid[:depth, :columns]
    b[(k < lower + j) | (k > upper + j)] = 0
    expected = np.zeros((rows, columns))
    matmul.Product(rows, columns, np.dtype(np.float32)).add(a, b, expected)
    with cuda_device.on_stream(None) as stream:
        left, right = (cuda_device.to_device(x.reshape(-1), stream) for x in (np.ascontiguousarray(a.T), b))
        out = cuda_device.contiguous((rows, columns), np.dtype(np.float64))
        place, factors = (out.array(np.float64), 0, columns), ((left, 0, depth, 1), (right, 0, columns))
        bounds = {"lower": lower, "upper_column": upper}
        for add in (False, True):
            cuda_matrix.product(stream, *factors, place, (rows, columns, depth), add=add, **bounds)
        made = cuda_device.to_host(out, np.dtype(np.float64), stream)
    assert made.tobytes() == (expected + expected).tobytes()


def test_orthogonal_of_several_small_tiles(monkeypatch):
    """The triangle's rows of tiles, X's strips and Q's bands, in sizes that the simulator can do.

    Tiles and strips are a part of the order of operations, so this is another stream: the reference's in those sizes.
    """
    from bigin.fillers.cuda import orthogonal as device_orthogonal

    for module in (reference, device_orthogonal):
        monkeypatch.setattr(module, "TILE", 8)
        monkeypatch.setattr(module, "STRIP", 12)
    monkeypatch.setattr(device_orthogonal, "BAND", 16)
    monkeypatch.setattr(device_orthogonal, "STEP", 12)
    shape = (30, 20)
    made = device_values(make("orthogonal", shape, "float32", seed=11), "float32", ((3, 30), (1, 20)))
    expected = reference.tensor("orthogonal", {}, shape, "float32", 11, "layer")
    reference.orthonormal.cache_clear()
    assert made.tobytes() == np.ascontiguousarray(expected[3:, 1:]).tobytes()


def test_orthogonal_keeps_its_buffers(monkeypatch):
    """Numba gives memory back late: new buffers for every region would exceed the bound on the device's memory."""
    filler = ready(make("orthogonal", (12, 5), "float32"))
    out = cuda_device.contiguous((4, 5), DTYPES["float32"])
    made, contiguous = [], cuda_device.contiguous
    monkeypatch.setattr(cuda_device, "contiguous", lambda *of: made.append(of) or contiguous(*of))
    with cuda_device.on_stream(None) as stream:
        device = on_device(filler, DTYPES["float32"])
        device.setup(stream, lambda part: None)
        del made[:]
        for top in (0, 4, 8):
            region = ((top, top + 4), (0, 5))
            device(region, out, stream)
            assert (
                cuda_device.to_host(out, DTYPES["float32"], stream).tobytes()
                == host_values(filler, "float32", region).tobytes()
            )
    assert len(made) == 2


def test_many_axes():
    """More axes that lie apart than a kernel knows."""
    shape = (3, 4, 3, 4, 3, 4)
    region = tuple((1, size) for size in shape)
    filler = make("uniform", shape, "float32")
    assert_same(filler, "float32", region)
    assert_same(filler, "float32", region, [(axis, 1) for axis in (3, 1, 5, 0, 2, 4)])
    assert_same(filler, "float32", region[:2] + ((0, 1),) * 2 + region[4:], [(a, -2) for a in range(6)])


@pytest.mark.skipif(cuda_device.SIMULATED, reason="a matrix of several tiles takes minutes under the simulator")
@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
@pytest.mark.parametrize("shape", [(1100, 1030), (20000, 600), (600, 20000)])
def test_orthogonal_of_several_tiles(shape, dtype):
    assert_same(make("orthogonal", shape, dtype), dtype, ((0, shape[0]), (0, shape[1])))
    assert_same(make("orthogonal", shape, dtype), dtype, ((101, 510), (33, 590)))


@pytest.mark.parametrize("method", ["normal", "eye", "sparse", "ones"])
def test_regions_with_steps(method):
    shape = (12, 9)
    parameters = {"sparsity": 0.5} if method == "sparse" else {}
    for ranges in ((range(1, 12, 3), range(9)), (range(2, 11), range(1, 9, 2)), (range(0, 12, 5), range(2, 9, 3))):
        filler = RegionFiller(make(method, shape, "float32", **parameters), ranges)
        assert_same(filler, "float32", tuple((0, len(r)) for r in ranges))
        assert_same(filler, "float32", ((1, len(ranges[0])), (1, len(ranges[1]))), [(1, -2), (0, 1)])


@pytest.mark.parametrize("method", ["uniform", "eye"])
def test_stretches(method):
    for offset, shape in ((0, (108,)), (5, (61,)), (17, (7, 5))):
        filler = FlatSliceFiller(make(method, (12, 9), "float32"), offset, shape)
        assert_same(filler, "float32", tuple((0, size) for size in shape))
        assert_same(filler, "float32", tuple((1, size) for size in shape), [(a, -2) for a in range(len(shape))])


def test_padding():
    filler = make("normal", (9, 5), "bfloat16", padding_idx=4)
    for region in (((0, 9), (0, 5)), ((4, 6), (1, 4)), ((5, 9), (0, 5))):
        assert_same(filler, "bfloat16", region)


@pytest.mark.skipif(cuda_device.SIMULATED, reason="2^32 elements take days under the simulator")
def test_more_than_2_to_the_32_elements():
    """16 GiB at once: the grid's strides and the places in memory need 64 bits."""
    size = 2**32 + 12_345
    if cuda_device.free_memory() < 5 * size:
        pytest.skip(f"20 GiB are needed, {cuda_device.free_memory() >> 30} GiB of the device are free")
    filler = make("normal", (size,), "float32")
    view = cuda_device.contiguous((size,), DTYPES["float32"])
    with cuda_device.on_stream(None) as stream:
        on_device(filler, DTYPES["float32"])(((0, size),), view, stream)
        for start in (0, 2**31 - 8, 2**32 - 4, size - 1000):
            stop = min(start + 1000, size)
            made = cuda_device.to_host(view.at(start, (stop - start,), (1,)), DTYPES["float32"], stream)
            assert made.tobytes() == host_values(filler, "float32", ((start, stop),)).tobytes()


KEYS = np.array([0, 1, 2**32 - 1, 2**32, 2**63, 2**64 - 1, 0x0123456789ABCDEF], np.uint64)


@pytest.mark.parametrize("method", RANDOM)
@pytest.mark.parametrize("dtype", FLOATS)
def test_rows_by_key(method, dtype):
    """Rows of whole blocks and of others, at aligned addresses and not, with all around them as it was."""
    for dim in (1, 6, 8):
        filler = KeyedSpec.parse(method, RANDOM[method], 2**64 - 3, "users", dim, dtype).plan()()
        expected = np.empty((len(KEYS), dim), DTYPES[dtype])
        filler(KEYS, expected)
        rows = rows_on_device(filler)
        for pad in (3, 4):
            base = cuda_device.contiguous((expected.size + 2 * pad,), expected.dtype)
            with cuda_device.on_stream(None) as stream:
                poison = np.full(base.shape, POISON, f"u{expected.itemsize}")
                cuda_device.copy_to_device(poison, base, stream)
                keys = cuda_device.to_device(KEYS, stream)
                rows.fill(keys, base.at(pad, expected.shape, (dim, 1)), stream)
                memory = cuda_device.to_host(base, expected.dtype, stream).view(poison.dtype)
            assert memory[pad:-pad].tobytes() == expected.tobytes()
            assert (memory[:pad] == POISON).all()
            assert (memory[-pad:] == POISON).all()
