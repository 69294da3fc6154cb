"""The expressions of recipes: a small, safe language for numbers.

Numbers, + - * / // % **, parentheses, sqrt, min, max, a recipe's variables, and what a tensor is: shape[i], ndim, size,
fan_in, fan_out, layer. Every number is a float64 and every operation one that IEEE 754 rounds correctly, so an
expression has the same value everywhere. A power is a repeated multiplication, by a whole number.
"""

from __future__ import annotations

import ast
import math
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bigin.core.errors import InputError

LONGEST = 400  # characters of an expression
DEEPEST = 30  # levels of it
HIGHEST = 64  # exponent of a power
FUNCTIONS = ("sqrt", "min", "max")
OF_A_TENSOR = ("shape", "ndim", "size", "fan_in", "fan_out", "layer")  # names whose value depends on the tensor
OPERATORS = {
    ast.Add: "+",
    ast.Sub: "-",
    ast.Mult: "*",
    ast.Div: "/",
    ast.Pow: "**",
    ast.FloorDiv: "//",
    ast.Mod: "%",
}
NAME = re.compile(r"[A-Za-z_][A-Za-z_0-9]*")
CHARACTERS = re.compile(r"[A-Za-z_0-9.+\-*/%()\[\], ]*")

Value = float | Sequence[int]  # shape alone is not a number


@dataclass(frozen=True)
class Expression:
    """An expression that has been read. `names` are the variables, and what it asks of a tensor."""

    text: str
    names: frozenset[str]
    _tree: ast.expr

    @property
    def of_a_tensor(self) -> bool:
        """Whether the value depends on the tensor."""
        return not self.names.isdisjoint(OF_A_TENSOR)

    def value(self, names: Mapping[str, Value]) -> float:
        """Return the value, which is finite; raises InputError for a division by zero and the like."""
        value = _value(self._tree, names)
        if not math.isfinite(value):
            raise InputError(f"expected a finite number, got {self.text} = {value}")
        return value

    def __str__(self) -> str:
        return self.text


def parse_expression(text: str) -> Expression:
    """Return an expression from its text; raises InputError."""
    if len(text) > LONGEST:
        raise InputError(f"expected an expression of at most {LONGEST} characters, got {len(text)}")
    if not CHARACTERS.fullmatch(text) or not text.strip():
        raise InputError(f"expected an expression such as 0.02 / sqrt(2 * n_layers), got {text!r}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python's, on odd spellings of numbers
            tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        what = error.msg if isinstance(error, SyntaxError) else "it cannot be read"
        raise InputError(f"expected an expression such as 0.02 / sqrt(2 * n_layers), got {text!r}: {what}") from None
    names: set[str] = set()
    _check(tree, names, 0)
    return Expression(text.strip(), frozenset(names), tree)


def _check(node: ast.expr, names: set[str], depth: int) -> None:
    """Refuse everything that is not part of the language, and collect the names."""
    if depth > DEEPEST:
        raise InputError(f"expected an expression of at most {DEEPEST} levels, got a deeper one")
    inner: list[ast.expr] = []
    match node:
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
            _number(number)
        case ast.Name(id=name) if name == "shape":
            raise InputError("expected an axis after shape, such as shape[0]")
        case ast.Name(id=name) if name in FUNCTIONS:
            raise InputError(f"expected parentheses after {name}")
        case ast.Name(id=name):
            names.add(name)
        case ast.Subscript(value=ast.Name(id="shape"), slice=axis):
            _axis(axis)
            names.add("shape")
        case ast.UnaryOp(op=ast.UAdd() | ast.USub(), operand=operand):
            inner = [operand]
        case ast.BinOp(left=left, op=operator, right=right) if type(operator) in OPERATORS:
            inner = [left, right]
        case ast.Call(func=ast.Name(id="sqrt"), args=[argument], keywords=[]):
            inner = [argument]
        case ast.Call(func=ast.Name(id="min" | "max"), args=[_, *_] as arguments, keywords=[]):
            inner = arguments
        case _:
            raise InputError(
                f"expected numbers, variables, + - * / // % **, sqrt, min, max and parentheses, got {ast.unparse(node)}"
            )
    for each in inner:
        _check(each, names, depth + 1)


def _axis(node: ast.expr) -> int:
    match node:
        case ast.Constant(value=int() as axis) if not isinstance(axis, bool):
            return axis
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() as axis)) if not isinstance(axis, bool):
            return -axis
    raise InputError(f"expected shape with one whole number, such as shape[0] or shape[-1], got {ast.unparse(node)}")


def _number(number: float) -> float:
    try:
        return float(number)
    except OverflowError:
        raise InputError("expected numbers that fit in float64, got a larger one") from None


def _value(node: ast.expr, names: Mapping[str, Value]) -> float:
    match node:
        case ast.Constant(value=int() | float() as number):
            return _number(number)
        case ast.Name(id=name):
            return _number(names[name])  # type: ignore[arg-type]
        case ast.Subscript(slice=axis):
            return _size(names["shape"], _axis(axis))  # type: ignore[arg-type]
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_value(operand, names)
        case ast.UnaryOp(operand=operand):
            return _value(operand, names)
        case ast.BinOp(left=left, op=operator, right=right):
            return _operation(OPERATORS[type(operator)], _value(left, names), _value(right, names))
        case ast.Call(func=ast.Name(id=name), args=arguments):
            values = [_value(argument, names) for argument in arguments]
            return _sqrt(values[0]) if name == "sqrt" else min(values) if name == "min" else max(values)
    raise AssertionError(ast.dump(node))  # _check has seen to it


def _operation(operator: str, left: float, right: float) -> float:
    if operator == "+":
        return left + right
    if operator == "-":
        return left - right
    if operator == "*":
        return left * right
    if operator == "**":
        return _power(left, right)
    if operator in ("//", "%"):
        return _whole_quotient(operator, left, right)
    return _quotient(left, right)


def _quotient(left: float, right: float) -> float:
    if right == 0:
        raise InputError("expected a divisor other than 0, got 0")
    return left / right


def _whole_quotient(operator: str, left: float, right: float) -> float:
    """The quotient of whole numbers rounded down, or what is left of them: both exact."""
    if right == 0 or not (left.is_integer() and right.is_integer()):
        raise InputError(
            f"expected whole numbers around {operator}, and a divisor other than 0, got {left:g}, {right:g}"
        )
    return float(int(left) // int(right) if operator == "//" else int(left) % int(right))


def _power(base: float, exponent: float) -> float:
    """base times base times ..., from left to right; 1 over that where the exponent is negative."""
    if not exponent.is_integer() or abs(exponent) > HIGHEST:
        hint = "; write sqrt for a root" if not exponent.is_integer() else ""
        raise InputError(f"expected an exponent that is a whole number up to {HIGHEST}, got {exponent:g}{hint}")
    result = 1.0
    for _ in range(abs(int(exponent))):
        result *= base
    return _quotient(1.0, result) if exponent < 0 else result


def _sqrt(value: float) -> float:
    if not value >= 0:
        raise InputError(f"expected a number >= 0 in sqrt, got {value:g}")
    return math.sqrt(value)


def _size(shape: Sequence[int], axis: int) -> float:
    if not -len(shape) <= axis < len(shape):
        raise InputError(f"expected an axis of shape {tuple(shape)}, got shape[{axis}]")
    return float(shape[axis])
