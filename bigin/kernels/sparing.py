"""What Numba does when it begins to compile, and none of our kernels needs."""

from __future__ import annotations

import contextlib
import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba.core import types
from numba.core.cgutils import normalize_ir_text


def skip() -> None:
    """Instead of looking for Numba's extensions in all installed packages: 0.1 s."""


def spare_scipy() -> None:
    """Has Numba ask whether scipy is installed without importing it, which takes 0.13 s or more.

    Numba imports scipy's BLAS to learn whether np.dot can be compiled, in every process that compiles. What compiles
    np.dot imports it again, so nothing is lost.
    """
    if "numba.np.arraymath" in sys.modules:
        return
    with contextlib.suppress(Exception):  # where Numba has changed, it does as it likes
        from numba.np import linalg

        ensure_blas = linalg.ensure_blas
        linalg.ensure_blas = _require_scipy
        try:
            from numba.np import arraymath

            arraymath.ensure_blas = ensure_blas
        finally:
            linalg.ensure_blas = ensure_blas


def _require_scipy() -> None:
    if importlib.util.find_spec("scipy") is None:
        raise ImportError("scipy")


@contextmanager
def sparing(typing: Any, target: Any) -> Iterator[None]:
    """Has Numba leave out, while our kernels are compiled, what serves only functions that Numba itself will call.

    What is changed here is put back, and Numba compiles nothing of others meanwhile, as its lock is held.
    """
    from numba.core import inline_closurecall
    from numba.core.runtime.nrt import rtsys

    codegen = target.codegen()
    with (
        replaced(rtsys, "initialize", lambda context: None),  # memory that Numba counts
        replaced(type(target), "post_lowering", rewrite),  # which would link it
        replaced(codegen, "_library_class", unloaded(codegen._library_class)),
        replaced(codegen, "set_env", lambda name, environment: None),  # in what was loaded
        replaced(typing, "resolve_function_type", remembered(typing.resolve_function_type)),
        # What is copied is the code of a function that was just read for the one place where it is inlined.
        replaced(inline_closurecall, "copy", SimpleNamespace(deepcopy=lambda block: block)),
    ):
        yield


def rewrite(target: Any, module: Any, library: Any) -> None:
    """What Numba does last to a function's code."""
    if target.fastmath:
        from numba.core.fastmathpass import rewrite_module

        rewrite_module(module, target.fastmath)


@contextmanager
def replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """An attribute has another value meanwhile; nothing happens where Numba has changed and there is none."""
    if not hasattr(owner, name):
        yield
        return
    own = name in vars(owner)
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        if own:
            setattr(owner, name, before)
        else:
            delattr(owner, name)


def unloaded(library: Any) -> Any:
    """A class of libraries that are linked into others, and not made into machine code and loaded each on its own."""

    class Unloaded(library):  # type: ignore[misc]
        def add_ir_module(self, ir_module: Any) -> None:
            count = getattr(ir_module, "interleaved", 0)
            if not count:
                super().add_ir_module(ir_module)
                return
            module = llvm.parse_assembly(normalize_ir_text(interleaved_text(ir_module, count)))
            module.name = ir_module.name
            module.verify()
            self.add_llvm_module(module)

        def _finalize_final_module(self) -> None:
            self._finalize_dynamic_globals()
            self._finalized = True

        def get_pointer_to_function(self, name: str) -> int:
            self._ensure_finalized()
            return 0

        def object_file(self) -> bytes:
            """The machine code."""
            self._ensure_finalized()
            return bytes(self._codegen._tm.emit_object(self._final_module))

    return Unloaded


class LoopHint:
    """The metadata of a loop; the numbers are beyond those of llvmlite's own."""

    def get_reference(self) -> str:
        """Its name in a module's text."""
        return "!1000000"


def interleaved_text(module: Any, count: int) -> str:
    """A module's text, in which every loop asks LLVM for so many vectors side by side."""
    for function in module.functions:
        places = {block: i for i, block in enumerate(function.blocks)}
        for block, i in places.items():
            jump = block.terminator
            if isinstance(jump, ir.Branch) and any(places.get(to, i + 1) <= i for to in jump.operands):
                jump.set_metadata("llvm.loop", LoopHint())
    hint = f'!1000000 = distinct !{{!1000000, !1000001}}\n!1000001 = !{{!"llvm.loop.interleave.count", i32 {count}}}'
    return f"{module}\n{hint}\n"


def remembered(resolve: Callable[..., Any]) -> Callable[..., Any]:
    """What a function of numbers returns is asked once for some types; Numba tries all its rules each time."""
    found: dict[Any, Any] = {}

    def resolve_function_type(function: Any, args: Any, kws: Any) -> Any:
        plain = not isinstance(function, types.Type) or isinstance(function, types.Function | types.NumberClass)
        if kws or not plain or not all(isinstance(arg, types.Number) for arg in args):
            return resolve(function, args, kws)
        key = id(function), args
        if key not in found:
            found[key] = function, resolve(function, args, kws)  # the function, so that its id stays its own
        return found[key][1]

    return resolve_function_type
