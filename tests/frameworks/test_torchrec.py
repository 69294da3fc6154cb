"""TorchRec and FBGEMM: shards, batched tables and quantized rows hold what whole tables of floats hold."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from common import LIMIT, NO_TORCHREC, TESTS, TORCHREC

import bigin
from bigin.targets.lock import Lock

torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'bigin[torch]'")

import bigin.torch  # noqa: E402

STD, SEED = 0.01, 3
METHOD = {"std": STD, "seed": SEED}


@pytest.fixture(scope="module")
def fbgemm() -> Any:
    """FBGEMM's operations and classes."""
    if TORCHREC.exists():
        sys.path.append(str(TORCHREC))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("fbgemm_gpu", reason=NO_TORCHREC)
        from fbgemm_gpu import split_table_batched_embeddings_ops_common as common
        from fbgemm_gpu import split_table_batched_embeddings_ops_inference as inference
        from fbgemm_gpu import split_table_batched_embeddings_ops_training as training
        from fbgemm_gpu.split_embedding_configs import SparseType
        from fbgemm_gpu.tbe.utils.quantize import quantize_embs

        class Library:
            ops = torch.ops.fbgemm
            types = SparseType

            @staticmethod
            def trained(shapes: list[tuple[int, int]], precision: Any) -> Any:
                place = (common.EmbeddingLocation.HOST, training.ComputeDevice.CPU)
                specs = [(*shape, *place) for shape in shapes]
                return training.SplitTableBatchedEmbeddingBagsCodegen(specs, weights_precision=precision)

            @staticmethod
            def served(shapes: list[tuple[int, int]], kind: Any) -> Any:
                specs = [(str(n), *shape, kind, common.EmbeddingLocation.HOST) for n, shape in enumerate(shapes)]
                made = inference.IntNBitTableBatchedEmbeddingBagsCodegen(specs, device="cpu")
                made.initialize_weights()
                return made

            @staticmethod
            def quantized(values: Any, kind: Any) -> Any:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    return quantize_embs(values, kind)

        return Library


def table(rows: int, columns: int, name: str, **more: Any) -> Any:
    """A table of floats."""
    values = torch.empty(rows, columns)
    bigin.fill(values, "normal", name=name, **METHOD, **more)
    return values


def test_init_fn_fills_a_whole_table():
    fill = bigin.torch.init_fn("normal", name="users", padding_idx=0, **METHOD)
    weight = torch.nn.Parameter(torch.ones(100, 8))
    assert fill(weight) is weight
    assert torch.equal(weight, table(100, 8, "users", padding_idx=0))
    half = fill(torch.empty(100, 8, dtype=torch.bfloat16))
    assert torch.equal(half, table(100, 8, "users", padding_idx=0).bfloat16())
    meta = torch.empty(100, 8, device="meta")
    assert fill(meta) is meta
    with pytest.raises(bigin.InputError, match="expected a method"):
        bigin.torch.init_fn("gauss", name="users")


def test_init_fn_refuses_what_does_not_say_what_part_of_a_table_it_is():
    fill = bigin.torch.init_fn("normal", name="users", **METHOD)

    class TableBatchedEmbeddingSlice(torch.nn.Parameter):
        """As TorchRec calls what it hands on."""

    part = TableBatchedEmbeddingSlice(torch.ones(5, 8))
    with pytest.raises(
        bigin.InputError, match=r"users: expected a table, .* got a TableBatchedEmbeddingSlice of shape"
    ):
        fill(part)
    assert (part == 1).all()

    class Sharded:
        """A sharded module that hands on rows without their numbers."""

        def __init__(self) -> None:
            self.__dict__["_model_parallel_name_to_sharded_tensor"] = {}

        def evict(self) -> None:
            fill(torch.ones(5, 8))

    with pytest.raises(bigin.InputError, match=r"users: expected a table, .* got a Tensor of shape \(5, 8\)"):
        Sharded().evict()


def test_parameters_are_loaded_from_tables_on_disk_and_saved():
    users = bigin.EmbeddingTable.create("users.npy", 100, 8, "normal", name="users", **METHOD)
    items = bigin.EmbeddingTable.create("items.zarr", 50, 4, "normal", name="items", dtype="bfloat16", **METHOD)
    model = torch.nn.ModuleDict({"users": torch.nn.EmbeddingBag(100, 8), "things": torch.nn.Embedding(50, 4)})
    tables = {"users.weight": "users.npy", "th*": items}
    assert bigin.torch.load_tables(model, tables) == ["users.weight", "things.weight"]
    assert torch.equal(model["users"].weight, table(100, 8, "users"))
    assert torch.equal(model["things"].weight, table(50, 4, "items").bfloat16().float())
    with torch.no_grad():
        model["users"].weight[7] = 1
        model["things"].weight[[5, 9]] = 0.1
    assert bigin.torch.save_tables(model, tables) == ["users.weight", "things.weight"]
    assert users.verify().changed.ids().tolist() == [7]
    assert items.verify().changed.ids().tolist() == [5, 9]
    assert items[5].tolist() == [torch.tensor(0.1).bfloat16().item()] * 4
    for wrong, message in [
        ({"users.weight": "items.zarr"}, r"items.zarr: expected a table of shape \(100, 8\) for users.weight, got"),
        ({"*": "users.npy"}, r"expected '\*' to match one parameter, got 2: users.weight, things.weight"),
        ({"u": "users.npy"}, "got none; there are users.weight, things.weight"),
        ({"users.weight": "none.npy"}, "expected a table, got nothing"),
        ("users.npy", "expected tables as a mapping"),
    ]:
        with pytest.raises(bigin.InputError, match=message):
            bigin.torch.load_tables(model, wrong)


def test_a_table_that_another_writer_holds_is_waited_for():
    users = bigin.EmbeddingTable.create("users.npy", 100, 8, "normal", name="users", **METHOD)
    model = torch.nn.ModuleDict({"users": torch.nn.EmbeddingBag(100, 8)})
    with Lock(Path("users.npy"), "it"), pytest.raises(bigin.LockedError, match="expected no other writer"):
        bigin.torch.save_tables(model, {"users.weight": "users.npy"}, timeout=0.2)
    bigin.torch.save_tables(model, {"users.weight": "users.npy"}, timeout=0.2)
    assert np.array_equal(users[...], model["users"].weight.detach())


@pytest.mark.parametrize("bits", [8, 4, 2])
def test_fused_rows_are_those_that_fbgemm_makes_of_floats(fbgemm, bits, monkeypatch):
    monkeypatch.setattr("bigin.torch.embeddings.BLOCK", 16 * 30)  # several blocks, the last one smaller
    floats = table(100, 16, "users", padding_idx=2)
    if bits == 8:
        expected = fbgemm.ops.FloatToFused8BitRowwiseQuantized(floats)
    else:
        expected = fbgemm.ops.FloatToFusedNBitRowwiseQuantizedSBHalf(floats, bits)
    options = {"bits": bits, "name": "users", "padding_idx": 2, **METHOD}
    rows = torch.zeros_like(expected)
    assert bigin.torch.fill_quantized(rows, "normal", **options) is rows
    assert torch.equal(rows, expected)
    part = torch.zeros_like(expected[37:90])
    bigin.torch.fill_quantized(part, "normal", shape=(100, 16), region=slice(37, 90), **options)
    assert torch.equal(part, expected[37:90])


def test_a_quarter_of_quantized_rows_needs_no_memory_for_all(fbgemm):
    rows = torch.zeros(25, 72, dtype=torch.uint8)
    bigin.torch.fill_quantized(rows, "normal", shape=(10**10, 64), region=slice(10**9, 10**9 + 25), name="users")
    floats = torch.from_numpy(bigin.virtual((10**10, 64), "normal", name="users")[10**9 : 10**9 + 25])
    assert torch.equal(rows, fbgemm.ops.FloatToFused8BitRowwiseQuantized(floats))


def test_what_does_not_fit_quantized_rows_is_said():
    rows, scales = torch.zeros(10, 24, dtype=torch.uint8), torch.zeros(10, 4, dtype=torch.uint8)
    for given, options, message in [
        (rows, {"bits": 3}, r"expected bits among \(2, 4, 8\), got 3"),
        (rows, {"bits": 16}, "expected bits among"),
        (rows.float(), {}, "expected rows as a tensor of bytes"),
        ((rows, scales[:5]), {}, "expected tensors of 2 axes"),
        ((rows, None), {}, r"expected rows of 8 bits a value with scale and bias \(\[24, 4\] bytes\), got \[24\]"),
        (scales, {}, "expected rows of 8 bits a value"),
        (rows, {"shape": (10, 17)}, r"expected rows of shape \(10, 17\), got such of \(10, 16\)"),
        (rows, {"shape": (20, 16), "region": slice(0, 9)}, r"expected rows of shape \(9, 16\)"),
        (rows, {"std": -1.0}, "expected std >= 0"),
    ]:
        with pytest.raises(bigin.InputError, match=message):
            bigin.torch.fill_quantized(given, "normal", **options)
    assert not rows.any()


@pytest.mark.parametrize("precision", ["FP32", "FP16"])
def test_batched_tables_are_filled_in_place(fbgemm, precision):
    tables = fbgemm.trained([(100, 16), (50, 8)], getattr(fbgemm.types, precision))
    rules = {"users": ("normal", {"std": STD}), "*": "ones"}
    bigin.torch.fill_tables(tables, ["users", "items"], rules, seed=SEED)
    users, items = tables.split_embedding_weights()
    assert torch.equal(users, table(100, 16, "users").to(users.dtype))
    assert (items == 1).all()
    for names, chosen, message in [
        (["users"], rules, "expected the names of 2 tables"),
        (["users", "other"], {"users": "ones"}, "expected a rule for every table, got none for other"),
        (["users", "other"], {"users": "ones", "*": torch.nn.init.ones_}, "expected rules from patterns of names"),
        (["users", "other"], {"users": "ones", "*": ("normal", {"std": -1})}, "expected std >= 0"),
    ]:
        with pytest.raises(bigin.InputError, match=message):
            bigin.torch.fill_tables(tables, names, chosen)
    assert torch.equal(users, table(100, 16, "users").to(users.dtype))


@pytest.mark.parametrize("kind", ["FP32", "FP16", "INT8", "INT4", "INT2"])
def test_tables_to_serve_are_those_that_fbgemm_quantizes(fbgemm, kind):
    kind = getattr(fbgemm.types, kind)
    tables = fbgemm.served([(100, 16), (50, 24)], kind)
    bigin.torch.fill_tables(tables, ["users", "items"], {"*": ("normal", {"std": STD})}, seed=SEED)
    floats = [table(100, 16, "users"), table(50, 24, "items")]
    for (values, scales), expected in zip(tables.split_embedding_weights(), floats, strict=True):
        wanted, wanted_scales = fbgemm.quantized(expected, kind)
        assert torch.equal(values, wanted)
        assert (scales is None) == (wanted_scales is None)
        assert scales is None or torch.equal(scales, wanted_scales)
    ids, offsets = torch.tensor([5, 7], dtype=torch.int32), torch.tensor([0, 1, 2], dtype=torch.int32)
    found = tables(ids, offsets)[0].float()  # one bag of each table
    step = 0.12 / 2 ** min(kind.bit_rate(), 10)
    assert (found - torch.cat([floats[0][5], floats[1][7]])).abs().max() < step


@pytest.mark.slow
def test_shards_of_torchrec_hold_what_the_whole_table_holds(fbgemm):
    if importlib.util.find_spec("torchrec") is None:
        pytest.skip(NO_TORCHREC)
    path = os.pathsep.join([*filter(None, [os.environ.get("PYTHONPATH")]), str(TORCHREC)])
    environment = {**os.environ, "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    command = [sys.executable, TESTS / "torchrec_ranks.py", "2"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    ranks = json.loads(done.stdout)
    assert len(ranks) == 2
    sizes = {"row_wise": [416, 408], "column_wise": [412, 412], "column_wise_here": [0, 824], "table_wise": [0, 824],
             "table_row_wise": [416, 408], "data_parallel": [824, 824]}  # fmt: skip
    seen = 0
    for case, told in ranks[0].items():
        both = [told, ranks[1][case]]
        if case.startswith("save"):
            assert both == [[True, 103]] * 2, case
        elif case.startswith("names"):
            assert all("linear.bias" in names and len(names) in (7, 8) for names in both)
            assert not any("dmp" in name or "module" in name for name in told)
        else:
            cut = case.split()[-1].replace("float16", "row_wise")
            assert [equal for equal, _ in both] == [True, True], case
            assert [count for _, count in both] == sizes[cut], case
        seen += 1
    assert seen == 47
