"""Names to streams and keys, on Python's integers: what the host needs of Philox, without what compiles."""

from __future__ import annotations

import hashlib

ROUNDS = 10
MULTIPLIERS = 0xD2511F53, 0xCD9E8D57
WEYLS = 0x9E3779B9, 0xBB67AE85
LOW = 0xFFFFFFFF


def stream_id(name: str, purpose: str = "") -> int:
    """The 64-bit stream of a tensor's name and a purpose; 0 for the values of an unnamed tensor."""
    if not name and not purpose:
        return 0
    return _hash(f"{name}\0{purpose}")


def table_key(seed: int, name: str) -> int:
    """The Philox key of a keyed table: words 0 and 1 of block 0 of the stream of its name and the purpose `keys`."""
    c0, c1 = 0, 0
    c2, c3 = _halves(stream_id(name, "keys"))
    k0, k1 = _halves(seed)
    for _ in range(ROUNDS):  # philox, on Python's integers: nothing is compiled for one block
        (low_0, high_0), (low_1, high_1) = _halves(MULTIPLIERS[0] * c0), _halves(MULTIPLIERS[1] * c2)
        c0, c1, c2, c3 = high_1 ^ c1 ^ k0, low_1, high_0 ^ c3 ^ k1, low_0
        k0, k1 = (k0 + WEYLS[0]) & LOW, (k1 + WEYLS[1]) & LOW
    return c0 | c1 << 32


def key_of_text(text: str) -> int:
    """The key of a text. The two bytes 0 at its end keep what is hashed apart from what stream ids are hashes of."""
    return _hash(f"{text}\0\0")


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8, person=b"bigin-v1").digest(), "little")


def _halves(value: int) -> tuple[int, int]:
    """The low and the high word of 64 bits."""
    return value & LOW, value >> 32
