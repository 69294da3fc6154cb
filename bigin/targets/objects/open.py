"""From a URL to objects: arrays, raw values and checkpoints."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from bigin.core import dtypes
from bigin.core.errors import InputError, NotFoundError
from bigin.core.handlers import let_through
from bigin.core.names import file_name
from bigin.core.record import Record
from bigin.core.regions import Shape
from bigin.targets.npy import npy_header
from bigin.targets.objects.checkpoint import (
    Files,
    ObjectCheckpoint,
    check_alone,
    existing_objects,
    is_checkpoint_name,
    new_objects,
    parted,
    tensor_of,
)
from bigin.targets.objects.folder import Folder, checkpoint_folder
from bigin.targets.objects.fsspec import FsspecStore
from bigin.targets.objects.layout import ObjectLayout, ObjectTensor
from bigin.targets.objects.ledger import SIDECAR, STATE, ObjectLedger
from bigin.targets.objects.store import CloudStore, Store
from bigin.targets.objects.target import ArrayTarget
from bigin.targets.objects.urls import is_cloud, parse_url
from bigin.targets.paths import OTHER_FORMATS, OUR_FILES
from bigin.targets.records import parse_record
from bigin.targets.safetensors.folder import SUFFIX

NPY = ".npy"
HEADER = 4096  # bytes of a .npy file that are read at first


def store_at(url: str) -> tuple[Store, str]:
    """The store of a URL, and the key there; raises InputError where it cannot be reached."""
    if not is_cloud(url):
        held = FsspecStore(url)
        return held, held.key
    parsed = parse_url(url)
    from bigin.targets.objects.endpoint import check_answers

    store = CloudStore(parsed)
    check_answers(url, store.connection.endpoint)
    store.check()
    return store, parsed.key


def names_objects(url: str) -> bool:
    """Whether a URL names a file that is not zarr's, or a tensor in one, as far as its ending tells."""
    path, sign, _ = url.partition("#")
    path = path.rstrip("/")
    return (sign != "" and is_cloud(url)) or path.endswith(NPY) or is_checkpoint_name(path.rpartition("/")[2])


def open_checkpoint(url: str) -> ObjectCheckpoint | None:
    """The target of a checkpoint at a URL; None where there is none."""
    folder = find_checkpoint(url)
    return None if folder is None else existing_objects(folder)


def find_checkpoint(url: str) -> Folder | None:
    """The checkpoint at a URL: a file, an index or a folder; None where there is something else, or nothing."""
    path = url.rstrip("/")
    last = path.rpartition("/")[2]
    if not is_checkpoint_name(last) and (PurePosixPath(last).suffix in (*OTHER_FORMATS, NPY, ".zarr", ".zip")):
        return None
    if not is_cloud(url) and not is_checkpoint_name(last) and not url.startswith("hf://"):
        return None  # listing http:// means reading a page
    return checkpoint_folder(*store_at(path))


def open_array(
    url: str, shape: Shape | None, dtype: np.dtype[Any] | None, *, damaged: bool = False
) -> ArrayTarget | None:
    """The array that a URL of a .npy file or of CHECKPOINT#NAME names; None where it names neither."""
    path, sign, name = url.partition("#")
    if sign and not path.endswith(NPY):
        folder = find_checkpoint(path)
        if folder is None and not is_checkpoint_name(path.rpartition("/")[2]):
            return None  # a name of zarr with # in it
        if folder is None:
            raise NotFoundError(f"{path}: expected a safetensors checkpoint, got nothing; `bigin init` makes one")
        return tensor_of(folder, name)
    if not url.endswith(NPY):
        if is_checkpoint_name(url.rpartition("/")[2]):
            folder = find_checkpoint(url)
            if folder is None and not is_cloud(url):
                return None
            if folder is None:
                raise NotFoundError(f"{url}: expected a safetensors checkpoint, got nothing; `bigin init` makes one")
            raise InputError(f"{url}: expected one tensor, got a checkpoint; name a tensor in it, as in {url}#NAME")
        return None
    store, key = store_at(url)
    stat = store.head(key)
    if stat is None and store.uploads is None:
        return None
    state = _state(store, key)
    if stat is not None:
        layout = _existing_npy(store, key, stat.size, dtype, damaged=damaged or state is not None)
        if state is not None and shape is not None and layout.tensors[0].shape != shape:
            stat = None
    if stat is None:
        shape, dtype = _begun(state, shape, dtype)
        if shape is None:
            raise NotFoundError(f"{url}: expected a .npy file, got nothing; give --shape (shape=) to make one")
        kind = dtype or np.dtype(np.float32)
        header = npy_header(shape, kind)
        layout = _array_layout(store, key, header, kind, shape, state)
    return _with_ledger(ArrayTarget(store, url, layout, "npy"))


def open_raw(url: str, shape: Shape, dtype: np.dtype[Any], offset: int) -> ArrayTarget:
    """The values of an object without a header, from a byte on."""
    store, key = store_at(url)
    stat = store.head(key)
    if stat is None and offset:
        raise InputError(f"{url}: expected an object that is there for an offset, got nothing; leave the offset out")
    header = bytes(store.get_range(key, 0, min(offset, stat.size))) if stat is not None and offset else b""
    return _with_ledger(
        ArrayTarget(store, url, _array_layout(store, key, header, dtype, shape, _state(store, key)), "raw")
    )


def raw_record(url: str) -> Record | None:
    """The record of an object without a header that a fill has left; None where there is none."""
    if not is_cloud(url) or PurePosixPath(url).suffix not in (".bin", ".dat", ".raw"):
        return None
    store, key = store_at(url)
    state = _state(store, key)
    if state is not None:
        return dict(state["record"])
    data = store.get(key + SIDECAR)
    return None if data is None else parse_record(data)


def _with_ledger(target: ArrayTarget) -> ArrayTarget:
    key = target.layouts[0].key
    target.name, target.name_from = file_name(key), "file"
    if target.store.uploads is not None:
        target.ledger = ObjectLedger(target, key)
    return target


def _state(store: Store, key: str) -> Record | None:
    """What says that an object is being written; None where nothing does."""
    data = None if store.uploads is None else store.get(key + STATE)
    state = None if data is None else parse_record(data)
    return state if state is not None and isinstance(state.get("record"), dict) else None


def _begun(
    state: Record | None, shape: Shape | None, dtype: np.dtype[Any] | None
) -> tuple[Shape | None, np.dtype[Any] | None]:
    """Shape and dtype as they are asked for, or as a fill has begun them."""
    if shape is not None or state is None:
        return shape, dtype
    record = state["record"]
    return tuple(record["shape"]), dtype or dtypes.parse_dtype(record["dtype"])


def _array_layout(
    store: Store, key: str, header: bytes, dtype: np.dtype[Any], shape: Shape, state: Record | None
) -> ObjectLayout:
    tensor = ObjectTensor(0, "", dtype, shape, len(header))
    part = (state or {}).get("parts", {}).get(key) or parted(store, tensor.end)
    return ObjectLayout(key, header, [tensor], tensor.end, part)


def _existing_npy(store: Store, key: str, size: int, dtype: np.dtype[Any] | None, *, damaged: bool) -> ObjectLayout:
    """The layout of a .npy file that is there, from its header alone."""
    label = store.label(key)
    try:
        data = bytes(store.get_range(key, 0, min(HEADER, size)))
        file = io.BytesIO(data)
        major = np.lib.format.read_magic(file)[0]
        length = int.from_bytes(data[8 : 10 if major == 1 else 12], "little") + (10 if major == 1 else 12)
        if HEADER < length <= size:
            data = bytes(store.get_range(key, 0, length))
            file = io.BytesIO(data[:8])
            file = io.BytesIO(data)
            np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if major == 1 else np.lib.format.read_array_header_2_0
        shape, fortran, stored = read(file)
    except (FileNotFoundError, PermissionError):
        raise
    except Exception as error:  # whatever numpy's parser makes of it
        let_through(error)
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{label}: expected a .npy file, got one whose header cannot be read: {reason}") from None
    if fortran and len(shape) > 1:
        raise InputError(
            f"{label}: expected a .npy file in C order, got one in Fortran order, which is not read from a store; copy "
            "it to this machine"
        )
    offset = file.tell()
    if stored.kind == "V":
        stored = _named_dtype(store, key, stored, dtype)
    state = _state(store, key)
    layout = _array_layout(store, key, data[:offset], stored, tuple(shape), state)
    if layout.size > size and not damaged:
        raise InputError(
            f"{label}: expected {layout.size} bytes for shape {tuple(shape)} and {stored.name}, got {size}; the file "
            "is truncated"
        )
    return layout


def _named_dtype(store: Store, key: str, stored: np.dtype[Any], dtype: np.dtype[Any] | None) -> np.dtype[Any]:
    """The dtype of a file whose header can only say how wide it is: .npy has no names for ml_dtypes' types."""
    if dtype is None:
        record = parse_record(store.get(key + SIDECAR) or b"") or {}
        if record.get("dtype") not in dtypes.ML_DTYPES:
            raise InputError(
                f"{store.label(key)}: expected a dtype, as .npy has no name for {stored}; give --dtype (dtype=)"
            )
        dtype = dtypes.parse_dtype(record["dtype"])
    return dtype if dtype.itemsize == stored.itemsize else stored


@dataclass(frozen=True)
class Place:
    """Where a new checkpoint goes: the store, the folder's key, and the file's name where it is one file."""

    store: Store
    folder: str
    file: str | None

    def key_of(self, name: str) -> str:
        """The key of a file in the folder."""
        return f"{self.folder}/{name}" if self.folder else name


def checkpoint_place(url: str) -> Place:
    """Where a new checkpoint goes; raises InputError where a URL names something else."""
    path = url.rstrip("/")
    suffix = PurePosixPath(path).suffix.lower()
    if suffix != SUFFIX and suffix in (*OTHER_FORMATS, *OUR_FILES, ".zip"):
        raise InputError(f"{url}: expected a folder, a {SUFFIX} file or a .zarr group, got {suffix}")
    store, key = store_at(path)
    if store.uploads is None:
        raise InputError(
            f"{url}: expected a store that can be written in parts (s3://, gs://, az://), or a .zarr group, got "
            f"{url.partition('://')[0]}://"
        )
    if suffix != SUFFIX:
        return Place(store, key, None)
    folder, _, name = key.rpartition("/")
    return Place(store, folder, name)


def made_checkpoint(
    url: str, place: Place, files: Files, index: str | None, records: Mapping[str, Record]
) -> ObjectCheckpoint:
    """The target of a new checkpoint."""
    if place.file is None:
        check_alone(place.store, url, place.folder, files, index)
    return new_objects(place.store, url.rstrip("/"), place.folder, files, index, records)


def begun_checkpoint(url: str, outline: Mapping[str, Any]) -> ObjectCheckpoint:
    """The target of a checkpoint that another process writes, from what it says of it."""
    store, _ = store_at(url)
    return new_objects(store, url, outline["folder"], outline["files"], outline["index"], outline["records"])
