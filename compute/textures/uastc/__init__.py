"""UASTC LDR 4×4: textures that a browser turns into whatever its GPU reads (ASTC, BC7, ETC2 …), at 8 bits a texel."""

from cloudbaker.compute.textures.uastc.decode import decode_uastc
from cloudbaker.compute.textures.uastc.encode import encode_uastc, prepare

__all__ = ["decode_uastc", "encode_uastc", "prepare"]
