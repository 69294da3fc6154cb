"""Rows by key: the words, the document's examples, and independence of rows and tables."""

from __future__ import annotations

import hashlib
import re
from functools import cache

import numpy as np
import pytest
import reference
from common import examples, single
from hypothesis import given
from hypothesis import strategies as st
from strategies import NAMES, SEEDS

from bigin.core import dtypes
from bigin.rng.streams import key_of_text, stream_id, table_key
from bigin.spec.keyed import KeyedSpec
from bigin.spec.keys import parse_keys

stats = pytest.importorskip("scipy.stats", reason="scipy is not installed: pip install scipy")
DOCUMENT = reference.DOCUMENT.read_text(encoding="utf-8")


def rows(method, parameters, dim, dtype, seed, name, keys):
    out = np.empty((len(keys), dim), dtypes.FLOATS[dtype])
    KeyedSpec.parse(method, parameters, seed, name, dim, dtype).plan()()(np.asarray(keys, np.uint64), out)
    return out


def document_rows(first_word: str) -> list[list[str]]:
    (block,) = [b for b in re.findall(r"```\n(.*?)```", DOCUMENT, re.S) if b.split()[0] == first_word]
    return [line.split() for line in block.splitlines()[1:]]


def test_the_documents_keys():
    texts = [(text.replace("(empty)", ""), int(key, 16)) for text, key in document_rows("text")]
    assert len(texts) == 3
    for text, key in texts:
        assert key_of_text(text) == reference.key_of_text(text) == key == int(parse_keys(text)[0][0])
    tables = document_rows("table")
    assert len(tables) == 4
    for name, seed, key in tables:
        what = (int(seed, 16), name.replace("(empty)", ""))
        assert table_key(*what) == reference.table_key(*what) == int(key, 16)


def test_the_documents_rows():
    lines = document_rows("keyed")
    assert len(lines) > 20
    for method, *pairs, dtype, seed, name, key, column, value in lines:
        parameters = {key: float(number) for key, number in (pair.split("=") for pair in pairs)}
        what = (method, parameters, 64, dtype, int(seed, 16), name.strip("-"))
        expected = reference.keyed_row(*what, int(key, 16))
        bits = expected.view(f"u{expected.itemsize}")[int(column)]
        assert f"{int(bits):0{2 * expected.itemsize}x}" == value, (method, dtype, key)
        if single(dtype) == dtype:
            assert rows(*what, [int(key, 16)])[0].tobytes() == expected.tobytes(), (method, dtype, key)


KEYS = st.integers(0, 2**64 - 1) | st.sampled_from([0, 1, 2**32 - 1, 2**32, 2**63, 2**64 - 1])


@pytest.mark.parametrize("dtype", dtypes.FLOATS)
@pytest.mark.parametrize("method", ["normal", "uniform", "trunc_normal"])
@given(data=st.data())
@examples(10)
def test_every_value_is_the_references(method, dtype, data):
    seed, name, dim = data.draw(SEEDS), data.draw(NAMES), data.draw(st.integers(1, 21))
    keys = data.draw(st.lists(KEYS, max_size=4))
    made = rows(method, {}, dim, dtype, seed, name, keys)
    for key, row in zip(keys, made, strict=True):
        assert row.tobytes() == reference.keyed_row(method, {}, dim, dtype, seed, name, key).tobytes()


@given(SEEDS, NAMES)
def test_table_keys_are_the_references(seed, name):
    assert table_key(seed, name) == reference.table_key(seed, name)


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
def test_a_row_does_not_know_its_neighbors(dtype):
    """Any order, any number, many tiles and fewer columns: the same bits."""
    keys = np.random.default_rng(3).integers(0, 2**64, 3001, np.uint64)
    for dim in (1, 5, 64, 4097, 9001):
        listed = keys if dim < 100 else keys[:3]
        whole = rows("normal", {}, dim, dtype, 7, "a", listed)
        assert rows("normal", {}, dim, dtype, 7, "a", listed[::-1]).tobytes() == whole[::-1].tobytes()
        assert rows("normal", {}, dim, dtype, 7, "a", listed[1:2]).tobytes() == whole[1:2].tobytes()
        assert rows("normal", {}, dim + 3, dtype, 7, "a", listed)[:, :dim].tobytes() == whole.tobytes()


def test_texts_are_hashed_apart_from_names():
    """No text makes the bytes of a name and a purpose, and no two texts make the same."""
    texts = ["", "a", "a\0", "a\0b", "\0", "a\0\0", "keys", "users\0keys"]
    assert len({key_of_text(text) for text in texts}) == len(texts)
    hashed = {text.encode() + b"\0\0" for text in texts}
    assert all(text.count(0) >= 2 for text in hashed)
    names = ["", "a", "keys", "users"]
    assert not {key_of_text(text) for text in texts} & {stream_id(name, purpose) for name in names for purpose in names}


# Independence


COUNT, DIM = 40_000, 24
MIX = np.uint64(0x9E3779B97F4A7C15)


def patterns() -> dict[str, np.ndarray]:
    """Keys as they come: in order, in steps of powers of two, of hash functions, and of single bits."""
    steps = np.arange(COUNT, dtype=np.uint64)
    hashes = [hashlib.blake2b(str(i).encode(), digest_size=8).digest() for i in range(COUNT)]
    return {
        "in order": steps,
        "from the end": ~steps,
        "multiples of 2^32": steps << np.uint64(32),
        "multiples of 2^48": steps << np.uint64(48),
        "a multiplicative hash": steps * MIX,
        "a hash": np.frombuffer(b"".join(hashes), np.uint64),
    }


@cache
def made(method: str, pattern: str, seed: int = 5, name: str = "users", flip: int | None = None) -> np.ndarray:
    keys = patterns()[pattern]
    keys = keys if flip is None else keys ^ np.uint64(1 << flip)
    return rows(method, {}, DIM, "float32", seed, name, keys).astype(np.float64)


def correlation(x: np.ndarray, y: np.ndarray) -> float:
    """In units of its own standard deviation under independence."""
    return float(np.corrcoef(x.reshape(-1), y.reshape(-1))[0, 1]) * x.size**0.5


def uncorrelated(x: np.ndarray, y: np.ndarray) -> bool:
    """Of the values, and of how far they lie from the middle."""
    far_x, far_y = np.abs(x - x.mean()), np.abs(y - y.mean())
    return all(abs(correlation(a, b)) < 4.9 for a, b in ((x, y), (far_x, far_y), (far_x, y), (x, far_y)))


@pytest.mark.slow
@pytest.mark.parametrize("method", ["uniform", "normal"])
@pytest.mark.parametrize("pattern", patterns())
def test_rows_are_independent(method, pattern):
    """Neighboring rows, neighboring columns, and each column's distribution over the rows."""
    x = made(method, pattern)
    law = stats.norm() if method == "normal" else stats.uniform()
    assert stats.kstest(law.cdf(x.reshape(-1)), "uniform").pvalue > 1e-4
    columns = [stats.kstest(law.cdf(x[:, c]), "uniform").pvalue for c in range(DIM)]
    assert min(columns) > 1e-5
    assert stats.kstest(law.cdf(x.mean(1)), "uniform").statistic > 0.05  # the test can tell what is not uniform
    for lag in (1, 2, 3, 4, 16, 256, 4096):
        assert uncorrelated(x[lag:], x[:-lag]), f"rows, lag {lag}"
    for lag in (1, 2, 3, 4, 8):
        assert uncorrelated(x[:, lag:].copy(), x[:, :-lag].copy()), f"columns, lag {lag}"
    sums = x.sum(1) - DIM * law.mean()
    assert (
        abs(float((sums**2).mean()) / (DIM * law.var()) - 1) < 5 * (2 / COUNT) ** 0.5 * 1.1
    )  # rows' sums vary as they should


@pytest.mark.slow
@pytest.mark.parametrize("pattern", ["in order", "a hash"])
def test_a_flipped_bit_gives_another_row(pattern):
    x = made("uniform", pattern)
    for flip in (*range(0, 64, 7), 31, 32, 63):
        y = made("uniform", pattern, flip=flip)
        assert not (x == y).all(1).any(), flip
        assert uncorrelated(x, y), flip
        bits = (x * 2**24).astype(np.uint32) ^ (y * 2**24).astype(np.uint32)
        share = np.unpackbits(bits.view(np.uint8)).mean() * 32 / 24
        assert abs(share - 0.5) < 4.9 * 0.5 / (24 * bits.size) ** 0.5, flip


@pytest.mark.slow
def test_tables_and_tensors_are_independent():
    """Of other seeds and names, and of the tensor that has the table's seed and name, or the row's key as a stream."""
    x = made("normal", "in order")
    others = {
        "seeds": made("normal", "in order", seed=6),
        "seeds' high words": made("normal", "in order", seed=5 + 2**32),
        "names": made("normal", "in order", name="items"),
        "unnamed": made("normal", "in order", name=""),
    }
    from bigin.spec.tensor import TensorSpec

    for name in ("users", ""):
        out = np.empty(x.shape, np.float32)
        TensorSpec.parse("normal", {}, 5, name, x.shape, out.dtype).plan()()(((0, COUNT), (0, DIM)), out)
        others[f"a tensor named {name!r}"] = out.astype(np.float64)
    for what, y in others.items():
        assert uncorrelated(x, y), what
        assert not np.isin(x[:, 0], y[:, 0]).mean() > 0.01, what
