"""Weights that make finite activations, for checkpoints of which only the speed matters: quantized ones, too.

Scales are 1, norms 1, biases 0, matrices N(0, 0.02^2). Integers that hold packed weights are the same everywhere, with
values of both signs beside each other, so that what they add up to stays small.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping

import numpy as np

from bigin.core import dtypes
from bigin.core.names import dotted
from bigin.core.packed import PACKED
from bigin.recipes.recipe import Tensor
from bigin.recipes.specs import bytes_spec, packed_spec
from bigin.spec.model import TensorValues
from bigin.spec.tensor import TensorSpec
from bigin.spec.values import ValuesSpec

STD = 0.02
SCALE = re.compile(
    r"scales?(_inv|_[0-9])?$"
)  # weight_scale, weight_scale_inv, weight_scale_2, input_scale, scales, ...
ZERO = re.compile(r"(zeros|zero_point)$")
PAIR = 0x91  # 0.5 and -0.5 in E2M1
NIBBLES = 0x97979797 - (1 << 32)  # -1 and 1 by turns in integers of 4 bits with the zero point 8, 32 bits at once
EIGHTS = 0x77777777  # GPTQ's zero points 8, as it stores them
ONE = 127  # of E8M0, for scales that are stored as plain bytes
VALUES_IN_32_BITS = 8


def dummy_specs(tensors: Iterable[Tensor], seed: int) -> dict[str, TensorValues]:
    """What the tensors of a checkpoint are filled with, by their last names, dtypes and shapes."""
    by_name = {tensor.name: tensor for tensor in tensors}
    return {name: dummy_spec(tensor, by_name, seed) for name, tensor in by_name.items()}


def dummy_spec(tensor: Tensor, others: Mapping[str, Tensor], seed: int) -> TensorValues:
    """What one tensor is filled with."""
    last = tensor.name.rpartition(".")[2]
    if last == "weight_shape":
        return shape_spec(tensor, others, seed)
    if tensor.dtype in PACKED:
        return packed_spec(tensor, 1, seed) if PACKED[tensor.dtype].count == 1 else bytes_spec(tensor, PAIR, seed)
    method, parameters = dummy_method(tensor, last)
    dtype = dtypes.stored_dtype(tensor.dtype, tensor.name)
    return TensorSpec.parse(method, parameters, seed, dotted(tensor.name), tensor.shape, dtype)


def dummy_method(tensor: Tensor, last: str) -> tuple[str, dict[str, float]]:
    """The method for one tensor of a plain dtype, and its parameters."""
    floats = tensor.dtype in dtypes.FLOATS
    if SCALE.search(last):
        return ("constant", {"val": ONE}) if tensor.dtype == "uint8" else ("ones", {})
    if ZERO.search(last):
        return ("constant", {"val": EIGHTS}) if tensor.dtype == "int32" else ("zeros", {})
    if floats and len(tensor.shape) >= 2 and not last.endswith("bias"):
        return "normal", {"std": STD}
    if floats:
        return ("zeros", {}) if last.endswith("bias") or last.startswith("running_mean") else ("ones", {})
    packs = {"uint8": PAIR, "int32": NIBBLES, "int8": 1}
    if len(tensor.shape) >= 2 and tensor.dtype in packs:
        return "constant", {"val": packs[tensor.dtype]}
    return "zeros", {}


def shape_spec(tensor: Tensor, others: Mapping[str, Tensor], seed: int) -> TensorValues:
    """The shape that packed weights have when they are unpacked, which lies beside them."""
    dtype = dtypes.stored_dtype(tensor.dtype, tensor.name)
    beside = others.get(tensor.name.removesuffix("weight_shape") + "weight_packed")
    if beside is None or len(beside.shape) != math.prod(tensor.shape):
        return TensorSpec.parse("zeros", {}, seed, dotted(tensor.name), tensor.shape, dtype)
    sizes = [*beside.shape[:-1], beside.shape[-1] * VALUES_IN_32_BITS]
    return ValuesSpec(np.array(sizes, dtype).reshape(tensor.shape), dotted(tensor.name), seed)
