"""A CUDA device as the kernels and fillers use it: memory, streams, launches.

Everything here also runs under NUMBA_ENABLE_CUDASIM=1, numba's simulator, where a thread of the device is a thread of
Python, its memory the host's, and the functions that kernels call run on the CPU and return plain ints and floats.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import math
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numba
import numpy as np

if importlib.util.find_spec("numba_cuda") is None:
    raise ImportError("the package numba-cuda is not installed")

from numba import cuda

from bigin.core.regions import Region, Shape, dense, extent
from bigin.kernels.cache import cached

SIMULATED = bool(numba.config.ENABLE_CUDASIM)
THREADS = 8 if SIMULATED else 512  # of a thread block; simulated ones are slow to start
GRID = 1 if SIMULATED else 128  # thread blocks at least: numba warns of fewer
WAVES = 8  # thread blocks at most, for each multiprocessor: with 512 threads the fastest of 4 to 256 on an H200
SIMULATOR = threading.Lock()  # the simulator keeps a launch's configuration in the kernel
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


def composed(function: Any) -> Any:
    """A decorator for a function of `called_as` ones, which the simulator runs as the Python that it is."""
    return function if SIMULATED else numba.njit(error_model="numpy")(function)


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
    """Makes a device the calling thread's.

    A thread that has none keeps this one afterwards: what it has allocated may be freed when it ends, and for that the
    driver wants a device. A thread that has one, as torch may have given it, has it again afterwards.
    """
    if SIMULATED:
        return contextlib.nullcontext()
    from numba.cuda.cudadrv.driver import driver

    with driver.get_active_context() as active:
        has_one = bool(active)
    if not has_one:
        cuda.select_device(number)
    device: contextlib.AbstractContextManager[Any] = cuda.gpus[number]
    return device


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
    start(kernel, (across, down), (x, y), stream, *arguments)


def start(kernel: Any, grid: tuple[int, int], block: tuple[int, int], stream: Any, *arguments: Any) -> None:
    """Runs a kernel with a given grid of thread blocks, or one that is wider: numba warns of a small one."""
    grid = (max(grid[0], -(-GRID // grid[1])), grid[1])
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
