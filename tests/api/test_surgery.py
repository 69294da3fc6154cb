"""Checkpoints with more rows for tokens: what is new, what is copied, and what the record says of both."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import reference
from common import MIB, bits, run
from jobs.test_memory import BOUND, peak_of
from kills import at_call, child, tree, wait

import bigin
from bigin.core import source as sources
from bigin.targets.safetensors.header import read_header

safetensors = pytest.importorskip("safetensors.numpy", reason="safetensors is not installed: pip install 'bigin[test]'")
ROWS, WIDTH = 70, 24


def values(shape: tuple[int, ...], seed: int, dtype: str = "float32") -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(shape) * 0.02 + 0.01).astype(dtype)


def checkpoint(folder: str = "old", dtype: str = "float32", *, tied: bool = False, head: bool = True) -> dict:
    """A checkpoint in two files, with tensors of other dtypes, and what lies beside it."""
    Path(folder).mkdir()
    tensors = {
        "model.embed_tokens.weight": values((ROWS, WIDTH), 1, dtype),
        "model.layers.0.mlp.weight": values((30, WIDTH), 2, dtype),
        "model.layers.0.mask": np.arange(9).reshape(3, 3) % 2 == 0,
        "model.norm.weight": np.full(WIDTH, np.nan, "float16"),
    }
    first = dict(list(tensors.items())[:2])
    if head:
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"] if tied else values((ROWS, WIDTH), 3, dtype)
        tensors["lm_head.bias"] = values((ROWS,), 4, dtype)
    names = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
    parts = (first, {name: tensor for name, tensor in tensors.items() if name not in first})
    index = {}
    for file, part in zip(names, parts, strict=True):
        safetensors.save_file(part, Path(folder, file))
        index |= dict.fromkeys(part, file)
    Path(folder, "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    config = {
        "vocab_size": ROWS,
        "tie_word_embeddings": tied,
        "hidden_size": WIDTH,
        "text_config": {"vocab_size": ROWS},
    }
    Path(folder, "config.json").write_text(json.dumps(config))
    Path(folder, "tokenizer.json").write_text("{}")
    return tensors


def held(folder: str) -> dict[str, np.ndarray]:
    return {
        name: part for path in Path(folder).glob("*.safetensors") for name, part in safetensors.load_file(path).items()
    }


def check_copied(new: dict[str, np.ndarray], old: dict[str, np.ndarray]) -> None:
    """The rows of every tensor that were there before are the same, bit for bit."""
    assert new.keys() == old.keys()
    for name, tensor in old.items():
        assert new[name].dtype == tensor.dtype
        assert np.array_equal(bits(new[name][: len(tensor)]), bits(tensor)), name


def test_the_mean_of_the_rows_and_all_else_as_it_was():
    old = checkpoint()
    report = bigin.grow_vocabulary("old", "new", 75)
    new = held("new")
    check_copied(new, old)
    for name in ("model.embed_tokens.weight", "lm_head.weight", "lm_head.bias"):
        assert new[name].shape[0] == 75
        mean = old[name].astype(np.float64).sum(0) / ROWS
        assert np.array_equal(new[name][ROWS:], np.broadcast_to(mean.astype("float32"), new[name][ROWS:].shape)), name
    config = json.loads(Path("new", "config.json").read_text())
    assert (config["vocab_size"], config["text_config"]["vocab_size"], config["hidden_size"]) == (75, 75, WIDTH)
    assert Path("new", "tokenizer.json").read_text() == "{}"
    index = json.loads(Path("new", "model.safetensors.index.json").read_text())
    assert index["weight_map"] == json.loads(Path("old", "model.safetensors.index.json").read_text())["weight_map"]
    assert index["metadata"]["total_size"] == sum(tensor.nbytes for tensor in new.values())
    told = report.record["tensors"]["lm_head.weight"]["grown"]
    assert (told["new_from"], told["new"], told["from"]["tensor"]) == (ROWS, {"as": "mean"}, "lm_head.weight")
    assert bigin.verify("new").equal


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_draws_with_the_rows_covariance(dtype):
    """mean + sqrt(1e-9) z R, where R'R is the covariance and z are the law's standard normal values."""
    old = checkpoint(dtype=dtype)
    bigin.grow_vocabulary("old", "new", 100, new="mean+covariance", seed=5)
    new = held("new")
    check_copied(new, old)
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        table = old[name].astype(np.float64)
        factor = np.linalg.cholesky(np.cov(table.T, bias=True)).T
        places = range(ROWS * WIDTH, 100 * WIDTH)
        drawn = reference.elements("normal", {}, (100, WIDTH), dtype, 5, name, places)
        expected = np.asarray(drawn, np.float64).reshape(-1, WIDTH) @ factor * np.sqrt(1e-9)
        made = new[name][ROWS:].astype(np.float64) - table.mean(0)
        tolerance = 1e-9 if dtype == "float64" else 2e-3  # float32 holds the mean to 2^-24 of it
        assert np.abs(made - expected).max() < tolerance * np.abs(expected).max() * 10
    assert np.ptp(new["lm_head.bias"][ROWS:]) == 0
    assert bigin.verify("new").equal


def test_a_singular_covariance_is_drawn_from_too():
    """More columns than rows: the new rows stay in the space of the old ones."""
    table = values((10, 40), 1, "float64")
    safetensors.save_file({"wte.weight": table}, "old.safetensors")
    bigin.grow_vocabulary("old.safetensors", "new.safetensors", 500, new="mean+covariance")
    new = safetensors.load_file("new.safetensors")["wte.weight"]
    away = (new[10:] - table.mean(0)) / np.sqrt(1e-9)
    space = np.linalg.svd(table - table.mean(0))[2][:9]
    assert np.abs(away - away @ space.T @ space).max() < 1e-4 * np.abs(away).max()
    assert np.allclose(away.std(0), table.std(0), rtol=0.2)


def test_rows_of_a_method_are_those_of_the_law_for_the_larger_table():
    old = checkpoint()
    bigin.grow_vocabulary("old", "new", 70, multiple=16, new="normal", std=0.5, seed=9)
    new = held("new")
    check_copied(new, old)
    whole = np.empty((80, WIDTH), np.float32)
    bigin.fill(whole, "normal", std=0.5, seed=9, name="lm_head.weight")
    assert np.array_equal(bits(new["lm_head.weight"][ROWS:]), bits(whole[ROWS:]))
    assert not new["lm_head.bias"][ROWS:].any()


def test_copies_of_a_row_and_tied_matrices():
    old = checkpoint(tied=True)
    bigin.grow_vocabulary("old", "rows", 73, new="row:17")
    assert (held("rows")["model.embed_tokens.weight"][ROWS:] == old["model.embed_tokens.weight"][17]).all()
    bigin.grow_vocabulary("old", "tied", 73, new="mean+covariance")
    tied = held("tied")
    assert np.array_equal(tied["lm_head.weight"], tied["model.embed_tokens.weight"])
    bigin.grow_vocabulary("old", "apart", 73, new="mean+covariance", tied=False)
    apart = held("apart")
    assert not np.array_equal(apart["lm_head.weight"][ROWS:], apart["model.embed_tokens.weight"][ROWS:])
    assert bigin.verify("tied").equal
    assert bigin.verify("apart").equal


@pytest.mark.parametrize("new", ["mean", "mean+covariance", "row:9", "normal"])
def test_a_matrix_of_columns_grows_as_its_transpose_does(new):
    table = values((ROWS, WIDTH), 1)
    for name, tensor in (("rows", table), ("columns", table.T)):
        Path(name).mkdir()
        safetensors.save_file({"x": np.ascontiguousarray(tensor)}, f"{name}/model.safetensors")
        Path(name, "config.json").write_text(f'{{"vocab_size": {ROWS}}}')
        bigin.grow_vocabulary(name, f"{name}-new", 90, new=new, tensors=["x"], seed=3, max_shard_size="2kB")
        assert bigin.verify(f"{name}-new").equal
        assert json.loads(Path(f"{name}-new", "config.json").read_text())["vocab_size"] == 90
    rows, columns = held("rows-new")["x"], held("columns-new")["x"]
    assert np.array_equal(bits(columns[:, :ROWS]), bits(table.T))
    if new == "normal":  # those that a fill makes of the whole
        bigin.fill("x.npy", "normal", shape=(WIDTH, 90), seed=3)
        assert np.array_equal(columns[:, ROWS:], np.load("x.npy")[:, ROWS:])
    else:
        assert np.array_equal(bits(columns), bits(rows.T))
    assert "rows from" not in run("show", "columns-new").stdout


def test_biases_and_kernels_grow_with_the_embeddings():
    """And a vocabulary of another part of the model does not."""
    Path("old").mkdir()
    bias = values((ROWS,), 2)
    old = {
        "language.embed_tokens.weight": values((ROWS, WIDTH), 1),
        "audio.embed_tokens.weight": values((20, WIDTH), 3),
        "final_logits_bias": bias.reshape(1, ROWS),
        "cls.predictions.bias": bias,
        "cls.predictions.dense.weight": values((9, ROWS), 4),
        "lm_head.kernel": values((WIDTH, ROWS), 5),
        "norm.bias": bias,
    }
    safetensors.save_file(old, "old/model.safetensors")
    config = {"audio_config": {"vocab_size": 20}, "text_config": {"vocab_size": ROWS}}
    Path("old/config.json").write_text(json.dumps(config))
    report = bigin.grow_vocabulary("old", "new", 80)
    new = held("new")
    assert {name: new[name].shape for name in old} == {
        "language.embed_tokens.weight": (80, WIDTH),
        "audio.embed_tokens.weight": (20, WIDTH),
        "final_logits_bias": (1, 80),
        "cls.predictions.bias": (80,),
        "cls.predictions.dense.weight": (9, 80),
        "lm_head.kernel": (WIDTH, 80),
        "norm.bias": (ROWS,),
    }
    for name in ("final_logits_bias", "cls.predictions.bias"):
        assert np.array_equal(new[name].reshape(-1)[:ROWS], bias)
        assert (new[name].reshape(-1)[ROWS:] == np.float32(bias.astype(np.float64).mean())).all()
    assert json.loads(Path("new/config.json").read_text()) == {
        "audio_config": {"vocab_size": 20},
        "text_config": {"vocab_size": 80},
    }
    assert report.record["tensors"]["lm_head.kernel"]["grown"]["axis"] == 1
    assert bigin.verify("new").equal
    done = run("grow-vocab", "old", "again", "--rows", 80)
    assert "lm_head.kernel: columns 70 to 79 are new: mean" in done.stdout


def test_threads_and_files_decide_no_bit(monkeypatch):
    """Nor does where the rows are cut for reading, as long as the sums are made in their order."""
    table = {"wte.weight": values((5000, 300), 1)}
    safetensors.save_file(table, "old.safetensors")
    made = []
    for threads, shard in ((1, None), (3, None), (2, "1MB")):
        out = f"new{len(made)}"
        bigin.grow_vocabulary(
            "old.safetensors", out, 6000, new="mean+covariance", threads=threads, max_shard_size=shard
        )
        made.append(held(out)["wte.weight"])
    assert np.array_equal(made[0], made[1])
    assert np.array_equal(made[0], made[2])
    mean = np.float32(table["wte.weight"].astype(np.float64).mean(0))
    assert np.allclose(made[0][5000:], mean, atol=1e-5)


def test_what_differs_is_found_in_copied_rows_and_in_new_ones():
    checkpoint()
    bigin.grow_vocabulary("old", "new", 75)
    path = Path("new", "model-00002-of-00002.safetensors")
    header = read_header(path)
    entry = header.entries["lm_head.weight"]
    data = bytearray(path.read_bytes())
    for row in (2, 72):
        data[header.start + entry.begin + 4 * WIDTH * row] ^= 1
    path.write_bytes(data)
    found = bigin.verify("new")
    assert [(difference.elements, difference.first) for difference in found.differences] == [(2, (2, 0))]
    assert bigin.verify("new", repair=True).repaired
    assert bigin.verify("new").equal


def test_a_source_that_is_gone_or_another_is_told_in_one_line():
    checkpoint()
    bigin.grow_vocabulary("old", "new", 75)
    Path("old").rename("moved")
    done = run("verify", "new", code=2)
    assert done.stderr.count("\n") == 1
    assert "expected the file of which tensors were copied" in done.stderr
    assert "--from" in done.stderr
    assert "equal" in run("verify", "new", "--from", "moved").stdout
    assert "nowhere: expected the folder of the checkpoint" in run("verify", "new", "--from", "nowhere", code=2).stderr
    data = bytearray(Path("moved", "model-00001-of-00002.safetensors").read_bytes())
    data[-1] ^= 1
    Path("moved", "model-00001-of-00002.safetensors").write_bytes(data)
    with pytest.raises(bigin.SourceError, match="got another one"):
        bigin.verify("new", source="moved")


def test_the_digest_of_a_large_file_is_of_its_pages(monkeypatch):
    monkeypatch.setattr(sources, "WHOLE", 1 << 20)
    data = bytearray(8 * MIB)
    Path("large").write_bytes(data)
    first = sources.digest_of("large")
    for place in (0, 8 * MIB - 1, 5 * MIB + 4096 * 3):
        changed = bytearray(data)
        changed[place : place + 16384] = b"x" * len(changed[place : place + 16384])
        Path("other").write_bytes(changed)
        assert sources.digest_of("other") != first
        Path("other").unlink()


def test_the_command_line_says_which_rows_are_new():
    checkpoint(head=False)
    done = run("grow-vocab", "old", "new", "--rows", 71, "--multiple", 8, "--new", "uniform", "--a", -1, "--b", 1)
    assert "model.embed_tokens.weight: rows 70 to 71 are new: uniform" in done.stdout
    assert (
        "already"
        in run(
            "grow-vocab", "old", "new", "--rows", 71, "--multiple", 8, "--new", "uniform", "--a", -1, "--b", 1
        ).stdout
    )
    assert np.abs(held("new")["model.embed_tokens.weight"][70:]).max() > 0.1


REFUSED = {
    "fewer rows": (("old", "new", 70), {}, "expected more rows than its 70, got 70"),
    "no rows": (("old", "new", 0), {}, "expected rows to be an integer above 0"),
    "no such tensor": (("old", "new", 80), {"tensors": ["lm_hat.weight"]}, "did you mean lm_head.weight"),
    "rows that differ": (("old", "new", 80), {"tensors": ["lm_head.weight", "model.norm.weight"]}, "as many rows"),
    "no such row": (("old", "new", 80), {"new": "row:70"}, "expected a row from 0 to 69"),
    "no number": (("old", "new", 80), {"new": "row:x"}, "the number of a row"),
    "no such method": (("old", "new", 80), {"new": "means"}, "or mean, mean"),
    "parameters": (("old", "new", 80), {"std": 1}, "no parameters beside mean"),
    "no floats": (("old", "new", 80), {"tensors": ["model.layers.0.mask"]}, "floats to take the mean of"),
    "itself": (("old", "old", 80), {}, "a path other than"),
    "nothing": (("nowhere", "new", 80), {}, "got nothing"),
    "no vocabulary": (("other.safetensors", "new", 80), {}, "a row for every token"),
    "memory": (("old", "new", 80), {"new": "mean+covariance", "max_memory": "1kB"}, "memory for the covariance"),
}


def test_a_covariance_takes_the_memory_that_is_named(tmp_path):
    """By grow-vocab and by a recipe, to fill and to verify: one line with the number, and that number is enough."""
    checkpoint()
    (tmp_path / "grow.toml").write_text(
        'from = "old"\n[[rule]]\nmatch = ["*embed_tokens.weight", "lm_head.weight"]\n'
        'grow = {rows = 80, new = "mean+covariance"}\n[default]\ncopy = "*"\n'
    )
    needed = []
    for make in (
        lambda **options: bigin.grow_vocabulary("old", "new", 80, new="mean+covariance", **options),
        lambda **options: bigin.initialize("grow.toml", "newer", **options),
    ):
        with pytest.raises(bigin.InputError, match=r"memory for the covariance of \d+ columns .* to \d+MiB$") as error:
            make(max_memory="100kB")
        assert not Path("new").exists() or needed
        needed.append(str(error.value).rpartition(" ")[2])
        make(max_memory=needed[-1])
    assert held("new")["lm_head.weight"].tobytes() == held("newer")["lm_head.weight"].tobytes()
    assert bigin.verify("newer", max_memory="64MiB").equal
    with pytest.raises(bigin.InputError, match="memory for the covariance"):
        bigin.verify("newer", max_memory="100kB")


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_grown_is_refused_before_anything_is_written(case):
    checkpoint()
    safetensors.save_file({"weight": values((3, 3), 1)}, "other.safetensors")
    arguments, options, message = REFUSED[case]
    with pytest.raises(bigin.InputError, match=message):
        bigin.grow_vocabulary(*arguments, **options)
    assert not Path("new").exists()


@pytest.mark.slow
def test_a_grow_that_is_killed_at_any_call_continues():
    checkpoint()
    Path("whole").mkdir()
    bigin.grow_vocabulary("old", "whole/new", 75, new="mean+covariance", threads=1)
    expected = tree(Path("whole"))
    number = survived = killed = 0
    while survived < 2:
        number += 1 if number < 40 else 7
        Path("trial").mkdir()

        def work(number: int = number) -> None:
            at_call(number)
            bigin.grow_vocabulary("old", "trial/new", 75, new="mean+covariance", threads=2)

        code = wait(child(work))
        killed += code != 0
        survived += code == 0
        bigin.grow_vocabulary("old", "trial/new", 75, new="mean+covariance", threads=1)
        assert tree(Path("trial")) == expected, number
        shutil.rmtree("trial")
    assert killed > 10


@pytest.mark.slow
@pytest.mark.parametrize("new", ["mean", "mean+covariance"])
def test_the_peak_stays_below_the_bound_for_a_checkpoint_of_twice_its_size(new):
    rows = 2 * BOUND // (2 * 512)
    entries = {
        "wte.weight": {"dtype": "BF16", "shape": [rows, 512], "data_offsets": [0, rows * 1024]},
        "h.weight": {"dtype": "BF16", "shape": [512, 512], "data_offsets": [rows * 1024, rows * 1024 + 512 * 1024]},
    }
    header = json.dumps(entries).encode()
    with Path("old.safetensors").open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + rows * 1024 + 512 * 1024)
    assert peak_of("grow-vocab", "old.safetensors", "new.safetensors", "--rows", str(rows + 1000), "--new", new) < BOUND
