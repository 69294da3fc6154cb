"""A matrix product in a fixed order of operations: the same bits on every CPU, for any tiling and number of threads.

For each element of C: the products of a block of DEPTH consecutive k are summed by fma from 0, k ascending, in the type
of the operands; the sums of the blocks are added in float64, blocks ascending. Blocks start at multiples of DEPTH from
the start of the contraction. Nothing else decides a bit, so rows, columns and whole blocks of zeros may be left out or
done apart.

The micro-kernel keeps ROWS x 2 vectors of sums in registers, as one intrinsic that emits vector IR: LLVM splits the
vectors for narrower machines, and the bits stay. Its operands are packed panels: for each k the ROWS values of A, the
COLUMNS values of B.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from bigin.kernels.cache import cache_all

DEPTH = 256  # products in a block
ROWS = 12  # of a register tile
LANES = {32: 16, 64: 8}  # floats in a vector of 512 bits

loop = njit(nogil=True, error_model="numpy")


@intrinsic
def multiply_panels(typingctx: Any, a: Any, b: Any, depth: Any, out: Any, stride: Any) -> Any:
    """out[row * stride + column] += the sum over k < depth of a[k * ROWS + row] * b[k * width + column].

    1-d contiguous arrays: a and b of one float type, out of float64; depth is at least 1.
    """
    if not (isinstance(a, types.Array) and a.dtype == b.dtype and out.dtype == types.float64):
        return None
    bits = a.dtype.bitwidth
    signature = types.void(a, b, types.intp, out, types.intp)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        scalar = ir.FloatType() if bits == 32 else ir.DoubleType()
        vector = ir.VectorType(scalar, LANES[bits])
        word = ir.IntType(64)
        data = [
            context.make_array(kind)(context, builder, value).data
            for kind, value in zip((a, b, out), (args[0], args[1], args[3]), strict=True)
        ]
        a_data, b_data, out_data = data
        fma_type = ir.FunctionType(vector, [vector] * 3)
        fma = cgutils.get_or_insert_function(builder.module, fma_type, f"llvm.fma.v{LANES[bits]}f{bits}")
        zero, one = ir.Constant(word, 0), ir.Constant(word, 1)
        before = builder.block
        loop, after = builder.append_basic_block("k"), builder.append_basic_block("done")
        builder.branch(loop)
        builder.position_at_end(loop)
        k = builder.phi(word)
        k.add_incoming(zero, before)
        sums = [builder.phi(vector) for _ in range(2 * ROWS)]
        for total in sums:
            total.add_incoming(ir.Constant(vector, [ir.Constant(scalar, 0.0)] * LANES[bits]), before)

        def pointer(base: Any, offset: Any) -> Any:
            return builder.gep(base, [offset])

        def load_vector(base: Any, offset: Any) -> Any:
            return builder.load(builder.bitcast(pointer(base, offset), vector.as_pointer()), align=bits // 8)

        b_row = builder.mul(k, ir.Constant(word, 2 * LANES[bits]))
        right = [load_vector(b_data, builder.add(b_row, ir.Constant(word, half * LANES[bits]))) for half in (0, 1)]
        a_row = builder.mul(k, ir.Constant(word, ROWS))
        undefined, first = ir.Constant(vector, ir.Undefined), ir.Constant(ir.IntType(32), 0)
        mask = ir.Constant(ir.VectorType(ir.IntType(32), LANES[bits]), [0] * LANES[bits])
        results = []
        for row in range(ROWS):
            value = builder.load(pointer(a_data, builder.add(a_row, ir.Constant(word, row))))
            spread = builder.shuffle_vector(builder.insert_element(undefined, value, first), undefined, mask)
            for half in (0, 1):
                results.append(builder.call(fma, [spread, right[half], sums[2 * row + half]]))
        following = builder.add(k, one)
        k.add_incoming(following, loop)
        for total, result in zip(sums, results, strict=True):
            total.add_incoming(result, loop)
        builder.cbranch(builder.icmp_signed("<", following, args[2]), loop, after)
        builder.position_at_end(after)
        wide = ir.VectorType(ir.DoubleType(), LANES[bits])
        for i, result in enumerate(results):
            row, half = divmod(i, 2)
            offset = builder.mul(ir.Constant(word, row), args[4])
            place = pointer(out_data, builder.add(offset, ir.Constant(word, half * LANES[bits])))
            place = builder.bitcast(place, wide.as_pointer())
            added = builder.fpext(result, wide) if bits == 32 else result
            builder.store(builder.fadd(builder.load(place, align=8), added), place, align=8)
        return context.get_dummy_value()

    return signature, generate


def packer(width: int) -> Any:
    """A function that packs a matrix as panels of `width` columns, padded with zeros.

    out[panel, k, column], one after the other. The width is a constant of the code, so a row of a panel is one copy.
    """

    def pack(matrix, out):
        depth = matrix.shape[0]
        place = 0
        for start in range(0, matrix.shape[1], width):
            columns = min(width, matrix.shape[1] - start)
            for k in range(depth):
                if columns == width:
                    for j in range(width):
                        out[place + j] = matrix[k, start + j]
                else:
                    for j in range(width):
                        out[place + j] = matrix[k, start + j] if j < columns else 0
                place += width

    pack.__qualname__ = f"pack[{width}]"
    return loop(pack)


pack_left, pack_16, pack_32 = packer(ROWS), packer(2 * LANES[64]), packer(2 * LANES[32])


@loop
def pack_right(matrix, width, out):
    """A matrix as panels of `width` columns, which is a vector pair of its type."""
    if width == 16:
        pack_16(matrix, out)
    else:
        pack_32(matrix, out)


@loop
def pack_rows(matrix, k0, k1, out):
    """Columns k0 to k1 of a matrix, transposed, as panels of ROWS of its rows: out[panel, k, row]."""
    depth = k1 - k0
    for start in range(0, matrix.shape[0], ROWS):
        rows = min(ROWS, matrix.shape[0] - start)
        base = (start // ROWS) * depth * ROWS
        for i in range(rows):
            for k in range(depth):
                out[base + k * ROWS + i] = matrix[start + i, k0 + k]
        for i in range(rows, ROWS):
            for k in range(depth):
                out[base + k * ROWS + i] = 0


@loop
def multiply_packed(a, b, depth, rows, columns, width, edge, total, stride):
    """total[i * stride + j] += the product of packed panels of one block, for i < rows and j < columns.

    `edge` is a register tile of zeros, which serves where less than a whole one is left.
    """
    for j in range(0, columns, width):
        b_panel = b[(j // width) * depth * width : (j // width + 1) * depth * width]
        for i in range(0, rows, ROWS):
            a_panel = a[(i // ROWS) * depth * ROWS : (i // ROWS + 1) * depth * ROWS]
            if i + ROWS <= rows and j + width <= columns:
                multiply_panels(a_panel, b_panel, depth, total[i * stride + j :], stride)
                continue
            multiply_panels(a_panel, b_panel, depth, edge, width)
            for r in range(ROWS):
                for c in range(width):
                    if i + r < rows and j + c < columns:
                        total[(i + r) * stride + j + c] += edge[r * width + c]
                    edge[r * width + c] = 0.0


@loop
def add_product(a, b, width, left, right, edge, total):
    """total += a.T @ b, block by block; left, right and edge are buffers."""
    rows, columns = total.shape
    for k in range(0, a.shape[0], DEPTH):
        depth = min(DEPTH, a.shape[0] - k)
        pack_left(a[k : k + depth], left)
        pack_right(b[k : k + depth], width, right)
        multiply_packed(left, right, depth, rows, columns, width, edge, total.reshape(-1), columns)


@loop
def add_product_packed(a, b, width, right, edge, total):
    """total += a @ b, block by block, where `a` is packed by pack_blocks."""
    rows, columns = total.shape
    padded = -(-rows // ROWS) * ROWS
    for k in range(0, b.shape[0], DEPTH):
        depth = min(DEPTH, b.shape[0] - k)
        pack_right(b[k : k + depth], width, right)
        multiply_packed(a[k * padded :], right, depth, rows, columns, width, edge, total.reshape(-1), columns)


def pack_blocks(matrix: Any) -> Any:
    """A matrix as the left factor of products, block of DEPTH columns by block."""
    padded = -(-matrix.shape[0] // ROWS) * ROWS
    out = np.empty(padded * matrix.shape[1], matrix.dtype)
    for k in range(0, matrix.shape[1], DEPTH):
        pack_rows(matrix, k, min(k + DEPTH, matrix.shape[1]), out[k * padded :])
    return out


class Product:
    """Adds products to a float64 tile, with buffers of its own: one for each thread.

    `rows` and `columns` are the largest that a tile will have.
    """

    def __init__(self, rows: int, columns: int, dtype: np.dtype[Any]) -> None:
        self.width = 2 * LANES[8 * dtype.itemsize]
        self.left = np.empty(DEPTH * (rows + ROWS), dtype)
        self.right = np.empty(DEPTH * (columns + self.width), dtype)
        self.edge = np.zeros(ROWS * self.width)

    def add(self, a: Any, b: Any, total: Any) -> None:
        """total += a.T @ b, for a (k, rows), b (k, columns) and a contiguous total (rows, columns)."""
        add_product(a, b, self.width, self.left, self.right, self.edge, total)

    def add_left_packed(self, a: Any, b: Any, total: Any) -> None:
        """total += a @ b, for an `a` from pack_blocks, b (k, columns) and a contiguous total (rows, columns)."""
        add_product_packed(a, b, self.width, self.right, self.edge, total)

    def add_packed(self, left: Any, right: Any, depth: int, total: Any) -> None:
        """The same for one block whose panels are packed already."""
        rows, columns = total.shape
        multiply_packed(left, right, depth, rows, columns, self.width, self.edge, total.reshape(-1), columns)


cache_all(multiply_packed, pack_rows, pack_right, add_product, add_product_packed)
