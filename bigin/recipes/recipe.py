"""A recipe: a seed, variables and rules. The first rule that matches a tensor applies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

from bigin.core.errors import InputError
from bigin.methods.table import Method
from bigin.recipes.expression import Expression
from bigin.recipes.glob import Glob, SourceName, Template
from bigin.recipes.source import Path, TomlText

# A shape alone does not tell the axes of the inputs and outputs. batch_axis lists axes that count for no fan.
# Every other axis belongs to the receptive field, whose size multiplies both fans.
LAYOUTS: dict[str, dict[str, list[int]]] = {
    "linear": {"in_axis": [1], "out_axis": [0], "batch_axis": []},  # (out, in, ...), torch's Linear and Conv
    "transposed": {"in_axis": [-2], "out_axis": [-1], "batch_axis": []},  # (..., in, out): GPT-2's Conv1D, JAX, Keras
    "conv_transpose": {"in_axis": [0], "out_axis": [1], "batch_axis": []},  # (in, out, ...), torch's ConvTranspose
    "depthwise": {"in_axis": [1], "out_axis": [], "batch_axis": [0]},  # (channels, 1, ...): fans of one channel
    "embedding": {"in_axis": [], "out_axis": [], "batch_axis": [0]},  # (rows, size): both fans are a row's size
}
SHOWN = 3  # patterns of a rule
AXES = ("in_axis", "out_axis", "batch_axis")


class Tensor(NamedTuple):
    """What a recipe knows about a tensor."""

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class Split:
    """How a fused tensor is split along an axis into its parts.

    `sizes` are the sizes of the parts, or None for `parts` equal ones. With `stack`, every index of the axis is a part,
    whose shape lacks the axis.
    """

    axis: int
    sizes: tuple[Expression, ...] | None
    parts: Expression | None
    stack: bool
    names: tuple[Template, ...]


@dataclass(frozen=True)
class Drawn:
    """A method for noise, or for what is drawn anew in a copy. The parameters are as those of a rule."""

    method: Method
    parameters: Mapping[str, Any]


@dataclass(frozen=True)
class Reinit:
    """Which part of a copy is drawn anew: a fraction of its elements, or of the indices along an axis.

    Tensors of one `group` draw the same indices anew.
    """

    drawn: Drawn
    fraction: float
    axis: int | None
    group: Template | None


@dataclass(frozen=True)
class Copied:
    """What a tensor is a copy of, and what is done with that, in the order of the fields.

    Tensors are cut to `slices`, transposed, joined along an axis, repeated along each axis in blocks of indices (0 for
    all of them), and stacked: each index of a new first axis is a copy. Then they are multiplied, noise is added, and
    a part is drawn anew.
    """

    names: tuple[SourceName, ...]
    slices: tuple[tuple[int | None, int | None, int | None], ...]
    transpose: bool
    concat: int
    repeat: tuple[int, ...]
    block: tuple[int, ...]
    stack: bool
    multiply: Expression | None
    noise: Drawn | None
    reinit: Reinit | None


@dataclass(frozen=True)
class Grow:
    """A tensor with more rows: its source, the number of rows (None for as many as before), and the new rows' values.

    new: "mean", "mean+covariance", the number of a row, or a method. like: the tensor that the new rows follow. axis:
    that which grows: 1 for a matrix with a column for every token.
    """

    name: SourceName
    rows: Expression | None
    multiple: int
    new: str | int | Drawn
    like: SourceName | None
    axis: int = 0


@dataclass(frozen=True)
class RecipeRule:
    """A rule of a recipe. `path` is its position in the file; `number` counts from 1, and is 0 for the default rule."""

    number: int
    path: Path
    match: tuple[Glob, ...]
    shape: tuple[float | None, ...] | None
    ndim: tuple[int, ...] | None
    dtype: tuple[str, ...] | None
    method: Method | None  # None where the tensor is a copy
    parameters: Mapping[str, Any]  # numbers, words and lists as the method takes them, and expressions
    axes: Mapping[str, list[int]]
    fans_of: Template | None
    split: Split | None
    padding_idx: int | None
    optional: bool = False  # it may match no tensor
    copied: Copied | None = None
    grow: Grow | None = None

    @cached_property
    def asks_for_layer(self) -> bool:
        """Whether a parameter depends on the number of the tensor's layer."""
        return any(isinstance(value, Expression) and "layer" in value.names for value in self.parameters.values())

    @property
    def label(self) -> str:
        """The name of the rule in messages and tables."""
        return f"rule {self.number}" if self.number else "default"


@dataclass(frozen=True)
class Recipe:
    """A recipe that has been read and checked. `skip` are patterns of tensors that it leaves unchanged."""

    source: TomlText = field(repr=False)
    seed: int
    description: str
    sources: tuple[str, ...]
    architectures: tuple[str, ...]  # for readers: the models that it is for
    variables: Mapping[str, float]
    skip: tuple[Glob, ...]
    rules: Sequence[RecipeRule]
    origin: str | None = None  # the checkpoint that tensors are copied from

    def at(self, rule: RecipeRule) -> str:
        """The name of a rule, its patterns and its line."""
        shown = ", ".join(glob.text for glob in rule.match[:SHOWN]) + (", ..." if len(rule.match) > SHOWN else "")
        line = self.source.line(rule.path)
        return f"{rule.label} ({shown}{f', line {line}' if line else ''})"

    def error(self, rule: RecipeRule, key: str | None, message: str, tensor: str | None = None) -> InputError:
        """Return an error that names the file, the line and the key, and the tensor if it is about one."""
        about = f"{tensor}: " if tensor is not None else ""
        return self.source.error((*rule.path, *([key] if key else [])), about + message)
