"""Recipes that copy from another checkpoint: what they make is what numpy makes of its tensors."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from common import bits, run

import bigin
from bigin.core.regions import extent
from bigin.recipes.expression import parse_expression
from bigin.targets.models import open_model

safetensors = pytest.importorskip("safetensors.numpy", reason="safetensors is not installed: pip install 'bigin[test]'")


def save(file: str, **shapes: tuple[int, ...]) -> dict[str, np.ndarray]:
    """A checkpoint of one file with drawn values; __ in a name is a dot."""
    tensors = {
        name.replace("__", "."): np.random.default_rng(number).standard_normal(shape).astype("float32")
        for number, (name, shape) in enumerate(shapes.items())
    }
    safetensors.save_file(tensors, file)
    return tensors


def made(rules: str, like: str | None = "like.safetensors", **options: object) -> dict[str, np.ndarray]:
    """What a recipe makes, after it was verified."""
    Path("recipe.toml").write_text(f'from = "old.safetensors"\nseed = 7\n{rules}')
    bigin.initialize("recipe.toml", "new.safetensors", like=like, overwrite=True, **options)
    assert bigin.verify("new.safetensors").equal
    assert bigin.verify("new.safetensors", recipe="recipe.toml", like=like, dtype=options.get("dtype")).equal
    return safetensors.load_file("new.safetensors")


ARRANGED = {
    "as it is": ("copy = 'w'", lambda w, v: w),
    "cut": ("copy = {from = 'w', slice = [[2, 30], '*']}", lambda w, v: w[2:30]),
    "every third": ("copy = {from = 'w', slice = [[0, 40, 3], [1, 24, 2]]}", lambda w, v: w[::3, 1:24:2]),
    "transposed": ("copy = {from = 'w', transpose = true}", lambda w, v: w.T),
    "cut and transposed": ("copy = {from = 'w', slice = [[5, 9]], transpose = true}", lambda w, v: w[5:9].T),
    "joined": ("copy = {from = ['w', 'v', 'w']}", lambda w, v: np.concatenate([w, v, w])),
    "joined along columns": (
        "copy = {from = ['v', 'v'], transpose = true, concat = 1}",
        lambda w, v: np.concatenate([v.T, v.T], 1),
    ),
    "repeated": ("copy = {from = 'w', repeat = [2, 3]}", lambda w, v: np.tile(w, (2, 3))),
    "repeated index by index": (
        "copy = {from = 'w', repeat = [2, 3], block = [1, 1]}",
        lambda w, v: w.repeat(2, 0).repeat(3, 1),
    ),
    "repeated head by head": (
        "copy = {from = 'w', repeat = [3, 1], block = [8, 0]}",
        lambda w, v: w.reshape(5, 8, 24).repeat(3, 0).reshape(120, 24),
    ),
    "stacked": ("copy = {from = ['w', 'v'], stack = true}", lambda w, v: np.stack([np.concatenate([w, v])] * 5)),
    "stacked and repeated": (
        "copy = {from = 'v', transpose = true, repeat = [1, 2], stack = true, multiply = '1 / 2'}",
        lambda w, v: np.stack([np.tile(v.T, (1, 2))] * 3) * np.float32(0.5),
    ),
}


@pytest.mark.parametrize("case", ARRANGED)
def test_what_is_copied_is_arranged_as_numpy_arranges_it(case):
    """The whole, and every region of it."""
    old = save("old.safetensors", w=(40, 24), v=(6, 24))
    rule, expected = ARRANGED[case][0], np.ascontiguousarray(ARRANGED[case][1](old["w"], old["v"]))
    save("like.safetensors", x=expected.shape)
    new = made(f"[[rule]]\nmatch = 'x'\n{rule}")["x"]
    assert np.array_equal(bits(new), bits(expected))
    target = open_model("new.safetensors")
    from bigin.spec.record import spec_of

    filler = spec_of(target.ledger.record()).tensors["x"].plan()()
    target.close()
    random = np.random.default_rng(0)
    for _ in range(30):
        region = tuple(tuple(sorted(random.integers(0, size + 1, 2).tolist())) for size in expected.shape)
        part = np.empty(extent(region), np.float32)
        filler(region, part)
        assert np.array_equal(part, expected[tuple(slice(*axis) for axis in region)])


def test_noise_is_added_once_and_rounded_once():
    old = save("old.safetensors", w=(40, 24))
    save("like.safetensors", x=(40, 24))
    new = made("[[rule]]\nmatch = 'x'\ncopy = 'w'\nnoise = {method = 'normal', std = 0.125}")["x"]
    noise = new - old["w"]
    assert abs(noise.std() - 0.125) < 0.02
    assert np.array_equal(made("[[rule]]\nmatch = 'x'\ncopy = 'w'\nnoise = {method = 'normal', std = 0.125}")["x"], new)
    whole = np.empty((40, 24), np.float32)
    bigin.fill(whole, "normal", std=0.125, seed=7, name="x")
    assert not np.allclose(noise, whole, atol=1e-3)  # from a stream of its own
    narrow = made("[[rule]]\nmatch = 'x'\ncopy = 'w'\nnoise = {method = 'normal', std = 0.125}", dtype="float16")["x"]
    assert np.array_equal(narrow, new.astype("float16"))


def test_elements_drawn_anew_are_those_of_the_law():
    old = save("old.safetensors", w=(200, 100))
    save("like.safetensors", x=(200, 100))
    new = made("[[rule]]\nmatch = 'x'\ncopy = 'w'\nreinit = {fraction = 0.25, method = 'xavier_uniform'}")["x"]
    law = np.empty((200, 100), np.float32)
    bigin.fill(law, "xavier_uniform", seed=7, name="x")
    anew = new == law
    assert np.array_equal(new, np.where(anew, law, old["w"]))
    assert abs(anew.mean() - 0.25) < 0.02


def test_each_expert_draws_its_own_units_anew_the_same_in_all_its_matrices():
    """Rows of the joined gate and input projections, columns of the output projection."""
    old = save("old.safetensors", gate=(16, 12), up=(16, 12), down=(12, 16))
    save("like.safetensors", e__both=(5, 32, 12), e__down=(5, 12, 16))
    reinit = "fraction = 0.25, group = '*', method = 'constant', val = 9.0"
    new = made(
        f"[[rule]]\nmatch = '*.both'\ncopy = {{from = ['gate', 'up'], stack = true}}\nreinit = {{axis = 0, {reinit}}}\n"
        f"[[rule]]\nmatch = '*.down'\ncopy = {{from = 'down', stack = true}}\nreinit = {{axis = 1, {reinit}}}"
    )
    rows, columns = (new["e.both"] == 9).all(2), (new["e.down"] == 9).all(1)
    assert np.array_equal(rows[:, :16], rows[:, 16:])
    assert np.array_equal(rows[:, :16], columns)
    assert (columns.sum(1) == 4).all()
    assert len({tuple(expert) for expert in columns.tolist()}) > 1
    kept = np.broadcast_to(np.concatenate([old["gate"], old["up"]]), (5, 32, 12))
    assert np.array_equal(new["e.both"][~rows], kept[~rows])


def test_layers_are_repeated_by_expressions():
    old = save("old.safetensors", **{f"h__{i}__w": (4, 3) for i in range(12)})
    save("like.safetensors", **{f"h__{i}__w": (4, 3) for i in range(24)})
    new = made("[[rule]]\nmatch = 'h.*.*'\ncopy = 'h.{layer // 2}.*'")
    assert all(np.array_equal(new[f"h.{i}.w"], old[f"h.{i // 2}.w"]) for i in range(24))
    new = made("[vars]\nn = 12\n[[rule]]\nmatch = 'h.*.w'\ncopy = 'h.{layer % n}.w'")
    assert all(np.array_equal(new[f"h.{i}.w"], old[f"h.{i % 12}.w"]) for i in range(24))


@pytest.mark.parametrize(("text", "value"), [("7 // 2", 3), ("-7 // 2", -4), ("7 % 4", 3), ("2 * (9 // 4) + 9 % 4", 5)])
def test_quotients_of_whole_numbers_are_exact(text, value):
    assert parse_expression(text).value({}) == value


@pytest.mark.parametrize("text", ["1.5 // 2", "3 % 0", "3 // 0"])
def test_other_quotients_are_refused(text):
    with pytest.raises(bigin.InputError, match="expected whole numbers"):
        parse_expression(text).value({})


def test_rows_are_added_by_a_rule_as_by_grow_vocab():
    """The new model is like the old one, and its configuration says the rows."""
    Path("old").mkdir()
    save("old/model.safetensors", wte__weight=(50, 8), h__w=(8, 8))
    Path("old", "config.json").write_text(json.dumps({"vocab_size": 50}))
    Path("r.toml").write_text(
        "from = 'old'\nseed = 3\n[[rule]]\nmatch = 'wte.weight'\n"
        "grow = {rows = 60, multiple = 32, new = 'mean+covariance'}\n"
        "[default]\ncopy = '*'"
    )
    assert [row.shape for row in bigin.outline("r.toml")] == [(8, 8), (64, 8)]
    assert "64x8" in run("init", "r.toml", "new", "--dry-run").stdout
    run("init", "r.toml", "new")
    bigin.grow_vocabulary("old", "same", 64, new="mean+covariance", seed=3)
    new, same = (safetensors.load_file(f"{folder}/model.safetensors") for folder in ("new", "same"))
    assert all(np.array_equal(new[name], same[name]) for name in same)
    assert json.loads(Path("new", "config.json").read_text())["vocab_size"] == 64
    assert bigin.verify("new").equal


NEW_ROWS = {
    "{row = 3}": lambda w, law: w[3],
    "{method = 'normal', std = 0.5}": lambda w, law: law,
    "'zeros'": lambda w, law: 0,
}


@pytest.mark.parametrize("new", NEW_ROWS)
def test_new_rows_of_a_rule(new):
    old = save("old.safetensors", w=(10, 8))
    law = np.empty((12, 8), np.float32)
    bigin.fill(law, "normal", std=0.5, seed=7, name="w")
    rows = made(f"[[rule]]\nmatch = 'w'\ngrow = {{rows = 12, new = {new}}}", like=None)["w"]
    assert np.array_equal(rows[:10], old["w"])
    assert np.array_equal(rows[10:], np.broadcast_to(NEW_ROWS[new](old["w"], law[10:]), (2, 8)))


def test_parts_of_a_plan_and_an_interrupted_fill_make_the_same():
    save("old.safetensors", w=(900, 800))
    save("like.safetensors", x=(5, 800, 900))
    rules = "[[rule]]\nmatch = 'x'\ncopy = {from = 'w', transpose = true, stack = true}\nnoise = {method = 'normal'}"
    whole = made(rules)["x"]
    plan = bigin.plan_initialize("recipe.toml", "parts.safetensors", parts=3, like="like.safetensors")
    plan.run("processes:2")
    assert np.array_equal(safetensors.load_file("parts.safetensors")["x"], whole)
    Path("old.safetensors").rename("moved.safetensors")
    for options in ({"recipe": "recipe.toml", "like": "like.safetensors", "source": "moved.safetensors"}, {}):
        Path("old.safetensors").unlink(missing_ok=True)
        if not options:
            Path("old.safetensors").hardlink_to("moved.safetensors")
        assert bigin.plan_verify("parts.safetensors", parts=2, **options).run("processes:2").equal


WRONG = {
    "no checkpoint": ("[[rule]]\nmatch = 'x'\ncopy = 'w'", None, "expected a checkpoint to copy from"),
    "no tensor": (
        "[[rule]]\nmatch = 'x'\ncopy = 'ww'",
        "old",
        "line 2: x: expected a tensor of the checkpoint.*did you mean w",
    ),
    "shape": (
        "[[rule]]\nmatch = 'x'\ncopy = {from = 'w', transpose = true}",
        "old",
        r"x: expected a copy of shape \(4, 6\)",
    ),
    "stars": ("[[rule]]\nmatch = 'x'\ncopy = '*.w'", "old", "line 4: copy: expected at most 0"),
    "method too": ("[[rule]]\nmatch = 'x'\ncopy = 'w'\nmethod = 'ones'", "old", "expected a key among.*got method"),
    "both": ("[[rule]]\nmatch = 'x'\ncopy = 'w'\ngrow = {rows = 9}", "old", "expected copy or grow, got both"),
    "noise alone": ("[[rule]]\nmatch = 'x'\nmethod = 'ones'\nnoise = {method = 'normal'}", "old", "beside copy"),
    "fraction": (
        "[[rule]]\nmatch = 'x'\ncopy = 'w'\nreinit = {fraction = 2, method = 'ones'}",
        "old",
        "from 0 to 1, got 2",
    ),
    "slice": ("[[rule]]\nmatch = 'x'\ncopy = {from = 'w', slice = [[1]]}", "old", r"expected \[start, stop\]"),
    "block": (
        "[[rule]]\nmatch = 'x'\ncopy = {from = 'w', repeat = [2, 1], block = [3, 0]}",
        "old",
        "a block that divides the 4 indices of axis 0",
    ),
    "block alone": (
        "[[rule]]\nmatch = 'x'\ncopy = {from = 'w', block = [2, 0]}",
        "old",
        "expected repeat, and a block",
    ),
    "half": ("[[rule]]\nmatch = 'x'\ncopy = {from = 'w', repeat = [1.5, 1]}", "old", "repeat: expected whole numbers"),
    "new": ("[[rule]]\nmatch = 'x'\ngrow = {rows = 9, new = 'median'}", "old", "new: expected"),
    "axis": (
        "[[rule]]\nmatch = 'x'\ncopy = 'w'\nreinit = {fraction = 1, axis = 2, method = 'ones'}",
        "old",
        "expected an axis of",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_with_a_rule_is_told_with_its_line(case):
    save("old.safetensors", w=(4, 6))
    save("like.safetensors", x=(4, 6))
    rules, origin, message = WRONG[case]
    Path("r.toml").write_text((f"from = '{origin}.safetensors'\n" if origin else "") + rules)
    with pytest.raises(bigin.InputError, match=message) as caught:
        bigin.initialize("r.toml", "new.safetensors", like="like.safetensors")
    assert str(caught.value).count("r.toml") == 1
    assert not Path("new.safetensors").exists()
