"""The CUDA kernels: shells around rng/."""
