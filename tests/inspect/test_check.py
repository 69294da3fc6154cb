"""check: each kind of defect is planted and found, and what is right is not said to be wrong."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import zarr
from common import few, run

import bigin
from bigin.core.limits import Limits
from bigin.inspect import plot
from bigin.inspect.checks import Level, spread
from bigin.inspect.examining import How, Item, examine
from bigin.jobs.measure import Statistics
from bigin.methods.distributions import Normal, Uniform
from bigin.methods.expected import Expected
from bigin.methods.marginals import Bins, NormalMarginal, UniformMarginal
from bigin.spec.fused import FusedSpec
from bigin.spec.tensor import TensorSpec
from bigin.targets.memory import memory_target

LAYERS, WIDTH = 3, 96
RECIPE = """
[[rule]]
match = "*.qkv.weight"
method = "xavier_uniform"
split = {axis = 0, parts = 3, names = ["*.q", "*.k", "*.v"]}

[[rule]]
match = "*.up.weight"
method = "kaiming_normal"

[[rule]]
match = "*.experts"
method = "normal"
std = 0.05
split = {axis = 0, stack = true, names = "*.{}"}

[[rule]]
match = "wte.weight"
method = "normal"
std = 0.02
padding_idx = 0

[[rule]]
match = "*.norm.weight"
method = "ones"

[[rule]]
match = "*.bias"
method = "uniform"
a = -0.1
b = 0.1
"""


def shapes() -> dict[str, tuple[int, ...]]:
    told: dict[str, tuple[int, ...]] = {"wte.weight": (300, WIDTH)}
    for i in range(LAYERS):
        told |= {
            f"h.{i}.qkv.weight": (3 * WIDTH, WIDTH),
            f"h.{i}.up.weight": (4 * WIDTH, WIDTH),
            f"h.{i}.experts": (4, 40, 64),
            f"h.{i}.norm.weight": (WIDTH,),
            f"h.{i}.bias": (4 * WIDTH,),
        }
    return told


def drawn(seed: int = 0) -> dict[str, np.ndarray]:
    """What another library makes: the distributions of the recipe, by numpy's generator."""
    rng, tensors = np.random.default_rng(seed), {}
    for name, shape in shapes().items():
        kind = name.rpartition(".")[0].rpartition(".")[2] if name.endswith("weight") else name.rpartition(".")[2]
        bound = math.sqrt(6 / (2 * WIDTH))
        made = {
            "qkv": lambda shape=shape, bound=bound: rng.uniform(-bound, bound, shape),
            "up": lambda shape=shape: rng.normal(0, math.sqrt(2 / WIDTH), shape),
            "experts": lambda shape=shape: rng.normal(0, 0.05, shape),
            "wte": lambda shape=shape: rng.normal(0, 0.02, shape) * (np.arange(shape[0]) > 0)[:, None],
            "norm": lambda shape=shape: np.ones(shape),
            "bias": lambda shape=shape: rng.uniform(-0.1, 0.1, shape),
        }[kind]()
        tensors[name] = made.astype(np.float32)
    return tensors


def group_of(tensors: dict[str, np.ndarray], path: str = "model.zarr") -> str:
    group = zarr.open_group(path, mode="w")
    for name, values in tensors.items():
        rows = max(1, values.shape[0] // 3)
        array = group.create_array(
            name.replace(".", "/"), shape=values.shape, chunks=(rows, *values.shape[1:]), dtype=values.dtype
        )
        array[...] = values
    return path


@pytest.fixture
def recipe() -> str:
    Path("r.toml").write_text(RECIPE)
    return "r.toml"


def found(result: bigin.ModelCheck) -> dict[str, list[tuple[str, str]]]:
    return {each.tensor: [(f.kind, f.text) for f in each.findings] for each in result.wrong}


def test_a_model_that_another_library_made_is_right(recipe):
    tensors = drawn()
    result = bigin.check(group_of(tensors), recipe)
    assert result.right, found(result)
    assert [each.tensor for each in result.tensors] == sorted(name.replace(".", "/") for name in tensors)
    rows = {each.tensor: each for each in result.tensors}
    assert rows["h/0/up/weight"].std == pytest.approx(tensors["h.0.up.weight"].std(dtype=np.float64))
    assert rows["h/0/up/weight"].expected_std == pytest.approx(math.sqrt(2 / WIDTH))
    half = {name: values.astype(ml_dtypes.bfloat16) for name, values in tensors.items()}
    bigin.register_dtypes()
    assert bigin.check(group_of(half, "half.zarr"), recipe).right
    bigin.initialize(recipe, "half.zarr", overwrite=True, seed=3)
    assert bigin.check("half.zarr").right  # by its record


def leftovers(shape: tuple[int, ...]) -> np.ndarray:
    """What torch.empty may hold: pointers and small integers, read as floats."""
    rng = np.random.default_rng(5)
    return (rng.integers(0, 1 << 63, math.prod(shape) // 2, np.int64)).view(np.float32).reshape(shape)


def edit(name: str, change: Any) -> Any:
    def apply(tensors: dict[str, np.ndarray]) -> None:
        tensors[name] = np.asarray(change(tensors[name].copy()), np.float32)

    return apply


def put(place: Any, value: Any) -> Any:
    def change(values: np.ndarray) -> np.ndarray:
        values[place] = value(values) if callable(value) else value
        return values

    return change


def shape_of_fans(values: np.ndarray) -> np.ndarray:
    return values * math.sqrt(values.shape[1] / values.shape[0])


def copied(target: str, source: str) -> Any:
    return lambda tensors: tensors.__setitem__(target, tensors[source])


UP, QKV, EXPERTS, BIAS, WTE = "h.1.up.weight", "h.1.qkv.weight", "h.1.experts", "h.1.bias", "wte.weight"
DEFECTS = few(
    (UP, edit(UP, lambda v: v * 0), "untouched", "all values are 0"),
    (UP, edit(UP, lambda v: v * np.nan), "untouched", "all values are NaN"),
    (UP, edit(UP, put((3, 4), np.nan)), "not finite", "1 NaN of"),
    (UP, edit(UP, put((3, 4), np.inf)), "not finite", "1 infinite of"),
    (UP, edit(UP, lambda v: leftovers(v.shape)), "*", ""),
    (UP, edit(UP, lambda v: v * 1e-30), "untouched", "leftovers"),
    (UP, edit(UP, put(slice(300, 400), 0)), "untouched", "values are 0"),
    (UP, edit(UP, put(7, 0)), "untouched", "96 of 36864 values are 0"),
    (UP, edit(UP, lambda v: v * 1.05), "std", "expected 0.1443"),
    (UP, edit(UP, lambda v: v * 3), "std", "fans that are 9 times too small"),
    (UP, edit(UP, shape_of_fans), "std", "inputs and outputs were exchanged"),
    (UP, edit(UP, lambda v: v + 0.01), "mean", "mean 0.0"),
    (UP, edit(UP, lambda v: np.sign(v) * np.float32(math.sqrt(2 / WIDTH))), "*", ""),
    (QKV, edit(QKV, put(slice(WIDTH, 2 * WIDTH), lambda v: v[WIDTH : 2 * WIDTH] * 0.8)), "std", "h.1.k: std"),
    (QKV, edit(QKV, put(slice(WIDTH, 2 * WIDTH), lambda v: v[:WIDTH])), "identical", "parts 0 and 1 of 3 along axis 0"),
    (UP, edit(UP, put((slice(None), slice(48, 96)), lambda v: v[:, :48])), "identical", "0 and 1 of 2 along axis 1"),
    (BIAS, edit(BIAS, put(slice(192, 384), lambda v: v[:192])), "identical", "parts 0 and 1 of 2 along axis 0"),
    (UP, edit(UP, put(200, lambda v: v[10])), "identical", "rows 10 and 200 are equal"),
    (EXPERTS, edit(EXPERTS, put(3, lambda v: v[1])), "identical", "identical shards"),
    (EXPERTS, edit(EXPERTS, put(2, 0)), "untouched", "h.1.2: never touched: all values are 0"),
    (WTE, edit(WTE, put(0, 0.01)), "*", ""),
    ("h.1.norm.weight", edit("h.1.norm.weight", put(5, 0.99)), "distribution", "expected 1, got values from 0.99 to 1"),
    (UP, copied(UP, "h.0.up.weight"), "identical", "identical to h/0/up/weight"),
    (BIAS, copied(BIAS, "h.0.bias"), "identical", "identical to h/0/bias"),
    (UP, lambda tensors: tensors.pop(UP), "missing", "no tensor of that name"),
    ("lora.A", lambda tensors: tensors.__setitem__("lora.A", np.zeros(3, np.float32)), "extra", "says nothing of it"),
    (UP, edit(UP, lambda v: v[:90]), "unlike", "expected 384x96 float32, got 90x96"),
)  # fmt: skip


@pytest.mark.parametrize("case", DEFECTS, ids=lambda case: f"{case[0]} {case[2]}")
def test_each_defect_is_found_and_nothing_else(recipe, case):
    tensor, plant, kind, text = case
    group_of(drawn(), "like.zarr")
    tensors = drawn(1)
    plant(tensors)
    wrong = found(bigin.check(group_of(tensors), recipe, like="like.zarr"))
    assert [name.replace("/", ".") for name in wrong] == [tensor], wrong
    ((kinds),) = wrong.values()
    assert kind == "*" or kind in {each for each, _ in kinds}, wrong
    assert any(text in said for _, said in kinds), wrong


def test_a_sample_finds_what_lies_in_it(recipe, monkeypatch):
    monkeypatch.setattr("bigin.jobs.in_order.STRETCH", 1 << 12)
    tensors = drawn()
    tensors[UP] *= 1.2
    tensors["h.2.up.weight"] = tensors["h.0.up.weight"]
    result = bigin.check(group_of(tensors), recipe, sample=0.5)
    assert set(found(result)) == {"h/1/up/weight", "h/2/up/weight"}
    assert "50% of the values read" in run("check", "model.zarr", recipe, "--sample", "50%", code=1).stdout


def test_a_thread_and_stretches_change_nothing(recipe, monkeypatch):
    tensors = drawn()
    tensors[UP][200] = tensors[UP][10]
    path = group_of(tensors)
    first = bigin.check(path, recipe, threads=1)
    monkeypatch.setattr("bigin.jobs.in_order.STRETCH", 1 << 10)
    again = bigin.check(path, recipe, threads=2)
    assert found(first) == found(again) != {}
    for one, other in zip(first.tensors, again.tensors, strict=True):
        assert one.std == pytest.approx(other.std, nan_ok=True)


def test_many_rows_are_kept_by_their_hashes(monkeypatch):
    monkeypatch.setattr("bigin.inspect.repeats.KEPT", 64)
    values = np.random.default_rng(0).normal(0, 1, (4096, 64)).astype(np.float32)
    values[2048:] = values[:2048]
    spec = TensorSpec.parse("normal", {}, 0, "w", values.shape, np.dtype(np.float32))
    (row,) = examine([Item("w", lambda: memory_target(values), spec, values.shape, "float32")], How(Limits()))
    assert [finding.text for finding in row.findings if finding.kind == "identical"]


def test_the_command(recipe):
    tensors = drawn()
    path = group_of(tensors)
    done = run("check", path, recipe)
    assert done.stdout == "model.zarr: 16 tensors look as r.toml says\n"
    tensors[UP] *= 2
    group_of(tensors)
    done = run("check", path, recipe, code=1)
    assert "h/1/up/weight" in done.stdout
    assert "1 of 16 tensors does not look as r.toml says" in done.stdout
    assert "h/0/up/weight" in run("check", path, recipe, "--all", code=1).stdout
    told = json.loads(run("check", path, recipe, "--json", code=1).stdout)
    (row,) = [each for each in told["tensors"] if not each["right"]]
    assert (told["right"], row["tensor"], row["findings"][0]["kind"]) == (False, "h/1/up/weight", "std")
    for arguments in ((path,), (path, "missing.toml"), ("nothing", recipe)):
        assert run("check", *arguments, code=2).stderr.startswith("bigin: ")


def test_show_tells_a_line_for_every_tensor(recipe):
    """With a record and without one."""
    tensors = drawn()
    path = group_of(tensors)
    result = bigin.show_model(path)
    assert result.right
    assert [each.wanted for each in result.tensors] == [""] * len(tensors)
    done = run("show", path)
    assert "h/1/up/weight" in done.stdout
    bigin.initialize(recipe, path, overwrite=True, seed=2)
    done = run("show", path)
    assert "kaiming_normal()" in done.stdout
    assert done.stdout.split().count("ok") == len(tensors)
    zarr.open_group(path)["h/1/up/weight"][...] = 0
    told = json.loads(run("show", path, "--json", code=1).stdout)
    assert [each["tensor"] for each in told["tensors"] if not each["right"]] == ["h/1/up/weight"]
    run("show", path, "--plot", "x.png", code=1)
    assert Path("x.png").read_bytes().startswith(b"\x89PNG")
    run("show", path, "--plot", "x.nothing", code=2)
    assert "looks like" in run("show", f"{path}/h/0/up/weight").stdout  # a single array, as before


def test_a_page_of_histograms(recipe, monkeypatch):
    """A picture for each tensor: its density, or the one value that it has; what is wrong in another color."""
    figures: list[Any] = []
    monkeypatch.setattr(plot, "save", lambda figure, path: figures.append(figure))
    path = group_of(drawn())
    bigin.initialize(recipe, path, overwrite=True, seed=2)
    zarr.open_group(path)["h/1/up/weight"][...] = 0
    result = bigin.show_model(path)
    plot.plot_model(result, "x.png")
    panels = {axes.get_title(loc="left"): axes for axes in figures[0].axes if axes.get_title(loc="left")}
    assert list(panels) == [each.tensor for each in result.tensors]
    assert len(panels["h/0/up/weight"].patches) == 2  # values and what is expected of them
    assert [text.get_text() for text in panels["h/1/up/weight"].texts] == ["all 0"]
    colors = {name: axes._left_title.get_color() for name, axes in panels.items()}
    assert [name for name, color in colors.items() if color == plot.LIGHT.second] == ["h/1/up/weight"]
    monkeypatch.setattr(plot, "MOST", 3)
    plot.plot_model(result, "x.png")
    assert figures[1].get_suptitle() == f"{path}: 3 of {len(result.tensors)} tensors"


# How often what is right is said to be wrong

SMALL = [1, 2, 5, 20, 64, 300]


def test_the_spread_of_few_values_is_within_its_level():
    """A chi-square with the kurtosis of a uniform has another lower tail, which showed with 20 values."""
    level, rng, trials = Level(1e-3), np.random.default_rng(0), 20000
    for marginal, draw in (
        (UniformMarginal(Uniform(0.0, 1.0)), lambda n: rng.uniform(0, 1, (trials, n))),
        (NormalMarginal(Normal(0.0, 1.0)), lambda n: rng.normal(0, 1, (trials, n))),
    ):
        for n in (2, 5, 20, 64):
            stds = draw(n).std(axis=1)
            check = spread(
                Statistics(n, 0, (0, 0), 0, 0.5, 1.0, 0.0, 1.0, Bins(0, 1, 4), np.zeros(6)), Expected(marginal), level
            )
            wrong = int(np.count_nonzero((stds < check.low) | (stds > check.high)))
            assert wrong <= 1e-3 * trials + 5 * math.sqrt(1e-3 * trials), (marginal, n, wrong)


def a_model(rng: np.random.Generator) -> list[Item]:
    """A model that is right: many small tensors, whose tests are the furthest from their limits."""
    items = []
    for number, n in enumerate(SMALL):
        for method, parameters, draw in (
            ("normal", {"std": 0.02}, lambda n: rng.normal(0, 0.02, n)),
            ("uniform", {"a": -1.0, "b": 1.0}, lambda n: rng.uniform(-1, 1, n)),
            ("trunc_normal", {"std": 1.0, "a": 4.0, "b": 6.0}, None),
            ("log_uniform", {"a": 0.001, "b": 0.1}, lambda n: np.exp(rng.uniform(math.log(0.001), math.log(0.1), n))),
            ("log_of_uniform", {"a": 1.0, "b": 16.0}, lambda n: np.log(rng.uniform(1, 16, n))),
            ("ring_decay", {"a": 0.9, "b": 0.999}, lambda n: np.log(rng.uniform(0.9**2, 0.999**2, n) ** -0.5 - 1)),
        ):
            for dtype in (np.dtype(np.float32), np.dtype(ml_dtypes.bfloat16)):
                spec = TensorSpec.parse(method, parameters, 0, f"{method}{number}{dtype}", (n,), dtype)
                values = np.empty(n, dtype)
                if draw is None:
                    bigin.fill(values, method, seed=int(rng.integers(1 << 60)), **parameters)
                else:
                    values[...] = draw(n).astype(np.float32).astype(dtype)
                items.append(Item(spec.name, lambda v=values: memory_target(v), spec, (n,), dtype.name))
    parts = tuple(TensorSpec.parse("orthogonal", {}, 0, f"o{i}", (6, 9), np.dtype(np.float32)) for i in range(2))
    whole = np.concatenate([np.linalg.qr(rng.normal(0, 1, (9, 6)))[0].T * np.sign(rng.normal()) for _ in parts])
    whole = whole.astype(np.float32)
    fused = FusedSpec(0, False, parts, whole.shape, whole.dtype)
    return [*items, Item("fused", lambda: memory_target(whole), fused, whole.shape, "float32")]


def false_alarms(models: int, alarms: float) -> int:
    rng, how = np.random.default_rng(1), How(Limits(max_threads=1, max_memory=1 << 30), alarms=alarms)
    return sum(any(each.findings for each in examine(a_model(rng), how)) for _ in range(models))


def test_a_right_model_is_called_right():
    assert false_alarms(1, 1e-6) == 0


@pytest.mark.slow
def test_false_alarms_are_as_rare_as_they_should_be():
    """At one alarm in ten models instead of one in a million, which a simulation sees."""
    models, alarms = 10, 0.1
    found = false_alarms(models, alarms)
    print(f"{found} of {models} right models are said to be wrong, at most {alarms * models:g} expected")
    assert found <= alarms * models + 3 * math.sqrt(alarms * models), found


def test_tensors_without_axes_are_checked():
    """A scale or a temperature is one drawn value, which has no rows and no shards."""
    Path("recipe.toml").write_text('[[rule]]\nmatch = "*"\nmethod = "uniform"\n')
    group = zarr.create_group("model.zarr")
    for name in ("a", "b"):
        group.create_array(name, data=np.asarray(bigin.virtual((), "uniform", name=name, dtype="float64")))
    assert bigin.check("model.zarr", "recipe.toml").right
    group["b"][...] = 2.0
    (wrong,) = bigin.check("model.zarr", "recipe.toml").wrong
    assert wrong.tensor == "b"
