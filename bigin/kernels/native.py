"""Kernels of independent draws as plain machine code, which is called without Numba.

Numba is needed to compile, and takes 0.4 s to import; LLVM alone, which loads an object file, takes 0.04 s. A kernel
is a function of pointers and integers, so that ctypes calls it, and gives up Python's lock meanwhile.
"""

from __future__ import annotations

import ctypes
import threading
from functools import cache
from struct import pack, pack_into
from typing import Any

import numpy as np

from bigin.core.compiling import clock
from bigin.kernels import files
from bigin.kernels.files import Code
from bigin.kernels.sizes import OUTER, REGION, SCRATCH

Array = np.ndarray[Any, np.dtype[Any]]
FINISHED = (0, -2)  # Numba's status of a function that has returned
COUNT, ADDRESS = ctypes.c_uint64, ctypes.c_void_p
# status = function(result, error, out, its size, start, list, how many, run, mode, tail, scratch)
Function = ctypes.CFUNCTYPE(
    ctypes.c_int32, ADDRESS, ADDRESS, ADDRESS, COUNT, COUNT, ADDRESS, COUNT, COUNT, COUNT, ADDRESS, ADDRESS
)


class Tail:
    """What all calls for a tensor share: its stream and key, and the scalars of its distribution.

    numbers: of the float type that is drawn. anchor: for trunc_normal.
    """

    def __init__(self, stream: Any, key: Any, numbers: tuple[Any, ...], anchor: Any) -> None:
        self.count = len(numbers)
        form = "d" if numbers and numbers[0].dtype == np.float64 else "f4x"  # 8 bytes for each
        self.data = bytearray(pack(f"=3Q{form * self.count}", stream, key, anchor, *numbers))
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self.data))


class Scratch(threading.local):
    """Memory that kernels of one thread use while they run."""

    def __init__(self) -> None:
        memory = np.zeros(SCRATCH + 64, np.uint8)
        first = -memory.ctypes.data % 64
        self.data = memory[first : first + SCRATCH]
        self.address = int(self.data.ctypes.data)


scratch = Scratch()


class Kernel:
    """A kernel, which is loaded or compiled at its first call.

    kind: a key of cpu.KINDS.
    """

    def __init__(self, kind: str, distribution: str, dtype: str) -> None:
        self.case = kind, distribution, dtype
        self.label = f"{kind}-{distribution}-{dtype}"
        self._lock = threading.Lock()
        self._function: Any = None

    def fill(self, out: Array, start: int, counts: Any, strides: Any, run: int, tail: Tail) -> None:
        """Fills a contiguous array, not empty, of one axis and the storage type with a region: for "long" and "short".

        start: the flat index of the region's first element. counts, strides: how many steps along each outer axis, and
        how many elements a step is. run: the length of a run.
        """
        axes = len(counts)
        if axes:
            pack_into(f"{2 * axes}Q", scratch.data, OUTER, *counts, *strides)
        self._call(address_of(out), out.size, start, scratch.address + OUTER, axes, run, REGION, tail)

    def fill_runs(self, out: Array, listed: Array, run: int, mode: int, tail: Tail) -> None:
        """Fills the same with runs of one length: from the flat indices (STARTS), or of the streams, of a list."""
        listed = np.ascontiguousarray(listed, np.uint64)
        self._call(address_of(out), out.size, 0, address_of(listed), len(listed), run, mode, tail)

    def _call(self, out: int, size: int, start: int, listed: int, count: int, run: int, mode: int, tail: Tail) -> None:
        function = self._function or self.load(tail.count)
        memory = scratch.address
        status = function(memory, memory + 8, out, size, start, listed, count, run, mode, tail.address, memory)
        if status not in FINISHED:
            raise RuntimeError(f"expected the kernel {self.label} to end, got its status {status}")

    def load(self, numbers: int) -> Any:
        """The function; `numbers` says how many scalars its distribution has."""
        if self._function is not None:
            return self._function
        with self._lock:
            if self._function is None:
                code = files.kept(self.label, "code", lambda: self._compiled(numbers))
                self._function = Function(loaded(code))
            return self._function

    def _compiled(self, numbers: int) -> Code:
        with clock.running():
            from bigin.kernels.cpu import compiled

            return compiled(*self.case, numbers)


def address_of(array: Array) -> int:
    """Where an array's data begins; a microsecond less than array.ctypes.data, where it may be written."""
    if array.flags.writeable:
        return ctypes.addressof(ctypes.c_char.from_buffer(array))
    return int(array.ctypes.data)


ENGINES: list[Any] = []  # which own the code that is loaded


def loaded(code: Code) -> int:
    """Where a function begins, after its object file was loaded into memory."""
    import llvmlite.binding as llvm

    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine())
    engine.add_object_file(llvm.ObjectFileRef.from_data(code.data))
    engine.finalize_object()
    ENGINES.append(engine)
    return int(engine.get_function_address(code.symbol))


def machine() -> Any:
    """What LLVM loads code for: this process."""
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return llvm.Target.from_triple(llvm.get_process_triple()).create_target_machine(jit=True, codemodel="jitdefault")


@cache
def kernel(kind: str, distribution: str, dtype: str) -> Kernel:
    """The kernel of a distribution and a dtype, one in a process."""
    return Kernel(kind, distribution, dtype)
