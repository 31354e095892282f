"""The image jobs for textures with `EncodeOptions.rdo`, in a fork server that has both kernels loaded."""

from cloudbaker.compute.textures.convert import convert_job
from cloudbaker.compute.textures.encode import encode_job
from cloudbaker.compute.textures.uastc.rdo import prepare as warm

__all__ = ["convert_job", "encode_job", "warm"]
