"""bigin.KeyedTable: the initial values of an embedding table whose rows are named by 64-bit keys."""

from __future__ import annotations

import math
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from bigin.core.errors import InputError
from bigin.core.floats import default_modes
from bigin.core.html import card
from bigin.core.limits import Limits
from bigin.core.regions import Shape, dense
from bigin.core.text import counted
from bigin.fillers.filler import Array
from bigin.fillers.keyed import RowFiller
from bigin.jobs.device import require_device
from bigin.jobs.dumps import make_rows, parse_scores, write_dump
from bigin.jobs.job import check_progress
from bigin.jobs.report import Report
from bigin.kernels.cuda.arrays import DeviceArray, device_array_of
from bigin.spec.keyed import KeyedSpec
from bigin.spec.keys import parse_keys
from bigin.spec.spec import STREAM
from bigin.targets.dumps import new_dump
from bigin.targets.memory import MemoryTarget, memory_target


class KeyedTable:
    """The initial rows of an embedding table whose rows are named by unsigned 64-bit keys.

    A value is a function of the seed, the table's name, the method, the row's key and the column, and of nothing else.
    Nothing is stored. So a row is the same on every replica, after any other rows, and when it returns after an
    eviction.

    Args:
        dim: number of columns.
        method: a method whose values do not depend on the number of rows: normal, uniform, trunc_normal, constant,
            zeros, ones, and those that use only the fan of the columns, such as kaiming_uniform.
        seed: an integer from 0 to 2^64 - 1.
        name: the name of the table. Tables with different names have different values.
        dtype: of the values.
        threads: number of threads for more than 4 MiB of rows; by default the number of cores that this process may
            use.
        **parameters: the method's, as in `fill`.

    Raises:
        InputError: an argument is invalid.

    Attributes:
        dim, dtype: of the rows.
        specification: the specification of the values.

    Example:
        >>> users = bigin.KeyedTable(64, "normal", std=0.01, seed=3, name="users")
        >>> users[[0xDEADBEEF_CAFEF00D, 7]].shape
        (2, 64)
        >>> bool((users[7] == users[[9, 8, 7]][2]).all())
        True
        >>> users["user:1234"].shape
        (64,)
    """

    def __init__(
        self,
        dim: int,
        method: str,
        *,
        seed: int = 0,
        name: str = "",
        dtype: Any = "float32",
        threads: int | None = None,
        **parameters: Any,
    ) -> None:
        self._limits = Limits.parse(threads)
        with default_modes():
            self.specification = KeyedSpec.parse(method, parameters, seed, name, dim, dtype)
        self._begin()

    def _begin(self) -> None:
        self.dim, self.dtype = self.specification.dim, self.specification.dtype
        self._filler: RowFiller | None = None
        self._lock = threading.Lock()

    def __getitem__(self, keys: Any) -> Any:
        return self.rows(keys)

    def rows(self, keys: Any, out: Any = None) -> Any:
        """Compute the rows of keys, in their order; a key may repeat.

        Args:
            keys: integers of any dtype, shape and kind: a Python integer, a list, a numpy array, a torch tensor, an
                array on a CUDA device. A negative integer stands for its two's complement, as in an int64: -1 is the
                key 2^64 - 1. Or strings, which are hashed to keys as docs/stream-v1.md defines.
            out: an array or tensor for the values, of shape (*keys.shape, dim) and the table's dtype, on the device of
                the keys.

        Returns:
            The values, of shape (*keys.shape, dim): `out`, or a new torch tensor for a torch tensor of keys, an array
            on the device for another array there (torch.from_dlpack and cupy.from_dlpack take it), else a numpy array.

        Raises:
            InputError: a key is invalid, or `out` does not fit.

        Example:
            >>> items = bigin.KeyedTable(8, "uniform", a=-0.1, b=0.1, name="items", dtype="float16")
            >>> values = np.empty((2, 3, 8), np.float16)
            >>> items.rows(np.arange(6).reshape(2, 3), out=values) is values
            True
        """
        on_device = device_array_of(keys)
        if on_device is not None:
            return self._on_device(keys, on_device, out)
        torch = sys.modules.get("torch")  # whoever has a tensor has imported it
        tensor = torch is not None and isinstance(keys, torch.Tensor)
        if torch is not None and tensor and (keys.device.type != "cpu" or keys.layout != torch.strided):
            raise InputError(f"expected dense keys on the CPU or a CUDA device, got {keys.layout} on {keys.device}")
        numbers, shape = parse_keys(keys.detach().numpy() if tensor else keys)
        if out is None:
            if not tensor:
                made = np.empty((*shape, self.dim), self.dtype)
                self._fill(numbers, made.reshape(-1, self.dim))
                return made
            assert torch is not None
            out = torch.empty((*shape, self.dim), dtype=getattr(torch, self.dtype.name))
        target = memory_target(out)
        if target is None:
            raise InputError(f"expected out to be an array or a tensor, got a {type(out).__name__}")
        self._check(target.shape, target.dtype, shape)
        self._into(numbers, target)
        return out

    def dump(
        self,
        keys: Any,
        folder: str | Path,
        *,
        world_size: int = 1,
        scores: Any = None,
        overwrite: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> Report:
        """Write the rows of keys in the format of dynamic embedding tables: files of keys and of values for each rank.

        The row of a key lies in the files of the rank `key % world_size` (of the unsigned key), in the keys' order:
        NAME_emb_keys.rank_R.world_size_W holds int64 keys, NAME_emb_values.rank_R.world_size_W the rows, of the table's
        dtype. A record, NAME_bigin.json, is written at the end, for `bigin.verify(folder)`. A name's `/` become `.`;
        an unnamed table is `table`. A key that comes twice is written twice.

        Args:
            keys: as in `rows`, but on the host; or more than fit in memory: the path of a .npy file of integers or of a
                file of int64 (as a dump has them), or an iterator of arrays.
            folder: where the files are written.
            world_size: the number of ranks.
            scores: what decides which rows the table evicts first: an integer for all rows, or one for each key, in
                their order (an array, or the path of a file as for keys). They are written as int64 into
                NAME_emb_scores.rank_R.world_size_W. None writes none.
            overwrite: whether a dump of the table in the folder is replaced.
            progress: called with (bytes made, bytes in all); bytes in all are those made where the keys have no length.

        Returns:
            What was written.

        Raises:
            InputError: a key or another argument is invalid.
            ExistsError: there is a dump of the table in the folder.
            FillError: the files could not be written.

        Example:
            >>> users = bigin.KeyedTable(64, "normal", std=0.01, seed=3, name="users")
            >>> users.dump(np.arange(1000), "dump", world_size=4).nbytes
            256000
            >>> bigin.verify("dump").equal
            True
        """
        check_progress(progress)
        torch = sys.modules.get("torch")
        if torch is not None and isinstance(keys, torch.Tensor):
            keys = keys.detach().cpu().reshape(-1).numpy()
        given, name = parse_scores(scores), self.specification.name
        place = new_dump(folder, name, world_size, scored=given is not None, overwrite=overwrite)
        with default_modes():
            return write_dump(self.specification, keys, place, self._limits, progress, given)

    def _into(self, numbers: Array, target: MemoryTarget) -> None:
        """Fill memory that a caller has lent."""
        target.start()
        if target.direct:
            self._fill(numbers, target.array.reshape(-1, self.dim))
            return
        made = np.empty((numbers.size, self.dim), self.dtype)
        self._fill(numbers, made)
        target.array[...] = made.reshape(target.shape)

    def _fill(self, keys: Array, out: Array) -> None:
        """Fill rows, by several threads where they are many."""
        filler = self._ready()
        with default_modes():
            make_rows(filler, keys, out, self._limits.threads)

    def _ready(self) -> RowFiller:
        """The filler, made when it is first asked for."""
        if self._filler is None:
            with self._lock, default_modes():
                self._filler = self._filler or self.specification.plan()()
        return self._filler

    def _check(self, shape: Shape, dtype: np.dtype[Any], keys: Shape) -> None:
        if shape != (*keys, self.dim) or dtype != self.dtype:
            raise InputError(
                f"expected out of shape {(*keys, self.dim)} and dtype {self.dtype.name}, got shape {shape} and dtype "
                f"{dtype.name}"
            )

    def _on_device(self, keys: Any, array: DeviceArray, out: Any) -> Any:
        """The rows of keys that lie on a CUDA device, made there."""
        require_device(array.device)
        from bigin.fillers.cuda.keyed import rows_on_device

        if array.dtype.kind not in "iu" or array.dtype.itemsize != 8:
            raise InputError(f"expected keys of int64 or uint64 on a device, got {array.dtype.name}; convert them")
        if math.prod(array.shape) and array.strides != dense(array.shape):
            raise InputError("expected keys one after the other in the device's memory, got strides; pass a copy")
        rows = rows_on_device(self._ready())
        torch = sys.modules.get("torch")
        if out is None:
            if torch is None or not isinstance(keys, torch.Tensor):
                return rows.rows(array)
            out = torch.empty((*array.shape, self.dim), dtype=getattr(torch, self.dtype.name), device=keys.device)
        target = device_array_of(out)
        if target is None or target.device != array.device:
            raise InputError("expected out on the device of the keys, got it elsewhere")
        self._check(target.shape, target.dtype, array.shape)
        if math.prod(target.shape) and target.strides != dense(target.shape):
            raise InputError("expected out with its elements one after the other, got strides; leave it out")
        rows(array, target)
        return out

    def __repr__(self) -> str:
        spec = self.specification
        given = (
            spec.given | {"seed": spec.seed} | ({"name": spec.name} if spec.name else {}) | {"dtype": self.dtype.name}
        )
        return f"bigin.KeyedTable({self.dim}, {spec.method!r}, {', '.join(f'{k}={v!r}' for k, v in given.items())})"

    def _repr_html_(self) -> str:
        spec = self.specification
        facts = {
            "rows": f"one for every 64-bit key, each of {counted(self.dim, 'element')}, computed where it is read",
            "initial values": spec.call,
            "seed": spec.seed,
            "name": spec.name,
        }
        return card(f"keyed table, rows of {self.dim} {self.dtype.name}", facts)

    def __getstate__(self) -> Any:
        return self.specification, self._limits.max_threads

    def __setstate__(self, state: Any) -> None:
        self.specification, threads = state
        self._limits = Limits.parse(threads)
        self._begin()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, KeyedTable) and self.specification == other.specification

    def __hash__(self) -> int:
        return hash(repr(self))

    def __dask_tokenize__(self) -> Any:
        spec = self.specification
        return (
            "bigin.KeyedTable",
            STREAM,
            spec.method,
            sorted(spec.parameters.items()),
            spec.seed,
            spec.name,
            spec.dim,
        )
