"""Kernels to PTX with no GPU, and what PTX must not do if a GPU is to make the bits of a CPU."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any

ARCHITECTURES = ((8, 0), (9, 0))

# What a value passes through on its way unchanged, or changed in its sign alone, which a multiply-add can take over.
PASSES = ("mov", "neg", "abs", "selp", "min", "max")

INSTRUCTION = re.compile(r"^\s*(?:@!?%p\d+\s+)?([a-z][a-z0-9_]*(?:\.[a-z0-9_:]+)*)\s+([^;]*);", re.MULTILINE)
REGISTER = re.compile(r"%[a-z]+\d+")
FLOAT = re.compile(r"\.(f16|bf16|f32|f64)")


def compiled(kernel: Callable[..., None], arguments: Sequence[Any]) -> dict[tuple[int, int], tuple[str, str]]:
    """The PTX of a kernel's Python function for its arguments' numba types, for each architecture: as it runs, and
    compiled under orders not to fuse products with additions.

    Numba asks the current device for its architecture where a device function is compiled. What it makes there is
    NVVM IR, which is the same for all, and what is asked for comes later; so any answer will do.
    """
    from numba import types
    from numba.cuda import compiler, dispatcher

    class Device:
        compute_capability = ARCHITECTURES[0]

    before = dispatcher.get_current_device
    dispatcher.get_current_device = Device
    try:
        signature = types.void(*arguments)
        library, _ = compiler._compile_pyfunc_with_fixup(kernel, signature, device=False, abi="numba", cc=(8, 0))
    finally:
        dispatcher.get_current_device = before
    code = {}
    for architecture in ARCHITECTURES:
        texts = []
        for options in ({}, {"fma": False}):
            library._ptx_cache.clear()
            library._nvvm_options = {"opt": 3, **options}
            texts.append(library.get_asm_str(cc=architecture))
        code[architecture] = (texts[0], texts[1])
    return code


def instructions(ptx: str) -> list[tuple[str, list[str]]]:
    """(operation, operands) in order; the first operand is what is written, where something is."""
    return [
        (operation, [part.strip() for part in operands.split(",")])
        for operation, operands in INSTRUCTION.findall(re.sub(r"//.*", "", ptx))
        if operation != "call"
    ]


def breaches(code: tuple[str, str], double: bool) -> Iterator[str]:
    """What in a kernel's PTX, from `compiled`, could make other bits than the CPU.

    NVVM fuses a product with an addition wherever it may, so such a pair can only be seen where it was forbidden to;
    and what it makes with leave to fuse must be the same code. Then there is nothing for ptxas to fuse, either.
    """
    allowed, forbidden = code
    if instructions(allowed) != [
        (re.sub(r"^(add|sub|mul)\.rn\b", r"\1", name), rest) for name, rest in instructions(forbidden)
    ]:
        yield "a product that feeds an addition was fused: the code differs where fusing is forbidden"
    yield from unsafe(allowed, double)
    yield from unsafe(forbidden, double)


def unsafe(ptx: str, double: bool) -> Iterator[str]:
    """The single instructions that could make other bits.

    A product that feeds an addition may be fused with it; approximations and flushed subnormals are others' bits; and
    arithmetic in float64 where `double` is not set is a detour with two roundings.
    """
    code = instructions(ptx)
    sources: dict[str, list[tuple[str, list[str]]]] = defaultdict(list)
    for operation, operands in code:
        for written in REGISTER.findall(operands[0]):
            sources[written].append((operation, operands[1:]))
    if re.search(r"^\s*(?:@!?%p\d+\s+)?call", ptx, re.MULTILINE):
        yield "a call, whose code is not seen"
    for operation, operands in code:
        line = f"{operation} {', '.join(operands)}"
        if re.search(r"\.(approx|ftz|full|sat|rz|rm|rp)\b", operation) and FLOAT.search(operation):
            yield f"not rounded to nearest: {line}"
        if not double and ".f64" in operation:
            yield f"float64: {line}"
        if re.match(r"(add|sub)\b", operation) and FLOAT.search(operation):
            for operand in operands[1:]:
                if (product := _product(operand, sources, set())) is not None:
                    yield f"a product feeds an addition: {product} -> {line}"


def _product(operand: str, sources: dict[str, list[tuple[str, list[str]]]], seen: set[str]) -> str | None:
    """The multiplication that a register's value comes from, directly or through moves, or None."""
    for register in REGISTER.findall(operand):
        if register in seen:
            continue
        seen.add(register)
        for operation, operands in sources[register]:
            if re.match(r"mul\b", operation) and FLOAT.search(operation):
                return f"{operation} {register}"
            if operation.split(".")[0] in PASSES:
                for source in operands:
                    if (product := _product(source, sources, seen)) is not None:
                        return product
    return None
