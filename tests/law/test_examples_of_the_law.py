"""docs/law: the stream in JavaScript and in C against the golden bits, and the page that shows both."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from common import LIMIT, ROOT, bits

LAW = ROOT / "docs" / "law"
GOLDEN = ROOT / "tests" / "golden" / "stream-v1.json"
METHODS = "uniform normal trunc_normal xavier_uniform xavier_normal kaiming_uniform kaiming_normal lecun_uniform"
CASES = [
    case
    for case in json.loads(GOLDEN.read_text(encoding="utf-8"))
    if case["method"] in [*METHODS.split(), "lecun_normal", "variance_scaling"]
]


def output(*command: object, environment: dict | None = None) -> str:
    done = subprocess.run(
        list(map(str, command)),
        capture_output=True,
        text=True,
        timeout=LIMIT,
        env={**os.environ, **(environment or {})},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def program(*names: str) -> str:
    """The path of the first of some programs that is there."""
    for name in names:
        if path := shutil.which(name):
            return path
    return pytest.skip(f"there is no {names[0]}: apt-get install {names[0]}")


def examples_js(*arguments: object) -> str:
    return output(program("nodejs", "node"), Path(__file__).with_name("examples.js"), *arguments)


def compiled(code: str, folder: Path) -> Path:
    source = folder / "values.c"
    source.write_text(code)
    flags = ["-std=c17", "-O2", "-Wall", "-Wextra", "-Werror", "-Wno-unused-function", "-ffp-contract=off"]
    output(program("gcc"), *flags, f"-I{LAW}", source, "-lm", "-o", folder / "values")
    return folder / "values"


def test_javascript_makes_the_golden_bits():
    made = json.loads(examples_js("golden", GOLDEN))
    assert made["differ"] == []
    assert made["compared"] == sum(len(run.split()) for case in CASES for run in case["runs"].values())


KEYED = GOLDEN.with_name("keyed-v1.json")
ROWS = [
    case for case in json.loads(KEYED.read_text(encoding="utf-8")) if case["method"] in {c["method"] for c in CASES}
]


@pytest.mark.slow
def test_javascript_makes_the_golden_rows_by_key():
    made = json.loads(examples_js("keyed", KEYED))
    assert made["differ"] == []
    assert made["compared"] == sum(len(row.split()) for case in ROWS for row in case["rows"].values())


def test_c_makes_the_golden_rows_by_key(tmp_path):
    """Of normals and the dtypes that are stored as they are drawn."""
    calls, expected = [], []
    for case in ROWS:
        if case["method"] != "normal" or case["dtype"] not in ("float32", "float64") or case["dim"] > 100:
            continue
        f, mean, std = case["dtype"][-2:], case["parameters"].get("mean", 0.0), case["parameters"].get("std", 1.0)
        for text, words in case["rows"].items():
            key = f'law_text_key("{text[5:]}")' if text.startswith("text ") else f"UINT64_C({text})"
            table = f'law_table_key(UINT64_C({case["seed"]}), "{case["name"]}")'
            value = f"f{f}_normal(c, {table}, {key}, {mean}{'f' * (f == '32')}, {std}{'f' * (f == '32')})"
            calls.append(f'    for (uint64_t c = 0; c < {case["dim"]}; c++) printf("%a\\n", {value});')
            kind = np.dtype(f"u{int(f) // 8}")
            expected += np.array([int(word, 16) for word in words.split()], kind).view(case["dtype"]).tolist()
    assert len(expected) > 500
    code = '#include <stdio.h>\n#include "law.h"\nint main(void) {\n' + "\n".join(calls) + "\n}\n"
    assert [float.fromhex(line) for line in output(compiled(code, tmp_path)).split()] == expected


def test_fma_of_float32_rounds_once():
    """A sum that float64 rounds to half-way between two float32 numbers: no golden value is one."""
    cases = [[97, 172961, 2**-40], [97, 172961, -(2**-40)], [1549, 10831, 2**-40], [1549, 10831, -(2**-40)]]
    assert json.loads(examples_js("fma", json.dumps(cases))) == [2**24 + 2, 2**24, 2**24 + 4, 2**24 + 2]


@pytest.mark.slow
def test_c_makes_the_golden_bits(tmp_path):
    values = map(float.fromhex, output(compiled(examples_js("c", GOLDEN), tmp_path)).split())
    for case in CASES:
        dtype = np.dtype(getattr(ml_dtypes, case["dtype"], case["dtype"]))
        expected = [int(word, 16) for run in case["runs"].values() for word in run.split()]
        made = np.array([next(values) for _ in expected]).astype(dtype)
        assert bits(made).tolist() == expected, case
    assert next(values, None) is None


@pytest.mark.slow
def test_the_code_that_the_page_shows_gives_its_values(tmp_path):
    shown = json.loads(examples_js("code"))
    for language in ("python", "c", "javascript"):
        for tensor in shown:
            if language == "c":
                printed = output(compiled(tensor["c"], tmp_path))
            elif language == "python":
                printed = output(sys.executable, "-c", tensor["python"], environment={"PYTHONPATH": str(ROOT)})
            else:
                (tmp_path / "values.js").write_text(tensor["javascript"].replace("./law.js", str(LAW / "law.js")))
                printed = output(program("nodejs", "node"), tmp_path / "values.js")
            lines = [line.split() for line in printed.splitlines()]
            single = np.float64 if tensor["dtype"] == "float64" else np.float32
            assert [[int(e), single(value)] for e, value in lines] == tensor["values"], language


@pytest.mark.slow
def test_the_page_in_chromium(tmp_path, monkeypatch):
    """Needs Chromium, and playwright-core below the environment of Python or where NODE_PATH says."""
    node, chromium = program("nodejs", "node"), program("chromium", "google-chrome")
    monkeypatch.setenv("NODE_PATH", f"{sys.prefix}/node_modules{os.pathsep}{os.environ.get('NODE_PATH', '')}")
    if subprocess.run([node, "-e", "require('playwright-core')"], capture_output=True).returncode:
        pytest.skip("there is no playwright-core: npm install --prefix .venv playwright-core")
    dtypes = ("float32", "float64", "bfloat16")
    cases = [case for case in CASES if case["dtype"] in dtypes and not {"lower", "upper"} & set(case["parameters"])]
    tensors = [
        {
            **{key: case[key] for key in ("method", "dtype", "name")},
            "parameters": case["parameters"],
            "shape": ", ".join(map(str, case["shape"])),
            "seed": str(case["seed"]),
            "index": max(case["runs"], key=int),
            "key": "",
        }
        for case in cases
    ]
    keyed = [
        (case["rows"][text].split(), text, case)
        for case in ROWS
        if case["dtype"] in dtypes and case["dim"] <= 100 and not {"lower", "upper"} & set(case["parameters"])
        for text in list(case["rows"])[::4]
    ]
    tensors += [
        {
            **{key: case[key] for key in ("method", "dtype", "name", "parameters")},
            "shape": str(case["dim"]),
            "seed": str(case["seed"]),
            "index": "0",
            "key": text.removeprefix("text "),
        }
        for _, text, case in keyed
    ]
    tensors.append({**tensors[0], "seed": "-1"})
    (tmp_path / "tensors.json").write_text(json.dumps(tensors))
    browser = Path(__file__).with_name("browser.js")
    made = json.loads(output(node, browser, chromium, tmp_path / "tensors.json", tmp_path / "page.png"))
    assert made["errors"] == []
    *shown, refused = made["shown"]
    assert len(shown) == len(cases) + len(keyed)
    for (words, text, case), page in zip(keyed, shown[len(cases) :], strict=True):
        assert page["error"] == "", case
        assert page["rows"][0][0] == f"[{json.dumps(text[5:], ensure_ascii=False) if 'text' in text else text}, 0]"
        assert [row[3] for row in page["rows"]] == words[:8], (case, text)
    assert refused == {"error": 'the seed is a whole number, not "-1"', "rows": []}
    for case, tensor, page in zip(cases, tensors, shown, strict=False):
        assert page["error"] == "", case
        words = case["runs"][tensor["index"]].split()
        assert page["rows"][0][1] == tensor["index"]
        assert [row[3] for row in page["rows"]][: len(words)] == words, case
