"""Models of other libraries, tiny, and what tells whether bigin's initial values are like those of their own code.

A model is built three times in memory, by its own code with three seeds, and once recorded and filled. Elements that
are the same with all three seeds are constants: they must be the same bits. The others are random: they are compared
with those of the three models by two-sample tests of Kolmogorov and Smirnov, over the whole tensor and over both halves
along each axis.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import stats

import bigin.torch

ERROR = 1e-3  # family-wise, over all tests of all models of a library
TESTS = 200_000  # that are made at most, for all models of a library: each is judged at ERROR / TESTS
SEEDS = (11, 22, 33)
SAMPLE, HALF = 1 << 15, 1 << 13  # random elements of a tensor, and of a half, that a test takes, evenly spaced
OUT = Path(__file__).resolve().parents[2] / "out"
VISION = OUT / "vision"  # where .ci/run installs timm and torchvision
TITAN = OUT / "torchtitan"  # where torchtitan may lie, with what it imports

# Sizes of tiny models, by the names that configurations have for them.
SMALL = {
    **dict.fromkeys(["hidden_size", "d_model", "n_embd", "embed_dim", "dim", "encoder_embed_dim", "emb_dim"], 32),
    **dict.fromkeys(["num_hidden_layers", "n_layer", "num_layers", "encoder_layers", "decoder_layers", "n_layers"], 2),
    **dict.fromkeys(["num_decoder_layers", "num_encoder_layers", "decoder_num_hidden_layers"], 2),
    **dict.fromkeys(["num_attention_heads", "n_head", "encoder_attention_heads", "decoder_attention_heads"], 4),
    **dict.fromkeys(["num_heads", "n_heads", "decoder_num_attention_heads"], 4),
    **dict.fromkeys(["num_key_value_heads"], 2),
    **dict.fromkeys(["intermediate_size", "n_inner", "encoder_ffn_dim", "decoder_ffn_dim", "ffn_dim", "d_ff"], 40),
    **dict.fromkeys(["moe_intermediate_size", "decoder_intermediate_size", "expert_ffn_hidden_size"], 24),
    **dict.fromkeys(["vocab_size", "encoder_vocab_size"], 99),
    **dict.fromkeys(["max_position_embeddings", "n_positions", "max_source_positions", "max_target_positions"], 64),
    **dict.fromkeys(["num_local_experts", "num_experts", "n_routed_experts"], 4),
    **dict.fromkeys(["num_experts_per_tok"], 2),
    **dict.fromkeys(["head_dim", "d_kv"], 8),
    **dict.fromkeys(["image_size"], 32),
    **dict.fromkeys(["patch_size"], 8),
    **dict.fromkeys(["state_size", "ssm_state_size"], 8),
    **dict.fromkeys(["pad_token_id"], 1),
}


def shrink(config: Any, depth: int = 0) -> Any:
    """A configuration with small sizes, and those within it."""
    for name, value in list(vars(config).items()):
        if hasattr(value, "to_dict") and depth < 3:
            shrink(value, depth + 1)
        elif name in SMALL and isinstance(value, int) and not isinstance(value, bool) and value > SMALL[name]:
            setattr(config, name, SMALL[name])
    if isinstance(vars(config).get("layer_types"), list):
        config.layer_types = config.layer_types[: getattr(config, "num_hidden_layers", 2)]
    return config


@dataclass(frozen=True)
class Outcome:
    """What a comparison told: of how many tensors, how many tests, and what differs."""

    name: str
    tensors: int
    elements: int
    tests: int
    problems: tuple[str, ...]


def compare(name: str, build: Callable[[], Any], *, error: float = ERROR, tests: int = TESTS) -> Outcome:
    """Compare a model's own initialization with what was recorded of it and filled by bigin."""
    own = []
    for seed in SEEDS:
        torch.manual_seed(seed)
        np.random.seed(seed % 1000)
        own.append(build())
    with warnings.catch_warnings(), bigin.torch.deferred(seed=1) as init:
        warnings.simplefilter("ignore")
        recorded = build()
    problems = structure(own[0], recorded)
    recorded.to_empty(device="cpu")
    try:
        bigin.torch.init_(recorded, init)
    except ValueError as refused:
        return Outcome(name, 0, 0, 0, (*problems, str(refused)))
    count, elements, made = 0, 0, 0
    held = [dict(members(model)) for model in own]
    for key, ours in members(recorded):
        if key not in held[0]:
            continue
        count, elements = count + 1, elements + ours.numel()
        told, done = differences([tensors[key] for tensors in held], ours, error / tests)
        made += done
        problems += [f"{key}: {each}" for each in told]
    return Outcome(name, count, elements, made, tuple(problems))


def members(model: Any) -> Iterator[tuple[str, Any]]:
    """Parameters and buffers, each once."""
    yield from model.named_parameters()
    yield from model.named_buffers()


def structure(own: Any, recorded: Any) -> list[str]:
    """What differs in names, shapes, dtypes, and in which tensors are tied."""
    problems = []
    for kind in ("named_parameters", "named_buffers"):
        ours, theirs = ([*getattr(model, kind)(remove_duplicate=False)] for model in (recorded, own))
        if [(k, t.shape, t.dtype) for k, t in ours] != [(k, t.shape, t.dtype) for k, t in theirs]:
            problems.append(f"{kind}: names, shapes or dtypes differ")
        ties = [[[*map(id, dict(each).values())].index(id(t)) for _, t in each] for each in (ours, theirs)]
        if ties[0] != ties[1]:
            problems.append(f"{kind}: other tensors are tied")
    return problems


def differences(theirs: list[Any], ours: Any, level: float) -> tuple[list[str], int]:
    """What differs between a tensor of three models and ours, and how many tests were made."""
    values = [np.atleast_1d(numpy_of(tensor)) for tensor in theirs]
    mine = np.atleast_1d(numpy_of(ours))
    same = (bits(values[0]) == bits(values[1])) & (bits(values[0]) == bits(values[2]))
    if (bits(mine)[same] != bits(values[0])[same]).any():
        if np.array_equal(mine[same], values[0][same], equal_nan=True):
            return [], 0  # zeros of the other sign
        return [f"{np.count_nonzero(bits(mine)[same] != bits(values[0])[same])} constants differ"], 0
    problems, made = [], 0
    for where, label in parts(mine.shape):
        free = ~same[where]
        if np.count_nonzero(free) < 4:
            continue
        every = -(-np.count_nonzero(free) // (HALF if where else SAMPLE))
        sample = mine[where][free][::every].astype(np.float64)
        pooled = np.concatenate([v[where][free][::every].astype(np.float64) for v in values])
        made += 1
        p = stats.ks_2samp(sample, pooled, method="asymp" if sample.size > 500 else "auto").pvalue
        if p < level:
            problems.append(
                f"other distribution{label} (p {p:.2g}; std {sample.std():.4g}, expected {pooled.std():.4g})"
            )
    return problems, made


def parts(shape: tuple[int, ...]) -> Iterator[tuple[tuple[slice, ...], str]]:
    """The whole, and both halves along each axis."""
    yield (), ""
    for axis, size in enumerate(shape):
        if size > 1:
            for half, label in ((slice(0, size // 2), "first"), (slice(size // 2, None), "second")):
                yield (slice(None),) * axis + (half,), f" in the {label} half along axis {axis}"


def numpy_of(tensor: Any) -> np.ndarray:
    """A tensor's values."""
    tensor = tensor.detach()
    return (tensor.float() if tensor.dtype in (torch.bfloat16, torch.float16) else tensor).numpy()


def bits(values: np.ndarray) -> np.ndarray:
    """Their bits."""
    values = np.ascontiguousarray(values)
    if not values.size:
        return values
    return values.view(np.uint8).reshape(*values.shape, -1).view(f"V{values.dtype.itemsize}")[..., 0]


# --- transformers ---------------------------------------------------------------------------------------------------


def transformers_models() -> list[str]:
    """The model types of transformers."""
    auto = importlib.import_module("transformers.models.auto")
    return sorted(auto.configuration_auto.CONFIG_MAPPING_NAMES)


def transformers_build(kind: str) -> Callable[[], Any]:
    """What builds a tiny model of a type."""
    import transformers

    config = shrink(transformers.models.auto.configuration_auto.CONFIG_MAPPING[kind]())

    def build() -> Any:
        import copy

        return transformers.AutoModel.from_config(copy.deepcopy(config))

    return build


def parameters_of(build: Callable[[], Any]) -> int:
    """The number of parameters, without making any."""
    try:
        with torch.device("meta"):
            return sum(p.numel() for p in build().parameters())
    except NotImplementedError:  # code that looks at values which it has computed
        return sum(p.numel() for p in build().parameters())


# --- timm, torchvision ----------------------------------------------------------------------------------------------


def with_vision() -> None:
    """Make timm and torchvision importable, also where torchvision was built for another torch.

    Its compiled operators are for detection and are not needed to build a model; but it names two of them when it is
    imported, which are declared then.
    """
    if VISION.is_dir() and str(VISION) not in sys.path:
        sys.path.append(str(VISION))
    try:
        importlib.import_module("torchvision")
    except RuntimeError:
        from torch import library

        for name in ("nms", "qnms"):
            library.define(f"torchvision::{name}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        importlib.import_module("torchvision")


# Of each family one of the smallest.
TIMM = [
    "bat_resnext26ts",
    "beit_base_patch16_224",
    "botnet26t_256",
    "cait_xxs24_224",
    "coat_lite_tiny",
    "coatnet_nano_rw_224",
    "convit_tiny",
    "convmixer_768_32",
    "convnext_atto",
    "crossvit_tiny_240",
    "cs3darknet_focus_s",
    "cspnext_tiny",
    "davit_tiny",
    "deit_tiny_patch16_224",
    "densenet121",
    "dla46_c",
    "dpn48b",
    "eca_botnext26ts_256",
    "eca_nfnet_l0",
    "edgenext_xx_small",
    "efficientformer_l1",
    "efficientformerv2_s0",
    "efficientnet_b0",
    "efficientvim_m1",
    "efficientvit_b0",
    "efficientvit_m0",
    "ese_vovnet19b_dw",
    "eva02_tiny_patch14_224",
    "fasternet_t0",
    "fastvit_t8",
    "flexivit_small",
    "focalnet_tiny_srf",
    "gcvit_xxtiny",
    "ghostnet_050",
    "ghostnetv2_100",
    "gmixer_12_224",
    "gmlp_s16_224",
    "halonet26t",
    "hardcorenas_a",
    "hgnetv2_b0",
    "hiera_tiny_224",
    "hrnet_w18_small",
    "iformer_t",
    "inception_next_atto",
    "inception_v3",
    "lambda_resnet26t",
    "lcnet_050",
    "legacy_seresnet18",
    "levit_128s",
    "mambaout_femto",
    "maxvit_rmlp_pico_rw_256",
    "mixer_s32_224",
    "mixnet_s",
    "mnasnet_small",
    "mobilenetv2_035",
    "mobilenetv3_small_050",
    "mobilenetv4_conv_small",
    "mobileone_s0",
    "mobilevit_xxs",
    "mobilevitv2_050",
    "mvitv2_tiny",
    "nest_tiny",
    "nf_regnet_b0",
    "pit_ti_224",
    "poolformer_s12",
    "pvt_v2_b0",
    "rdnet_tiny",
    "regnetx_002",
    "regnety_002",
    "repghostnet_050",
    "repvgg_a0",
    "repvit_m0_9",
    "res2net50_26w_4s",
    "resmlp_12_224",
    "resnest14d",
    "resnet18",
    "resnetv2_18",
    "rexnet_100",
    "sam2_hiera_tiny",
    "sehalonet33ts",
    "selecsls42",
    "semnasnet_050",
    "sequencer2d_s",
    "shvit_s1",
    "skresnet18",
    "starnet_s050",
    "swiftformer_xs",
    "swin_tiny_patch4_window7_224",
    "swinv2_tiny_window8_256",
    "swinv2_cr_tiny_224",
    "tf_efficientnetv2_b0",
    "tiny_vit_5m_224",
    "tinynet_e",
    "tnt_s_patch16_224",
    "tresnet_m",
    "twins_svt_small",
    "visformer_tiny",
    "vit_relpos_small_patch16_224",
    "vit_srelpos_small_patch16_224",
    "vit_tiny_patch16_224",
    "vit_tiny_r_s16_p8_224",
    "vitamin_small_224",
    "volo_d1_224",
    "wide_resnet50_2",
    "xception41",
    "xcit_nano_12_p16_224",
]


# Arguments that make a model of timm smaller, of those whose smallest is large.
TIMM_SMALLER: dict[str, dict[str, Any]] = {
    "beit_base_patch16_224": {"depth": 2},
    "wide_resnet50_2": {"layers": (1, 1, 1, 1)},
}


def timm_build(name: str) -> Callable[[], Any]:
    """What builds a model of timm."""
    timm = importlib.import_module("timm")
    return lambda: timm.create_model(name, pretrained=False, **TIMM_SMALLER.get(name, {}))


def torchvision_models() -> list[str]:
    """The models of torchvision."""
    return list(importlib.import_module("torchvision").models.list_models())


def torchvision_build(name: str) -> Callable[[], Any]:
    """What builds a model of torchvision."""
    models = importlib.import_module("torchvision").models
    with_backbone = [*models.list_models(models.detection), *models.list_models(models.segmentation)]
    options = {"weights_backbone": None} if name in with_backbone else {}
    return lambda: models.get_model(name, weights=None, **options)


# --- torchtitan -----------------------------------------------------------------------------------------------------

# A model of torchtitan, the name in it of its configurations, and the small ones of those.
TITANS = {
    "llama3": ("debugmodel",),
    "qwen3": ("debugmodel", "debugmodel_non_fused_qkv", "debugmodel_moe"),
    "deepseek_v3": ("debugmodel",),
    "kimi_k2_7": ("debugmodel",),
    "gpt_oss": ("debugmodel",),
    "qwen3_5": ("debugmodel", "debugmodel_moe"),
    "muse_glimmer": ("debugmodel", "debugmodel_mm"),
    "flux": ("flux-debug",),
}


def with_titan() -> None:
    """Make torchtitan importable."""
    if TITAN.is_dir() and str(TITAN) not in sys.path:
        sys.path.append(str(TITAN))


def titan_models() -> list[str]:
    """The models of torchtitan and their small configurations."""
    return [f"{model} {flavor}" for model, flavors in TITANS.items() for flavor in flavors]


def titan_build(name: str) -> Callable[[], Any]:
    """What builds a model of torchtitan and initializes it, as its trainer does."""
    model, _, flavor = name.partition(" ")
    module = importlib.import_module(f"torchtitan.models.{model}")

    def build() -> Any:
        made = module.model_registry(flavor).model.build()
        with torch.no_grad():
            made.init_weights(buffer_device=None)
        return made

    return build
