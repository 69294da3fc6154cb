"""Loops over arrays as plain machine code, which are called without Numba: the matrix product, orthogonal, sparse, ...

The code of each is in another file, which is imported only to compile it. A loop is compiled for the types of its
arguments, without the functions that Numba adds so that Python can call it, and ctypes gives up Python's lock
meanwhile. Numba's own dispatchers took 1.5 times as long to compile, and 0.4 s to import in every process.
"""

from __future__ import annotations

import ctypes
import threading
from typing import Any

import numpy as np

from bigin.core.compiling import clock
from bigin.kernels import files
from bigin.kernels.files import Code
from bigin.kernels.native import ADDRESS, FINISHED, address_of, loaded, scratch

SCALARS: dict[str, Any] = {"i4": ctypes.c_int32, "i8": ctypes.c_int64, "u8": ctypes.c_uint64, "f8": ctypes.c_double}
NAMES = {dtype: dtype.str[1:] for dtype in map(np.dtype, ("u1", "u2", "u4", "u8", "i4", "i8", "f4", "f8"))}


class Loop:
    """A function of a file of this room, which is loaded or compiled at its first call with some types.

    variant: what the file's `made` makes the function for; none for a function of the file itself. Arrays may have any
    strides and are passed as they are; numbers are int64 and float64 unless they are numpy's, tuples hold integers.
    """

    def __init__(self, module: str, name: str, *variant: Any) -> None:
        self.source = module, name, variant
        self.label = "-".join([module, name, *("x".join(map(str, part)) for part in variant)])
        self._lock = threading.Lock()
        self._functions: dict[tuple[str, ...], Any] = {}

    def __call__(self, *arguments: Any) -> None:
        """Calls the function, which returns nothing."""
        kinds: list[str] = []
        values: list[Any] = []
        for argument in arguments:
            if isinstance(argument, Fixed):
                kinds += argument.kinds
                values += argument.values
            else:
                _describe(argument, kinds, values)
        key = tuple(kinds)
        function = self._functions.get(key) or self._load(key)
        memory = scratch.address
        status = function(memory, memory + 8, *values)
        if status not in FINISHED:
            raise RuntimeError(f"expected the loop {self.label} to end, got its status {status}")

    def _load(self, kinds: tuple[str, ...]) -> Any:
        with self._lock:
            if kinds not in self._functions:
                code = files.kept(self.label, "-".join(kinds), lambda: self._compiled(kinds))
                self._functions[kinds] = _function_type(kinds)(loaded(code))
            return self._functions[kinds]

    def _compiled(self, kinds: tuple[str, ...]) -> Code:
        with clock.running():
            from bigin.kernels.compile import loop_code

            return loop_code(*self.source, kinds)


class Fixed:
    """Arguments of many calls, which are described once: 2 us for each array."""

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments  # they stay where they are
        self.kinds: list[str] = []
        self.values: list[Any] = []
        for argument in arguments:
            _describe(argument, self.kinds, self.values)


def _describe(argument: Any, kinds: list[str], values: list[Any]) -> None:
    """Adds an argument's kind, and the values that stand for it."""
    if isinstance(argument, np.ndarray):
        whole = argument.flags.c_contiguous
        kinds.append(f"{NAMES[argument.dtype]}{'c' if whole else 'a'}{argument.ndim}")
        data = address_of(argument) if whole and argument.size else argument.ctypes.data
        values += (None, None, argument.size, argument.itemsize, data, *argument.shape, *argument.strides)
    elif isinstance(argument, tuple):
        kinds.append(f"t{len(argument)}")
        values += argument
    else:
        kinds.append(_kind(argument))
        values.append(argument if isinstance(argument, int | float) else argument.item())


def _kind(number: Any) -> str:
    """The type of a number, as a key of SCALARS."""
    if isinstance(number, np.generic):
        return NAMES[number.dtype]
    return "f8" if isinstance(number, float) else "i8"


def _function_type(kinds: tuple[str, ...]) -> Any:
    """status = function(result, error, ...): each number is an argument, and so is each field of an array."""
    types: list[Any] = [ADDRESS, ADDRESS]
    for kind in kinds:
        if kind in SCALARS:
            types.append(SCALARS[kind])
        elif kind.startswith("t"):
            types += [ctypes.c_int64] * int(kind[1:])
        else:
            types += [ADDRESS, ADDRESS, ctypes.c_int64, ctypes.c_int64, ADDRESS]
            types += [ctypes.c_int64] * (2 * int(kind[3:]))
    return ctypes.CFUNCTYPE(ctypes.c_int32, *types)


add_statistics, add_patterns = Loop("statistics", "add_statistics"), Loop("statistics", "add_patterns")
add_rows, factor_rows = Loop("moments", "add_rows"), Loop("moments", "factor_rows")
sines_and_cosines = Loop("sines", "sines_and_cosines")
clear_permuted, mark_origins, clear_marked = (
    Loop("sparse", name) for name in ("clear_permuted", "mark_origins", "clear_marked")
)
clear_above, set_diagonal, reflector_scalars, triangle_tile, invert_triangle, right_side, finish_tile = (
    Loop("reflectors", name)
    for name in (
        "clear_above",
        "set_diagonal",
        "reflector_scalars",
        "triangle_tile",
        "invert_triangle",
        "right_side",
        "finish_tile",
    )
)
