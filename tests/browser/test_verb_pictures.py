"""A verb does not show: what it makes looks in three.js like what it was given, pixel by pixel.

Differences are of the pixels that show the model, in % of full scale. Lossless verbs get what rasterizing in another
order may do; lossy ones what they are allowed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from cloudbaker.compute.gltf import Document, flatten, merge_textures
from cloudbaker.compute.gltf.verbs import call
from cloudbaker.compute.previews import Previewer
from cloudbaker.testing import models, wasteful

pytestmark = pytest.mark.chromium


@pytest.fixture(scope="module")
def previewer() -> Iterator[Previewer]:
    with Previewer() as shared:
        yield shared


def lifted(data: bytes) -> bytes:
    document = Document.from_glb(data)
    flatten(document)
    return document.to_glb()


def merged(data: bytes) -> bytes:
    document = Document.from_glb(data)
    merge_textures(document)
    return document.to_glb()


LOOKS: tuple[tuple[str, Callable[[], bytes], dict[str, Any], float], ...] = (
    ("weld", wasteful.unwelded, {}, 0.01),
    ("reorder", wasteful.shuffled, {}, 0.01),
    ("sparsify", models.morphed, {}, 0.01),
    ("sparsify", models.sparse, {}, 0.01),
    ("compress_meshopt", models.morphed, {"extension": "KHR"}, 0.3),
    ("compress_meshopt", models.skinned, {"extension": "KHR"}, 0.3),
    ("quantize", models.vertex_colored, {"positions": True}, 0.3),
    ("instance", lambda: lifted(wasteful.crates()), {}, 0.05),
    ("join", lambda: lifted(wasteful.crates(copies=True)), {}, 0.05),
    ("merge_textures", wasteful.occluded, {}, 0.01),
    ("split_textures", lambda: merged(wasteful.occluded()), {}, 0.01),
    ("dedup", wasteful.copies, {"names": False, "pixels": True}, 0.01),
)


@pytest.mark.parametrize(
    ("verb", "make", "options", "bound"), LOOKS, ids=[f"{look[0]}-{number}" for number, look in enumerate(LOOKS)]
)
def test_it_does_not_show(previewer, tell, verb, make, options, bound):
    source = make()
    document = Document.from_glb(source)
    call(verb, document, options)
    data = document.to_glb()
    assert data != source
    seen = previewer.compare(source, data, size=192)
    assert seen.after.problems == seen.before.problems == ()
    assert seen.before.covered_percent > 5
    tell(f"{verb} {seen.difference_percent:.4f} %")
    assert seen.difference_percent <= bound


def test_glossy_materials_are_seen_again(previewer, tell):
    """three.js shows them white; both ways out give the texture back, and the two look alike."""
    source = wasteful.glossy()
    ways = []
    for method in ("specular", "metallic"):
        document = Document.from_glb(source)
        call("metal_rough", document, {"method": method})
        ways.append(document.to_glb())
    lost = previewer.compare(source, ways[0], size=192)
    alike = previewer.compare(ways[0], ways[1], size=192)
    tell(f"specular against unknown {lost.difference_percent:.1f} %, against metallic {alike.difference_percent:.1f} %")
    assert lost.after.problems == alike.after.problems == ()
    assert lost.difference_percent > 2 * alike.difference_percent
