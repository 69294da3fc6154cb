"""Dumps of keyed tables: the files, their bytes, what is verified, and what is refused."""

from __future__ import annotations

import json
import os
import tracemalloc

import numpy as np
import pytest
import reference
from common import run

import bigin
from bigin.jobs import dumps

KEYS = np.array([5, 2**64 - 1, 7, 0, 12, 5, 2**63, 9], np.uint64)


@pytest.fixture(name="users")
def _users():
    return bigin.KeyedTable(6, "normal", seed=3, name="users")


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_files_are_those_of_dynamicemb(users, tmp_path):
    """Raw int64 keys and raw rows, by key % world_size, in the order of the keys."""
    report = users.dump(KEYS, tmp_path / "dump", world_size=3)
    assert report.nbytes == 8 * 6 * 4
    expected = [f"users_emb_{kind}.rank_{rank}.world_size_3" for kind in ("keys", "values") for rank in range(3)]
    assert files(tmp_path / "dump") == sorted(["users_bigin.json", "users_opt_args.json", *expected])
    assert json.loads((tmp_path / "dump" / "users_opt_args.json").read_text()) == {}
    for rank in range(3):
        of_rank = [key for key in KEYS.tolist() if key % 3 == rank]
        stored = np.fromfile(tmp_path / "dump" / expected[rank], np.int64)
        assert (stored.view(np.uint64) == of_rank).all()
        values = np.fromfile(tmp_path / "dump" / expected[3 + rank], np.float32).reshape(-1, 6)
        rows = [reference.keyed_row("normal", {}, 6, "float32", 3, "users", key).tobytes() for key in of_rank]
        assert values.tobytes() == b"".join(rows)
    record = json.loads((tmp_path / "dump" / "users_bigin.json").read_text())
    assert record["rows"] == [sum(key % 3 == rank for key in KEYS.tolist()) for rank in range(3)]
    assert {"method": "normal", "seed": 3, "name": "users", "dim": 6, "complete": True}.items() <= record.items()
    found = bigin.verify(tmp_path / "dump")
    assert found.equal
    assert (found.regions, found.total, found.nbytes) == (3, 3, 192)
    assert found.wanted == "normal(), seed 3, name users, rows of 6 float32 by key"
    assert "users" in report._repr_html_() + found._repr_html_()


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", "float8_e4m3fn", "complex128"])
def test_every_width(tmp_path, dtype):
    table = bigin.KeyedTable(5, "ones" if dtype == "complex128" else "uniform", dtype=dtype)
    table.dump(KEYS, tmp_path, world_size=2)
    assert "table_bigin.json" in files(tmp_path)
    assert bigin.verify(tmp_path).equal
    path = tmp_path / "table_emb_values.rank_1.world_size_2"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    (difference,) = bigin.verify(str(tmp_path)).differences
    assert difference.elements == 1
    assert difference.first == (4, 4 if dtype != "complex128" else 9)


def test_keys_of_every_source_make_the_same_files(users, tmp_path, monkeypatch):
    """Arrays, lists, tensors, files and iterators, in many batches."""
    keys = np.random.default_rng(2).integers(0, 2**64, 1001, np.uint64)
    np.save("keys.npy", keys)
    keys.tofile("keys.bin")
    monkeypatch.setattr(dumps, "BATCH", 24 * 100)
    sources = {
        "array": keys,
        "signed": keys.view(np.int64),
        "rows": keys.reshape(13, 77),
        "list": keys.tolist(),
        "npy": "keys.npy",
        "int64": "keys.bin",
        "iterator": (part for part in np.array_split(keys, 7)),
        "integers": iter(keys.tolist()),
    }
    found = {}
    for name, source in sources.items():
        users.dump(source, tmp_path / name, world_size=4)
        found[name] = [(tmp_path / name / file).read_bytes() for file in files(tmp_path / name)]
        assert found[name] == found["array"], name
    torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'bigin[torch]'")
    users.dump(torch.from_numpy(keys.view(np.int64)), tmp_path / "torch", world_size=4)
    assert [(tmp_path / "torch" / file).read_bytes() for file in files(tmp_path / "torch")] == found["array"]


def test_a_dump_is_dumped_again_for_another_number_of_ranks(users, tmp_path):
    """In the same folder, from its own files of keys."""
    users.dump(KEYS, tmp_path, world_size=1)
    with pytest.raises(bigin.ExistsError, match="got a dump of users; choose another folder, or overwrite it"):
        users.dump(KEYS, tmp_path, world_size=2)
    users.dump(tmp_path / "users_emb_keys.rank_0.world_size_1", tmp_path, world_size=2, overwrite=True)
    assert len(files(tmp_path)) == 6
    assert not any("world_size_1" in name for name in files(tmp_path))
    assert bigin.verify(tmp_path).equal


def as_dynamicemb_reads(folder, name, dim, rank, world_size):
    """Keys, rows and scores of a rank as dynamicemb's key_value_table.py reads them, and what its .json says."""
    said = json.loads((folder / f"{name}_opt_args.json").read_text())  # nothing is loaded without it

    def held(item, dtype):
        path = folder / f"{name}_emb_{item}.rank_{rank}.world_size_{world_size}"
        return np.fromfile(path, dtype) if path.exists() else None

    keys, rows, scores = held("keys", np.int64), held("values", np.float32), held("scores", np.int64)
    assert len(keys) == len(rows) // dim
    assert scores is None or len(scores) == len(keys)
    return said, keys, rows.reshape(-1, dim), scores


@pytest.mark.parametrize("given", [None, 7, "each"])
def test_scores_are_those_of_the_keys(users, tmp_path, monkeypatch, given):
    monkeypatch.setattr(dumps, "BATCH", 24 * 3)  # three keys at once
    scores = np.arange(100, 108) if given == "each" else given
    users.dump(KEYS, tmp_path, world_size=3, scores=scores)
    for rank in range(3):
        said, keys, rows, stored = as_dynamicemb_reads(tmp_path, "users", 6, rank, 3)
        assert said == {}
        assert (rows == users[keys.view(np.uint64)]).all()
        if given is None:
            assert stored is None
        else:
            of_rank = KEYS % np.uint64(3) == rank
            assert stored.tolist() == np.broadcast_to(scores, 8)[of_rank].tolist()
    assert bigin.verify(tmp_path).equal
    if given is not None:
        path = tmp_path / "users_emb_scores.rank_1.world_size_3"
        np.full(path.stat().st_size // 8, 8).tofile(path)
        assert bigin.verify(tmp_path).equal is (given == "each")  # scores that were given are not computed again
        os.truncate(path, 4)
        assert "users_emb_scores.rank_1" in str(bigin.verify(tmp_path).differences[0])
        users.dump(KEYS, tmp_path, world_size=2, overwrite=True)
        assert not any("scores" in name for name in files(tmp_path))


def test_memory_is_bounded(users, tmp_path, monkeypatch):
    monkeypatch.setattr(dumps, "BATCH", 1 << 18)
    users.dump([1], tmp_path / "warm")
    tracemalloc.start()
    users.dump((np.arange(i, i + 1000) for i in range(0, 400_000, 1000)), tmp_path / "large", world_size=5)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (tmp_path / "large" / "users_emb_values.rank_0.world_size_5").stat().st_size == 400_000 // 5 * 24
    assert peak < 3 << 20


def test_what_differs_is_told(users, tmp_path):
    users.dump(np.arange(10_000), tmp_path, world_size=2)
    values, keys = (tmp_path / f"users_emb_{kind}.rank_1.world_size_2" for kind in ("values", "keys"))
    rows = np.memmap(values, np.float32, "r+", shape=(5000, 6))
    rows[77, 3] += 1
    rows.flush()
    (difference,) = bigin.verify(tmp_path).differences
    assert (
        str(difference) == "users_emb_values.rank_1.world_size_2, rows 0-5000: 1 element differs, the first at [77, 3]"
    )
    rows[77, 3] = reference.keyed_row("normal", {}, 6, "float32", 3, "users", 155)[3]
    rows.flush()
    assert bigin.verify(tmp_path).equal
    stored = np.memmap(keys, np.int64, "r+")
    stored[5] = 4  # of the other rank: its row is another, too
    stored.flush()
    wrong, row = bigin.verify(tmp_path).differences
    assert str(wrong) == "users_emb_keys.rank_1.world_size_2, rows 0-5000: 1 element differs, the first at [5]"
    assert row.elements == 6
    os.truncate(values, 100)
    (difference,) = bigin.verify(tmp_path).differences
    assert str(difference).endswith("cannot be read, from [0] on: expected 120000 bytes, got 100")
    values.unlink()
    assert "No such file" in str(bigin.verify(tmp_path).differences[0])


def test_a_sample_and_progress(users, tmp_path, monkeypatch):
    monkeypatch.setattr(dumps, "BATCH", 24 * 100)
    made, seen = [], []
    users.dump(np.arange(2000), tmp_path, world_size=2, progress=lambda *pair: made.append(pair))
    assert made[-1] == (48_000, 48_000)
    assert len(made) == 20
    found = bigin.verify(tmp_path, sample=0.25, progress=lambda *pair: seen.append(pair))
    assert (found.regions, found.total) == (5, 20)
    assert seen[-1] == (found.nbytes, found.nbytes) == (12_000, 12_000)


def test_a_dump_that_fails_leaves_nothing(users, tmp_path):
    def bad():
        yield np.arange(1000)
        raise RuntimeError("the source of keys")

    with pytest.raises(RuntimeError):
        users.dump(bad(), tmp_path, world_size=2)
    assert files(tmp_path) == []
    users.dump([1, 2], tmp_path)
    with pytest.raises(bigin.InputError, match="expected keys that are integers"):
        users.dump([1, 2.5], tmp_path, overwrite=True)
    assert bigin.verify(tmp_path).equal  # the old one is as it was


def test_scores_that_are_none(users, tmp_path):
    users.dump(KEYS, tmp_path)
    np.save("scores.npy", np.arange(8.0))
    for scores, error in (
        (np.arange(7), "expected a score for each key, got 7 scores for at least 8"),
        (np.arange(9), "expected a score for each key, got 9 scores for 8 keys"),
        (1.5, "expected scores to be integers, got float of float64"),
        (True, "expected scores to be integers, got bool of bool"),
        (1 << 63, "expected a score to be an int64, got 9223372036854775808"),
        ("scores.npy", "scores.npy: expected integer scores, got float64"),
        ("none.npy", "none.npy: expected a file of scores, got: No such file"),
    ):
        with pytest.raises(bigin.InputError, match=error):
            users.dump(KEYS, tmp_path, scores=scores, overwrite=True)
        assert bigin.verify(tmp_path).equal  # the old one is as it was
        assert len(files(tmp_path)) == 5


def test_several_tables_in_a_folder(users, tmp_path):
    other = bigin.KeyedTable(3, "zeros", name="a/b")
    users.dump(KEYS, tmp_path)
    other.dump(KEYS, tmp_path)
    with pytest.raises(bigin.InputError, match=r"got 2; name one of a\.b_bigin\.json, users_bigin\.json"):
        bigin.verify(tmp_path)
    assert bigin.verify(tmp_path / "a.b_bigin.json").equal
    (tmp_path / "users_emb_values.rank_0.world_size_1").write_bytes(bytes(8 * 24))
    assert bigin.verify(tmp_path / "a.b_bigin.json").equal
    assert not bigin.verify(tmp_path / "users_bigin.json").equal


def test_what_is_refused(users, tmp_path):
    for arguments, error in (
        (([1], tmp_path / "d", 0), "expected world_size to be an integer of 1 or more, got 0"),
        (([1], tmp_path / "d", True), "expected world_size"),
        (([1], "s3://bucket/d"), "expected a local folder for a dump"),
        (("none.npy", tmp_path / "d"), "none.npy: expected a file of keys, got: No such file"),
        ((3, tmp_path / "d"), "expected keys in an array, a file or an iterator of arrays, got int"),
        (({1: 2}, tmp_path / "d"), "expected keys in an array, a file or an iterator of arrays, got dict"),
    ):
        keys, folder, *world_size = arguments
        with pytest.raises(bigin.InputError, match=error) as caught:
            users.dump(keys, folder, world_size=(world_size or [1])[0])
        assert "\n" not in str(caught.value)
    users.dump([1], tmp_path / "d")
    with pytest.raises(bigin.InputError, match="expected no repair of a dump"):
        bigin.verify(tmp_path / "d", repair=True)
    record = json.loads((tmp_path / "d" / "users_bigin.json").read_text())
    for change, error in (({"rows": None}, "expected the record of a dump"), ({"dim": 0}, "a record of a keyed table")):
        (tmp_path / "d" / "users_bigin.json").write_text(json.dumps(record | change))
        with pytest.raises(bigin.InputError, match=error):
            bigin.verify(tmp_path / "d")


FLAGS = ("--embedding-dim", "3", "--method", "normal", "--std", "0.5", "--seed", "3", "--name", "users")


def test_the_commands(tmp_path):
    table = bigin.KeyedTable(3, "normal", std=0.5, seed=3, name="users")
    done = run("table", "keys", "5,0xDEADBEEFCAFEF00D,-1", *FLAGS)
    keys = [5, 0xDEADBEEFCAFEF00D, -1]
    lines = [f"{key}: {' '.join(map(str, row))}" for key, row in zip(keys, table[keys], strict=True)]
    assert done.stdout.splitlines() == lines
    done = run("table", "keys", "user:1,user:2", "--text", "--json", *FLAGS)
    assert json.loads(done.stdout) == table[["user:1", "user:2"]].tolist()
    (tmp_path / "keys.txt").write_text("5\n\n 0x7 \n18446744073709551615\n")
    done = run("table", "keys", "@keys.txt", *FLAGS)
    assert [line.partition(":")[0] for line in done.stdout.splitlines()] == ["5", "7", str(2**64 - 1)]
    done = run("table", "dump", "@keys.txt", "dump", "--world-size", "2", *FLAGS)
    assert done.stdout.startswith("dump: 3 rows of users for 2 ranks; ")
    assert "all regions compared with normal(std=0.5), seed 3, name users, rows of 3 float32 by key: equal" in (
        run("verify", "dump").stdout
    )
    np.save("keys.npy", np.arange(100))
    done = run("table", "dump", "keys.npy", "dump", "--world-size", "2", *FLAGS, code=2)
    assert "choose another folder, or overwrite it" in done.stderr
    done = run("table", "dump", "keys.npy", "dump", "--world-size", "2", "--overwrite", "--json", *FLAGS)
    assert json.loads(done.stdout)["record"]["rows"] == [50, 50]
    done = run("table", "dump", "keys.npy", "scored", "--scores", "1", *FLAGS)
    assert np.fromfile("scored/users_emb_scores.rank_0.world_size_1", np.int64).tolist() == [1] * 100
    values = np.memmap("dump/users_emb_values.rank_0.world_size_2", np.float32, "r+")
    values[7] = 9
    values.flush()
    assert "1 element differs, the first at [2, 1]" in " ".join(run("verify", "dump", code=1).stdout.split())
    for keys, error in (
        ("5,x", "KEYS: expected integers as keys, got 'x'; --text"),
        ("@none.txt", "none.txt: expected a text"),
    ):
        done = run("table", "keys", keys, *FLAGS, code=2)
        assert error in done.stderr
        assert "Traceback" not in done.stderr
