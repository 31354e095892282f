"""Which texture gets what: the policy, and a model that goes through both jobs with it."""

from __future__ import annotations

import pytest

from cloudbaker.compute.gltf.texture_budget import Heavier, affordable
from cloudbaker.compute.textures.options import FORMATS, EncodeOptions
from cloudbaker.compute.textures.slots import FORMATS as BY_RECIPE
from cloudbaker.compute.textures.slots import formats, gpu_bytes, is_srgb, plan, slot_class
from cloudbaker.recipe import Textures, TextureSlots, load_recipe, recipe_names

IMAGE = {"slot_class": "color", "slots": ["baseColorTexture"], "width": 64, "height": 64, "mips": True}


def image(*slots: str, **more: object) -> dict[str, object]:
    return {**IMAGE, "slots": list(slots), "slot_class": slot_class(slots), "alpha_cutoff": None, **more}


def planned(row: dict[str, object], **textures: object) -> dict[str, object]:
    return plan(row, Textures(**textures).model_dump(mode="json"))


@pytest.mark.parametrize(
    ("slots", "kind", "srgb"),
    [
        (("baseColorTexture",), "color", True),
        (("emissiveTexture", "sheenColorTexture"), "color", True),
        (("normalTexture",), "normal", False),
        (("clearcoatNormalTexture",), "normal", False),
        (("metallicRoughnessTexture", "occlusionTexture"), "data", False),
        (("transmissionTexture",), "data", False),
        (("thicknessTexture",), "data", False),
        (("iridescenceThicknessTexture",), "data", False),
        (("anisotropyTexture",), "data", False),
        (("sheenRoughnessTexture",), "data", False),
        # alpha is linear in an sRGB texture as well: colour and number of one extension share an image
        (("sheenColorTexture", "sheenRoughnessTexture"), "data", True),
        (("specularColorTexture", "specularTexture"), "data", True),
        (("baseColorTexture", "occlusionTexture"), "data", None),
        (("baseColorTexture", "normalTexture"), "normal", None),
        (("someVendorsTexture",), "data", False),
    ],
)
def test_what_a_slot_holds(slots, kind, srgb):
    assert slot_class(slots) == kind
    assert is_srgb(slots) is srgb


@pytest.mark.parametrize("form", sorted(BY_RECIPE))
@pytest.mark.parametrize("slot", ["baseColorTexture", "normalTexture", "occlusionTexture"])
def test_every_plan_is_one_that_the_encoder_takes(form, slot):
    params = planned(image(slot), format=form)
    options = {k: v for k, v in params.items() if k in EncodeOptions.__dataclass_fields__}
    assert EncodeOptions(**options).slot_class == slot_class([slot])
    assert params["format"] in FORMATS


def test_ktx2_goes_by_slot():
    color = planned(image("baseColorTexture", alpha_cutoff=0.3), format="ktx2", level="max")
    assert (color["format"], color["srgb"], color["alpha_coverage"]) == ("ktx2-uastc", True, 0.3)
    assert (color["level"], color["mips"], color["instead"]) == ("max", True, "webp")
    normal = planned(image("normalTexture", mips=False), format="ktx2")
    assert (normal["format"], normal["srgb"], normal["mips"]) == ("ktx2-uastc", False, False)


def test_formats_that_a_recipe_may_need():
    def needed(**textures: object) -> set[str]:
        return formats(Textures(**textures).model_dump(mode="json"))

    assert needed(format="keep") == set()
    assert needed(format="keep", slots=TextureSlots(color="ktx2-etc1s")) == {"ktx2-etc1s", "webp"}
    assert needed(format="webp") == {"webp"}
    assert needed(format="ktx2") == {"ktx2-uastc", "ktx2-etc1s", "webp"}
    assert needed(format="ktx2", slots=TextureSlots(color="ktx2-uastc")) == {"ktx2-uastc", "webp"}


def test_a_class_may_have_a_format_of_its_own():
    slots = TextureSlots(color="webp", data="keep")
    assert planned(image("baseColorTexture"), format="ktx2", slots=slots)["format"] == "webp"
    assert planned(image("normalTexture"), format="ktx2", slots=slots)["format"] == "ktx2-uastc"
    assert planned(image("occlusionTexture"), format="ktx2", slots=slots)["format"] == "keep"


@pytest.mark.parametrize(
    "row",
    [
        image("baseColorTexture", "occlusionTexture"),  # one file can't be sRGB and linear
        image("baseColorTexture", width=2),  # less than a block
        image("normalTexture", height=3),
    ],
)
def test_what_ktx2_can_not_hold_becomes_webp(row):
    assert planned(row, format="ktx2")["format"] == "webp"


def test_nothing_lossy_is_on_offer_for_normals():
    assert planned(image("normalTexture"), format="avif")["format"] == "webp"  # which is lossless for them
    with pytest.raises(ValueError, match="normal"):
        TextureSlots(normal="jpeg")
    with pytest.raises(ValueError, match="normal"):
        TextureSlots(normal="ktx2-etc1s")


@pytest.mark.parametrize("name", [n for n in recipe_names() if load_recipe(n).target == "web"])
def test_recipes_of_the_web_can_be_planned(name):
    textures = load_recipe(name).textures.model_dump(mode="json")
    assert plan(image("baseColorTexture"), textures)["max_size"] == textures["max_size"]


def test_memory_of_plain_pixels():
    assert gpu_bytes(2048, 2048) == 22369620  # 22.4 MB, a third of it mipmaps
    assert gpu_bytes(1, 1) == 4
    assert gpu_bytes(4, 1) == 4 * (4 + 2 + 1)


def offer(index: int, *, light: int, heavy: int, saves: int, of: int | None = None) -> Heavier:
    seed = bytes([index if of is None else of])
    return Heavier(index, seed * light, bytes([index]) * heavy, "image/ktx2", saves)


def test_what_saves_most_for_its_bytes_comes_first():
    dear = offer(1, light=10, heavy=110, saves=1000)
    cheap = offer(2, light=10, heavy=60, saves=1000)
    poor = offer(3, light=10, heavy=60, saves=10)
    assert affordable([dear, cheap, poor], 200) == [cheap, dear, poor]
    assert affordable([dear, cheap, poor], 100) == [
        cheap,
        poor,
    ]  # the next that fits, not an end at the first that doesn't
    assert affordable([dear, cheap, poor], 49) == []
    assert affordable([dear], -5) == []


def test_what_saves_nothing_is_not_bought():
    assert affordable([offer(1, light=10, heavy=20, saves=0)], 100) == []


def test_a_fallback_counts():
    beside = Heavier(1, b"l" * 10, b"h" * 20, "image/ktx2", 100, (b"p" * 50, "image/png"))
    assert beside.costs == 60
    assert affordable([beside], 59) == []


def test_one_image_for_two_ends_stays():
    """The same bytes as colours and as numbers: in the file they are one image."""
    color, data = offer(1, light=10, heavy=20, saves=100), offer(2, light=10, heavy=20, saves=100, of=1)
    assert affordable([color, data], 1000) == []
    twice = Heavier(2, color.light, color.heavy, color.mime, color.saves)
    assert affordable([color, twice], 1000) == [color]
