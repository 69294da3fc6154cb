"""The sizes and modes of kernels of independent draws."""

from __future__ import annotations

BLOCKS = 1024  # blocks of four words in a tile: 16 KiB of words
LISTED = 2048  # runs whose starts are listed at once
STEP = 512  # elements that a draw in two steps makes at once
SHORT = 512  # runs shorter than this many elements share a tile; 512 elements never need more than BLOCKS blocks
AXES = 64  # of an array, which numpy allows

REGION, STARTS, STREAMS = range(3)  # what the list of cpu.long_kernel is

# Where a kernel's buffers begin in its thread's scratch memory. The first bytes are Numba's, for a result and an error.
# A vector of kernels/stretches may reach past the ends of PACKED and of the lists.
WORDS = 64
TILE = WORDS + 16 * BLOCKS  # up to four elements of 4 bytes, or two of 8, for each block
PACKED = TILE + 16 * BLOCKS  # as many words
LIST_A = PACKED + 16 * BLOCKS + 64  # lists of one number for each block
LIST_B = LIST_A + 8 * BLOCKS + 64
STARTING = LIST_B + 8 * BLOCKS + 64
INDEX = STARTING + 8 * LISTED
OUTER = INDEX + 8 * AXES  # a region's counts and strides
SCRATCH = OUTER + 16 * AXES
