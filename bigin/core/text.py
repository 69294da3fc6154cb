"""Sizes and shapes as people write and read them."""

from __future__ import annotations

import re
from collections.abc import Iterable

from bigin.core.errors import InputError

UNITS = {
    "": 1,
    "k": 10**3,
    "m": 10**6,
    "g": 10**9,
    "t": 10**12,
    "ki": 1 << 10,
    "mi": 1 << 20,
    "gi": 1 << 30,
    "ti": 1 << 40,
}


def size_text(size: float) -> str:
    """Return a number of bytes as text, in binary units."""
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if size < 1024 or unit == "TiB":
            break
        size /= 1024
    return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"


def rate_text(rate: float) -> str:
    """Return bytes per second as text, in decimal units."""
    for unit, size in (("GB/s", 1e9), ("MB/s", 1e6)):
        if rate >= size / 10:
            return f"{rate / size:.2f} {unit}"
    return f"{rate / 1e3:.2f} kB/s"


def duration_text(seconds: float) -> str:
    """Return seconds as text, in the unit that people would use."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    if minutes < 100:
        return f"{minutes:.0f} min"
    hours = minutes / 60
    return f"{hours:.1f} h" if hours < 48 else f"{hours / 24:.1f} days"


def parse_size(text: str | int) -> int:
    """Return a number of bytes, given an integer or a text such as 512MiB, 2GB or 1.5G."""
    if isinstance(text, int) and not isinstance(text, bool):
        size = text
    else:
        match = re.fullmatch(r"(\d+(?:\.\d*)?)\s*([kmgt]i?)?b?", str(text).strip().lower())
        if not match or not (match[2] or float(match[1]).is_integer()):
            raise InputError(f"expected a size such as 512MiB or 2GB, got {text!r}")
        size = int(float(match[1]) * UNITS[match[2] or ""])
    if size <= 0:
        raise InputError(f"expected a size above 0, got {text!r}")
    return size


def parse_optional_size(text: str | int | None) -> int | None:
    """The same for a size that may be left out."""
    return None if text is None else parse_size(text)


def parse_fraction(text: str) -> float:
    """Return a fraction, given a percentage such as 1% or a number from 0 to 1."""
    match = re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+)\s*(%?)", text.strip())
    if not match:
        raise InputError(f"expected a fraction such as 1% or 0.01, got {text!r}")
    return float(match[1]) / (100 if match[2] else 1)


def parse_shape(shape: object) -> tuple[int, ...]:
    """Return a shape as a tuple, given an integer, a sequence of them, or a text such as 1000,256 or (1000, 256).

    Sizes that only spaces separate are refused: "10 000" may be one size or two.
    """
    if isinstance(shape, str):
        sizes = _sizes(shape)
    else:
        single = hasattr(shape, "__index__") and not getattr(shape, "ndim", 0)  # an array of numpy's has it, too
        try:
            sizes = tuple(size.__index__() for size in ((shape,) if single else shape))  # type: ignore[attr-defined]
        except (TypeError, AttributeError):
            raise InputError(f"expected a shape of integers, got {shape!r}") from None
    elements = 1
    for size in sizes:
        if size < 0:
            raise InputError(f"expected sizes that are not negative, got shape {sizes}")
        elements *= max(size, 1)
    if elements >= 1 << 63:
        raise InputError(f"expected fewer than 2^63 elements, got shape {sizes}")
    return sizes


SIZES = r"\s*(\d+\s*([,x]\s*\d+\s*)*,?\s*)?"


def _sizes(text: str) -> tuple[int, ...]:
    """The sizes that a text lists, in brackets or without."""
    if not any(
        re.fullmatch(pattern, text, re.ASCII) for pattern in (SIZES, rf"\s*\({SIZES}\)\s*", rf"\s*\[{SIZES}\]\s*")
    ):
        raise InputError(f"expected a shape such as 1000,256, got {text!r}; separate the sizes with commas")
    return tuple(int(size) for size in re.findall(r"\d+", text))


def counted(count: int, one: str, many: str = "") -> str:
    """Return a count with its noun: 1 tensor, 2 tensors; many: a plural that is not formed by an s."""
    return f"{count:,} {agree(count, one, many or f'{one}s')}"


def agree(count: int, one: str, many: str) -> str:
    """Return the form of a word that goes with a count: 1 row differs, 2 rows differ."""
    return one if count == 1 else many


def similar(word: str, words: Iterable[str]) -> str:
    """Return "; did you mean ...?" where a word is nearly one of others, else nothing."""
    import difflib

    near = difflib.get_close_matches(word, list(words), n=1)
    return f"; did you mean {near[0]}?" if near else ""
