"""UASTC blocks as ASTC 4 × 4 blocks, bit by bit: UASTC is a subset of ASTC, in another packing.

Nothing is lost and nothing is searched: what was encoded as UASTC serves native applications as ASTC at once, at 25
megapixels a second. Who needs ASTC alone is better served by astcenc on a CPU: its ``fast`` level takes the time of
UASTC's ``default`` and is 0.3 to 1.1 dB better, because it may use all of ASTC.
"""

from __future__ import annotations

import numpy as np

from cloudbaker.compute.textures.ktx2 import write_ktx2


def uastc_to_astc(blocks: bytes, width: int, height: int) -> bytes:
    """ASTC blocks, row by row, of as many UASTC blocks, by Basis Universal. Raises ValueError where they are not those
    of an image of this size."""
    from opengl_basisu import BasisuError
    from opengl_basisu import open as open_texture

    data = write_ktx2([blocks], width, height, codec="uastc", srgb=False, zstd_level=None)
    try:
        return np.asarray(open_texture(data).transcode("astc_4x4").data).tobytes()
    except BasisuError as error:
        raise ValueError(f"no UASTC blocks of {width} × {height} texels: {error}") from error
