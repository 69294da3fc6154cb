"""Which instruction set Numba compiles for: what the forms of kernels are chosen by. The values do not depend on it."""

from __future__ import annotations

from functools import cache

from numba.core.registry import cpu_target


@cache
def instruction_set() -> str:
    """avx512, avx2 or neon; avx2 where nothing is known, as LLVM splits its vectors."""
    triple, _, features = cpu_target.target_context.codegen().magic_tuple()
    if triple.startswith(("aarch64", "arm64")):
        return "neon"
    return "avx512" if "+avx512f" in features.split(",") else "avx2"
