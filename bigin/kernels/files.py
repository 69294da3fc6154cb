"""Compiled kernels in files, whose folder is named by all that decides their code."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import sys
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

from bigin.core.errors import CacheWarning
from bigin.core.paths import kernel_cache_root

MAGIC = b"bigin kernel 1\n"
# What Numba reads from the environment, or from a file in the working folder, and compiles differently for.
SETTINGS = "CPU_NAME", "CPU_FEATURES", "ENABLE_AVX", "OPT", "LOOP_VECTORIZE", "SLP_VECTORIZE", "LLVM_PASS_TIMINGS"
SETTINGS_FILE = ".numba_config.yaml"


class Code(NamedTuple):
    """A kernel's machine code: an object file, and the symbol of its function."""

    symbol: str
    data: bytes


@cache
def fingerprint() -> str:
    """A hash of everything that decides a kernel's code; Numba, which takes 0.4 s, is not imported for it."""
    import llvmlite
    import llvmlite.binding as llvm

    digest = hashlib.blake2b(digest_size=12)
    machine = (llvm.get_process_triple(), llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten())
    settings = [os.environ.get(f"NUMBA_{name}") for name in SETTINGS]
    digest.update(repr((sys.version, llvmlite.__version__, machine, settings)).encode())
    with contextlib.suppress(OSError):
        digest.update(Path(SETTINGS_FILE).read_bytes())
    digest.update(numba_version())
    package = Path(__file__).parent.parent
    for source in sorted([*package.glob("rng/**/*.py"), *package.glob("kernels/**/*.py")]):
        digest.update(source.name.encode() + b"\0" + source.read_bytes())
    return digest.hexdigest()


def numba_version() -> bytes:
    """What tells one version of Numba from another."""
    spec = importlib.util.find_spec("numba")
    if spec is None or spec.origin is None:
        raise ImportError("numba")
    with contextlib.suppress(OSError):
        return Path(spec.origin).with_name("_version.py").read_bytes()
    from importlib.metadata import version

    return version("numba").encode()


def place(label: str, name: str) -> Path | None:
    """The file of a kernel; None where the cache is off.

    The folder is $BIGIN_CACHE_DIR, or bigin/ in the user's cache; an empty $BIGIN_CACHE_DIR turns the cache off.
    """
    root = kernel_cache_root()
    return Path(root) / fingerprint() / label / name if root else None


def kept(label: str, name: str, compiled: Callable[[], Code]) -> Code:
    """The code in the file of a kernel; compiled, and kept where that can be, if there is none."""
    path = place(label, name)
    code = read(path) if path else None
    if code is None:
        if path:
            prepare(path)
        code = compiled()
        if path:
            write(path, code)
    return code


def read(path: Path) -> Code | None:
    """The code in a file; None where there is none, or it is damaged, so that it must be compiled."""
    try:
        data = path.read_bytes()
    except OSError:  # a cache that cannot be read must not stop a fill
        return None
    start = len(MAGIC) + hashlib.blake2b().digest_size
    if data[:start] != MAGIC + hashlib.blake2b(data[start:]).digest():
        return None
    symbol, _, code = data[start:].partition(b"\n")
    return Code(symbol.decode(), code)


def prepare(path: Path) -> None:
    """Makes the folder; said before the kernel is compiled, which is what takes long."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not os.access(path.parent, os.W_OK):
            raise PermissionError(13, os.strerror(13))
    except OSError as error:
        warn_once(str(path.parent.parent.parent), error.strerror or str(error))


def write(path: Path, code: Code) -> None:
    """Keeps code, where the folder can be written. Whoever writes a file writes the same, so the last one stays."""
    content = code.symbol.encode() + b"\n" + code.data
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{os.urandom(4).hex()}")
    try:
        temporary.write_bytes(MAGIC + hashlib.blake2b(content).digest() + content)
        os.replace(temporary, path)
    except OSError as error:
        warn_once(str(path.parent.parent.parent), error.strerror or str(error))
        with contextlib.suppress(OSError):
            temporary.unlink()


@cache
def warn_once(folder: str, reason: str) -> None:
    """Says why every run compiles."""
    warnings.warn(
        f"{folder}: expected a folder for compiled kernels that can be written, got: {reason}; each run compiles them "
        "again, which takes seconds; set BIGIN_CACHE_DIR to another folder",
        CacheWarning,
        stacklevel=2,
    )
