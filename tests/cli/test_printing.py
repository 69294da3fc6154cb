"""Tables in a pipe are drawn without rich, which takes long for thousands of rows, and are those that it draws."""

from __future__ import annotations

import random
from typing import Any

import pytest

from bigin.cli import printing

TEXTS = [
    "a", "layers.0.weight", "日本語", "normal(std=0.02): N(0, 0.02^2)", "x" * 90, "", "[bold]name[/]", "two\nlines",
    "a truncated normal in very many words " * 4,
]  # fmt: skip


@pytest.mark.parametrize("seed", range(20))
def test_a_table_in_a_pipe_is_what_rich_prints(seed, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    chosen = random.Random(seed)
    columns = [f"column {number}" for number in range(chosen.randint(1, 5))]
    rows = [[chosen.choice(TEXTS) for _ in columns] for _ in range(chosen.randint(0, 6))]
    title, wrapped = chosen.choice(["t", "a title of 日本"]), chosen.choice(["", *columns])

    def printed() -> str:
        printing.print_table(title, columns, rows, wrapped=wrapped, footer="end")
        return capsys.readouterr().out

    drawn: list[Any] = []
    own = printing.piped_table
    monkeypatch.setattr(printing, "piped_table", lambda *given: drawn.append(given) or own(*given))
    ours = printed()
    assert drawn or title != "t"
    drawn.clear()
    monkeypatch.setattr(printing, "in_notebook", lambda: True)  # where rich draws
    assert printed() == ours
    assert not drawn
