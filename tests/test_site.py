"""The site builds without a warning, and its references have every public name and every command."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import subprocess
import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path

import pytest
from common import LIMIT, ROOT, run

import bigin
from bigin.cli import cli


@pytest.mark.slow
def test_the_site(tmp_path):
    for package in ("mkdocs", "material", "mkdocstrings", "mkdocs_click"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed: pip install 'bigin[docs]'")
    environment = {**os.environ, "BIGIN_VENV": sys.prefix}
    command = [ROOT / "scripts" / "docs", "--site-dir", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    python = (tmp_path / "reference" / "python" / "index.html").read_text()
    entries = {entry.rpartition(".")[2] for entry in re.findall(r'<h2 id="(bigin[\w.]*)"', python)}
    assert set(bigin.__all__) <= entries
    assert 'id="bigin.init.xavier_uniform_"' in python
    assert {"init_", "reader", "deferred", "array", "initializer", "Initializer"} <= entries
    commands = (tmp_path / "reference" / "commands" / "index.html").read_text()
    assert all(re.search(rf'<h\d id="{name}"', commands) for name in cli.commands), commands[:2000]
    assert "Sentinel" not in commands
    assert re.search(r"<code>bigin attest checkpoint/ -o manifest.json\n", re.sub("<(?!/?code)[^>]*>", "", commands))
    assert re.search(r"<h2[^>]*>\s*bigin\.Attestation", re.sub("<(?!/?h2)[^>]*>", "", python))
    assert (tmp_path / "law" / "index.html").exists()
    for page in tmp_path.rglob("*.html"):  # nothing is loaded from another site, nor GitHub asked for its stars
        text = page.read_text()
        assert 'data-md-component="source"' not in text, page
        assert not re.search(r'<(script|img|link rel="stylesheet")[^>]*(src|href)="?https?:', text), page
    methods = (tmp_path / "methods" / "index.html").read_text()
    assert "methods.png#only-light" in methods
    assert "methods-dark.png#only-dark" in methods


def script(name):
    loader = SourceFileLoader(name, str(ROOT / "scripts" / name))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(name, loader))
    loader.exec_module(module)
    return module


def test_examples_in_help_are_code_on_the_page():
    text = "Do it.\n\n\b\nbigin fill a\nbigin fill b\n\nMore.\n"
    expected = "Do it.\n\n```\nbigin fill a\nbigin fill b\n```\n\nMore."
    assert script("docs_hooks.py").with_code(text) == expected


def test_the_diagrams_are_of_the_code_as_it_is():
    drawing = script("diagrams")
    for name, drawn in (("law", drawing.law()), ("house", drawing.house())):
        assert (ROOT / "docs" / f"{name}.svg").read_text() == drawn, f"run scripts/diagrams: {name}.svg is an old one"


def test_the_table_of_the_readme_is_made_from_the_figures():
    done = subprocess.run([sys.executable, ROOT / "scripts" / "readme", "--check"], capture_output=True, text=True)
    assert done.returncode == 0, f"run scripts/readme: README.md's table is an old one\n{done.stderr}"


def test_every_picture_has_one_for_dark_pages():
    pictures = {path.stem for path in (ROOT / "docs").glob("*.png")}
    assert pictures == {"picture", "methods", "signal"} | {"picture-dark", "methods-dark", "signal-dark"}
    assert "prefers-color-scheme: dark" in (ROOT / "README.md").read_text()


def test_the_commands_of_the_start_page():
    page = (ROOT / "docs" / "index.md").read_text()
    (block,) = re.findall(r"```\n(.*?)```", page, re.S)
    install, *commands = block.splitlines()
    assert install == "pip install bigin"
    for command in commands:
        program, *arguments = shlex.split(command)
        assert program == "bigin"
        run(*arguments)
    assert Path("table.zarr").is_dir()


@pytest.mark.slow
def test_the_measurements_of_why(capsys):
    page = (ROOT / "docs" / "why.md").read_text()
    (code,), (told,) = (re.findall(rf"```{kind}\n(.*?)```", page, re.S) for kind in ("python", "text"))
    exec(compile(code, "why.md", "exec"), {})
    made = capsys.readouterr().out.splitlines()
    assert len(made) == len(told.splitlines()) == 10
    for line, expected in zip(made[1:], told.splitlines()[1:], strict=True):
        *rule, first, last, gradient = line.split()
        *also, expected_first, expected_last, expected_gradient = expected.split()
        assert rule == also
        # The products are BLAS's, which rounds as it likes.
        assert [float(first), float(last), float(gradient)] == pytest.approx(
            [float(expected_first), float(expected_last), float(expected_gradient)], rel=0.1
        )
