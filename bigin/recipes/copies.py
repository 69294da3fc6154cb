"""From a rule that copies tensors of another checkpoint to specifications."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from bigin.core import dtypes
from bigin.core.errors import InputError
from bigin.core.names import dotted
from bigin.core.packed import PACKED
from bigin.core.source import Source
from bigin.core.text import similar
from bigin.recipes.assign import Assignment, Copying
from bigin.recipes.expression import Expression
from bigin.recipes.glob import SourceName
from bigin.recipes.recipe import Copied, Drawn, Grow
from bigin.recipes.tables import whole
from bigin.spec.arranged import Anew, ArrangedSpec, Arrangement
from bigin.spec.copied import ROW, CopySpec, GrownSpec, NewRows, grown
from bigin.spec.model import TensorValues

Sources = Mapping[str, Source]


def spec_of_copy(assignment: Assignment, seed: int, sources: Sources | None) -> TensorValues:
    """The specification of a tensor that is copied, in the dtype that the new one has."""
    tensor, rule, copying = assignment.tensor, assignment.rule, assignment.copying
    assert copying is not None
    if sources is None:
        raise copying.error(
            None,
            "expected a checkpoint to copy from, got none; add from = ... to the recipe, for bigin init (or --from)",
        )
    name = "uint8" if tensor.dtype in PACKED else tensor.dtype
    try:
        if rule.grow is not None:
            return spec_of_grow(assignment, rule.grow, name, seed, sources)
        assert rule.copied is not None
        return spec_of_copied(assignment, rule.copied, name, seed, sources)
    except InputError as error:
        if str(error).startswith(str(copying.error(None, "")).partition(": ")[0]):  # it names the rule already
            raise
        raise copying.error(None, str(error)) from None


def found(copying: Copying, name: SourceName | None, own: str, sources: Sources) -> Source:
    """The tensor of the other checkpoint that a rule names; that of the same name where it names none."""
    wanted = dotted(own) if name is None or not name.text else name.name(copying.stars, lambda e: integer(copying, e))
    wanted = dotted(wanted)
    if wanted not in sources:
        raise InputError(f"expected a tensor of the checkpoint to copy from, got {wanted}{similar(wanted, sources)}")
    return sources[wanted].digested()


def integer(copying: Copying, expression: Expression) -> int:
    """The value of an expression that is a whole number."""
    value = copying.value("copy", expression)
    if not value.is_integer():
        raise InputError(f"expected a whole number, got {expression} = {value:g}")
    return int(value)


def parameters_of(copying: Copying, key: str, drawn: Drawn) -> dict[str, Any]:
    """The parameters of a method, for the tensor."""
    return {
        name: whole(copying.value(key, value)) if isinstance(value, Expression) else value
        for name, value in drawn.parameters.items()
    }


def spec_of_grow(assignment: Assignment, grow: Grow, dtype: str, seed: int, sources: Sources) -> GrownSpec:
    """A tensor with more rows."""
    tensor, copying = assignment.tensor, assignment.copying
    assert copying is not None
    source = found(copying, grow.name, tensor.name, sources)
    rows = tensor.shape[grow.axis] if grow.rows is None and len(tensor.shape) > grow.axis else 0
    if grow.rows is not None:
        value = copying.value("grow", grow.rows)
        rows = math.ceil(value) if value.is_integer() else 0
    rows = -(-rows // grow.multiple) * grow.multiple
    if isinstance(grow.new, Drawn):
        new = NewRows("method", 0, grow.new.method.name, parameters_of(copying, "grow", grow.new))
    else:
        new = NewRows(ROW, grow.new) if isinstance(grow.new, int) else NewRows(grow.new)
    like = None if grow.like is None else found(copying, grow.like, tensor.name, sources)
    name = dotted(tensor.name if like is None else like.tensor)
    spec = grown(source, new, rows, dtypes.parse_dtype(dtype), name, seed, grow.axis)
    if like is not None and like.shape != source.shape:
        raise InputError(f"expected a tensor of shape {source.shape} to be like, got {like.tensor} of {like.shape}")
    if tensor.shape not in (source.shape, spec.shape):
        raise InputError(
            f"expected a tensor of shape {source.shape} or {spec.shape} in the new model, got {tensor.shape}"
        )
    return spec if like is None or like == source else replace(spec, like=like)


def spec_of_copied(
    assignment: Assignment, copied: Copied, dtype: str, seed: int, sources: Sources
) -> CopySpec | ArrangedSpec:
    """A copy, as it is or changed."""
    tensor, copying = assignment.tensor, assignment.copying
    assert copying is not None
    of = tuple(found(copying, name, tensor.name, sources) for name in copied.names)
    shape = PACKED[tensor.dtype].stored(tensor.shape) if tensor.dtype in PACKED else tensor.shape
    copies = shape[0] if copied.stack and shape else 1 if copied.stack else None
    arrangement = Arrangement(
        copied.slices,
        transpose=copied.transpose,
        concat=copied.concat,
        repeat=copied.repeat,
        copies=copies,
        block=copied.block,
    )
    spec = ArrangedSpec(of, arrangement, shape, dtypes.parse_dtype(dtype), dotted(tensor.name), seed)
    if copied.multiply is not None:
        spec = replace(spec, multiply=copying.value("copy", copied.multiply))
    if copied.noise is not None:
        spec = spec.with_noise(copied.noise.method.name, parameters_of(copying, "noise", copied.noise))
    if (reinit := copied.reinit) is not None:
        values = spec.drawn(reinit.drawn.method.name, parameters_of(copying, "reinit", reinit.drawn), spec.dtype)
        group = spec.name if reinit.group is None else dotted(reinit.group.name(tensor.name, copying.stars))
        spec = replace(spec, anew=Anew(values, reinit.fraction, reinit.axis, group if reinit.axis is not None else ""))
    spec.check()
    plain = arrangement == Arrangement() and len(of) == 1 and spec.multiply == 1
    if plain and spec.noise is None and spec.anew is None:
        return CopySpec(of[0], spec.dtype, spec.name, seed)
    return spec
