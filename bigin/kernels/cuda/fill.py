"""The CUDA shell around rng/: the same scalar functions, so the same bits, from one thread for each block of a stream.

Threads walk over the runs of a region in y and over the blocks of a run in x, both in strides of the grid, with 64-bit
indices. A block that lies inside a run, at an aligned address, is written by one store of four values (two of float64).

numba.cuda is imported in the files cuda*.py of this folder alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import Any

from llvmlite import ir
from numba import cuda, types
from numba.extending import intrinsic

from bigin.core.regions import Region, Shape, indices, strided_runs
from bigin.kernels.cpu import STORES
from bigin.kernels.cuda.device import SIMULATED, View, called_as, composed, launch
from bigin.rng.draws import DRAWS
from bigin.rng.permutation import permute_once
from bigin.rng.philox import philox
from bigin.rng.portable import f32, i64, u32, u64

AXES = 3  # the outer axes that a kernel knows; more are walked over by the host


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


# A block's values are composed of functions that each exist once: the words, a distribution's draw, a dtype's store.
# The casts say for the simulator what compiled code knows.


@called_as("cuda")
def words(block, stream, key):
    """philox, for kernels to call."""
    return philox(block, stream, key)


@called_as("cuda")
def joined(low, high):
    """Two words as one, the low one first."""
    return u64(u64(low) | u64(u64(high) << u64(32)))


@cache
def drawn_alone(distribution: str, double: bool) -> Any:
    """A distribution's draw for one element."""
    draw = DRAWS[distribution].double if double else DRAWS[distribution].single

    @called_as(f"cuda-{distribution}-{64 if double else 32}")
    def drawn(x, numbers, anchor):
        return draw(x, numbers, anchor)

    return drawn


@cache
def drawn_in_pairs(distribution: str, double: bool) -> Any:
    """A distribution's draw for an even element and the odd one behind it."""
    draw = DRAWS[distribution].double if double else DRAWS[distribution].single

    @called_as(f"cuda-{distribution}-{64 if double else 32}")
    def drawn(even, odd, numbers):
        return draw(even, odd, numbers)

    return drawn


@cache
def stored_as(dtype: str) -> Any:
    """The rounding of a float32 to a dtype's bits."""
    store = STORES[dtype]

    @called_as(f"cuda-{dtype}")
    def stored(x):
        return store(x)

    return stored


def each(distribution: str, dtype: str) -> Any:
    """The values of a block in which every element draws alone."""
    draw = drawn_alone(distribution, dtype == "float64")
    if dtype == "float64":

        @composed
        def two(block, stream, key, numbers, anchor):
            a, b, c, d = words(block, stream, key)
            return draw(u64(joined(a, b)), numbers, anchor), draw(u64(joined(c, d)), numbers, anchor)

        return two
    store = stored_as(dtype)

    @composed
    def four(block, stream, key, numbers, anchor):
        a, b, c, d = words(block, stream, key)
        return (
            store(f32(draw(u32(a), numbers, anchor))),
            store(f32(draw(u32(b), numbers, anchor))),
            store(f32(draw(u32(c), numbers, anchor))),
            store(f32(draw(u32(d), numbers, anchor))),
        )

    return four


def pairs(distribution: str, dtype: str) -> Any:
    """The values of a block in which an even element and the odd one behind it draw together."""
    draw = drawn_in_pairs(distribution, dtype == "float64")
    if dtype == "float64":

        @composed
        def two(block, stream, key, numbers, anchor):
            a, b, c, d = words(block, stream, key)
            return draw(u64(joined(a, b)), u64(joined(c, d)), numbers)

        return two
    store = stored_as(dtype)

    @composed
    def four(block, stream, key, numbers, anchor):
        a, b, c, d = words(block, stream, key)
        first, second = draw(u32(a), u32(b), numbers)
        third, fourth = draw(u32(c), u32(d), numbers)
        return store(f32(first)), store(f32(second)), store(f32(third)), store(f32(fourth))

    return four


@composed
def constant_four(block, stream, key, numbers, anchor):
    """The same bits four times."""
    (value,) = numbers
    return value, value, value, value


@composed
def constant_two(block, stream, key, numbers, anchor):
    """The same bits twice."""
    (value,) = numbers
    return value, value


LOOPS = {"each": each, "pairs": pairs}  # by rng.draws.Draw.loop


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
        ahead = across << per
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
            base = origin - i64(first)  # where element 0 would lie, if its run went on
            head = first >> per
            end = (stop + mask) >> per
            # The blocks from `inside` to `edge` - 1 are whole, and begin at aligned addresses.
            inside = (first + mask) >> per
            edge = stop >> per
            if step != i64(1) or u64(base + i64(phase)) & mask != u64(0) or edge < inside:
                inside = head
                edge = head
            block = inside + x
            at = u64(base + i64(block << per))
            while block < edge:
                store_together(out, at, values(block, stream, key, numbers, anchor))
                block += across
                at += ahead
            # The rest: those before `inside` and those from `edge` on.
            before = inside - head
            rest = before + end - edge
            n = x
            while n < rest:
                block = head + n if n < before else edge + n - before
                element = block << per
                made = values(block, stream, key, numbers, anchor)
                low = first - element if element < first else u64(0)
                high = stop - element if element + lanes > stop else lanes
                store_lanes(out, origin + step * (i64(element) - i64(first)), step, made, low, high)
                n += across
            r += down

    return kernel


@cache
def fill_kernel(distribution: str, dtype: str) -> tuple[Any, int]:
    """The kernel of a distribution and a dtype, and the logarithm of the elements in a block."""
    shift = 1 if dtype == "float64" else 2
    return region_kernel(LOOPS[DRAWS[distribution].loop](distribution, dtype), shift), shift


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
    for index in indices(list(map(range, counts[:outer]))):
        first = start_at + sum(i * stride for i, stride in zip(index, strides, strict=False))
        place = out.place + sum(i * stride for i, stride in zip(index, steps, strict=False))
        arguments = (data, i64(place), phase, i64(step), u64(first), *inner, u64(run), *tail)
        launch(code, blocks, height, cuda_stream, *arguments)


# --- Rows by key ----------------------------------------------------------------------------------------------------


def rows_kernel(values: Any, shift: int) -> Any:
    """The kernel that writes rows, one after the other, each the start of a stream of its own.

    Arguments: out (1-d, of the type that is stored), place (where the first row begins there), phase (as region_kernel
    has it), streams (uint64 array: each row's), rows (how many), run (the elements of a row), then key, numbers and
    anchor. place is int64, the others are uint64.
    """
    per = u64(shift)
    lanes = u64(1 << shift)
    mask = u64((1 << shift) - 1)
    store_lanes = store_four if shift == 2 else store_two

    @cuda.jit
    def kernel(out, place, phase, streams, rows, run, key, numbers, anchor):
        across = u64(cuda.blockDim.x) * u64(cuda.gridDim.x)
        down = u64(cuda.blockDim.y) * u64(cuda.gridDim.y)
        x = u64(cuda.blockIdx.x) * u64(cuda.blockDim.x) + u64(cuda.threadIdx.x)
        r = u64(cuda.blockIdx.y) * u64(cuda.blockDim.y) + u64(cuda.threadIdx.y)
        whole = run >> per
        blocks = (run + mask) >> per
        while r < rows:
            stream = u64(streams[r])
            origin = u64(place) + r * run
            aligned = whole if (origin + phase) & mask == u64(0) else u64(0)
            block = x
            while block < aligned:
                store_together(out, origin + (block << per), values(block, stream, key, numbers, anchor))
                block += across
            while block < blocks:
                element = block << per
                made = values(block, stream, key, numbers, anchor)
                high = run - element if element + lanes > run else lanes
                store_lanes(out, i64(origin + element), i64(1), made, u64(0), high)
                block += across
            r += down

    return kernel


@cache
def keyed_kernel(distribution: str, dtype: str) -> tuple[Any, int]:
    """The kernel of rows of a distribution and a dtype, and the logarithm of the elements in a block."""
    shift = 1 if dtype == "float64" else 2
    return rows_kernel(LOOPS[DRAWS[distribution].loop](distribution, dtype), shift), shift


def fill_rows(
    kernel: tuple[Any, int], out: View, dtype: Any, streams: Any, run: int, cuda_stream: Any, tail: Sequence[Any]
) -> None:
    """Launches a kernel of rows for a contiguous view of (rows, run); tail: key, numbers, anchor."""
    code, shift = kernel
    rows = out.shape[0]
    if rows == 0:
        return
    phase = u64(out.lowest // out.itemsize % (1 << shift))
    arguments = (out.array(dtype), i64(out.place), phase, streams, u64(rows), u64(run), *tail)
    launch(code, ((run - 1) >> shift) + 1, rows, cuda_stream, *arguments)


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
