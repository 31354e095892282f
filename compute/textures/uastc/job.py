"""The image jobs of `cloudbaker.compute.textures`, in a fork server that has the kernel loaded.

A texture in UASTC asks for this module's, any other for those of `convert` and `encode`: to load Warp takes half a
second and 100 MB, once per fork server, which a bake without UASTC need not pay.
"""

from cloudbaker.compute.textures.convert import convert_job
from cloudbaker.compute.textures.encode import encode_job
from cloudbaker.compute.textures.uastc.encode import prepare as warm

__all__ = ["convert_job", "encode_job", "warm"]
