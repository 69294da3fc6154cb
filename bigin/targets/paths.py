"""From the text that names a target to a path on this machine."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from bigin.core.errors import InputError, NotFoundError
from bigin.core.paths import expand

SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
FILE = "file://"

# Endings of other formats: no zarr array or group is made under such a name.
RAW = "raw values"
OTHER_FORMATS = {
    ".bin": RAW, ".dat": RAW, ".raw": RAW, ".csv": "text", ".txt": "text", ".json": "JSON",
    ".gguf": "GGUF", ".h5": "HDF5", ".hdf5": "HDF5", ".keras": "Keras", ".mat": "MATLAB", ".msgpack": "MessagePack",
    ".nc": "NetCDF", ".npz": "archives of numpy", ".onnx": "ONNX", ".parquet": "Parquet", ".pb": "protocol buffers",
    ".pickle": "pickle", ".pkl": "pickle", ".pt": "torch", ".pth": "torch", ".ckpt": "torch", ".tar": "tar",
    ".tif": "TIFF", ".tiff": "TIFF",
}  # fmt: skip
OUR_FILES = (".npy", ".safetensors")


def is_url(target: Any) -> bool:
    """Whether a target is the URL of something that is not a file of this machine."""
    if not isinstance(target, str | os.PathLike):
        return False
    return SCHEME.match(os.fsdecode(target)) is not None and not os.fsdecode(target).startswith(FILE)


def local_path(target: Any) -> Path | None:
    """The path of a target on this machine, from a path or a file URL; None for other URLs and for what is no text.

    A leading ~ is expanded. Raises InputError for the file URL of another machine.
    """
    if not isinstance(target, str | os.PathLike) or is_url(target):
        return None
    text = os.fsdecode(target)
    if text.startswith(FILE):
        return _path_of_url(text)
    return Path(expand(text))


def _path_of_url(url: str) -> Path:
    """The path of a file URL (RFC 8089): percent-decoded, without the name of this machine."""
    host, slash, path = url.removeprefix(FILE).partition("/")
    if host not in ("", "localhost"):
        raise InputError(f"{url}: expected the URL of a file on this machine, as file:///{path}, got host {host!r}")
    return Path(unquote(slash + path))


def split_names(target: str | os.PathLike[str]) -> Iterator[tuple[Path, str | None]]:
    """What PATH#NAME may mean: every path and name, the likeliest first; no name where the whole text is the path.

    A path may have # in it, and so may a name. In a file URL the first # ends the path, which is the way to escape it.
    """
    text = os.fsdecode(target)
    if text.startswith(FILE):
        path, sign, name = text.partition("#")
        yield _path_of_url(path), unquote(name) if sign else None
        return
    whole = local_path(text)
    assert whole is not None
    parts = text.split("#")
    splits = [("#".join(parts[:i]), "#".join(parts[i:])) for i in range(1, len(parts))]
    if os.path.lexists(whole) or not splits:
        yield whole, None
    for path, name in splits:
        located = local_path(path)
        assert located is not None
        yield located, name


def check_path(target: str | os.PathLike[str]) -> None:
    """Raises InputError for text that names nothing that could be a target."""
    text = os.fsdecode(target)
    if not text or "\0" in text:
        raise InputError(f"expected the path or the URL of a target, got {text!r}")
    path = local_path(text)
    if path is None:
        return
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        if path.is_symlink():
            raise NotFoundError(
                f"{path}: expected a target, got a dangling link; remove it or create what it names"
            ) from None
        return
    except OSError as error:
        raise InputError(f"{text[:200]}: expected a path that can be used, got one with: {error.strerror}") from None
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):  # reading a pipe would block; a device is not a target
        raise InputError(f"{path}: expected a file or a folder, got a pipe, a socket or a device")


def check_ending(target: str | os.PathLike[str]) -> None:
    """Raises InputError where a new zarr array or group would get a name that says something else."""
    text = os.fsdecode(target)
    suffix = Path(text).suffix
    if is_url(text) and suffix.lower() in OUR_FILES:
        raise InputError(
            f"{text}: expected a path on this machine for a {suffix} file, got a URL; choose a path, a URL of s3://, "
            "gs:// or az://, or the URL of a zarr array"
        )
    if suffix.lower() in OUR_FILES:
        raise InputError(f"{text}: expected {suffix.lower()}, got {suffix}; write the ending in lower case")
    if suffix.lower() in OTHER_FORMATS:
        kind = OTHER_FORMATS[suffix.lower()]
        remedy = "add --raw (raw=True) for values without a header" if kind == RAW else "choose another path"
        raise InputError(
            f"{text}: expected the path of a .npy file or of a zarr array, got {suffix}, the ending of {kind}; {remedy}"
        )


def local_file(target: Any) -> Path:
    """The path of a file, which may be missing, in a folder that exists; raises InputError for anything else."""
    path = local_path(target)
    if path is None:
        raise InputError(f"expected the path of a file, got {target if is_url(target) else type(target).__name__}")
    if path.is_dir():
        raise InputError(f"{path}: expected a file, got a folder")
    if not path.parent.is_dir():
        raise InputError(f"{path}: expected an existing folder {path.parent}; create it first")
    return path
