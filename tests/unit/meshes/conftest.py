"""Meshes that the tests of this folder share, as plain arrays."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from cloudbaker.testing import shapes

Mesh = tuple[dict[str, np.ndarray], np.ndarray]


def as_mesh(surface: shapes.Surface) -> Mesh:
    attributes = {"POSITION": surface.positions, "NORMAL": surface.normals, "TEXCOORD_0": surface.uvs}
    return attributes, surface.indices


@pytest.fixture
def sphere() -> Mesh:
    return as_mesh(shapes.sphere(segments=48))


@pytest.fixture
def sheet() -> Mesh:
    """An open, uneven surface without seams."""
    return as_mesh(shapes.heightfield(shapes.noise(33, seed=3).astype(np.float32) * 0.2))


@pytest.fixture
def faceted() -> Callable[[Mesh], Mesh]:
    """Flat shading: every triangle has its own corners and one normal."""

    def flat(mesh: Mesh) -> Mesh:
        attributes, indices = mesh
        corner = indices.ravel()
        out = {k: v[corner] for k, v in attributes.items()}
        a, b, c = (out["POSITION"][k::3] for k in range(3))
        normals = np.cross(b - a, c - a)
        normals /= np.linalg.norm(normals, axis=1, keepdims=True)
        out["NORMAL"] = np.repeat(normals, 3, axis=0).astype(np.float32)
        del out["TEXCOORD_0"]
        return out, np.arange(len(corner), dtype=np.uint32).reshape(-1, 3)

    return flat
