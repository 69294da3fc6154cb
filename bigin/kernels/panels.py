"""The loops of the matrix product, of one register tile; matmul.py says what they do."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from bigin.kernels.compile import inner
from bigin.kernels.matmul import DEPTH, Tile

PANEL = 128 << 10  # bytes of the left factor that stay in the L2 cache while the right one's panels pass
UNROLLED = 4  # steps of k in the micro-kernel's loop
TOGETHER = 8  # rows that are packed before the next panel


def micro_kernel(tile: Tile, by_rows: bool, fetched: int) -> Any:
    """The intrinsic that adds the product of two panels to a tile of float64.

    out[row * stride + column] += the sum over k < depth of left[row, k] * right[k * tile.columns + column], where
    left[row, k] is a[min(row, rows - 1) * a_stride + k] `by_rows`, and else a[k * tile.rows + row].
    """
    height, vectors, lanes = tile

    @intrinsic
    def multiply_panels(
        typingctx: Any, a: Any, a_stride: Any, rows: Any, b: Any, ahead: Any, depth: Any, out: Any, stride: Any
    ) -> Any:
        if not (isinstance(a, types.Array) and a.dtype == b.dtype and out.dtype == types.float64):
            return None
        bits = a.dtype.bitwidth
        signature = types.void(a, types.intp, types.intp, b, b, types.intp, out, types.intp)

        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            word, half, byte = ir.IntType(64), ir.IntType(32), ir.IntType(8)
            scalar = ir.FloatType() if bits == 32 else ir.DoubleType()
            vector = ir.VectorType(scalar, lanes)
            wide = ir.VectorType(ir.DoubleType(), lanes)
            arrays = zip((a, b, b, out), (args[0], args[3], args[4], args[6]), strict=True)
            a_data, b_data, ahead_data, out_data = (
                context.make_array(kind)(context, builder, value).data for kind, value in arrays
            )
            a_stride, rows, depth, stride = args[1], args[2], args[5], args[7]
            ahead_bytes = builder.bitcast(ahead_data, byte.as_pointer())
            fma_type = ir.FunctionType(vector, [vector] * 3)
            fma = cgutils.get_or_insert_function(builder.module, fma_type, f"llvm.fma.v{lanes}f{bits}")

            def place(base: Any, offset: Any, kind: Any) -> Any:
                return builder.bitcast(builder.gep(base, [offset]), kind.as_pointer())

            out_rows = [builder.gep(out_data, [builder.mul(word(row), stride)]) for row in range(height)]
            # What the tile is added to comes into the L1 cache while the sums are made: 81 GFLOP/s against 64. The
            # next panel of the right factor comes into the L2 cache meanwhile: 79 against 74.
            fetch_type = ir.FunctionType(ir.VoidType(), [byte.as_pointer(), half, half, half])
            fetch = cgutils.get_or_insert_function(builder.module, fetch_type, "llvm.prefetch.p0")
            for row in out_rows:
                for column in range(0, vectors * lanes, 8):
                    builder.call(fetch, [place(row, word(column), byte), half(1), half(3), half(1)])
            if by_rows:
                last = builder.sub(rows, word(1))
                inside = [builder.icmp_signed("<", word(row), last) for row in range(height)]
                starts = [builder.select(inside[row], word(row), last) for row in range(height)]
                a_rows = [builder.gep(a_data, [builder.mul(start, a_stride)]) for start in starts]

            nothing, spread = ir.Constant(vector, ir.Undefined), ir.Constant(ir.VectorType(half, lanes), [0] * lanes)

            def step(k: Any, sums: list[Any]) -> list[Any]:
                first = builder.mul(k, word(vectors * lanes))
                right = [
                    builder.load(place(b_data, builder.add(first, word(v * lanes)), vector), align=bits // 8)
                    for v in range(vectors)
                ]
                added = []
                for row in range(height):
                    if by_rows:
                        source = builder.gep(a_rows[row], [k])
                    else:
                        source = builder.gep(a_data, [builder.add(builder.mul(k, word(height)), word(row))])
                    one = builder.insert_element(nothing, builder.load(source), half(0))
                    left = builder.shuffle_vector(one, nothing, spread)
                    added += [builder.call(fma, [left, right[v], sums[row * vectors + v]]) for v in range(vectors)]
                return added

            def steps(start: Any, stop: Any, count: int, sums: list[Any]) -> tuple[Any, list[Any]]:
                """`count` steps at once, as long as k < stop."""
                before = builder.block
                head, body, after = (builder.append_basic_block(name) for name in ("head", "body", "after"))
                builder.branch(head)
                builder.position_at_end(head)
                k, totals = builder.phi(word), [builder.phi(vector) for _ in sums]
                builder.cbranch(builder.icmp_signed("<", k, stop), body, after)
                builder.position_at_end(body)
                results = totals
                if count > 1:
                    line = builder.gep(ahead_bytes, [builder.mul(k, word(fetched))])
                    builder.call(fetch, [line, half(0), half(2), half(1)])
                for i in range(count):
                    results = step(builder.add(k, word(i)), results)
                following = builder.add(k, word(count))
                builder.branch(head)
                for phi, first, next_one in zip([k, *totals], [start, *sums], [following, *results], strict=True):
                    phi.add_incoming(first, before)
                    phi.add_incoming(next_one, body)
                builder.position_at_end(after)
                return k, totals

            zero = ir.Constant(vector, [ir.Constant(scalar, 0.0)] * lanes)
            most = builder.and_(depth, word(-UNROLLED))
            k, sums = steps(word(0), most, UNROLLED, [zero] * (height * vectors))
            _, sums = steps(k, depth, 1, sums)
            for i, total in enumerate(sums):
                target = place(out_rows[i // vectors], word(i % vectors * lanes), wide)
                added = builder.fpext(total, wide) if bits == 32 else total
                builder.store(builder.fadd(builder.load(target, align=8), added), target, align=8)
            return context.get_dummy_value()

        return signature, generate

    return multiply_panels


def row_copier(size: int) -> Any:
    """The intrinsic that copies matrix[row, column : column + size] to out[place : place + size], as one vector."""

    @intrinsic
    def copy_row(typingctx: Any, matrix: Any, row: Any, column: Any, out: Any, place: Any) -> Any:
        if not (isinstance(matrix, types.Array) and matrix.ndim == 2 and matrix.dtype == out.dtype):
            return None
        bits = matrix.dtype.bitwidth

        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            source = context.make_array(matrix)(context, builder, args[0])
            target = context.make_array(out)(context, builder, args[3])
            scalar, byte = (ir.FloatType() if bits == 32 else ir.DoubleType()), ir.IntType(8)
            vector = ir.VectorType(scalar, size).as_pointer()
            stride = cgutils.unpack_tuple(builder, source.strides, 2)[0]
            line = builder.gep(builder.bitcast(source.data, byte.as_pointer()), [builder.mul(args[1], stride)])
            first = builder.gep(builder.bitcast(line, scalar.as_pointer()), [args[2]])
            values = builder.load(builder.bitcast(first, vector), align=bits // 8)
            builder.store(values, builder.bitcast(builder.gep(target.data, [args[4]]), vector), align=bits // 8)
            return context.get_dummy_value()

        return types.void(matrix, types.intp, types.intp, out, types.intp), generate

    return copy_row


def made(name: str, tile: Tile, size: tuple[int]) -> Any:
    """A loop of one tile, for floats of so many bits: multiply_rows, pack_right or add_product."""
    (bits,) = size
    height, width = tile.rows, tile.columns
    strip = max(height, PANEL // (DEPTH * bits // 8) // height * height)
    fetch = -(-width * bits // 8 // (strip // height))  # bytes of the next panel that are fetched at each k
    share = fetch * DEPTH * 8 // bits

    def packer(size: int) -> Any:
        """A loop that packs a matrix as panels of `size` columns, padded with zeros: out[panel, k, column].

        A row of a panel is one vector that is copied, some rows before the next panel, so that a cache line is written
        whole: 0.2 ns an element of float32, against 0.5 for a plain loop.
        """
        copy_row = row_copier(size)

        def pack(matrix, out):
            depth, columns = matrix.shape
            whole = columns // size * size
            for first in range(0, depth, TOGETHER):
                for start in range(0, whole, size):
                    for k in range(first, min(depth, first + TOGETHER)):
                        copy_row(matrix, k, start, out, start * depth + k * size)
            if whole < columns:
                for k in range(depth):
                    panel = out[whole * depth + k * size : whole * depth + (k + 1) * size]
                    for j in range(size):
                        panel[j] = matrix[k, whole + j] if whole + j < columns else 0

        return pack

    def multiplier(by_rows: bool) -> Any:
        """A loop: total[i, j] += the product of the packed panels of a block; see Bounds and Product."""
        micro = micro_kernel(tile, by_rows, fetch)

        def multiply(a, a_start, a_stride, b, depth, columns, bounds, edge, total, rows, stride):
            left_first, left_last, right_first, right_last, diagonal = bounds
            for top in range(0, rows, strip):
                for j in range(0, columns, width):
                    following = (j + width if j + width < columns else 0) * depth
                    for i in range(top, min(top + strip, rows), height):
                        first = max(0, max(i + left_first, j + right_first))
                        stop = min(depth, min(i + height + left_last, j + width + right_last))
                        if first >= stop or i >= j + width + diagonal:
                            continue
                        left = a[a_start + i * a_stride + first :] if by_rows else a[i * depth + first * height :]
                        right = b[j * depth + first * width :]
                        ahead = b[following + (i - top) // height * share :]
                        inside = i + height <= rows and j + width <= columns
                        out = total[i * stride + j :] if inside else edge
                        micro(left, a_stride, rows - i, right, ahead, stop - first, out, stride if inside else width)
                        if inside:
                            continue
                        for r in range(min(height, rows - i)):
                            for c in range(min(width, columns - j)):
                                total[(i + r) * stride + j + c] += edge[r * width + c]
                        edge[:] = 0

        return multiply

    if name == "pack_right":
        return packer(width)
    if name == "multiply_rows":
        return multiplier(by_rows=True)
    pack_left, pack_right, multiply_by_k = inner(packer(height)), inner(packer(width)), inner(multiplier(by_rows=False))

    def add_product(a, b, bounds, left, right, edge, total, rows, stride):
        """total += a.T @ b, block by block; left, right and edge are buffers."""
        left_first, left_last, right_first, right_last, diagonal = bounds
        for k in range(0, a.shape[0], DEPTH):
            depth = min(DEPTH, a.shape[0] - k)
            pack_left(a[k : k + depth], left)
            pack_right(b[k : k + depth], right)
            here = (left_first - k, left_last - k, right_first - k, right_last - k, diagonal)
            multiply_by_k(left, 0, 0, right, depth, b.shape[1], here, edge, total, rows, stride)

    return add_product
