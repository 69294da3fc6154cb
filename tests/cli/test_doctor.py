"""bigin doctor, --json of the commands that list, and shell completion."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner
from common import BIGIN, LIMIT, run, snapshot

import bigin
from bigin.cli import cli
from bigin.inspect import machine
from bigin.methods import table


def test_doctor(tmp_path, monkeypatch):
    monkeypatch.setenv("BIGIN_CACHE_DIR", str(tmp_path / "kept"))
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "kernel").write_bytes(bytes(1000))
    (tmp_path / "disk").mkdir()
    before = snapshot()
    facts = json.loads(run("doctor", "disk", "--json").stdout)
    assert snapshot() == before
    assert facts["versions"]["numpy"] == np.__version__
    assert facts["cpu"]["usable_cores"] == len(os.sched_getaffinity(0))
    assert facts["gpu"]["usable"] or facts["gpu"]["reason"]
    assert facts["memory"]["default_max_memory"] <= facts["memory"]["available"]
    folder = str(tmp_path / "kept")
    assert facts["cache"] == {"folder": folder, "files": 1, "bytes": 1000, "writable": True}
    assert facts["disk"]["folder"] == str(tmp_path / "disk")
    assert facts["disk"]["write_speed"] > 0

    printed = run("doctor").stdout
    titles = ["versions", "CPU", "GPU", "memory", "compiled kernels", "disk", "stores"]
    assert [line for line in printed.splitlines() if not line.startswith(" ")] == titles
    assert max(map(len, printed.splitlines())) <= 80


def test_doctor_of_no_folder():
    expected = "bigin: none: expected a folder to measure the disk in, got none; create it or name another\n"
    assert run("doctor", "none", code=2).stderr == expected


def test_a_disk_that_cannot_be_written(tmp_path, monkeypatch):
    def full(*arguments, **more):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(machine.tempfile, "TemporaryFile", full)
    facts = machine.disk(str(tmp_path))
    assert facts["write_speed"] is None
    assert facts["reason"] == "No space left on device"


def test_a_cache_that_is_off_or_cannot_be_written(tmp_path, monkeypatch):
    monkeypatch.setenv("BIGIN_CACHE_DIR", "")
    assert machine.kernel_cache()["folder"] is None
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("BIGIN_CACHE_DIR", str(tmp_path / "file" / "kept"))
    assert not machine.kernel_cache()["writable"]
    monkeypatch.setenv("BIGIN_CACHE_DIR", str(tmp_path / "kept" / "here"))
    assert machine.kernel_cache()["writable"]


def test_lists_as_json():
    methods = json.loads(run("methods", "--json").stdout)
    assert [row["name"] for row in methods] == list(table.METHODS)
    (constant,) = [row for row in methods if row["name"] == "constant"]
    assert constant["required"] == ["val"]
    recipes = json.loads(run("recipes", "--json").stdout)
    assert "gpt2" in [row["name"] for row in recipes]
    assert isinstance(json.loads(run("recipes", "gpt2", "--json").stdout), dict)


def commands_of(group=cli, path=()):
    """Every command that does something, with the words that call it."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands_of(command, (*path, name))
        else:
            yield (*path, name), command


@pytest.mark.parametrize("words", [words for words, _ in commands_of()], ids="-".join)
def test_every_command_has_json_and_a_help_of_80_columns(words, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    (command,) = [command for given, command in commands_of() if given == words]
    assert "--json" in [option for parameter in command.params for option in parameter.opts]
    shown = CliRunner().invoke(cli, [*words, "--help"]).output
    assert max(map(len, shown.splitlines())) <= 80, shown


def test_models_as_json():
    bigin.create("model.zarr/fc/weight", shape=(4, 4))
    Path("r.toml").write_text('[default]\nmethod = "normal"\n')
    (row,) = json.loads(run("init", "r.toml", "model.zarr", "--dry-run", "--json").stdout)
    assert (row["tensor"], row["shape"], row["nbytes"]) == ("fc/weight", [4, 4], 64)
    assert json.loads(run("init", "r.toml", "model.zarr", "--json").stdout)["nbytes"] == 64


def test_a_plan_as_json():
    options = ("--method", "normal", "--shape", "40000,64", "--parts", 2, "--json")
    told = json.loads(run("plan", "w.npy", *options).stdout)
    assert (told["plan"], told["parts"], told["rounds"]) == ("plan.json", 2, {})


@pytest.mark.slow
def test_tables_as_json():
    options = ("--method", "normal", "--num-embeddings", 5, "--embedding-dim", 3, "--json")
    created = json.loads(run("table", "create", "t.npy", *options).stdout)
    assert (created["target"], created["nbytes"]) == ("t.npy", 60)
    assert created["record"]["method"] == "normal"
    grown = json.loads(run("table", "grow", "t.npy", 7, "--json").stdout)
    assert grown["rows"] == [5, 7]
    values = np.load("t.npy")
    values[3] = 0
    np.save("t.npy", values)
    differs = json.loads(run("table", "verify", "t.npy", "--json", code=1).stdout)
    assert not differs["equal"]
    assert json.loads(run("table", "reset", "t.npy", 3, "--json").stdout)["rows"] == 1
    assert json.loads(run("table", "verify", "t.npy", "--json").stdout)["equal"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(shell):
    program = Path(BIGIN[0]).with_name("bigin")
    if not program.exists():
        pytest.skip("the program bigin is not installed: pip install -e .")
    for typed, at, expected in (("bigin rec", 1, "recipes"), ("bigin fill -m xav", 3, "xavier_uniform")):
        last = typed.split()[-1]
        words = {"COMP_WORDS": typed, "COMP_CWORD": str(at) if shell != "fish" else last}
        environment = {**os.environ, **words, "_BIGIN_COMPLETE": f"{shell}_complete"}
        done = subprocess.run([program], capture_output=True, text=True, timeout=LIMIT, env=environment)
        assert expected in done.stdout
        assert done.returncode == 0
