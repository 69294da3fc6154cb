"""What Numba calls itself, kept between runs: the functions of kernels that the CUDA simulator runs.

Numba's own `cache=True` does not notice an edited helper in another file, and two processes that write one of its
files at once can load each other's code. So every kernel has a folder of its own, named by all that decides its code
(the sources of rng/ and kernels/, the versions, the CPU and its features): whoever writes there writes the same.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path
from typing import Any

from numba.core import event
from numba.core.caching import CompileResultCacheImpl, FunctionCache, _CacheLocator
from numba.core.runtime.nrt import rtsys

from bigin.core.compiling import clock
from bigin.core.paths import kernel_cache_root
from bigin.kernels.files import fingerprint, warn_once
from bigin.kernels.sparing import skip, spare_scipy


class CompileListener(event.Listener):  # type: ignore[misc]
    """Runs the clock while functions of this package are compiled."""

    def on_start(self, event: Any) -> None:
        """A function begins to compile."""
        if _is_ours(event):
            spare_scipy()
            clock.begin()

    def on_end(self, event: Any) -> None:
        """It ends."""
        if _is_ours(event):
            clock.end()


def _is_ours(event: Any) -> bool:
    function = getattr(event.data.get("dispatcher"), "py_func", None)
    return str(getattr(function, "__module__", "")).startswith("bigin.")


event.register("numba:compile", CompileListener())


def cached(dispatcher: Any, name: str) -> Any:
    """The dispatcher, which loads its code from the cache and keeps it there; as it was, where no folder serves.

    The folder is $BIGIN_CACHE_DIR, or bigin/ in the user's cache; an empty $BIGIN_CACHE_DIR turns the cache off.
    """
    root = kernel_cache_root()
    if root:
        dispatcher._compilation_chain_init_hook = skip  # compiling calls it again; loading need not
        dispatcher._cache = KernelCache(dispatcher.py_func, Path(root) / fingerprint() / name)
    return dispatcher


class KernelCache:
    """A dispatcher's cache: one of Numba's own for each signature, in a folder of its own.

    Numba's numbers the files of a function's signatures, so that two processes which compile two of them at once could
    each take the other's file.
    """

    def __init__(self, py_func: Any, folder: Path) -> None:
        self.py_func = py_func
        self.cache_path = str(folder)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """The compiled code; None where there is none, or a damaged file, and the kernel is about to be compiled."""
        kept = self._of(sig)
        with contextlib.suppress(Exception):  # a cache that cannot be read must not stop a fill
            if (code := kept.load_overload(sig, target_context)) is not None:
                return code
        try:  # said before the kernel is compiled, which is what takes long
            kept._impl.locator.ensure_cache_path()
        except OSError as error:
            self._warn(error)
        return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keeps the compiled code where the folder can be written."""
        try:
            self._of(sig).save_overload(sig, data)
        except OSError as error:
            self._warn(error)
        except Exception:  # what cannot be kept is compiled again
            return

    def _warn(self, error: OSError) -> None:
        warn_once(str(Path(self.cache_path).parent.parent), error.strerror or str(error))

    def _of(self, sig: Any) -> SignatureCache:
        name = hashlib.blake2b(repr(sig).encode(), digest_size=8).hexdigest()
        return SignatureCache(self.py_func, os.path.join(self.cache_path, name))


class SignatureCache(FunctionCache):
    """Numba's cache of one function, in a given folder."""

    def __init__(self, py_func: Any, folder: str) -> None:
        class Locator(_CacheLocator):
            def get_cache_path(self) -> str:
                return folder

            def get_source_stamp(self) -> str:
                return ""  # the folder's name says it

            def get_disambiguator(self) -> None:
                return None

            @classmethod
            def from_function(cls, py_func: Any, py_file: Any) -> Locator:
                return cls()

        class Implementation(CompileResultCacheImpl):
            _locator_classes = (Locator,)

        self._impl_class = Implementation
        super().__init__(py_func)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """As Numba's, which first loads all that it may need to compile with: 0.6 s, where loading takes 0.01 s."""
        rtsys.initialize(target_context)
        return self._load_overload(sig, target_context)

    def _index_key(self, sig: Any, codegen: Any) -> Any:
        return sig
