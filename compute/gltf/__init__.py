"""glTF 2.0 documents: reading, checking, changing and writing them. One verb per file.

The names of `VERBS` can be imported from here, and work alone on a `Document` or a ``pygltflib.GLTF2``:

>>> from cloudbaker.compute.gltf import Document, prune, resample     # doctest: +SKIP
>>> document = Document.from_glb(data)                                # doctest: +SKIP
>>> resample(document)                                                # doctest: +SKIP
(1204, 316)

A module of the same name holds the bare step that the optimizer is made of (``compute/gltf/resample.py``); what is
imported from here is that step with what a caller outside of a bake needs around it (see ``verbs.py``). docs/gltf.md
shows each with an example. Nothing is imported before it is asked for.
"""

from __future__ import annotations

import importlib
import sys
import types
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from cloudbaker.compute.gltf.compress_draco import compress_draco as compress_draco
    from cloudbaker.compute.gltf.compress_meshopt import compress_meshopt as compress_meshopt
    from cloudbaker.compute.gltf.decompress import unpack as _unpack
    from cloudbaker.compute.gltf.dedup import dedup as dedup
    from cloudbaker.compute.gltf.document import Document as Document
    from cloudbaker.compute.gltf.document import DocumentError as DocumentError
    from cloudbaker.compute.gltf.flatten import flatten as flatten
    from cloudbaker.compute.gltf.instance import instance as instance
    from cloudbaker.compute.gltf.interchange import from_pygltflib as from_pygltflib
    from cloudbaker.compute.gltf.interchange import to_pygltflib as to_pygltflib
    from cloudbaker.compute.gltf.join import join as join
    from cloudbaker.compute.gltf.losses import compare as compare
    from cloudbaker.compute.gltf.merge_textures import merge_textures as merge_textures
    from cloudbaker.compute.gltf.metal_rough import metal_rough as metal_rough
    from cloudbaker.compute.gltf.pack import pack as pack
    from cloudbaker.compute.gltf.prune import prune as prune
    from cloudbaker.compute.gltf.quantize import quantize as quantize
    from cloudbaker.compute.gltf.quantize_animations import quantize_animations as quantize_animations
    from cloudbaker.compute.gltf.reorder import reorder as reorder
    from cloudbaker.compute.gltf.resample import resample as resample
    from cloudbaker.compute.gltf.simplify import simplify as simplify
    from cloudbaker.compute.gltf.sparsify import sparsify as sparsify
    from cloudbaker.compute.gltf.split_textures import split_textures as split_textures
    from cloudbaker.compute.gltf.tangents import tangents as tangents
    from cloudbaker.compute.gltf.terse import terse as terse
    from cloudbaker.compute.gltf.unlit import unlit as unlit
    from cloudbaker.compute.gltf.weld import weld as weld

    decompress = _unpack


class Verb(NamedTuple):
    """A line of `VERBS`."""

    summary: str
    """What it does, in a line."""
    plain: bool = False
    """Works on plain geometry: what Draco or meshopt has packed is unpacked before."""
    function: str = ""
    """The function in the module of the verb's name, where it is called otherwise."""


VERBS: dict[str, Verb] = {
    "compress_draco": Verb("Compress triangle geometry with Draco.", plain=True),
    "compress_meshopt": Verb("Compress geometry, animations and matrices with meshoptimizer.", plain=True),
    "decompress": Verb("Undo Draco, meshopt and quantization.", function="unpack"),
    "dedup": Verb("Merge what is equal: accessors, images, textures, materials, meshes."),
    "merge_textures": Verb("Put occlusion and metallic-roughness into one image."),
    "metal_rough": Verb("Turn specular-glossiness materials into metallic-roughness ones."),
    "flatten": Verb("Take meshes out of groups that serve nothing."),
    "instance": Verb("Draw nodes that repeat a mesh as instances (EXT_mesh_gpu_instancing)."),
    "join": Verb("Join primitives and nodes that share a material: fewer draw calls.", plain=True),
    "pack": Verb("Lay accessors out anew in few buffer views, without gaps."),
    "prune": Verb("Drop what nothing refers to."),
    "quantize": Verb("Store vertex attributes as small integers (KHR_mesh_quantization).", plain=True),
    "quantize_animations": Verb("Round keyframes to what can be told apart.", plain=True),
    "reorder": Verb("Put triangles and vertices in the order that GPUs like.", plain=True),
    "resample": Verb("Drop keyframes that their neighbours imply.", plain=True),
    "simplify": Verb("Make do with fewer triangles, within a measured error.", plain=True),
    "sparsify": Verb("Store what is mostly zero as sparse accessors.", plain=True),
    "split_textures": Verb("Put occlusion and metallic-roughness into an image each."),
    "unlit": Verb("Make materials show their colour without light."),
    "tangents": Verb("Drop tangents that readers make up alike, or generate them.", plain=True),
    "terse": Verb("Write numbers in as few digits as say the same."),
    "weld": Verb("Join vertices that are equal in everything.", plain=True),
}
"""Each is a file of this folder, a name to import from here, and a command of ``cloudbaker gltf``."""

_OTHERS = {
    "Document": "document",
    "DocumentError": "document",
    "compare": "losses",
    "from_pygltflib": "interchange",
    "to_pygltflib": "interchange",
}


class _Package(types.ModuleType):
    def __setattr__(self, name: str, value: Any) -> None:
        # The import of a submodule binds it here. The name of a verb stays the verb's.
        if not (name in VERBS and isinstance(value, types.ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> Any:
    if name in VERBS:
        value = importlib.import_module(f"{__name__}.verbs").verb(name)
    elif name in _OTHERS:
        value = getattr(importlib.import_module(f"{__name__}.{_OTHERS[name]}"), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *VERBS, *_OTHERS})
