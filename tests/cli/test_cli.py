"""The command line, as a stranger types it: what it prints, what it leaves behind, and its exit codes."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import zarr
from common import BIGIN, command, run, snapshot, stopped

import bigin
from bigin.methods import table


def test_the_main_line_fills_an_existing_store():
    for zarr_format in (2, 3):
        path = f"store{zarr_format}.zarr"
        zarr.create_array(path, shape=(300, 200), dtype="float32", zarr_format=zarr_format)
        done = run("fill", "--method", "xavier_uniform", path)
        assert re.fullmatch(
            rf"{path}: 300x200 float32 filled with xavier_uniform, seed 0, name store{zarr_format}; "
            r"234.4 KiB in [\d.]+ s, [\d.]+ [kMG]B/s\n",
            done.stdout,
        )
        assert done.stderr == ""
        values = np.zeros((300, 200), np.float32)
        bigin.fill(values, "xavier_uniform", name=f"store{zarr_format}")
        np.testing.assert_array_equal(zarr.open_array(path)[:], values)


def test_the_issues_examples():
    run(
        "fill", "--method", "normal", "--std", 0.02, "--seed", 7, "t.zarr", "--shape", "1000,256", "--dtype", "bfloat16"
    )
    run("fill", "--method", "kaiming_uniform", "--nonlinearity", "leaky_relu", "--a", 0.2, "w.npy", "--shape", "64,64")
    run("fill", "--method", "trunc_normal", "--std", 0.02, "--a", -0.04, "--b", 0.04, "g.zarr/layers/0/weight",
        "--shape", "30x20")  # fmt: skip
    bigin.register_dtypes()
    table_values = zarr.open_array("t.zarr")
    assert str(table_values.dtype) == "bfloat16"
    assert table_values.attrs["bigin"]["parameters"] == {"mean": 0.0, "std": 0.02}
    assert abs(np.load("w.npy")).max() <= np.sqrt(2 / 1.04) * np.sqrt(3 / 64)
    weight = zarr.open_group("g.zarr")["layers/0/weight"]
    assert weight.attrs["bigin"]["name"] == "layers.0.weight"
    assert abs(weight[:]).max() <= 0.04


def test_methods_lists_every_method_and_parameter():
    listed = run("methods").stdout
    for name, method in table.METHODS.items():
        assert name in listed
        assert all(parameter in listed for parameter in method.defaults)
    for alias in table.ALIASES:
        assert alias in listed
    assert "U[a, b)" in listed


def test_every_parameter_has_an_option_and_help_names_its_methods():
    text = run("fill", "--help").stdout
    for name, method in table.METHODS.items():
        for parameter in method.defaults:
            assert f"--{parameter.replace('_', '-')} " in text
        assert name in text or not method.defaults


BAD = [
    (["--method", "xavier_uniform", "none.zarr"], "got nothing; give --shape"),
    (["--method", "xavier_uniform", "none.npy"], "got nothing; give --shape"),
    (["--method", "normal", "--gain", "1", "w.npy"], "normal does not take 'gain'; it takes mean, std"),
    (["--method", "gauss", "w.npy"], "expected a method"),
    (["--method", "normal", "--std", "-1", "w.npy"], "expected std >= 0"),
    (["--method", "normal", "--std", "nan", "w.npy"], "expected a finite std"),
    (["--method", "normal", "w.npy"], "is filled with ones, seed 0; --overwrite"),
    (["--method", "normal", "w.npy", "--shape", "5,4", "--overwrite"], "expected shape (5, 4), got"),
    (["--method", "normal", "w.npy", "--dtype", "float16", "--overwrite"], "expected dtype float16, got"),
    (["--method", "normal", "w.npy", "--seed", "-1", "--overwrite"], "expected a seed"),
    (["--method", "normal", "w.npy", "--seed", str(2**64), "--overwrite"], "expected a seed"),
    (["--method", "normal", "w.npy", "--threads", "0", "--overwrite"], "expected at least 1 thread"),
    (["--method", "normal", "w.npy", "--max-memory", "lots", "--overwrite"], "expected a size such as"),
    (["--method", "normal", "w.npy", "--max-memory", "1B", "--overwrite"], "raise --max-memory"),
    (["--method", "normal", "new.npy", "--shape", "3,x"], "expected a shape such as"),
    (["--method", "normal", "new.npy", "--shape", "3,-4"], "expected a shape such as"),
    (["--method", "normal", "new.npy", "--shape", "3", "--dtype", "int32"], "expected a float dtype"),
    (["--method", "normal", "new.npy", "--shape", "3", "--dtype", "float99"], "expected a dtype among"),
    (["--method", "xavier_normal", "new.npy", "--shape", "3"], "expected a shape of 2 or more dimensions"),
    (["--method", "normal", "no/such/new.npy", "--shape", "3"], "expected an existing folder"),
    (["--method", "normal", "new.npy", "--shape", f"{2**63}"], "fewer than 2^63 elements"),
    (["--method", "normal", "text.txt"], "expected a .npy file or a zarr array, got another file"),
    (["--method", "normal", "folder"], "got a folder that holds something else"),
    (["--method", "normal", "g.zarr"], "got a group; name an array in it, such as g.zarr/a/w"),
    (["--method", "normal", "bad.npy"], "header cannot be read"),
    (["--method", "normal", "short.npy"], "the file is truncated"),
    (["--method", "normal", "pickle.npy"], "expected a dtype among"),
    (["--method", "normal", "bool.zarr"], "expected a float dtype for random values, got bool"),
    (["--method", "normal", "broken.zarr"], "cannot be opened"),
    (["--method", "normal", "new.bin", "--raw"], "expected a shape and a dtype for a raw file"),
    (["--method", "normal", "new.bin", "--raw", "--shape", "3", "--dtype", "int8", "--offset", "-1"], "not negative"),
    (["--method", "normal", "w.npy", "--offset", "8", "--overwrite"], "expected an offset only for a raw file"),
    (["--method", "normal", "--std", "x", "w.npy"], "is not a valid float"),
    (["--method", "xavier_normal", "--in-axis", "one", "w.npy"], "expected axes such as 1 or -2,-1"),
    (["w.npy"], "Missing option '--method'"),
    (["--method", "normal", "--nonsense", "w.npy"], "No such option"),
    (["--method", "normal", "big.zarr", "--max-memory", "100MiB"], "expected a chunk or shard that fits in"),
    (["--method", "normal", "nope://bucket/x.zarr"], "cannot be opened"),
]  # fmt: skip


def zoo() -> None:
    """One of each thing that is no target, or one that must not be touched."""
    bigin.fill("w.npy", "ones", shape=(3, 4))
    Path("text.txt").write_text("hello")
    Path("folder").mkdir()
    Path("folder/file").write_text("hello")
    zarr.create_group("g.zarr").create_array("a/w", shape=(3,), dtype="float32")
    Path("bad.npy").write_bytes(b"\x93NUMPY\x01\x00\x20\x00{'descr': os.system('true')}     \n")
    data = Path("w.npy").read_bytes()
    Path("short.npy").write_bytes(data[:-1])
    np.save("pickle.npy", np.array([{}], dtype=object), allow_pickle=True)
    zarr.create_array("bool.zarr", shape=(3,), dtype="bool")
    Path("broken.zarr").mkdir()
    Path("broken.zarr/zarr.json").write_text('{"zarr_format": 3, "node_type": "array"}')
    zarr.create_array("big.zarr", shape=(2**16, 2**16), chunks=(2**14, 2**14), dtype="float32")


@pytest.fixture(name="bad", scope="module")
def _bad(tmp_path_factory):
    """Of each bad command line: what it did, and the files before and after."""
    folders = [tmp_path_factory.mktemp("bad") for _ in BAD]
    before = []
    with pytest.MonkeyPatch.context() as patch:
        for folder in folders:
            patch.chdir(folder)
            zoo()
            before.append(snapshot())
        done = [command("fill", *arguments, folder=folder) for folder, (arguments, _) in zip(folders, BAD, strict=True)]
        after = [patch.chdir(folder) or snapshot() for folder in folders]
    return list(zip(done, before, after, strict=True))


@pytest.mark.parametrize("number", range(len(BAD)), ids=lambda number: " ".join(BAD[number][0]))
def test_bad_input_is_one_line_exit_code_2_and_changes_no_byte(bad, number):
    done, before, after = bad[number]
    assert done.returncode == 2, done.stdout + done.stderr
    assert BAD[number][1] in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    if done.stderr.startswith("bigin: "):
        assert done.stderr.count("\n") == 1
    assert after == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write to everything")
def test_read_only_targets_are_refused():
    bigin.fill("w.npy", "ones", shape=(3, 4))
    zarr.create_array("a.zarr", shape=(3,), dtype="float32")
    Path("w.npy").chmod(0o444)
    Path("a.zarr").chmod(0o555)
    for target in ("w.npy", "a.zarr"):
        assert "can be written" in run("fill", "--method", "normal", target, "--overwrite", code=1).stderr


@pytest.mark.parametrize("target", ["new.npy", "new.zarr"])
def test_a_disk_that_is_too_small_is_found_before_anything_is_made(target):
    done = run("fill", "--method", "normal", target, "--shape", f"{2**45}", code=1)
    assert "expected 128.0 TiB of disk" in done.stderr
    assert done.stderr.count("\n") == 1
    assert snapshot() == {}


def test_quiet_prints_nothing():
    done = run("fill", "--method", "normal", "w.npy", "--shape", "1000", "--quiet")
    assert done.stdout == done.stderr == ""


def test_a_terminal_sees_a_bar():
    """In a pseudo-terminal: bytes, speed and the time left, then the closing line."""
    parent, child = pty.openpty()
    command = [*BIGIN, "fill", "--method", "trunc_normal", "w.npy", "--shape", "100000000", "--threads", "1"]
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "120"}
    process = subprocess.Popen(command, stdout=child, stderr=child, stdin=child, env=environment)
    os.close(child)
    seen = b""
    while True:
        try:
            data = os.read(parent, 1 << 16)
        except OSError:  # the other end was closed
            break
        if not data:
            break
        seen += data
    assert process.wait() == 0
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen.decode())
    assert re.search(r"\d/400.0 MB", text)
    assert re.search(r"[MG]B/s", text)
    assert "filled with trunc_normal, seed 0, name w; 381.5 MiB in" in text


def test_ctrl_c_stops_soon_with_130_and_an_incomplete_record():
    options = ["--method", "trunc_normal", "--dtype", "float64", "--no-sync", "--shape", "500000000", "--threads", "1"]
    process = subprocess.Popen([*BIGIN, "fill", "w.npy", *options], stderr=subprocess.PIPE, text=True)
    sidecar = Path("w.npy.bigin.json")
    while not sidecar.exists():
        assert process.poll() is None
        time.sleep(0.01)
    time.sleep(0.3)
    seconds, errors = stopped(process, signal.SIGINT)
    assert process.returncode == 130
    assert "interrupted" in errors
    assert "Traceback" not in errors
    assert seconds < 5  # promised within a second, of which each of its threads may take one
    assert json.loads(sidecar.read_text())["complete"] is False
    again = run("fill", "--method", "normal", "w.npy", code=2)
    assert "is half filled with trunc_normal" in again.stderr
    Path("w.npy").unlink()


def test_help_is_instant_and_import_compiles_nothing():
    """Time would be that of a busy machine: what is imported decides it. --help takes 180 modules and 0.15 s."""
    code = (
        "import sys, bigin, bigin.cli; heavy = {'numba', 'numpy', 'zarr', 'rich', 'torch', 'jax'} & set(sys.modules);"
        "print(sorted(heavy)); print(len(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy, count = done.stdout.splitlines()
    assert heavy == "[]"
    assert int(count) < 300
    assert "Commands:" in run("--help").stdout


def test_the_version_is_printed():
    assert run("--version").stdout == f"bigin, version {bigin.__version__}\n"


@pytest.mark.parametrize(
    ("command", "suggestion"),
    [
        (["fil", "w.npy"], "did you mean fill?"),
        (["table", "grew", "t.npy", "3"], "did you mean grow?"),
        (["fill", "--methd", "normal", "w.npy"], "--method"),
        (["fill", "--method", "norml", "w.npy", "--shape", "3"], "normal"),
        (["recipes", "gtp2"], "did you mean gpt2?"),
    ],
)
def test_what_is_nearly_right_gets_a_suggestion(command, suggestion):
    assert suggestion in run(*command, code=2).stderr


def test_a_recipe_that_does_not_fit_is_told_and_strict_refuses_it():
    bigin.fill("m.zarr/layers/0/weight", "zeros", shape=(4, 4))
    command = ["init", "megatron", "m.zarr", "--var", "n_layers=40"]
    told = run(*command, "--dry-run").stderr.splitlines()
    assert all(line.startswith("bigin: warning: recipe megatron") for line in told)
    assert "matches no tensor; the recipe is for: Megatron" in told[0]
    assert told[-1].endswith("n_layers = 40, but the names of the tensors count 1 layer")
    refused = run(*command, "--overwrite", "--strict", code=2).stderr
    assert refused.count("\n") == 1
    assert bigin.verify("m.zarr/layers/0/weight").equal


def test_a_home_folder_in_a_quoted_path_is_expanded(monkeypatch):
    monkeypatch.setenv("HOME", str(Path.cwd()))
    run("fill", "--method", "normal", "~/w.npy", "--shape", "3,4")
    run("show", "~/w.npy")
    run("verify", "~/w.npy")
    run("table", "create", "~/t.npy", "--num-embeddings", 3, "--embedding-dim", 4, "--method", "normal")
    assert {"w.npy", "t.npy"} <= set(os.listdir())
    assert "~" not in os.listdir()


def test_what_is_printed_in_a_pipe_takes_columns(monkeypatch):
    name = "a_rather_long_name_of_a_tensor_that_is_in_a_rather_long_module"
    bigin.fill(f"m.zarr/{name}", "zeros", shape=(4, 4))
    Path("r.toml").write_text('[default]\nmethod = "normal"')
    for columns in (80, 200):
        monkeypatch.setenv("COLUMNS", str(columns))
        printed = run("init", "r.toml", "m.zarr", "--dry-run").stdout
        assert name in printed
        assert max(map(len, printed.splitlines())) <= columns
        assert max(map(len, run("methods").stdout.splitlines())) <= min(columns, 100)
        assert max(map(len, run("fill", "--help").stdout.splitlines())) <= min(columns, 100)


def test_a_shape_with_spaces_between_its_sizes_is_refused():
    for shape in ("10 20", "1 000"):
        assert "separate the sizes with commas" in run("fill", "-m", "normal", "w.npy", "--shape", shape, code=2).stderr
    run("fill", "-m", "normal", "w.npy", "--shape", "(10, 20)")
    assert np.load("w.npy").shape == (10, 20)


def commands(group, path=()):
    for name, member in group.commands.items():
        if hasattr(member, "commands"):
            yield from commands(member, (*path, name))
        else:
            yield (*path, name), member


def test_no_two_options_of_a_command_share_a_name():
    """A method's parameter is an option too, and click keeps one value of each name."""
    from bigin.cli import cli

    for path, member in commands(cli):
        names = [parameter.name for parameter in member.params]
        assert len(set(names)) == len(names), path
