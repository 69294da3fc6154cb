"""Tables take the width that there is: no line is longer, and no name or number is cut."""

from __future__ import annotations

import io
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from common import run
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text
from safetensors.numpy import save_file

import bigin
from bigin.cli import layout
from bigin.cli.layout import print_table

TEXTS = [
    "a", "layers.0.weight", "日本語", "normal(std=0.02): N(0, 0.02^2)", "x" * 90, "", "[bold]name[/]", "two\nlines",
    "a truncated normal in very many words " * 4,
]  # fmt: skip
NAMES = [
    f"model.language_model.decoder.layers.{i}.self_attention.{part}_projection_of_the_heads.weight"
    for i in (0, 1, 10)
    for part in ("query", "output")
]
KEYS = ("mean", "std", "expected_std")


@pytest.mark.parametrize("seed", range(10))
def test_a_table_that_fits_is_what_rich_draws(seed, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "1000")
    chosen = random.Random(seed)
    columns = [f"column {number}" for number in range(chosen.randint(1, 5))]
    rows = [[chosen.choice(TEXTS) for _ in columns] for _ in range(chosen.randint(0, 6))]
    print_table("a title", columns, rows, footer="end")
    file = io.StringIO()
    table = Table(*columns, title="a title")
    for row in rows:
        table.add_row(*map(Text, row))
    Console(file=file, width=1000, highlight=False).print(table)
    drawn = [line.rstrip() for line in [*file.getvalue().splitlines(), "end"]]
    assert [line.rstrip() for line in capsys.readouterr().out.splitlines()] == drawn


@pytest.mark.parametrize("width", [40, 60, 80, 120, 200])
@pytest.mark.parametrize("seed", range(4))
def test_no_line_is_longer_and_nothing_is_lost(seed, width, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(width))
    chosen = random.Random(seed)
    columns = [f"column {number}" for number in range(chosen.randint(1, 8))]
    rows = [[chosen.choice(TEXTS) for _ in columns] for _ in range(chosen.randint(0, 6))]
    print_table("a title " * 8, columns, rows, wrapped=chosen.choice(["", *columns]), footer="an end " * 30)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(cell_len, lines)) <= width
    shown = "".join(lines)
    for row in rows:
        for cell in row:
            for character in set(cell) - set(" \n"):
                assert shown.count(character) >= cell.count(character)
            for word in cell.split():
                assert cell_len(word) > 24 or any(word in line for line in lines)


def test_a_row_that_does_not_fit_begins_with_its_name(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    print_table("t", ("tensor", "shape", "mean", "std", "verdict"), [("a" * 38, "4x4", "0.1234", "1.5", "ok " * 20)])
    assert capsys.readouterr().out.splitlines() == [
        "t",
        "━" * 40,
        "tensor",
        "  shape  mean    std",
        "  verdict",
        "━" * 40,
        "a" * 38,
        "  4x4    0.1234  1.5",
        "  " + " ".join(["ok"] * 13),
        "  " + " ".join(["ok"] * 7),
        "─" * 40,
    ]


def test_strokes_are_those_of_the_encoding(capsys, monkeypatch):
    monkeypatch.setattr(layout.sys, "stdout", io.TextIOWrapper(io.BytesIO(), "ascii"))
    for columns in ("200", "40"):
        monkeypatch.setenv("COLUMNS", columns)
        print_table("t", ("tensor", "shape"), [("a" * 38, "4x4")])
    layout.sys.stdout.flush()
    assert "?" not in layout.sys.stdout.buffer.getvalue().decode()  # type: ignore[attr-defined]


@pytest.fixture
def model():
    """A checkpoint whose names are long, the one that it is like, and a recipe that it does not look like."""
    shapes = dict.fromkeys(NAMES, (96, 96)) | {"model.norm.bias": (96,)}
    save_file({name: np.zeros(shape, np.float32) for name, shape in shapes.items()}, "like.safetensors")
    rule = '[[rule]]\nmatch = "*.{0}"\nmethod = "{1}"\n'
    normal = rule.format("weight", "normal") + "mean = 0.0012345\nstd = 0.0212345\n"
    Path("r.toml").write_text(rule.format("bias", "zeros") + normal)
    Path("other.toml").write_text(rule.format("bias", "ones") + rule.format("weight", "xavier_normal"))
    run("init", "r.toml", "--like", "like.safetensors", "m.safetensors", "-q")


# Commands that print something of every tensor, their exit codes, and how many closing lines follow, which stay whole.
COMMANDS = [
    (("show", "m.safetensors"), 0, 0),
    (("show", "like.safetensors"), 0, 0),
    (("check", "m.safetensors", "r.toml", "--all"), 0, 1),
    (("check", "m.safetensors", "other.toml"), 1, 1),
    (("init", "r.toml", "--like", "like.safetensors", "--dry-run"), 0, 0),
    (("init", "--dummy", "--like", "like.safetensors", "out", "--dry-run"), 0, 0),
    (("signal", "r.toml", "--like", "like.safetensors"), 0, 0),
    (("verify", "m.safetensors", "--recipe", "other.toml"), 1, 1),
]


def broad(width: int) -> Any:
    return pytest.param(width, marks=pytest.mark.slow)


@pytest.mark.parametrize("width", [80, broad(60), broad(120), broad(300)])
def test_what_is_printed_of_a_model_takes_the_width(model, width, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(width))
    for arguments, code, closing in COMMANDS:
        printed = run(*arguments, code=code).stdout
        lines = printed.splitlines()
        assert max(map(len, lines[: len(lines) - closing])) <= width, printed
        joined = "".join(line.strip() for line in lines)
        assert all(name in (printed if width > 100 else joined) for name in NAMES), printed
    numbers = [
        each[key] for each in json.loads(run("show", "m.safetensors", "--json").stdout)["tensors"] for key in KEYS
    ]
    shown = run("show", "m.safetensors").stdout.split()
    assert all(f"{number:.4g}" in shown for number in numbers)


@pytest.mark.slow
def test_the_table_of_a_configuration_takes_the_width(monkeypatch):
    for package in ("torch", "transformers"):
        pytest.importorskip(package, reason=f"{package} is not installed: pip install 'bigin[test-models]'")
    given = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 64, "intermediate_size": 96}
    given |= {"num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 128, "num_hidden_layers": 2}
    Path("config.json").write_text(json.dumps(given))
    monkeypatch.setenv("COLUMNS", "60")
    for command in (("init", "--config", "config.json", "out", "--dry-run"), ("signal", "--config", "config.json")):
        printed = run(*command).stdout
        assert max(map(len, printed.splitlines())) <= 60, printed
        assert "model.layers.1.self_attn" in printed


@pytest.mark.parametrize("width", [60, 80])
def test_what_is_printed_of_an_array_takes_the_width(width, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(width))
    bigin.fill("w.zarr", "trunc_normal", std=0.02, a=-0.06, b=0.06, shape=(200, 300), name="a long name " * 9)
    for command in (("show", "w.zarr"), ("methods",), ("recipes",)):
        printed = run(*command).stdout
        assert max(map(len, printed.splitlines())) <= width, printed
