"""Which instruction set Numba compiles for: what the forms of kernels are chosen by. The values do not depend on it."""

from __future__ import annotations

import os
from functools import cache


@cache
def instruction_set() -> str:
    """avx512, avx2 or neon; avx2 where nothing is known, as LLVM splits its vectors."""
    import llvmlite.binding as llvm

    if llvm.get_process_triple().startswith(("aarch64", "arm64")):
        return "neon"
    if os.environ.get("NUMBA_ENABLE_AVX") == "0":
        return "avx2"
    features = os.environ.get("NUMBA_CPU_FEATURES")
    if features is None:
        features = llvm.get_host_cpu_features().flatten()
    return "avx512" if "+avx512f" in features.split(",") else "avx2"
