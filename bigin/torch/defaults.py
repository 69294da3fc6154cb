"""The scheme by which torch's own layers draw their parameters, as rules."""

from __future__ import annotations

import math
from collections.abc import Callable
from glob import escape
from typing import Any

from torch import nn
from torch.nn.utils.parametrizations import _SpectralNorm

from bigin.methods.fans import fans
from bigin.torch.modules import Member, Rule, members
from bigin.torch.partitions import whole_shape

ONES, ZEROS, XAVIER = Rule("ones"), Rule("zeros"), Rule("xavier_uniform")


def rules_like(module: Any) -> dict[str, Rule]:
    """Return rules with the distributions of the layers' own reset_parameters.

    The keys are full names, so that the rules can be inspected, changed, and put before or after others:
    {"head.*": "zeros", **rules_like(model)}. Known are Linear, Bilinear, ConvNd, ConvTransposeNd, Embedding,
    EmbeddingBag, the norms with their running statistics, RNN, GRU, LSTM and their cells, PReLU, MultiheadAttention and
    Transformer. There is no rule for the parameters of other modules, nor of those with a reset_parameters of their
    own. What a model does with its layers once they are made cannot be known either.

    The distributions are torch's; the values are bigin's, each parameter's from the stream of its name.

    Args:
        module: a torch.nn.Module; only names, shapes and dtypes are used.

    Returns:
        A rule for every parameter and buffer whose scheme is known, by full name.

    Example:
        >>> for name, rule in bigin.torch.rules_like(torch.nn.Linear(16, 4)).items():
        ...     print(name, rule)
        weight Rule(method='kaiming_uniform', parameters={'a': 2.23606797749979})
        bias Rule(method='uniform', parameters={'a': -0.25, 'b': 0.25})
    """
    found: dict[str, Rule] = {}
    names: dict[int, str] = {}
    for member in members(module):
        names[id(member.tensor)] = escape(member.name)
        rule = scheme(member)
        if rule is not None:
            found[names[id(member.tensor)]] = rule
    for attention in module.modules():
        if isinstance(attention, nn.MultiheadAttention) and attention.in_proj_bias is not None:
            found[names[id(attention.out_proj.bias)]] = ZEROS
    for transformer in module.modules():
        if isinstance(transformer, nn.Transformer):
            found |= {names[id(each)]: XAVIER for each in transformer.parameters() if each.dim() > 1}
    return found


def scheme(member: Member) -> Rule | None:
    """How a layer draws one of its own parameters or buffers."""
    for kind, method, rule in SCHEMES:
        if isinstance(member.owner, kind) and getattr(type(member.owner), method) is getattr(kind, method):
            return rule(member)
    return None


def of_linear(member: Member) -> Rule | None:
    """Linear and convolutions, transposed ones too, whose fan_in torch counts along the weight's second axis."""
    if member.attribute == "weight":
        return Rule("kaiming_uniform", {"a": math.sqrt(5)})
    if member.attribute != "bias" or member.owner._parameters.get("weight") is None:
        return None
    return symmetric(fans(whole_shape(member.owner.weight))[0])


def of_bilinear(member: Member) -> Rule | None:
    """Bilinear: both by the first input's size."""
    return symmetric(member.owner.in1_features) if member.attribute in ("weight", "bias") else None


def of_embedding(member: Member) -> Rule | None:
    """Embedding and EmbeddingBag, whose row padding_idx is kept zero wherever it is filled."""
    return Rule("normal") if member.attribute == "weight" else None


def of_recurrent(member: Member) -> Rule | None:
    """RNN, GRU, LSTM and their cells: everything by the hidden size."""
    return symmetric(member.owner.hidden_size)


def of_norm(member: Member) -> Rule | None:
    """Norms, and what batch and instance norms keep of the batches that they have seen: none yet."""
    if member.attribute in ("weight", "running_var"):
        return ONES
    return ZEROS if member.attribute in ("bias", "running_mean", "num_batches_tracked") else None


def of_prelu(member: Member) -> Rule | None:
    """PReLU: the slope that it was made with."""
    return Rule("constant", {"val": member.owner.init}) if member.attribute == "weight" else None


def of_attention(member: Member) -> Rule | None:
    """MultiheadAttention, without its output layer."""
    if member.attribute.endswith("_weight"):
        return XAVIER
    return ZEROS if member.attribute == "in_proj_bias" else Rule("xavier_normal")


def of_spectral_norm(member: Member) -> Rule | None:
    """spectral_norm: vectors of about unit length, from which the power method begins."""
    size = member.tensor.numel()
    return Rule("normal", {"std": 1 / math.sqrt(size)}) if member.attribute in ("_u", "_v") and size else None


def symmetric(size: int) -> Rule:
    """U(-1 / sqrt(size), 1 / sqrt(size)); nothing is drawn for a size of 0."""
    if size == 0:
        return ZEROS
    bound = 1 / math.sqrt(size)
    return Rule("uniform", {"a": -bound, "b": bound})


SCHEMES: list[tuple[Any, str, Callable[[Member], Rule | None]]] = [
    (nn.Linear, "reset_parameters", of_linear),
    (nn.modules.conv._ConvNd, "reset_parameters", of_linear),
    (nn.Bilinear, "reset_parameters", of_bilinear),
    (nn.Embedding, "reset_parameters", of_embedding),
    (nn.EmbeddingBag, "reset_parameters", of_embedding),
    (nn.RNNBase, "reset_parameters", of_recurrent),
    (nn.RNNCellBase, "reset_parameters", of_recurrent),
    (nn.modules.batchnorm._NormBase, "reset_parameters", of_norm),
    (nn.LayerNorm, "reset_parameters", of_norm),
    (nn.GroupNorm, "reset_parameters", of_norm),
    (nn.RMSNorm, "reset_parameters", of_norm),
    (nn.PReLU, "reset_parameters", of_prelu),
    (nn.MultiheadAttention, "_reset_parameters", of_attention),
    (_SpectralNorm, "_power_method", of_spectral_norm),
]
