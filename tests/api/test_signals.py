"""bigin signal: a recipe and a model's shapes, from the command line to the verdict."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import bigin
from bigin.api.signals import natural_key, signal
from bigin.cli import cli

HE = '[[rule]]\nmatch = "*"\nmethod = "kaiming_normal"\n'


def checkpoint(path: str, shapes: dict[str, tuple[int, ...]]) -> str:
    """A safetensors file of zeros, of which only the header counts."""
    header, offset = {}, 0
    for name, shape in shapes.items():
        size = 4 * int(np.prod(shape))
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header).encode()
    Path(path).write_bytes(struct.pack("<Q", len(text)) + text + bytes(offset))
    return path


def recipe(text: str) -> str:
    Path("recipe.toml").write_text(text)
    return "recipe.toml"


def mlp(depth: int = 12, width: int = 128) -> str:
    return checkpoint("mlp.safetensors", {f"layers.{i}.weight": (width, width) for i in range(depth)})


def run(*arguments: str, code: int = 0) -> str:
    done = CliRunner().invoke(cli, ["signal", *arguments])
    assert done.exit_code == code, done.output
    return done.output


def test_a_batch_goes_through_the_layers_in_the_order_of_their_numbers():
    found = signal(recipe(HE), mlp())
    assert [layer.name for layer in found.layers] == [f"layers.{i}.weight" for i in range(12)]
    assert [layer.fresh for layer in found.layers] == [True] + [False] * 11
    assert natural_key("layers.2.w") < natural_key("layers.10.w")


def test_the_weights_are_those_that_the_recipe_would_store():
    like = checkpoint("one.safetensors", {"w": (64, 32)})
    bigin.fill(stored := np.empty((64, 32), np.float32), "kaiming_normal", name="w", seed=3)
    batch = np.random.default_rng(5).standard_normal((32, 7), np.float32)
    expected = float(np.mean((stored.astype(np.float64) @ batch) ** 2))
    found = signal(recipe(HE), like, nonlinearity="linear", batch=7, batch_seed=5, seed=3)
    assert found.layers[0].activation == pytest.approx(expected, rel=1e-5)


def test_embeddings_vectors_and_what_does_not_match_are_left_out():
    text = '[[rule]]\nmatch = "embed*"\nmethod = "normal"\nlayout = "embedding"\n' + HE.replace('"*"', '"*.weight"')
    text += '[default]\nmethod = "zeros"\n'
    shapes = {"embed": (100, 16), "a.weight": (16, 16), "a.bias": (16,), "b.weight": (16, 16), "c.weight": (8, 16)}
    like = checkpoint("model.safetensors", shapes)
    assert [layer.name for layer in signal(recipe(text), like).layers] == ["a.weight", "b.weight", "c.weight"]
    chosen = signal(recipe(text), like, match=["b*", "a*"])
    assert [layer.name for layer in chosen.layers] == ["b.weight", "a.weight"]


def test_layouts_decide_which_axis_is_which():
    like = checkpoint("model.safetensors", {"a.weight": (16, 64), "b.weight": (64, 32), "c.weight": (32, 8)})
    transposed = signal(recipe(HE + 'layout = "transposed"\n'), like)
    assert [layer.fresh for layer in transposed.layers] == [True, False, False]
    linear = signal(recipe(HE), like)
    assert [layer.fresh for layer in linear.layers] == [True, True, True]


def test_the_command_prints_a_row_for_each_layer_and_a_verdict():
    printed = run(recipe(HE), "--like", mlp())
    assert printed.count("128x128") == 12
    assert "activations steady" in printed
    assert "gradients steady" in printed
    wrong = run(recipe(HE.replace("kaiming_normal", "normal")), "--like", mlp())
    assert "activations exploding" in wrong
    assert "gradients exploding" in wrong


def test_json_has_every_layer_and_no_infinities():
    found = json.loads(run(recipe(HE), "--like", mlp(3), "--json", "--nonlinearity", "tanh"))
    assert found["nonlinearity"] == "tanh"
    assert [layer["name"] for layer in found["layers"]] == [f"layers.{i}.weight" for i in range(3)]
    wild = recipe('[[rule]]\nmatch = "*"\nmethod = "normal"\nstd = 1e15\n')
    layers = json.loads(run(wild, "--like", mlp(6), "--json", "--nonlinearity", "linear"))["layers"]
    assert layers[-1]["activation"] is None


def test_the_plot_is_a_picture():
    pytest.importorskip("matplotlib", reason="matplotlib is not installed: pip install 'bigin[test]'")
    run(recipe(HE), "--like", mlp(), "--plot", "signal.png")
    assert Path("signal.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"match": ["nothing*"]}, "expected weights whose names match 'nothing\\*', got none"),
        ({"nonlinearity": "swoosh"}, "expected a nonlinearity among"),
    ],
)
def test_bad_input_gets_one_line(options, message):
    with pytest.raises(bigin.InputError, match=message):
        signal(recipe(HE), mlp(2), **options)


def test_a_model_without_layers_gets_one_line():
    like = checkpoint("bias.safetensors", {"bias": (16,)})
    with pytest.raises(bigin.InputError, match="expected weights of linear or convolution layers, got none"):
        signal(recipe(HE.replace("kaiming_normal", "zeros")), like)


def test_a_model_that_is_no_plain_stack_is_told_so():
    """Its variances say nothing about a right model, so no word does either."""
    shapes = {f"h.{i}.{name}.weight": (64, 64) for i in range(8) for name in ("attn.c_proj", "mlp.c_fc")}
    like = checkpoint("gpt.safetensors", shapes)
    weak = '[default]\nmethod = "normal"\nstd = 0.02\n'
    told = run(recipe(weak), "--like", like)
    assert "note: h.0.attn.c_proj.weight is not part of a plain stack" in told
    assert "vanishing" not in told
    assert "vanishing" in run(recipe(weak), "--like", like, "--match", "*")
    assert signal(recipe(HE), mlp()).note is None
