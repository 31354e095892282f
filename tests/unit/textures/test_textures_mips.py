from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloudbaker.compute.textures.mips import mip_chain
from cloudbaker.compute.textures.prepare import fitted, scale
from cloudbaker.testing import shapes


def checkerboard(size: int, low: int, high: int) -> np.ndarray:
    y, x = np.mgrid[:size, :size]
    return np.repeat(np.where((x + y) % 2, high, low).astype(np.uint8)[..., None], 3, axis=-1)


@given(width=st.integers(1, 70), height=st.integers(1, 70), slot_class=st.sampled_from(["color", "normal", "data"]))
@settings(max_examples=40, deadline=None)
def test_levels_halve_down_to_one_texel(width, height, slot_class):
    pixels = np.random.default_rng(1).integers(0, 256, (height, width, 4), np.uint8)
    levels = mip_chain(pixels, slot_class=slot_class)
    assert levels[0] is pixels
    assert [level.shape for level in levels] == [
        (max(1, height >> n), max(1, width >> n), 4) for n in range(max(width, height).bit_length())
    ]


def test_colours_are_averaged_in_linear_light():
    levels = mip_chain(checkerboard(64, 0, 255), slot_class="color")
    inner = levels[2][2:-2, 2:-2]
    assert np.abs(inner.astype(int) - 188).max() <= 1  # half of the light is 188 of 255 in sRGB


def test_data_is_averaged_as_it_is():
    levels = mip_chain(checkerboard(64, 0, 255), slot_class="data")
    assert np.abs(levels[2][2:-2, 2:-2].astype(int) - 128).max() <= 1


def test_channels_of_data_do_not_touch_each_other():
    pixels = np.zeros((32, 32, 4), np.uint8)
    pixels[..., 0] = 255
    pixels[:, ::2, 3] = 255
    for level in mip_chain(pixels, slot_class="data"):
        assert (level[..., 0] == 255).all()
        assert (level[..., 1:3] == 0).all()


def test_normals_keep_their_length():
    pixels = shapes.normal_map(shapes.noise(128, seed=3), 12)
    for level in mip_chain(pixels, slot_class="normal"):
        length = np.linalg.norm(level.astype(float) / 127.5 - 1, axis=-1)
        assert np.abs(length - 1).max() < 0.012  # what rounding to 8 bits leaves


def test_opposite_normals_give_the_surfaces_own():
    pixels = np.full((2, 2, 3), 128, np.uint8)
    pixels[:, 0] = (255, 128, 128)
    pixels[:, 1] = (0, 127, 127)
    assert tuple(mip_chain(pixels, slot_class="normal")[-1][0, 0]) == (128, 128, 255)


def test_hidden_colours_do_not_bleed():
    pixels = np.zeros((64, 64, 4), np.uint8)
    pixels[..., 0] = 255  # transparent red
    pixels[16:48, 16:48] = (0, 255, 0, 255)
    for level in mip_chain(pixels, slot_class="color")[1:4]:
        seen = level[level[..., 3] > 200]
        assert len(seen)
        assert (seen[:, 0] < 40).all()


def leaves(size: int = 256) -> np.ndarray:
    """Thin curved blades: what averages make vanish."""
    pixels = np.full((size, size, 4), 90, np.uint8)
    height = shapes.noise(size, seed=4)
    across = (np.gradient(height, axis=0) ** 2 + np.gradient(height, axis=1) ** 2) ** 0.5
    pixels[..., 3] = np.where(np.abs(height - 0.5) < across * 1.2, 255, 0)
    return pixels


@pytest.mark.parametrize("cutoff", [0.3, 0.5, 0.8])
def test_cut_outs_keep_their_coverage(cutoff):
    pixels = leaves()

    def covered(level):
        return (level[..., 3] > cutoff * 255).mean()

    full = covered(pixels)
    kept = mip_chain(pixels, slot_class="color", alpha_coverage=cutoff)
    plain = mip_chain(pixels, slot_class="color")
    assert covered(plain[4]) < full / 2  # this is what happens without
    for level in kept[1:6]:
        assert abs(covered(level) - full) < 0.25 * full + 2 / level[..., 3].size


@pytest.mark.parametrize("alpha", [0, 255])
def test_coverage_of_nothing_and_everything_changes_nothing(alpha):
    pixels = leaves()
    pixels[..., 3] = alpha
    levels = mip_chain(pixels, slot_class="color", alpha_coverage=0.5)
    assert all((level[..., 3] == alpha).all() for level in levels)


def test_coverage_needs_alpha():
    opaque = leaves()[..., :3].copy()
    for a, b in zip(
        mip_chain(opaque, slot_class="color", alpha_coverage=0.5), mip_chain(opaque, slot_class="color"), strict=True
    ):
        assert np.array_equal(a, b)


def test_levels_do_not_depend_on_how_they_are_asked_for():
    pixels = shapes.normal_map(shapes.noise(64, seed=5), 4)
    again = mip_chain(pixels, slot_class="normal")
    assert all(np.array_equal(a, b) for a, b in zip(mip_chain(pixels, slot_class="normal"), again, strict=True))
    assert np.array_equal(again[1], scale(pixels, 32, 32, "normal"))


def test_rounding_does_not_add_up():
    """Grey noise around a mean that 8 bits can't hold."""
    rng = np.random.default_rng(2)
    pixels = (100 + (rng.random((256, 256, 3)) < 0.4)).astype(np.uint8)
    smallest = mip_chain(pixels, slot_class="data")[-1]
    assert abs(int(smallest[0, 0, 0]) - pixels[..., 0].mean()) <= 0.6


@pytest.mark.parametrize(
    ("size", "limit", "multiple", "wanted"),
    [
        ((1024, 512), 2048, 4, (1024, 512)),
        ((1023, 514), 2048, 4, (1020, 512)),
        ((3, 9), 2048, 4, (3, 8)),
        ((1, 8192), 4096, 4, (1, 4096)),
        ((4096, 3000), 2048, 4, (2048, 1500)),
        ((4096, 3001), 2048, 1, (2048, 1500)),
        ((2048, 2047), 1000, 4, (1000, 1000)),
    ],
)
def test_sizes_in_whole_blocks(size, limit, multiple, wanted):
    found = fitted(*size, limit, multiple)
    assert found == wanted
    assert all(a <= b for a, b in zip(found, size, strict=True))
