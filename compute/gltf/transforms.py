"""Transforms of nodes, taken apart and applied, with the same bits on every machine.

A matrix product by BLAS fuses and reorders as the processor likes; the last bit of a position, and with it the bytes of
a package, would differ from one machine to the next. So products are written out here.
"""

from __future__ import annotations

import math

import numpy as np

from cloudbaker.compute.gltf.document import Array

_SHEAR = 1e-5
"""How far from a right angle two axes may be, as a cosine, and still be written as translation, rotation and scale."""


def product(a: Array, b: Array) -> Array:
    """``a @ b`` of (n, k) and (k, m)."""
    total = a[:, :1] * b[:1]
    for k in range(1, len(b)):
        total = total + a[:, k : k + 1] * b[k : k + 1]
    return np.asarray(total, np.float64)


def determinant(matrix: Array) -> float:
    """Of the upper left 3 × 3 of a matrix: negative where it mirrors, 0 where it flattens."""
    a, b, c = matrix[:3, :3].tolist()
    return float(
        a[0] * (b[1] * c[2] - b[2] * c[1]) - a[1] * (b[0] * c[2] - b[2] * c[0]) + a[2] * (b[0] * c[1] - b[1] * c[0])
    )


def inverse(matrix: Array) -> Array:
    """Of a 4 × 4 transform whose `determinant` is not 0."""
    a, b, c = (np.asarray(row, np.float64) for row in matrix[:3, :3])
    columns = [_cross(b, c), _cross(c, a), _cross(a, b)]
    result = np.eye(4)
    result[:3, :3] = np.stack(columns, axis=1) / determinant(matrix)
    result[:3, 3:] = -product(result[:3, :3], matrix[:3, 3:])
    return result


def _cross(a: Array, b: Array) -> Array:
    return np.array([a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]])


def decomposed(matrix: Array) -> tuple[Array, Array, Array] | None:
    """Translation (3), unit quaternion (4, xyzw) and scale (3) of a 4 × 4 matrix, column vectors.

    None where it is sheared or flat, so that three such figures can't say it. A mirror becomes a negative x scale.
    """
    axes = np.asarray(matrix[:3, :3], np.float64)
    scale = np.array([_length(axes[:, column]) for column in range(3)])
    if not scale.all() or not np.isfinite(matrix).all():
        return None
    turn = axes / scale
    if np.abs(product(turn.T, turn) - np.eye(3)).max() > _SHEAR:
        return None
    if determinant(turn) < 0:
        scale[0], turn[:, 0] = -scale[0], -turn[:, 0]
    return np.asarray(matrix[:3, 3], np.float64), _quaternion(turn), scale


def _quaternion(turn: Array) -> Array:
    """Of a rotation matrix, from the largest of the four squares, which is 1/4 at least.

    Source: Shepperd, "Quaternion from rotation matrix", 1978.
    """
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = turn.tolist()
    rows = (
        (xx - yy - zz, xy + yx, xz + zx, zy - yz),
        (xy + yx, yy - xx - zz, yz + zy, xz - zx),
        (xz + zx, yz + zy, zz - xx - yy, yx - xy),
        (zy - yz, xz - zx, yx - xy, xx + yy + zz),
    )
    largest = max(range(4), key=lambda number: rows[number][number])
    # The row is 4 q[largest] times the quaternion, but for its own element, which lacks 1.
    row = np.array(rows[largest])
    row[largest] += 1
    quaternion = row / _length(row)
    return np.asarray(-quaternion if quaternion[3] < 0 else quaternion)


def _length(vector: Array) -> float:
    return math.sqrt(sum(value * value for value in vector.tolist()))
