from __future__ import annotations

import math

import numpy as np
import pytest

from cloudbaker.compute.textures.measure import channel_psnr, normal_error, psnr


def image(height: int = 300, width: int = 7, channels: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(10, 245, (height, width, channels)).astype(np.uint8)


def test_equal_images_have_no_error():
    a = image()
    assert psnr(a, a.copy()) == math.inf
    assert channel_psnr(a, a.copy()) == (math.inf,) * 3


def test_a_constant_difference_is_known():
    """One step of 255: 48.13 dB, over any number of rows at a time."""
    a = image(height=700)
    b = a.copy()
    b[..., 1] += 1
    assert channel_psnr(a, b) == (math.inf, pytest.approx(20 * math.log10(255)), math.inf)
    assert psnr(a, b) == pytest.approx(20 * math.log10(255) + 10 * math.log10(3))
    assert channel_psnr(b, a) == channel_psnr(a, b)


def test_the_largest_difference_is_zero_decibel():
    assert psnr(np.zeros((2, 2, 3), np.uint8), np.full((2, 2, 3), 255, np.uint8)) == pytest.approx(0)


def test_images_of_different_shapes_cannot_be_compared():
    with pytest.raises(ValueError, match="compared"):
        psnr(image(), image(width=8))
    with pytest.raises(ValueError, match="compared"):
        normal_error(image(), image(height=3))


def as_normals(vectors: np.ndarray) -> np.ndarray:
    return np.rint((vectors + 1) * 127.5).astype(np.uint8)


def test_a_turn_by_a_known_angle_is_measured():
    angle = np.linspace(0, 1.2, 400)
    turned = angle + math.radians(5)
    a = np.stack([np.sin(angle), np.zeros(400), np.cos(angle)], axis=-1).reshape(20, 20, 3)
    b = np.stack([np.sin(turned), np.zeros(400), np.cos(turned)], axis=-1).reshape(20, 20, 3)
    error = normal_error(as_normals(a), as_normals(b))
    assert error.mean == pytest.approx(5, abs=0.3)
    assert 5 <= error.p99 <= error.max < 6


def test_length_does_not_matter_and_pixels_without_direction_do_not_count():
    a = as_normals(np.tile([0.0, 0.0, 1.0], (4, 4, 1)))
    shorter = as_normals(np.tile([0.0, 0.0, 0.5], (4, 4, 1)))
    assert normal_error(a, shorter).max < 0.7
    # No 8-bit value is exactly zero; the nearest, 127.5, lies between two.
    with_alpha = np.concatenate([a, np.full((4, 4, 1), 9, np.uint8)], axis=-1)
    assert normal_error(with_alpha, with_alpha).max < 0.1
