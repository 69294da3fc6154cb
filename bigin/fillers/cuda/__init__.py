"""Fillers on a CUDA device."""
