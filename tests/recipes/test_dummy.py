"""Checkpoints of quantized weights that are filled to measure with, and the dtypes that only they have."""

from __future__ import annotations

import json
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from click.testing import CliRunner

import bigin
from bigin.cli.models import init
from bigin.core.errors import InputError
from bigin.core.packed import PACKED
from bigin.targets.safetensors.header import CODES, lay_out, pack_header, read_header

E4M3, E8M0, E2M1 = "float8_e4m3fn", "float8_e8m0fnu", "float4_e2m1fn"
FP8 = {  # DeepSeek-V3's names
    "model.embed_tokens.weight": ("bfloat16", (32, 16)), "model.norm.weight": ("bfloat16", (16,)),
    "model.layers.0.self_attn.o_proj.weight": (E4M3, (16, 16)),
    "model.layers.0.self_attn.o_proj.weight_scale_inv": ("float32", (1, 1)),
    "model.layers.0.mlp.gate.e_score_correction_bias": ("float32", (4,)),
    "model.layers.0.mlp.down_proj.weight": (E4M3, (16, 32)),
    "model.layers.0.mlp.down_proj.weight_scale": (E8M0, (16, 1)),
}  # fmt: skip
FP4 = {  # NVFP4 in F4 and in bytes, MXFP4 as gpt-oss has it
    "a.weight": (E2M1, (4, 32)), "a.weight_scale": (E4M3, (4, 2)), "a.weight_scale_2": ("float32", ()),
    "a.input_scale": ("float32", ()), "b.weight_packed": ("uint8", (4, 16)), "b.weight_scale": (E4M3, (4, 2)),
    "experts.gate_up_proj_blocks": ("uint8", (2, 4, 1, 16)), "experts.gate_up_proj_scales": ("uint8", (2, 4, 1)),
    "experts.gate_up_proj_bias": ("bfloat16", (2, 4)), "odd": (E2M1, (2, 3)),
}  # fmt: skip
INT4 = {  # GPTQ, and compressed-tensors
    "q.qweight": ("int32", (4, 16)), "q.qzeros": ("int32", (1, 2)), "q.scales": ("float16", (1, 16)),
    "q.g_idx": ("int32", (32,)), "c.weight_packed": ("int32", (16, 4)), "c.weight_scale": ("bfloat16", (16, 1)),
    "c.weight_shape": ("int64", (2,)), "i.weight": ("int8", (16, 16)), "i.weight_scale": ("float32", (16, 1)),
}  # fmt: skip


def checkpoint(tensors: dict[str, tuple[str, tuple[int, ...]]], folder: str = "like") -> None:
    entries = lay_out((name, dtype, shape) for name, (dtype, shape) in tensors.items())
    Path(folder).mkdir()
    data = bytes(max(entry.end for entry in entries.values()))
    (Path(folder) / "model.safetensors").write_bytes(pack_header(entries, {}) + data)
    (Path(folder) / "config.json").write_text(json.dumps({"quantization_config": {"quant_method": "fp8"}}))


def stored(folder: str, name: str) -> np.ndarray:
    """The bytes of a tensor, as numbers where numpy or ml_dtypes has the dtype."""
    path = Path(folder) / "model.safetensors"
    header = read_header(path)
    entry = header.entries[name]
    data = path.read_bytes()[header.start + entry.begin : header.start + entry.end]
    if entry.dtype == E2M1:
        values = np.frombuffer(data, np.uint8)
        return np.stack([values & 15, values >> 4], -1).reshape(entry.shape).view(ml_dtypes.float4_e2m1fn)
    return np.frombuffer(data, getattr(ml_dtypes, entry.dtype, None) or entry.dtype).reshape(entry.shape)


def dequantized(folder: str, tensors: dict[str, tuple[str, tuple[int, ...]]]) -> None:
    """Every float is finite, and small enough that a product over a row stays so."""
    for name, (dtype, shape) in tensors.items():
        values = stored(folder, name)
        assert values.shape == shape
        if dtype in (*CODES,) and "int" not in dtype:
            wide = values.astype(np.float32)
            assert np.isfinite(wide).all(), name
            assert np.abs(wide).max() <= 1, name
        if "scale" in name and dtype != "uint8":
            assert (values.astype(np.float32) == 1).all(), name


@pytest.mark.parametrize("tensors", [FP8, FP4, INT4])
def test_a_dummy_of_a_quantized_checkpoint(tensors):
    checkpoint(tensors)
    done = CliRunner().invoke(init, ["--dummy", "--like", "like", "out"])
    assert (done.exit_code, done.exception) == (0, None)
    assert "weights to measure with" in done.output
    assert {path.name for path in Path("out").iterdir()} == {"config.json", "model.safetensors"}
    assert bigin.verify("out").equal
    before, after = (read_header(Path(folder) / "model.safetensors").entries for folder in ("like", "out"))
    assert {n: (e.code, e.shape) for n, e in before.items()} == {n: (e.code, e.shape) for n, e in after.items()}
    dequantized("out", tensors)


def test_packed_weights_have_both_signs_and_scales_of_one():
    checkpoint({**FP4, **INT4})
    bigin.initialize_dummy("out", "like")
    assert set(np.unique(stored("out", "a.weight").astype(np.float32))) <= {0, 0.5, -0.5}
    assert (stored("out", "experts.gate_up_proj_scales") == 127).all()
    assert (stored("out", "c.weight_shape") == [16, 32]).all()
    assert (stored("out", "q.qzeros").view(np.uint32) == 0x77777777).all()  # GPTQ stores 8 as 7


LARGE = {  # experts that are stacked, or apart, in each way to hold them
    "0.blocks": ("uint8", (2, 64, 32, 16)), "0.w": (E2M1, (2, 512, 64)), "0.qweight": ("int32", (2, 64, 128)),
    "0.weight_packed": ("int32", (128, 128)), "1.weight_packed": ("int32", (128, 128)), "1.q": ("int8", (2, 256, 128)),
    "0.qzeros": ("int32", (1, 16)),
}  # fmt: skip


def test_packed_weights_are_drawn_each_by_itself():
    """By the formula of docs/recipes.md, from draws that bigin.fill makes; no two experts are equal."""
    checkpoint(LARGE)
    bigin.initialize_dummy("out", "like", seed=5)
    header = read_header(Path("out/model.safetensors"))
    data = Path("out/model.safetensors").read_bytes()
    made = {name: data[header.start + e.begin : header.start + e.end] for name, e in header.entries.items()}
    kinds = {"uint8": (0, 0x11, 0x80, 0x08), E2M1: (0, 0x11, 0x80, 0x08), "int32": (0x88, 0x11, -0x20, -2),
             "int8": (0, 1, -2, 0)}  # fmt: skip
    experts = []
    for name, (dtype, shape) in LARGE.items():
        if name == "0.qzeros":  # AWQ stores 8 as it is
            assert set(made[name]) == {0x88}
            continue
        draws = np.empty(len(made[name]), ml_dtypes.float8_e4m3fn)
        bigin.fill(draws, "uniform", a=-1, b=1, seed=5, name=name)
        bits = draws.view(np.uint8).astype(int)
        zero, one, first, second = kinds[dtype]
        sign = bits >> 7
        expected = np.where(bits & 127 < 2, zero + one + first * sign + second * (sign ^ bits & 1), zero) % 256
        assert made[name] == expected.astype(np.uint8).tobytes(), name
        assert 0.002 < (expected != zero).mean() < 0.005, name
        assert len(np.unique(expected)) == (3 if dtype == "int8" else 5), name
        stacked = len(shape) > 2 and name != "1.q"
        experts += np.split(expected, 2) if stacked else [expected]
    assert len({expert.tobytes() for expert in experts}) == len(experts)
    assert bigin.verify("out").equal


def test_a_dummy_is_shown_and_planned():
    checkpoint({**LARGE, **FP8})
    done = CliRunner().invoke(init, ["--dummy", "--like", "like", "--dry-run"])
    assert (done.exit_code, done.exception) == (0, None)
    for told in ("1.weight_packed", "uint4: 0, and 3 in 1000", "normal: N(0, 0.02^2)", "float8_e4m3fn", "14 tensors"):
        assert told in done.output, told
    assert not Path("out").exists()
    done = CliRunner().invoke(init, ["--dummy", "--like", "like", "out", "--parts", "3", "--seed", "2", "-o", "p.json"])
    assert (done.exit_code, done.exception) == (0, None)
    plan = bigin.Plan.read("p.json")
    for part in (2, 0, 1):
        plan.work(part)
    plan.finish()
    bigin.initialize_dummy("whole", "like", seed=2)
    assert values("out") == values("whole")
    assert Path("out/config.json").exists()


def values(folder: str) -> bytes:
    path = Path(folder) / "model.safetensors"
    return path.read_bytes()[read_header(path).start :]


def test_torch_reads_them():
    torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'bigin[torch]'")
    safetensors = pytest.importorskip("safetensors.torch", reason="pip install 'bigin[test]'")
    checkpoint({**FP8, **{name: of for name, of in FP4.items() if name != "odd"}})
    bigin.initialize_dummy("out", "like")
    held = safetensors.load_file("out/model.safetensors")
    assert held["a.weight"].dtype == torch.float4_e2m1fn_x2
    scale = held["model.layers.0.mlp.down_proj.weight_scale"]
    assert scale.dtype == torch.float8_e8m0fnu
    assert (scale.float() == 1).all()


def test_recipes_fill_them_with_numbers():
    checkpoint({"w": (E2M1, (2, 8)), "s": (E8M0, (2,))})
    Path("r.toml").write_text(
        f'[[rule]]\nmatch = "*"\ndtype = "{E2M1}"\nmethod = "constant"\nval = -1.5\n'
        '[[rule]]\nmatch = "s"\nmethod = "constant"\nval = 0.25\n'
    )
    bigin.initialize("r.toml", "out", like="like")
    assert (stored("out", "w").astype(np.float32) == -1.5).all()
    assert (stored("out", "s").astype(np.float32) == 0.25).all()
    assert bigin.verify("out").equal
    for rule, message in (
        ('method = "normal"', "expected one number for a tensor of float"),
        ('method = "zeros"', "s: expected a power of two"),
        (
            'method = "constant"\nval = 5\n[[rule]]\nmatch = "s"\nmethod = "ones"',
            "expected a number among 0, 0.5, 1, 1.5, 2, 3, 4, 6",
        ),
    ):
        Path("bad.toml").write_text(f"[default]\n{rule}\n")
        with pytest.raises(InputError, match=message):
            bigin.initialize("bad.toml", "no", like="like")
    with pytest.raises(InputError, match="fill it with its whole checkpoint"):
        bigin.fill("out#s", "ones", overwrite=True)


@pytest.mark.parametrize("value", [2.0**-127, 2.0**127, 1.0])
def test_powers_of_two_have_the_codes_of_ml_dtypes(value):
    code = np.asarray(value).astype(ml_dtypes.float8_e8m0fnu).view(np.uint8)
    assert PACKED[E8M0].byte(value) == code


@pytest.mark.parametrize("value", [0.0, -0.0, 0.5, -3.0, 6.0])
def test_floats_of_four_bits_have_the_codes_of_ml_dtypes(value):
    code = int(np.asarray(value).astype(ml_dtypes.float4_e2m1fn).view(np.uint8)) & 15
    assert PACKED[E2M1].byte(value) == code | code << 4
