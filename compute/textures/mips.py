"""Mipmaps: every level half the size of the one before, filtered in the space that suits what the texture holds.

Lanczos with three lobes, as the reference tools have it; from level to level in floats, so that rounding does not add
up. Colours are filtered in linear light: averaged as they are stored, black and white would become 21 % grey instead
of 50 %. Normals become unit length again.
"""

from __future__ import annotations

import numpy as np

from cloudbaker.compute.textures.measure import Pixels
from cloudbaker.compute.textures.prepare import Floats, SlotClass, reader, shrunk, stored


def mip_chain(pixels: Pixels, *, slot_class: SlotClass, alpha_coverage: float | None = None) -> list[Pixels]:
    """All levels of (h, w, 3 or 4) pixels down to 1×1, the largest, which is `pixels` itself, first.

    `alpha_coverage` is the alpha, 0 to 1, above which a cut-out (alphaMode MASK) is solid: smaller levels then keep the
    part of the picture that is solid. Averages alone make leaves and fences vanish in the distance.
    """
    levels = [pixels]
    height, width, count = pixels.shape
    channel = reader(pixels, slot_class)
    solid = None
    if alpha_coverage is not None and count == 4 and slot_class == "color":
        solid = float((pixels[..., 3] > alpha_coverage * 255).mean(dtype=np.float64))
    while max(width, height) > 1:
        width, height = max(1, width // 2), max(1, height // 2)
        channels = shrunk(channel, count, width, height, slot_class)
        channel = channels.__getitem__
        shown = channels
        if solid is not None and alpha_coverage is not None:
            # Only what is stored is changed; the next level is made from what was averaged.
            shown = [*channels[:3], _covering(channels[3], solid, alpha_coverage)]
        levels.append(stored(shown, slot_class))
    return levels


def _covering(alpha: Floats, solid: float, cutoff: float) -> Floats:
    """Alpha scaled so that the part `solid` of it is above the cutoff (Castaño, "Computing alpha mipmaps")."""
    if not 0 < solid < 1:
        return alpha
    # The value that this part of the texels lies above now is to become the cutoff. Where many texels have that very
    # value they come to lie above it or below, all together: whichever is nearer.
    edge = max(float(np.quantile(alpha, 1 - solid)), 1e-3)
    attempts = [alpha, *(np.clip(alpha * np.float32(goal / edge), 0, 1) for goal in (cutoff, cutoff + 1 / 255))]
    return min(attempts, key=lambda a: abs(float((np.rint(a * 255) > cutoff * 255).mean(dtype=np.float64)) - solid))
