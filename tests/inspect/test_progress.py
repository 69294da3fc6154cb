"""A bar in a notebook, on a terminal, and none elsewhere."""

from __future__ import annotations

import importlib.util
import os
import pty
import re
import subprocess
import sys

import pytest

import bigin
from bigin.inspect.progress import ProgressBar, told

FILL = "import bigin; bigin.fill('w.npy', 'normal', shape=(50000, 64), progress=bigin.ProgressBar('w'))"


def test_nothing_is_shown_in_a_pipe(capsys):
    bar = ProgressBar("w")
    report = bigin.fill("w.npy", "normal", shape=(50000, 64), progress=bar)
    assert report.nbytes == 12_800_000
    assert capsys.readouterr() == ("", "")


def test_what_is_told():
    assert told(3, 10, 1.0) == "3 of 10"
    assert told(1 << 30, 4 << 30, 2.0**30) == "1.0 GiB of 4.0 GiB, 1.07 GB/s, 3 s left"
    assert told(0, 0, 0.0) == "0 of 0"


def test_a_terminal_shows_one_line():
    reader, writer = pty.openpty()
    process = subprocess.Popen([sys.executable, "-c", FILL], stderr=writer)
    os.close(writer)
    shown = b""
    try:
        while chunk := os.read(reader, 4096):
            shown += chunk
    except OSError:  # the other end is closed
        pass
    assert process.wait(timeout=120) == 0
    assert re.search(rb"\r\x1b\[Kw \[#{30}\] 100%, 12.2 MiB of 12.2 MiB[^\n]*\n$", shown), shown
    assert shown.count(b"\n") == 1


@pytest.mark.slow
def test_a_notebook_shows_one_bar():
    for package in ("nbclient", "ipykernel"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed: pip install 'bigin[docs]'")
    import nbformat
    from nbclient import NotebookClient

    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(FILL + ";")])
    NotebookClient(book, timeout=120, kernel_name="python3").execute()
    (output,) = book.cells[0].outputs
    assert '<progress value="1.0000"' in output["data"]["text/html"]
    assert output["data"]["text/plain"].startswith("w 100%, 12.2 MiB of 12.2 MiB")
    assert "\x1b" not in str(output)


def test_a_bar_serves_several_calls():
    bar = ProgressBar()
    bar(1 << 21, 1 << 22)
    bar(1 << 22, 1 << 22)
    assert bar._first is None
    bar(5, 10)
    bar(1, 10)  # another call, before the first has ended
    assert bar._first == 1
