"""Defaults of options from [tool.bigin] and from the environment; logging by -v."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import zarr
from click.testing import CliRunner
from common import run

from bigin.cli import cli
from bigin.core.errors import InputError


@pytest.fixture
def settings():
    """Writes [tool.bigin] of the test's folder."""
    return lambda text: Path("pyproject.toml").write_text(text)


def fill(*arguments: str, path: str = "w.zarr", **environment: str):
    command = ["fill", path, "--shape", "20,20", "--method", "constant", *arguments]
    return CliRunner(env=environment).invoke(cli, command, catch_exceptions=False)


def chunks(path: str = "w.zarr") -> tuple[int, ...]:
    return zarr.open_array(path).chunks


def test_an_option_of_a_command_and_one_of_every_command(settings):
    settings('[tool.bigin]\nchunks = "5,5"\nval = 3\n[tool.bigin.fill]\nval = 4\n')
    assert fill().exit_code == 0
    assert chunks() == (5, 5)
    assert zarr.open_array("w.zarr")[0, 0] == 4


def test_the_command_line_stands_above_the_environment_and_that_above_the_file(settings):
    settings('[tool.bigin.fill]\nval = 1\nchunks = "10,10"\n')
    assert fill(BIGIN_FILL_CHUNKS="4,4").exit_code == 0
    assert chunks() == (4, 4)
    assert fill("--chunks", "2,2", path="v.zarr", BIGIN_FILL_CHUNKS="4,4").exit_code == 0
    assert chunks("v.zarr") == (2, 2)


def test_the_nearest_file_from_the_folder_upwards_counts(settings, monkeypatch):
    settings('[tool.bigin.fill]\nval = 1\nchunks = "10,10"\n')
    Path("below").mkdir()
    monkeypatch.chdir("below")
    assert fill().exit_code == 0
    assert chunks() == (10, 10)


def test_groups_of_commands_have_tables_in_tables(settings):
    settings('[tool.bigin.table.create]\nmethod = "zeros"\nnum-embeddings = 6\nembedding-dim = 2\n')
    assert CliRunner().invoke(cli, ["table", "create", "t.zarr"], catch_exceptions=False).exit_code == 0
    assert zarr.open_array("t.zarr").shape == (6, 2)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[tool.bigin]\nchunk = 1", "expected an option or a command, got 'chunk'; did you mean chunks"),
        ("[tool.bigin.fil]\nseed = 1", "expected a command, got 'fil'; did you mean fill"),
        ("[tool.bigin.fill]\nsede = 1", "expected an option of bigin fill, got 'sede'; did you mean seed"),
        ("[tool.bigin.table.grow]\nrow = 1", "tool.bigin.table.grow: expected an option of bigin grow, got 'row'"),
        ("[tool]\nbigin = 3", "expected a table tool.bigin, got 3"),
        ("[tool.bigin\n", "expected TOML, got"),
    ],
)
def test_what_no_command_has_is_one_line_and_changes_nothing(settings, text, said):
    settings(text)
    with pytest.raises(InputError, match=r"pyproject\.toml") as error:
        fill("--val", "1")
    assert said in str(error.value)
    assert "\n" not in str(error.value)
    assert not Path("w.zarr").exists()


def test_files_of_other_tools_are_left_to_them(settings):
    settings("[project\n")
    assert fill("--val", "1").exit_code == 0
    settings('[tool.other]\nseed = "x"\n')
    assert fill("--val", "1", path="v.zarr").exit_code == 0


def test_verbose_logs_the_steps_on_standard_error_alone():
    done = run("fill", "-v", "w.zarr", "--shape", "20,20", "--method", "ones")
    assert "bigin.jobs.job: w.zarr" in done.stderr
    assert "the fill is new" in done.stderr
    assert "bigin.jobs" not in done.stdout
    assert logging.getLogger("bigin").level == logging.NOTSET  # a library leaves logging to the program
