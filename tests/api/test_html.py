"""What notebooks show: short, well-formed, escaped, and readable on light and dark pages."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import zarr

import bigin
from bigin.core.html import card, listing
from bigin.inspect.propagation import Measured, Signal


class Text(HTMLParser):
    """The text of a piece of HTML, whose tags must be closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []
        self.feed(html)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.open.append(tag)
        assert tag in ("div", "table", "tbody", "thead", "tr", "th", "td", "svg", "path", "text", "progress"), tag
        assert not re.search(r"(?<!-)\bcolor:|background:(?!none)", dict(attributes).get("style", "")), attributes

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def text_of(result: object) -> list[str]:
    html = result if isinstance(result, str) else result._repr_html_()
    assert len(html) < 12_000
    return Text(html).text


def test_a_fill_and_its_verification():
    report = bigin.fill("w.npy", "normal", std=0.02, seed=7, shape=(30, 20), name="<b>&")
    text = text_of(report)
    assert text[0] == "w.npy"
    assert "normal(std=0.02), seed 7, name <b>&, 30x20 float32" in text
    assert any("2.3 KiB in " in part for part in text)
    assert "equal, bit for bit" in text_of(bigin.verify("w.npy"))
    values = np.load("w.npy", mmap_mode="r+")
    values[3, 4] = 9
    values.flush()
    text = text_of(bigin.verify("w.npy"))
    assert "1 region of 1 differs" in text
    assert any("1 element differs, the first at [3, 4]" in part for part in text)


def test_a_keyed_table():
    text = text_of(bigin.KeyedTable(64, "normal", std=0.01, seed=3, name="<i>"))
    assert text[0] == "keyed table, rows of 64 float32"
    assert "one for every 64-bit key, each of 64 elements, computed where it is read" in text
    assert {"normal(std=0.01)", "<i>"} <= {*text}


def test_a_virtual_array_and_a_table():
    text = text_of(bigin.virtual((10**9, 128), "xavier_uniform", seed=3, name="<i>"))
    assert text[0] == "virtual array, 1000000000x128 float32"
    assert {"xavier_uniform()", "3", "<i>"} <= set(text)
    table = bigin.EmbeddingTable.create("t.npy", num_embeddings=5, embedding_dim=3, method="normal")
    text = text_of(table)
    assert text[0] == "embedding table, t.npy"
    assert "5, each of 3 elements, float32" in text


@pytest.mark.parametrize("count", [0, 3, 100])
def test_a_signal(count):
    layers = [Measured(f"<{i}>", (4, 4), 2.0**-i, 2.0 ** (i - count), i == 0) for i in range(count)]
    text = text_of(Signal("relu", layers))
    assert ("<0>" in text) == (count > 0)
    assert (f"... {count - 12} more" in text) == (count > 12)
    assert ("vanishing" in text) == (count == 100)


def test_cards_are_escaped():
    assert text_of(card("<script>", {"<a>": "</td>", "none": None, "empty": ""})) == ["<script>", "<a>", "</td>"]
    assert text_of(listing(["a"], [["<b>"]])) == ["a", "<b>"]


def test_a_plan_and_how_far_it_is():
    plan = bigin.plan("t.npy", "normal", std=0.02, seed=7, shape=(40000, 64), parts=4)
    text = text_of(plan)
    assert text[0].endswith("/t.npy")
    assert "normal(std=0.02), seed 7, name t, 40000x64 float32" in text
    assert any(part.startswith("4, of ") for part in text)
    assert "0 of 4" in text_of(plan.status())
    plan.work([0, 2])
    text = text_of(plan.status())
    assert "2 of 4" in text
    assert "parts 1,3 of fill" in text
    plan.work([1, 3])
    assert "no: call finish" in text_of(plan.status())
    plan.finish()
    assert "yes" in text_of(plan.status())


def test_an_overview():
    bigin.fill("w.npy", "normal", std=0.02, seed=7, shape=(3000, 20))
    text = text_of(bigin.show("w.npy"))
    assert text[0] == "w.npy"
    assert "looks like normal(std=0.02) (by its statistics; bigin verify compares bits)" in text
    assert {"mean", "CDF distance", "ok"} <= {*text}
    assert "<svg" in bigin.show("w.npy")._repr_html_()
    wrong = text_of(bigin.show("w.npy", method="uniform"))
    assert "WRONG" in wrong
    assert any(part.startswith("does not look like uniform") for part in wrong)
    bigin.fill("c.npy", "ones", shape=(3, 2))
    assert "<svg" not in bigin.show("c.npy")._repr_html_()
    assert "not compared" not in text_of(bigin.show("c.npy"))
    plain = np.arange(100.0)
    assert {"mean", "49.5", "zeros"} <= {*text_of(bigin.show(plain))}


def test_trained_rows():
    table = bigin.EmbeddingTable.create("t.npy", 1000, 8, "normal", seed=3)
    table.update([5, 6, 900], np.ones((3, 8)))
    assert "0.3% of the rows" in text_of(table.stats())
    found = table.verify()
    assert "3 of 1,000: 5:7,900" in text_of(found)
    assert {"3 of 1,000", "5:7,900"} <= {*text_of(found.changed)}


def test_computed_stores():
    arrays = {"a": bigin.virtual((1000, 8), "normal", name="a"), "<b>": bigin.virtual((3,), "zeros", name="<b>")}
    assert {"a", "1000x8 float32", "<b>"} <= {*text_of(bigin.virtual_store(arrays))}
    with bigin.serve(arrays, port=0) as server:
        assert text_of(server)[0] == server.url


def test_an_attestation():
    for i in range(20):
        bigin.create(f"model.zarr/{i}/weight", shape=(4, 4))
    Path("r.toml").write_text('[default]\nmethod = "normal"\n')
    bigin.initialize("r.toml", "model.zarr", seed=42)
    attestation = bigin.attest("model.zarr")
    assert {"20", "42", attestation.digest} <= {*text_of(attestation)}
    assert "all 20 tensors equal" in text_of(attestation.check("model.zarr"))
    for i in range(20):
        zarr.open(f"model.zarr/{i}/weight")[0, 0] = 3
    assert "20 different of 20 tensors" in text_of(attestation.check("model.zarr"))


def test_what_torch_records():
    torch = pytest.importorskip("torch")
    with bigin.torch.deferred(seed=42) as init:
        model = torch.nn.Sequential(*(torch.nn.Linear(4, 4) for _ in range(20)))
    text = text_of(init)
    assert {"40", "42", "0.weight", "4x4 float32", "... 30 more"} <= {*text}
    bigin.torch.init_(model.to_empty(device="cpu"), init)
    signal = bigin.torch.signal(model, torch.ones(3, 4))
    assert {"signal of a model", "0", "Linear"} <= {*text_of(signal)}
