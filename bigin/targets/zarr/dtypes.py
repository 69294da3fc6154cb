"""zarr data types for the floats of ml_dtypes, under the names that tensorstore gives them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from zarr.dtype import Float32, ZDType, data_type_registry

try:
    from zarr.errors import DataTypeValidationError  # type: ignore[attr-defined,unused-ignore]
except ImportError:  # zarr before 3.2
    from zarr.dtype import DataTypeValidationError

from bigin.core.dtypes import DTYPES
from bigin.targets.zarr.private import HasEndianness, HasItemSize

_AS_FLOAT32 = Float32()  # every value of these types is a float32, whose JSON forms serve


class _Narrow(HasItemSize):
    """What the three have in common."""

    native: ClassVar[np.dtype[Any]]

    @classmethod
    def from_native_dtype(cls, dtype: Any) -> Any:
        if dtype != cls.native:
            raise DataTypeValidationError(f"Invalid data type: {dtype}. Expected {cls.native}")
        return cls()

    def to_native_dtype(self) -> Any:
        return self.native

    @property
    def item_size(self) -> int:
        return self.native.itemsize

    @classmethod
    def _from_json_v2(cls, data: Any) -> Any:
        name = data.get("name") if isinstance(data, dict) else data
        if name != cls.native.name:
            raise DataTypeValidationError(f"Invalid JSON representation of {cls.native}: {data!r}")
        return cls()

    @classmethod
    def _from_json_v3(cls, data: Any) -> Any:
        return cls._from_json_v2(data)

    def to_json(self, zarr_format: int) -> Any:
        name = self.native.name
        return {"name": name, "object_codec_id": None} if zarr_format == 2 else name

    def _check_scalar(self, data: object) -> Any:
        return _AS_FLOAT32._check_scalar(data) or isinstance(data, self.native.type)

    def cast_scalar(self, data: Any) -> Any:
        try:
            return self.native.type(float(data))
        except (TypeError, ValueError):
            raise TypeError(f"Cannot convert {data!r} to a scalar of {self.native}") from None

    def default_scalar(self) -> Any:
        return self.native.type(0)

    def from_json_scalar(self, data: Any, *, zarr_format: int) -> Any:
        if isinstance(data, str) and data.startswith("0x"):
            bits = int(data, 16).to_bytes(self.native.itemsize, "little")
            return np.frombuffer(bits, self.native)[0]
        return self.native.type(_AS_FLOAT32.from_json_scalar(data, zarr_format=3))

    def to_json_scalar(self, data: Any, *, zarr_format: int) -> Any:
        return _AS_FLOAT32.to_json_scalar(np.float32(self.cast_scalar(data)), zarr_format=3)


@dataclass(frozen=True, kw_only=True)
class BFloat16(_Narrow, HasEndianness, ZDType[Any, Any]):
    """bfloat16; two bytes, so zarr keeps their order in its codec."""

    native = DTYPES["bfloat16"]
    dtype_cls = type(native)
    _zarr_v3_name = native.name


@dataclass(frozen=True, kw_only=True)
class Float8E4M3FN(_Narrow, ZDType[Any, Any]):
    """float8_e4m3fn"""

    native = DTYPES["float8_e4m3fn"]
    dtype_cls = type(native)
    _zarr_v3_name = native.name


@dataclass(frozen=True, kw_only=True)
class Float8E5M2(_Narrow, ZDType[Any, Any]):
    """float8_e5m2"""

    native = DTYPES["float8_e5m2"]
    dtype_cls = type(native)
    _zarr_v3_name = native.name


def register_dtypes() -> None:
    """Register bfloat16, float8_e4m3fn and float8_e5m2 with zarr, unless they are registered already.

    bigin does this for itself; call it before `zarr.open` reads an array of these dtypes in a process that has not
    filled one. (The package also declares them as entry points, which zarr 3.1 reads only for arrays that it makes.)

    Example:
        >>> bigin.register_dtypes()
        >>> zarr.create_array("w.zarr", shape=(3, 4), dtype="bfloat16").dtype
        dtype(bfloat16)
    """
    for cls in (BFloat16, Float8E4M3FN, Float8E5M2):
        if cls._zarr_v3_name not in data_type_registry.contents:
            data_type_registry.register(cls._zarr_v3_name, cls)
