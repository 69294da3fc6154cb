"""The header of a safetensors file, read strictly: what lies in the file, where, and nothing besides.

The format: 8 bytes, the header's length as a little-endian integer; the header, JSON that begins with { and may end in
spaces; the data, which the tensors fill without overlaps and holes (github.com/safetensors/safetensors). The JSON is
read token by token, so that a hostile header costs no more memory than its tensors.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from bigin.core import dtypes, packed
from bigin.core.collector import paused
from bigin.core.errors import InputError, NotFoundError

LARGEST = 100_000_000  # bytes of a header, the format's limit
MOST_DIMENSIONS = 64  # numpy's limit
ALIGNMENT = 4096  # bytes: where the data of a new file begins
METADATA = "__metadata__"
COMPACTLY: dict[str, Any] = {"separators": (",", ":"), "ensure_ascii": False}
as_text = json.JSONEncoder(ensure_ascii=False).encode

# The format's name of a dtype -> its bits and its name here, where bigin fills it.
DTYPES: dict[str, tuple[int, str | None]] = {
    **{code: (8 * dtypes.DTYPES[name].itemsize, name) for code, name in dtypes.SAFETENSORS.items()},
    **{row.safetensors: (row.bits, row.name) for row in packed.ROWS},
    **dict.fromkeys(("F8_E4M3FNUZ", "F8_E5M2FNUZ"), (8, None)),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), (6, None)),
}
CODES = {name: code for code, (_, name) in DTYPES.items() if name is not None}

TOKEN = re.compile(  # text, an integer, or a sign
    rb"[ \t\r\n]*(?:"
    rb'("[^"\\\x00-\x1f]*+(?:\\["\\/bfnrtu][^"\\\x00-\x1f]*+)*+")|(0|[1-9][0-9]{0,18})(?![0-9.eE])|([{}\[\]:,]))'
)
# An entry as writers of the format write it: read at once, where token by token takes 50 times as long.
COMPACT = (
    rb'\{"dtype":"([A-Z0-9_]+)","shape":\[((?:(?:0|[1-9][0-9]{0,18})(?:,(?:0|[1-9][0-9]{0,18}))*)?)\],'
    rb'"data_offsets":\[(0|[1-9][0-9]{0,18}),(0|[1-9][0-9]{0,18})\]\}'
)
ENTRY = re.compile(COMPACT)
FOLLOWING = re.compile(rb',"([^"\\\x00-\x1f\x80-\xff]*)":' + COMPACT)  # with its name, behind another one


class Entry(NamedTuple):
    """A tensor in the file: `begin` and `end` are bytes behind the header. `code` is the format's name of its dtype."""

    code: str
    shape: tuple[int, ...]
    begin: int
    end: int

    @property
    def dtype(self) -> str | None:
        """The name of the dtype here; None for one that bigin does not fill."""
        return DTYPES[self.code][1]

    @property
    def stored(self) -> tuple[str | None, tuple[int, ...]]:
        """The dtype and the shape of the array that the bytes are: of packed values, that of the bytes."""
        dtype = DTYPES[self.code][1]
        row = packed.PACKED.get(dtype or "")
        return (dtype, self.shape) if row is None else ("uint8", row.stored(self.shape))


@dataclass(frozen=True)
class Header:
    """What a file says: its tensors by name, in the order of their data; text about it; where the data begins."""

    entries: Mapping[str, Entry]
    metadata: Mapping[str, str]
    start: int


@paused()
def read_header(path: Path) -> Header:
    """The header of a file; raises InputError where it is no safetensors file, whole and true."""
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or length > min(LARGEST, size - 8):
                limit = f"at most {LARGEST}" if length > LARGEST and size >= 8 else f"at most {max(0, size - 8)}"
                raise InputError(
                    f"{path}: expected a safetensors file with a header of {limit} bytes, got one of {length}; the "
                    "file is truncated, or not a safetensors file"
                )
            data = file.read(length)
    except FileNotFoundError:
        raise NotFoundError(f"{path}: expected a safetensors file, got nothing") from None
    except OSError as error:
        raise InputError(
            f"{path}: expected a safetensors file, got one that cannot be read: {error.strerror}"
        ) from None
    try:
        return parse_header(data, size - 8 - length)
    except InputError as error:
        raise InputError(f"{path}: expected a safetensors file, got one whose header is wrong: {error}") from None


def parse_header(data: bytes, size: int) -> Header:
    """A header from its JSON and the number of bytes behind it; raises InputError."""
    entries, metadata = _Reader(data).header()
    ordered = in_order(entries)
    end = 0
    known: dict[tuple[str, tuple[int, ...]], int] = {}  # the bits of a code and a shape
    for name, (code, shape, begin, stop) in ordered.items():
        if begin != end:
            what = "overlaps the one before it" if begin < end else f"leaves out bytes {end} to {begin}"
            raise InputError(f"{name!r} {what}")
        expected = known.get((code, shape))
        if expected is None:
            expected = known[code, shape] = bits_of(name, code, shape)
        if (stop - begin) * 8 != expected:
            raise InputError(f"{name!r} has {stop - begin} bytes, where {code} of {shape} takes {expected / 8:g}")
        end = stop
    if end != size:
        raise InputError(f"its tensors take {end} bytes, but {size} follow it")
    return Header(ordered, metadata, 8 + len(data))


def in_order(entries: dict[str, Entry]) -> dict[str, Entry]:
    """The entries in the order of their data, in which most files list them."""
    listed = list(entries.values())
    if all(first[2:] <= second[2:] for first, second in pairwise(listed)):
        return entries
    return dict(sorted(entries.items(), key=lambda item: item[1][2:]))


def bits_of(name: str, code: str, shape: tuple[int, ...]) -> int:
    """How many bits the values of a tensor take; raises InputError where no file could hold them."""
    count = math.prod(shape)
    if (count or math.prod(max(size, 1) for size in shape)) >= 1 << 63:
        raise InputError(f"{name!r} has a shape of 2^63 elements or more")
    return count * DTYPES[code][0]


class _Reader:
    """Reads the one form that a header has: objects of known keys."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.position = 0

    def header(self) -> tuple[dict[str, Entry], dict[str, str]]:
        if not self.data.startswith(b"{"):
            raise InputError("it does not begin with {")
        entries: dict[str, Entry] = {}
        metadata: dict[str, str] | None = None
        for key in self.keys(entries):
            if key == METADATA and metadata is None:
                metadata = {}
                for name in self.keys(metadata):
                    metadata[name] = self.text()
            elif key == METADATA:
                raise InputError(f"{METADATA} appears twice")
            else:
                entries[key] = self.entry(key)
                self.following(entries)
        if self.data[self.position :].strip(b" \t\r\n"):
            raise InputError("something follows it")
        return entries, metadata or {}

    def following(self, entries: dict[str, Entry]) -> None:
        """The entries behind one, as far as they are written as most writers do; of what is left, `keys` tells."""
        known: dict[tuple[bytes, bytes], tuple[str, tuple[int, ...]]] = {}  # codes and shapes that have been checked
        for match in iter(FOLLOWING.scanner(self.data, self.position).match, None):  # type: ignore[attr-defined]
            key, code, sizes, first, last = match.groups()
            name, begin, end = str(key, "ascii"), int(first), int(last)
            if name in entries or name == METADATA:
                return
            told = known.get((code, sizes))
            if told is None or begin > end:
                shape = tuple(map(int, sizes.split(b","))) if sizes else ()
                entries[name] = self.checked(name, str(code, "ascii"), shape, (begin, end))
                known[code, sizes] = entries[name][:2]
            else:
                entries[name] = Entry(*told, begin, end)
            self.position = match.end()

    def entry(self, name: str) -> Entry:
        if (match := ENTRY.match(self.data, self.position)) is not None:
            self.position = match.end()
            code, sizes, begin, end = match.groups()
            return self.checked(
                name, code.decode(), tuple(map(int, sizes.split(b","))) if sizes else (), (int(begin), int(end))
            )
        fields: dict[str, Any] = {}
        for key in self.keys(fields):
            if key == "dtype":
                fields[key] = self.text()
            elif key in ("shape", "data_offsets"):
                fields[key] = self.numbers(name)
            else:
                raise InputError(f"{name!r} has a key {key!r}, where dtype, shape and data_offsets are all")
        if len(fields) < 3:
            raise InputError(f"{name!r} lacks one of dtype, shape and data_offsets")
        return self.checked(name, fields["dtype"], fields["shape"], fields["data_offsets"])

    def checked(self, name: str, code: str, shape: tuple[int, ...], offsets: tuple[int, ...]) -> Entry:
        if len(shape) > MOST_DIMENSIONS:
            raise InputError(f"{name!r} has more than {MOST_DIMENSIONS} dimensions")
        if code not in DTYPES:
            raise InputError(f"{name!r} has a dtype {code[:40]!r}, which the format does not know")
        if len(offsets) != 2 or offsets[0] > offsets[1]:
            raise InputError(f"{name!r} has data_offsets {list(offsets)}, where a begin and an end belong")
        return Entry(code, shape, offsets[0], offsets[1])

    def keys(self, seen: Mapping[str, Any]) -> Iterable[str]:
        """The keys of an object, whose values are read between two of them."""
        self.sign(b"{")
        if self.peek() == b"}":
            self.sign(b"}")
            return
        while True:
            key = self.text()
            if key in seen:
                raise InputError(f"{key!r} appears twice")
            self.sign(b":")
            yield key
            if self.sign(b",", b"}") == b"}":
                return

    def numbers(self, name: str) -> tuple[int, ...]:
        self.sign(b"[")
        numbers: list[int] = []
        if self.peek() == b"]":
            self.sign(b"]")
            return ()
        while True:
            numbers.append(self.number())
            if len(numbers) > MOST_DIMENSIONS:
                raise InputError(f"{name!r} has more than {MOST_DIMENSIONS} dimensions")
            if self.sign(b",", b"]") == b"]":
                return tuple(numbers)

    def text(self) -> str:
        token = self.token()[1]
        if token is None:
            raise InputError(f"text is expected at byte {self.position}")
        if b"\\" not in token and token.isascii():
            return str(token[1:-1], "ascii")
        try:
            text = json.loads(token)
            text.encode()  # no halves of surrogate pairs
        except ValueError:
            raise InputError(f"text is expected at byte {self.position}, in UTF-8") from None
        return str(text)

    def number(self) -> int:
        token = self.token()[2]
        if token is None:
            raise InputError(f"an integer is expected at byte {self.position}")
        return int(token)

    def sign(self, *expected: bytes) -> bytes:
        token = self.token()[3]
        if token is None or token not in expected:
            signs = " or ".join(sign.decode() for sign in expected)
            raise InputError(f"{signs} is expected at byte {self.position}")
        return bytes(token)

    def peek(self) -> bytes | None:
        position = self.position
        sign = self.token()[3]
        self.position = position
        return sign

    def token(self) -> re.Match[bytes]:
        match = TOKEN.match(self.data, self.position)
        if match is None:
            raise InputError(f"it is not JSON from byte {self.position} on")
        self.position = match.end()
        return match


def lay_out(tensors: Iterable[tuple[str, str, tuple[int, ...]]]) -> dict[str, Entry]:
    """Where tensors (name, dtype, shape) lie in a new file: the widest dtypes first, so that each is aligned.

    Raises InputError for what no file could hold, which `parse_header` refuses, too.
    """
    entries: dict[str, Entry] = {}
    end = 0
    listed = list(tensors)
    sizes: dict[tuple[str, tuple[int, ...]], int] = {}  # bytes, by the dtype and the shape
    for name, dtype, shape in listed:
        if (dtype, shape) not in sizes:
            sizes[dtype, shape] = bytes_of(name, dtype, shape)
        if name == METADATA:
            raise InputError(f"expected tensors of other names, got one that is called {METADATA}, as the metadata are")
    for name, dtype, shape in sorted(listed, key=lambda tensor: -DTYPES[CODES[tensor[1]]][0]):
        begin, end = end, end + sizes[dtype, shape]
        entries[name] = Entry(CODES[dtype], shape, begin, end)
    if end >= 1 << 63:
        raise InputError(f"expected tensors of fewer than 2^63 bytes for a file, got {end}; use more files")
    return entries


def bytes_of(name: str, dtype: str, shape: tuple[int, ...]) -> int:
    """How many bytes the values of a new tensor take; raises InputError where no file could hold them."""
    if dtype not in CODES:
        raise InputError(f"{name}: expected a dtype that safetensors has ({', '.join(CODES)}), got {dtype}")
    if len(shape) > MOST_DIMENSIONS:
        raise InputError(f"{name!r} has more than {MOST_DIMENSIONS} dimensions")
    size, rest = divmod(bits_of(name, CODES[dtype], shape), 8)
    if rest:
        raise InputError(f"{name}: expected values that fill whole bytes, got {dtype} of shape {shape}")
    return size


def pack_header(entries: Mapping[str, Entry], metadata: Mapping[str, str]) -> bytes:
    """A file's first bytes, up to where the data begins: padded with spaces, so that this is aligned."""
    written = [f"{as_text(METADATA)}:{json.dumps(dict(metadata), **COMPACTLY)}"] if metadata else []
    known: dict[tuple[str, tuple[int, ...]], str] = {}  # codes and shapes as text
    for name, (code, shape, begin, end) in entries.items():
        told = known.get((code, shape))
        if told is None:
            sizes = ",".join(map(str, shape))
            told = known[code, shape] = f':{{"dtype":"{code}","shape":[{sizes}],"data_offsets":['
        written.append(f"{as_text(name)}{told}{begin},{end}]}}")
    data = f"{{{','.join(written)}}}".encode()
    data += b" " * (-(8 + len(data)) % ALIGNMENT)
    if len(data) > LARGEST:
        raise InputError(
            f"expected tensors whose header takes at most {LARGEST} bytes, got {len(entries)} that take {len(data)}; "
            "use more files: --max-shard-size (max_shard_size=)"
        )
    return len(data).to_bytes(8, "little") + data
