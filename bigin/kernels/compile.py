"""From a function to its machine code, by Numba, with nothing around it that Python would need to call it."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import compiler, config
from numba.core.compiler_lock import global_compiler_lock
from numba.core.registry import cpu_target
from numba.extending import intrinsic
from numba.np.arrayobj import populate_array
from numba.np.numpy_support import from_dtype

from bigin.core.errors import InputError
from bigin.kernels.files import Code
from bigin.kernels.sparing import skip, spare_scipy, sparing


def inner(function: Any, fastmath: Any = False) -> Any:
    """A function that kernels call: compiled without memory that Numba counts, and not to be called from Python."""
    options = {"nogil": True, "error_model": "numpy", "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
    dispatcher = njit(_nrt=False, fastmath=fastmath, **options)(function)
    dispatcher._compilation_chain_init_hook = skip
    return dispatcher


@global_compiler_lock
def machine_code(function: Any, arguments: tuple[Any, ...]) -> Code:
    """The code of a function that returns nothing, for arguments of Numba's types.

    Its own arguments follow those of Numba's calling convention: where a result and an error would go. Each number and
    each pointer is one argument.
    """
    if config.DISABLE_JIT:
        raise InputError("expected numba's compiler, got NUMBA_DISABLE_JIT in the environment; unset it")
    spare_scipy()
    typing, target = cpu_target.typing_context, cpu_target.target_context
    flags = compiler.Flags()
    flags.nrt = False
    flags.error_model = "numpy"
    flags.no_cpython_wrapper = flags.no_cfunc_wrapper = True
    with sparing(typing, target):
        typing.refresh()
        target.refresh()
        library = target.codegen().create_library(function.__qualname__)
        found = compiler.compile_extra(typing, target, function, arguments, types.none, flags, {}, library)
        return Code(found.fndesc.llvm_func_name, library.object_file())


def loop_code(module: str, name: str, variant: tuple[Any, ...], kinds: tuple[str, ...]) -> Code:
    """The code of a loops.Loop for some types of arguments."""
    source: Any = importlib.import_module(f"bigin.kernels.{module}")
    function = source.made(name, *variant) if variant else getattr(source, name)
    function.__qualname__ = "-".join([name, *map(str, variant)])  # of which the symbol is made
    return machine_code(function, tuple(map(_type_of, kinds)))


def _type_of(kind: str) -> Any:
    """Numba's type of an argument of a loops.Loop."""
    if kind.startswith("t"):
        return types.UniTuple(types.int64, int(kind[1:]))
    scalar = from_dtype(np.dtype(kind[:2]))
    return types.Array(scalar, int(kind[3:]), kind[2].upper()) if len(kind) > 2 else scalar


def _array(context: Any, builder: Any, kind: Any, data: Any, size: Any) -> Any:
    """A contiguous array over memory that nothing counts."""
    array = context.make_array(kind)(context, builder)
    width = context.get_abi_sizeof(context.get_data_type(kind.dtype))
    data = builder.bitcast(data, context.get_data_type(kind.dtype).as_pointer())
    populate_array(array, data, [size], [ir.IntType(64)(width)], width, None)
    return array._getvalue()


@intrinsic
def array_at(typingctx: Any, pointer: Any, size: Any) -> Any:
    """The array of so many elements at a pointer."""
    kind = types.Array(pointer.dtype, 1, "C")

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _array(context, builder, kind, *args)

    return kind(pointer, types.uint64), generate


@intrinsic
def part_of(typingctx: Any, array: Any, first: Any, size: Any) -> Any:
    """array[first : first + size], which must lie within it: a slice would be checked, and take long to compile."""
    if not (first == size == types.uint64):
        return None

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data = context.make_array(array)(context, builder, args[0]).data
        return _array(context, builder, array, builder.gep(data, [args[1]]), args[2])

    return array(array, types.uint64, types.uint64), generate


def buffer(dtype: Any, offset: int, size: int) -> Any:
    """The intrinsic that makes an array of a part of a pointer's memory."""
    kind = types.Array(from_dtype(dtype), 1, "C")

    @intrinsic
    def part(typingctx: Any, pointer: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            word = ir.IntType(64)
            return _array(context, builder, kind, builder.gep(args[0], [word(offset)]), word(size))

        return kind(pointer), generate

    return part


def on_stack(dtype: Any, size: int) -> Any:
    """The intrinsic that makes a small array on the stack."""
    kind = types.Array(from_dtype(dtype), 1, "C")

    @intrinsic
    def made(typingctx: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return _on_stack(context, builder, kind, size)

        return kind(), generate

    return made


@intrinsic
def interleaved(typingctx: Any) -> Any:
    """Asks LLVM to make two vectors side by side in the loops of the function that calls this."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.module.interleaved = 2  # read by sparing.unloaded
        return context.get_dummy_value()

    return types.void(), generate


def stack_like(size: int) -> Any:
    """The intrinsic that makes a small array on the stack, of the type of another array."""

    @intrinsic
    def made(typingctx: Any, array: Any) -> Any:
        kind = types.Array(array.dtype, 1, "C")

        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return _on_stack(context, builder, kind, size)

        return kind(array), generate

    return made


def _on_stack(context: Any, builder: Any, kind: Any, size: int) -> Any:
    with builder.goto_entry_block():
        data = builder.alloca(context.get_data_type(kind.dtype), size=ir.IntType(64)(size))
        data.align = 64
    return _array(context, builder, kind, data, ir.IntType(64)(size))


def tail_at(dtype: Any, count: int) -> Any:
    """The intrinsic that reads the (stream, key, anchor, numbers) of a native.Tail."""
    kind = types.Tuple((types.uint64, types.uint64, types.uint64, types.UniTuple(from_dtype(dtype), count)))

    @intrinsic
    def tail_of(typingctx: Any, pointer: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            scalar = context.get_data_type(from_dtype(dtype)).as_pointer()
            places = [builder.gep(args[0], [ir.IntType(64)(i)]) for i in range(3 + count)]
            numbers = [builder.load(builder.bitcast(place, scalar)) for place in places[3:]]
            return context.make_tuple(
                builder, kind, [*map(builder.load, places[:3]), context.make_tuple(builder, kind[3], numbers)]
            )

        return kind(pointer), generate

    return tail_of
