"""bigin.init: torch's functions, and no two tensors that share values unasked."""

from __future__ import annotations

import inspect
import threading

import numpy as np
import pytest

import bigin
import bigin.init
from bigin.api import streams
from bigin.core.errors import StreamWarning

RANDOM = [
    ("uniform_", {}),
    ("normal_", {}),
    ("trunc_normal_", {}),
    ("xavier_uniform_", {}),
    ("xavier_normal_", {}),
    ("kaiming_uniform_", {}),
    ("kaiming_normal_", {}),
    ("lecun_uniform_", {}),
    ("lecun_normal_", {}),
    ("variance_scaling_", {}),
    ("sparse_", {"sparsity": 0.1}),
    ("orthogonal_", {}),
]


@pytest.mark.parametrize(("name", "parameters"), RANDOM)
def test_every_call_draws_other_values_and_the_same_calls_the_same(name, parameters):
    function = getattr(bigin.init, name)
    runs = []
    for _ in range(2):
        bigin.manual_seed(5)
        runs.append([function(np.empty((20, 30), np.float32), **parameters) for _ in range(3)])
    for first, again in zip(*runs, strict=True):
        np.testing.assert_array_equal(first, again)
    a, b, c = runs[0]
    assert not (a == b).all()
    assert not (b == c).all()


def test_a_call_is_a_name_of_the_generator():
    """The n-th call's stream is #n, and constants draw nothing."""
    generator = bigin.Generator(11)
    w = np.empty((4, 6), np.float32)
    bigin.init.normal_(w, generator=generator)
    bigin.init.zeros_(np.empty(3))
    second = bigin.init.normal_(np.empty((4, 6), np.float32), generator=generator)
    for number, values in ((1, w), (2, second)):
        expected = np.empty((4, 6), np.float32)
        bigin.fill(expected, "normal", seed=11, name=f"#{number}")
        np.testing.assert_array_equal(values, expected)
    assert generator.initial_seed() == 11


def test_a_seed_or_a_name_makes_it_a_function_of_its_arguments():
    for options in ({"seed": 3}, {"name": "w"}, {"seed": 3, "name": "w"}):
        a, b = (bigin.init.normal_(np.empty(50), **options) for _ in range(2))
        np.testing.assert_array_equal(a, b)


def test_calls_of_many_threads_share_no_stream():
    bigin.manual_seed(0)
    rows: list[np.ndarray] = []

    def draw() -> None:
        rows.extend(bigin.init.uniform_(np.empty(8)) for _ in range(50))

    threads = [threading.Thread(target=draw) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({row.tobytes() for row in rows}) == 200


def test_other_generators_are_refused():
    with pytest.raises(bigin.InputError, match=r"expected a bigin.Generator, got numpy.random"):
        bigin.init.normal_(np.empty(3), generator=np.random.default_rng(0))
    with pytest.raises(bigin.InputError, match="expected a seed from 0"):
        bigin.manual_seed(-1)


def test_bounds_of_trunc_normal_in_standard_deviations():
    w = bigin.init.trunc_normal_(np.empty(10_000), mean=1.0, std=0.5, lower=-1, upper=2)
    assert 0.5 <= w.min() < 0.51
    assert 1.98 < w.max() <= 2.0
    assert abs(bigin.init.trunc_normal_(np.empty(10_000), std=5.0)).max() <= 2.0


def test_signatures_are_real():
    for name in dir(bigin.init):
        if name.endswith("_") and not name.startswith("_"):
            kinds = {p.kind for p in inspect.signature(getattr(bigin.init, name)).parameters.values()}
            assert inspect.Parameter.VAR_KEYWORD not in kinds, name
            assert inspect.Parameter.VAR_POSITIONAL not in kinds, name


# Models


def equal_or_correlated(tensors: dict[str, np.ndarray]) -> list[tuple[str, str]]:
    """Pairs of random tensors that begin with the same values, or whose values go together."""
    found = []
    names = list(tensors)
    for i, one in enumerate(names):
        for other in names[i + 1 :]:
            size = min(tensors[one].size, tensors[other].size)
            a, b = (tensors[name].reshape(-1)[:size].astype(np.float64) for name in (one, other))
            if size < 8 or a.std() == 0 or b.std() == 0:
                continue
            # Six standard errors: 2e-9 for a pair of independent tensors.
            if (a == b).any() or abs(np.corrcoef(a, b)[0, 1]) > 6 / np.sqrt(size):
                found.append((one, other))
    return found


def models():
    torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'bigin[torch]'")
    nn = torch.nn
    return {
        "mlp": lambda: nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 32)),
        "lstm": lambda: nn.LSTM(24, 24, num_layers=2),
        "transformer": lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 2, 32, batch_first=True), 2),
    }


@pytest.mark.parametrize("kind", ["mlp", "lstm", "transformer"])
def test_the_layers_of_a_model_share_no_values(kind):
    """As the tutorials write it: model.apply(init_weights)."""
    make = models()[kind]

    def init_weights(module):
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.dim() > 1:
                bigin.init.xavier_uniform_(parameter)
            elif "bias" in name:
                bigin.init.uniform_(parameter, -0.1, 0.1)

    runs = []
    for _ in range(2):
        bigin.manual_seed(0)
        model = make()
        model.apply(init_weights)
        runs.append({name: parameter.detach().numpy().copy() for name, parameter in model.named_parameters()})
    drawn = {n: p for n, p in runs[0].items() if p.ndim > 1 or "bias" in n}
    assert len(drawn) > 4
    assert equal_or_correlated(drawn) == []
    for name, values in drawn.items():
        np.testing.assert_array_equal(values, runs[1][name])


def test_a_meta_tensor_is_left_as_it_is():
    torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'bigin[torch]'")
    tensor = torch.empty(3, 4, device="meta")
    assert bigin.init.normal_(tensor) is tensor


# Files and arrays that lie somewhere


def values_of(path: str) -> np.ndarray:
    import zarr

    return np.load(path) if path.endswith(".npy") else zarr.open_array(path)[:]


@pytest.mark.parametrize("ending", [".npy", ".zarr"])
def test_two_files_made_with_defaults_share_no_values(ending):
    for name in ("w1", "w2"):
        bigin.fill(name + ending, "normal", shape=(40, 50))
    tensors = {name: values_of(name + ending) for name in ("w1", "w2")}
    assert equal_or_correlated(tensors) == []
    expected = np.empty((40, 50), np.float32)
    bigin.fill(expected, "normal", name="w1")
    np.testing.assert_array_equal(tensors["w1"], expected)


def test_two_tables_made_with_defaults_share_no_rows():
    tables = {
        name: bigin.EmbeddingTable.create(f"{name}.zarr", 300, 8, "normal").rows(range(300))
        for name in ("users", "items")
    }
    assert equal_or_correlated(tables) == []


def test_a_tensor_has_one_name_in_a_checkpoint_and_in_a_group():
    import zarr

    group = zarr.open_group("m.zarr", mode="w")
    group.create_array("layers/0/weight", shape=(8, 9), dtype="float32")
    bigin.fill("m.zarr/layers/0/weight", "normal", seed=2)
    expected = np.empty((8, 9), np.float32)
    report = bigin.fill(expected, "normal", seed=2, name="layers.0.weight")
    np.testing.assert_array_equal(zarr.open_array("m.zarr/layers/0/weight")[:], expected)
    assert report.record["name_from"] == "caller"


def test_the_record_says_which_name_was_used_and_where_it_came_from():
    report = bigin.fill("emb.v2.npy", "normal", shape=(3, 4))
    assert (report.record["name"], report.record["name_from"]) == ("emb.v2", "file")
    report = bigin.fill(np.empty(4), "normal")
    assert (report.record["name"], report.record["name_from"]) == ("", "unnamed")


def test_a_second_array_from_one_stream_is_told_once(monkeypatch):
    monkeypatch.setattr(streams, "_told", False)
    monkeypatch.setattr(streams, "_filled", {})
    a, b, c = np.empty(5), np.empty(5), np.empty(5)
    bigin.fill(a, "normal")
    bigin.fill(a, "normal")  # the same array again
    bigin.fill(b, "normal", name="b")
    bigin.fill(b, "zeros")
    bigin.fill(b, "normal", shape=(10,), region=slice(0, 5))
    bigin.fill(b, "normal", seed=9)
    with pytest.warns(StreamWarning, match="a second array is filled from the unnamed stream of seed 0"):
        bigin.fill(c, "normal")
    bigin.fill(np.empty(5), "normal")  # told once
