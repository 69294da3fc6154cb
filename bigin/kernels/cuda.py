"""The CUDA shell around rng/: the same scalar functions, so the same bits, from one thread for each block of a stream.

Threads walk over the runs of a region in y and over the blocks of a run in x, both in strides of the grid, with 64-bit
indices. A block that lies inside a run, at an aligned address, is written by one store of four values (two of float64).

numba.cuda is imported here alone. Everything also runs under NUMBA_ENABLE_CUDASIM=1, where a thread of the device is a
thread of Python, `inlined` functions run on the CPU, and what such a function returns is a plain int or float.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import itertools
import math
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numba
import numpy as np

if importlib.util.find_spec("numba_cuda") is None:
    raise ImportError("the package numba-cuda is not installed")

from llvmlite import ir
from numba import cuda, types
from numba.extending import intrinsic

from bigin.kernels.cache import cached
from bigin.kernels.cpu import STORES
from bigin.regions import Region, Shape, extent, strided_runs
from bigin.rng import draws
from bigin.rng.permutation import permute_once
from bigin.rng.philox import philox
from bigin.rng.portable import i64, inlined, u64

SIMULATED = bool(numba.config.ENABLE_CUDASIM)
THREADS = 8 if SIMULATED else 256  # of a thread block; simulated ones are slow to start
GRID = 1 if SIMULATED else 128  # thread blocks at least: numba warns of fewer
WAVES = 32  # thread blocks at most, for each multiprocessor
AXES = 3  # the outer axes that a kernel knows; more are walked over by the host
# The simulator keeps a launch's configuration in the kernel, and while it runs puts another module in place of `cuda`.
SIMULATOR = threading.Lock()
if SIMULATED:
    SimulatedArray = cuda.cudadrv.devicearray.FakeCUDAArray


def called_as(label: str) -> Any:
    """A decorator for what kernels call: typed once, where `inlined` functions are at every call. NVVM inlines it.

    The simulator compiles such a function for the CPU, and keeps it as the CPU's kernels are kept, under the label.
    """

    def decorate(function: Any) -> Any:
        function.__qualname__ = f"{function.__name__}[{label}]"
        dispatcher = numba.njit(error_model="numpy")(function)
        return cached(dispatcher, f"{label}-{function.__name__}") if SIMULATED else dispatcher

    return decorate


# --- Memory ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class View:
    """A strided array in the device's memory.

    `first` is the address of its first element; strides are in elements and may be negative. `owner` keeps the memory.
    """

    first: int
    itemsize: int
    shape: Shape
    strides: Shape
    owner: Any = None

    @property
    def place(self) -> int:
        """How many elements lie before the first, from the lowest address on."""
        return sum((size - 1) * -stride for size, stride in zip(self.shape, self.strides, strict=True) if stride < 0)

    @property
    def lowest(self) -> int:
        """The lowest address of an element."""
        return self.first - self.place * self.itemsize

    @property
    def span(self) -> int:
        """How many elements lie from the lowest to the highest."""
        return 1 + sum((size - 1) * abs(stride) for size, stride in zip(self.shape, self.strides, strict=True))

    def array(self, dtype: Any) -> Any:
        """The whole span as a 1-d device array."""
        return device_array(self.lowest, self.span, np.dtype(dtype), self.owner)

    def at(self, place: int, shape: Shape, strides: Shape) -> View:
        """Other elements of the same memory, from one so many elements behind the first on."""
        return View(self.first + place * self.itemsize, self.itemsize, shape, strides, self.owner)

    def part(self, region: Region) -> View:
        """A region of the array."""
        place = sum(start * stride for (start, _), stride in zip(region, self.strides, strict=True))
        return self.at(place, extent(region), self.strides)


class _Interface:
    """What numba.cuda takes for an array of another library."""

    def __init__(self, pointer: int, size: int, dtype: np.dtype[Any], owner: Any) -> None:
        self.owner = owner
        self.__cuda_array_interface__ = {
            "shape": (size,),
            "typestr": dtype.str,
            "data": (pointer, False),
            "version": 3,
        }


def device_array(pointer: int, size: int, dtype: np.dtype[Any], owner: Any) -> Any:
    """Memory of the device as a 1-d array, which keeps the memory's owner."""
    if SIMULATED:
        buffer = (ctypes.c_char * (size * dtype.itemsize)).from_address(pointer)
        simulated = SimulatedArray(np.frombuffer(buffer, dtype))
        simulated.owner = owner
        return simulated
    return cuda.as_cuda_array(_Interface(pointer, size, dtype, owner), sync=False)


def dense(shape: Shape) -> Shape:
    """The strides of a C-ordered array."""
    return tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))


def contiguous(shape: Shape, dtype: np.dtype[Any]) -> View:
    """New memory of the device for a C-ordered array."""
    size, strides = max(1, math.prod(shape)), dense(shape)
    if SIMULATED:
        owner: Any = np.zeros(size, dtype)
        return View(owner.ctypes.data, dtype.itemsize, shape, strides, owner)
    owner = cuda.device_array(size, np.uint8 if dtype.itemsize == 1 else f"u{dtype.itemsize}")
    return View(owner.device_ctypes_pointer.value, dtype.itemsize, shape, strides, owner)


def to_host(view: View, dtype: np.dtype[Any], stream: Any) -> np.ndarray[Any, np.dtype[Any]]:
    """A copy of a contiguous array, which has arrived."""
    out = np.empty(view.shape, dtype)
    copy_to_host(view, out, stream)
    return out


def copy_to_host(view: View, out: np.ndarray[Any, np.dtype[Any]], stream: Any) -> None:
    """Copies a contiguous array into one of the same shape, and waits until it has arrived."""
    unsigned = np.dtype(f"u{view.itemsize}")
    flat: Any = out.reshape(-1).view(unsigned)
    source = device_array(view.first, flat.size, unsigned, view.owner)
    if SIMULATED:
        flat[:] = source._ary
        return
    source.copy_to_host(flat, stream=stream)
    stream.synchronize()


def copy_to_device(array: np.ndarray[Any, np.dtype[Any]], view: View, stream: Any) -> None:
    """Copies a contiguous array into a contiguous one of the device, and waits until it has arrived."""
    flat: Any = array.reshape(-1)
    target = device_array(view.first, flat.size, flat.dtype, view.owner)
    if SIMULATED:
        target._ary[:] = flat
        return
    target.copy_to_device(flat, stream=stream)
    stream.synchronize()


def to_device(array: np.ndarray[Any, np.dtype[Any]], stream: Any) -> Any:
    """A copy of a 1-d array on the device, which has arrived."""
    if SIMULATED:
        return SimulatedArray(array.copy())
    copied = cuda.to_device(array, stream=stream)
    stream.synchronize()
    return copied


def pinned(size: int) -> np.ndarray[Any, np.dtype[Any]]:
    """Bytes of the host's memory that stay where they are, so that the device copies to them by itself."""
    return np.empty(size, np.uint8) if SIMULATED else cuda.pinned_array(size, np.uint8)


# --- Devices --------------------------------------------------------------------------------------------------------


def problem() -> str | None:
    """Why no device can be used; None where one can."""
    if SIMULATED:
        return None
    try:
        cuda.current_context()
    except Exception as error:
        lines = [line.strip(" :") for line in str(error).splitlines() if line.strip(" :")]
        return " ".join(lines) or type(error).__name__
    return None


def count() -> int:
    """How many devices there are."""
    return 1 if SIMULATED else len(cuda.gpus)


def on_device(number: int) -> contextlib.AbstractContextManager[Any]:
    """Makes a device the calling thread's."""
    return contextlib.nullcontext() if SIMULATED else cuda.gpus[number]


def current_device() -> int:
    """The number of the calling thread's device."""
    return 0 if SIMULATED else int(cuda.get_current_device().id)


def device_name() -> str:
    """What the calling thread's device is called."""
    if SIMULATED:
        return "simulated"
    name = cuda.get_current_device().name
    return name.decode() if isinstance(name, bytes) else str(name)


def free_memory() -> int:
    """Bytes of the calling thread's device that are free."""
    return 1 << 40 if SIMULATED else int(cuda.current_context().get_memory_info().free)


def new_stream() -> Any:
    """A stream of our own."""
    return 0 if SIMULATED else cuda.stream()


def wait(stream: Any) -> None:
    """Returns when all that was launched on a stream is done."""
    if not SIMULATED:
        stream.synchronize()


# --- Launching ------------------------------------------------------------------------------------------------------


def most_blocks() -> int:
    """Thread blocks that keep the whole device busy."""
    return 4 if SIMULATED else WAVES * _multiprocessors(current_device())


@cache
def _multiprocessors(number: int) -> int:
    return int(cuda.get_current_device().MULTIPROCESSOR_COUNT)


def launch(kernel: Any, width: int, height: int, stream: Any, *arguments: Any) -> None:
    """Runs a kernel with a thread for each of width x height places, or fewer that walk over them in strides."""
    x = min(THREADS, 1 << max(0, width - 1).bit_length())
    y = THREADS // x
    across = max(1, min(-(-width // x), most_blocks()))
    down = max(1, min(-(-height // y), max(1, most_blocks() // across), 65535))
    across = max(across, -(-GRID // down))
    start(kernel, (across, down), (x, y), stream, *arguments)


def start(kernel: Any, grid: tuple[int, int], block: tuple[int, int], stream: Any, *arguments: Any) -> None:
    """Runs a kernel with a given grid of thread blocks."""
    if SIMULATED:
        with SIMULATOR:
            kernel[grid, block](*arguments)
    else:
        kernel[grid, block, stream](*arguments)


@contextlib.contextmanager
def on_stream(handle: int | None) -> Iterator[Any]:
    """A stream to launch on: the caller's, by its handle, or one of our own, which is waited for at the end."""
    if SIMULATED:
        yield 0
        return
    stream = cuda.stream() if handle is None else cuda.external_stream(handle)
    yield stream
    if handle is None:
        stream.synchronize()


# --- Stores ---------------------------------------------------------------------------------------------------------


@intrinsic
def vector_store(typingctx: Any, out: Any, place: Any, values: Any) -> Any:
    """out[place], out[place + 1] ... = values, in one store, to an address that is a multiple of its size."""
    if not (isinstance(out, types.Array) and isinstance(values, types.UniTuple) and values.dtype == out.dtype):
        return None

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, args[0])
        element = context.get_data_type(out.dtype)
        kind = ir.VectorType(element, values.count)
        vector: Any = ir.Constant(kind, ir.Undefined)
        for lane in range(values.count):
            value = builder.extract_value(args[2], lane)
            vector = builder.insert_element(vector, value, ir.Constant(ir.IntType(32), lane))
        pointer = builder.bitcast(builder.gep(array.data, [args[1]]), kind.as_pointer())
        builder.store(vector, pointer, align=values.count * out.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(out, types.uint64, values), generate


if SIMULATED:

    def store_together(out, place, values):
        """vector_store, which the simulator has not; an address that a GPU would refuse is refused here, too."""
        address = out._item._ary.ctypes.data + int(place) * out.dtype.itemsize
        assert address % (len(values) * out.dtype.itemsize) == 0
        for lane, value in enumerate(values):
            out[place + u64(lane)] = value

else:

    @cuda.jit(device=True)
    def store_together(out, place, values):
        """vector_store, which only compiled code can call."""
        vector_store(out, place, values)


@cuda.jit(device=True)
def store_four(out, place, step, values, low, high):
    """The values of the lanes from low to high - 1, `step` elements apart."""
    a, b, c, d = values
    if low <= u64(0) < high:
        out[u64(place)] = a
    if low <= u64(1) < high:
        out[u64(place + step)] = b
    if low <= u64(2) < high:
        out[u64(place + i64(2) * step)] = c
    if low <= u64(3) < high:
        out[u64(place + i64(3) * step)] = d


@cuda.jit(device=True)
def store_two(out, place, step, values, low, high):
    """store_four for the two values of a float64's block."""
    a, b = values
    if low <= u64(0) < high:
        out[u64(place)] = a
    if low <= u64(1) < high:
        out[u64(place + step)] = b


# --- The values of a block ------------------------------------------------------------------------------------------


@inlined
def joined(low, high):
    """Two words as one, the low one first."""
    return u64(u64(low) | u64(u64(high) << u64(32)))


def each_32(draw: Any, store: Any, label: str) -> Any:
    """The four values of a block in which every element draws alone."""

    @called_as(label)
    def value(word, numbers, anchor):
        return store(draw(word, numbers, anchor))

    @called_as(label)
    def values(block, stream, key, numbers, anchor):
        a, b, c, d = philox(block, stream, key)
        return (
            value(a, numbers, anchor),
            value(b, numbers, anchor),
            value(c, numbers, anchor),
            value(d, numbers, anchor),
        )

    return values


def pairs_32(draw: Any, store: Any, label: str) -> Any:
    """The four values of a block in which an even element and the odd one behind it draw together."""

    @called_as(label)
    def pair(even, odd, numbers):
        first, second = draw(even, odd, numbers)
        return store(first), store(second)

    @called_as(label)
    def values(block, stream, key, numbers, anchor):
        a, b, c, d = philox(block, stream, key)
        first, second = pair(a, b, numbers)
        third, fourth = pair(c, d, numbers)
        return first, second, third, fourth

    return values


def each_64(draw: Any, store: Any, label: str) -> Any:
    """each_32 for the two values of a float64's block."""

    @called_as(label)
    def value(low, high, numbers, anchor):
        return store(draw(joined(low, high), numbers, anchor))

    @called_as(label)
    def values(block, stream, key, numbers, anchor):
        a, b, c, d = philox(block, stream, key)
        return value(a, b, numbers, anchor), value(c, d, numbers, anchor)

    return values


def pairs_64(draw: Any, store: Any, label: str) -> Any:
    """pairs_32 for the two values of a float64's block."""

    @called_as(label)
    def values(block, stream, key, numbers, anchor):
        a, b, c, d = philox(block, stream, key)
        first, second = draw(joined(a, b), joined(c, d), numbers)
        return store(first), store(second)

    return values


@called_as("cuda")
def constant_four(block, stream, key, numbers, anchor):
    """The same bits four times."""
    (value,) = numbers
    return value, value, value, value


@called_as("cuda")
def constant_two(block, stream, key, numbers, anchor):
    """The same bits twice."""
    (value,) = numbers
    return value, value


# distribution -> (the values of a block of four, and the draw; the same for a block of two)
VALUES: dict[str, tuple[Any, Any, Any, Any]] = {
    "uniform": (each_32, draws.uniform_32, each_64, draws.uniform_64),
    "normal": (pairs_32, draws.normal_32, pairs_64, draws.normal_64),
    "trunc_normal": (each_32, draws.trunc_normal_32, each_64, draws.trunc_normal_64),
}


# --- Regions --------------------------------------------------------------------------------------------------------


def region_kernel(values: Any, shift: int) -> Any:
    """The kernel that writes a region of values, where `values` makes those of a block of 2^shift.

    Arguments: out (1-d, of the type that is stored), place (where the region's first element lies there), phase (what
    added to a place makes a multiple of 2^shift of an aligned one), step (from an element of a run to the next), start
    (the first element's flat index), counts, strides and steps (along the three outer axes: how many, how far in the
    flat tensor, how far in out), run (the length of a run), then what `values` takes. place, step and steps are int64,
    all others uint64.
    """
    per = u64(shift)
    lanes = u64(1 << shift)
    mask = u64((1 << shift) - 1)
    store_lanes = store_four if shift == 2 else store_two

    @cuda.jit
    def kernel(out, place, phase, step, start, counts, strides, steps, run, stream, key, numbers, anchor):
        across = u64(cuda.blockDim.x) * u64(cuda.gridDim.x)
        down = u64(cuda.blockDim.y) * u64(cuda.gridDim.y)
        x = u64(cuda.blockIdx.x) * u64(cuda.blockDim.x) + u64(cuda.threadIdx.x)
        r = u64(cuda.blockIdx.y) * u64(cuda.blockDim.y) + u64(cuda.threadIdx.y)
        runs = counts[0] * counts[1] * counts[2]
        while r < runs:
            rest = r // counts[2]
            k = r % counts[2]
            j = rest % counts[1]
            i = rest // counts[1]
            first = start + i * strides[0] + j * strides[1] + k * strides[2]
            origin = place + i64(i) * steps[0] + i64(j) * steps[1] + i64(k) * steps[2]
            stop = first + run
            block = (first >> per) + x
            while (block << per) < stop:
                made = values(block, stream, key, numbers, anchor)
                element = block << per
                at = origin + step * (i64(element) - i64(first))
                whole = element >= first and element + lanes <= stop
                if whole and step == i64(1) and (u64(at) + phase) & mask == u64(0):
                    store_together(out, u64(at), made)
                else:
                    low = first - element if element < first else u64(0)
                    high = stop - element if element + lanes > stop else lanes
                    store_lanes(out, at, step, made, low, high)
                block += across
            r += down

    return kernel


@cache
def fill_kernel(distribution: str, dtype: str) -> tuple[Any, int]:
    """The kernel of a distribution and a dtype, and the logarithm of the elements in a block."""
    make_32, draw_32, make_64, draw_64 = VALUES[distribution]
    label = f"cuda-{distribution}-{dtype}"
    if dtype == "float64":
        return region_kernel(make_64(draw_64, STORES[dtype], label), 1), 1
    return region_kernel(make_32(draw_32, STORES[dtype], label), 2), 2


@cache
def constant_kernel(itemsize: int) -> tuple[Any, int]:
    """The kernel that writes one value of so many bytes everywhere."""
    return (region_kernel(constant_two, 1), 1) if itemsize == 8 else (region_kernel(constant_four, 2), 2)


def fill_region(
    kernel: tuple[Any, int],
    out: View,
    dtype: Any,
    shape: Shape,
    ranges: Sequence[range],
    cuda_stream: Any,
    tail: Sequence[Any],
) -> None:
    """Launches a region kernel for what ranges cut out of a tensor, into a view of that shape.

    dtype is the type that is stored, tail the kernel's last arguments: stream, key, numbers, anchor.
    """
    code, shift = kernel
    start_at, counts, strides, steps, run, step = strided_runs(shape, ranges, out.strides)
    if run == 0:
        return
    data = out.array(dtype)
    phase = u64(out.lowest // out.itemsize % (1 << shift))
    blocks = ((run + (1 << shift) - 2) >> shift) + 1  # that a run touches at most
    outer = max(0, len(counts) - AXES)
    padding = AXES - (len(counts) - outer)
    inner = (
        (u64(1),) * padding + tuple(map(u64, counts[outer:])),
        (u64(0),) * padding + tuple(map(u64, strides[outer:])),
        (i64(0),) * padding + tuple(map(i64, steps[outer:])),
    )
    height = math.prod(counts[outer:])
    for index in itertools.product(*map(range, counts[:outer])):
        first = start_at + sum(i * stride for i, stride in zip(index, strides, strict=False))
        place = out.place + sum(i * stride for i, stride in zip(index, steps, strict=False))
        arguments = (data, i64(place), phase, i64(step), u64(first), *inner, u64(run), *tail)
        launch(code, blocks, height, cuda_stream, *arguments)


# --- Places that are decided one by one -----------------------------------------------------------------------------


@cuda.jit
def sparse_kernel(out, place, steps, corner, sizes, rows, zeros, halves, stream, key):
    """Sets out to 0 where the permutation of column j sends row i below `zeros`.

    Of a region whose first element is `corner` and which has `sizes`; out is unsigned, place and steps are int64.
    """
    across = u64(cuda.blockDim.x) * u64(cuda.gridDim.x)
    down = u64(cuda.blockDim.y) * u64(cuda.gridDim.y)
    j = u64(cuda.blockIdx.x) * u64(cuda.blockDim.x) + u64(cuda.threadIdx.x)
    while j < sizes[1]:
        i = u64(cuda.blockIdx.y) * u64(cuda.blockDim.y) + u64(cuda.threadIdx.y)
        while i < sizes[0]:
            if permuted_place(corner[0] + i, corner[1] + j, rows, halves[0], halves[1], stream, key) < zeros:
                out[u64(place + i64(i) * steps[0] + i64(j) * steps[1])] = 0
            i += down
        j += across


@called_as("cuda")
def permuted_place(row, column, rows, a, b, stream, key):
    """Where the permutation of a column sends a row."""
    w0, w1, w2, w3 = philox(column, stream, key)
    k0, k1, k2, k3 = u64(w0), u64(w1), u64(w2), u64(w3)
    x, y = permute_once(row // b, row % b, a, b, k0, k1, k2, k3)
    place = u64(x * b + y)
    while place >= rows:
        x, y = permute_once(place // b, place % b, a, b, k0, k1, k2, k3)
        place = u64(x * b + y)
    return place


def clear_permuted(
    out: View,
    unsigned: Any,
    region: Region,
    rows: int,
    zeros: int,
    halves: Any,
    cuda_stream: Any,
    stream: Any,
    key: Any,
) -> None:
    """Launches sparse_kernel for a region, in a view of the region's shape."""
    (top, bottom), (left, right) = region
    if bottom == top or right == left:
        return
    sizes = (u64(bottom - top), u64(right - left))
    arguments = (out.array(unsigned), i64(out.place), tuple(map(i64, out.strides)), (u64(top), u64(left)), sizes)
    scalars = (u64(rows), u64(zeros), tuple(map(u64, halves)), stream, key)
    launch(sparse_kernel, right - left, bottom - top, cuda_stream, *arguments, *scalars)


@cuda.jit
def ones_kernel(out, place, steps, rows, columns, outputs, inputs, one):
    """Puts `one` into the rows [rows[0], rows[1]), each at the column row % outputs where that is below `inputs` and
    in [columns[0], columns[1]); out is unsigned, place and steps are int64, the others uint64.
    """
    row = rows[0] + u64(cuda.blockIdx.x) * u64(cuda.blockDim.x) + u64(cuda.threadIdx.x)
    while row < rows[1]:
        column = row % outputs
        if columns[0] <= column and column < columns[1] and column < inputs:
            out[u64(place + i64(row - rows[0]) * steps[0] + i64(column - columns[0]) * steps[1])] = one
        row += u64(cuda.blockDim.x) * u64(cuda.gridDim.x)


def put_ones(out: View, unsigned: Any, region: Region, outputs: int, inputs: int, one: Any, cuda_stream: Any) -> None:
    """Launches ones_kernel for two axes of a region, in a view of their shape."""
    (top, bottom), (left, right) = region
    if bottom == top or right == left:
        return
    rows, columns = (u64(top), u64(bottom)), (u64(left), u64(right))
    arguments = (out.array(unsigned), i64(out.place), tuple(map(i64, out.strides)), rows, columns)
    launch(ones_kernel, bottom - top, 1, cuda_stream, *arguments, u64(outputs), u64(inputs), one)
