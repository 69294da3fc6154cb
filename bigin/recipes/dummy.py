"""Weights that make finite activations, for checkpoints of which only the speed matters: quantized ones, too.

Scales are 1, norms 1, biases 0, matrices N(0, 0.02^2). Integers and bytes that hold quantized weights are drawn, each
tensor and each expert by itself: as their scales are 1, most are 0, and the others the smallest of both signs, so that
their standard deviation is near that of the matrices and 16-bit floats hold what they add up to.
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
from bigin.recipes.specs import packed_spec
from bigin.spec.coded import CodedSpec
from bigin.spec.model import TensorValues
from bigin.spec.tensor import TensorSpec
from bigin.spec.values import ValuesSpec

STD = 0.02
SCALE = re.compile(
    r"scales?(_inv|_[0-9])?$"
)  # weight_scale, weight_scale_inv, weight_scale_2, input_scale, scales, ...
ZERO = re.compile(r"(zeros|zero_point)$")
CODE = {"uint8": "e2m1", "int32": "uint4", "int8": "int8"}  # what a matrix of integers holds
SEVENS = 0x77777777  # GPTQ's zero points 8, as it stores them
EIGHTS = 0x88888888 - (1 << 32)  # AWQ's
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
        row = PACKED[tensor.dtype]
        if row.count == 1:
            return packed_spec(tensor, 1, seed)
        return CodedSpec("e2m1", row.stored(tensor.shape), dtypes.parse_dtype("uint8"), dotted(tensor.name), seed)
    dtype = dtypes.stored_dtype(tensor.dtype, tensor.name)
    if len(tensor.shape) >= 2 and tensor.dtype in CODE and not (SCALE.search(last) or ZERO.search(last)):
        return CodedSpec(CODE[tensor.dtype], tensor.shape, dtype, dotted(tensor.name), seed)
    if ZERO.search(last) and tensor.dtype == "int32":
        gptq = tensor.name.removesuffix(last) + "g_idx" in others
        zero = {"val": SEVENS if gptq else EIGHTS}
        return TensorSpec.parse("constant", zero, seed, dotted(tensor.name), tensor.shape, dtype)
    method, parameters = dummy_method(tensor, last)
    return TensorSpec.parse(method, parameters, seed, dotted(tensor.name), tensor.shape, dtype)


def dummy_method(tensor: Tensor, last: str) -> tuple[str, dict[str, float]]:
    """The method for one tensor of a plain dtype, and its parameters."""
    floats = tensor.dtype in dtypes.FLOATS
    if SCALE.search(last):
        return ("constant", {"val": ONE}) if tensor.dtype == "uint8" else ("ones", {})
    if ZERO.search(last):
        return "zeros", {}
    if floats and len(tensor.shape) >= 2 and not last.endswith("bias"):
        return "normal", {"std": STD}
    if floats:
        return ("zeros", {}) if last.endswith("bias") or last.startswith("running_mean") else ("ones", {})
    return "zeros", {}


def shape_spec(tensor: Tensor, others: Mapping[str, Tensor], seed: int) -> TensorValues:
    """The unpacked shape of packed weights, which a tensor beside them holds."""
    dtype = dtypes.stored_dtype(tensor.dtype, tensor.name)
    beside = others.get(tensor.name.removesuffix("weight_shape") + "weight_packed")
    if beside is None or len(beside.shape) != math.prod(tensor.shape):
        return TensorSpec.parse("zeros", {}, seed, dotted(tensor.name), tensor.shape, dtype)
    sizes = [*beside.shape[:-1], beside.shape[-1] * VALUES_IN_32_BITS]
    return ValuesSpec(np.array(sizes, dtype).reshape(tensor.shape), dotted(tensor.name), seed)
