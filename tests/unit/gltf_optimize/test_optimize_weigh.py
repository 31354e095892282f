"""What counts as small: raw, with brotli, or both."""

from __future__ import annotations

import math

import brotli
import pytest

from cloudbaker.compute.gltf.document import Document
from cloudbaker.compute.gltf.optimize import assemble_job
from cloudbaker.compute.gltf.weigh import BROTLI_QUALITY, weigh
from cloudbaker.recipe import parse_recipe
from cloudbaker.testing import models


def made(data: bytes, how: str) -> tuple[bytes, str]:
    result = assemble_job({"model.glb": memoryview(data)}, {"meshes": {"weigh": how}})
    return bytes(result.files["model.glb"]), result.value["variants"][0]["note"]


@pytest.mark.parametrize("name", ["box", "textured", "draco", "meshopt"])
def test_brotli_packs_everything_but_the_images(name: str) -> None:
    data = models.VALID[name]()
    raw, packed, both = (weigh(data, how) for how in ("raw", "brotli", "both"))
    assert raw.cost == raw.raw == len(data)
    document = Document.from_glb(data)
    images = sum(len(document.stored(image["bufferView"])) for image in document.items("images"))
    assert images == packed.images == both.images
    whole = len(brotli.compress(data, quality=BROTLI_QUALITY))
    assert packed.cost == packed.brotli == pytest.approx(whole, rel=0.05, abs=64)
    assert both.geometry == pytest.approx(math.sqrt(raw.geometry * packed.geometry))


@pytest.mark.parametrize("name", ["meshopt", "lights"])
def test_the_recipe_decides_what_is_smallest(name: str) -> None:
    """Plain floats of a regular shape, which brotli packs better than a codec's payload."""
    data = models.VALID[name]()
    by = {how: made(data, how)[0] for how in ("raw", "brotli", "both")}
    assert weigh(by["raw"], "raw").cost < weigh(by["brotli"], "raw").cost
    assert weigh(by["brotli"], "brotli").cost < weigh(by["raw"], "brotli").cost
    assert weigh(by["both"], "both").cost == min(weigh(each, "both").cost for each in by.values())


def test_no_way_of_weighing_makes_a_larger_file() -> None:
    for name, make in models.VALID.items():
        data = make()
        for how in ("brotli", "both"):
            small, note = made(data, how)
            assert len(small) <= len(data), name
            assert "brotli)" in note


def test_a_recipe_says_what_counts() -> None:
    base = 'name = "x"\ntarget = "web"\n'
    assert parse_recipe(base).meshes.weigh == "both"
    other = parse_recipe(base + '[meshes]\nweigh = "brotli"\n')
    assert other.meshes.weigh == "brotli"
    assert other.hash != parse_recipe(base).hash
