"""Candidates for a file of the bake: the same document packed in each way that the recipe leaves open.

Each is a maker: nothing is encoded before its bytes are asked for. Which one is taken is decided by `optimize.py`, by
size and measured error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, TypeVar

from cloudbaker.compute.gltf.compress_draco import Compressed, bends, compress_draco
from cloudbaker.compute.gltf.compress_meshopt import MeshoptOptions, compress_meshopt, compress_rest
from cloudbaker.compute.gltf.decompress import decode, dequantize
from cloudbaker.compute.gltf.document import Bytes, Document
from cloudbaker.compute.gltf.measure import Geometry, Reference, count, measure
from cloudbaker.compute.gltf.pack import pack
from cloudbaker.compute.gltf.prune import Reserved, prune
from cloudbaker.compute.gltf.quantize_animations import quantize_animations
from cloudbaker.compute.gltf.references import DRACO, MESHOPT, QUANTIZATION
from cloudbaker.compute.gltf.reorder import reorder
from cloudbaker.compute.gltf.resample import resample
from cloudbaker.compute.gltf.sparsify import sparsify
from cloudbaker.compute.gltf.terse import terse
from cloudbaker.compute.gltf.weld import weld
from cloudbaker.compute.meshes.draco import DracoOptions

BOTH = "draco+meshopt"
FEW = 20_000
"""Triangles up to which plain geometry may be the smallest: only there are the lossless verbs worth their time."""

_LOSSLESS: tuple[tuple[str, Callable[[Document], object]], ...] = (
    ("weld", weld),
    ("reorder", reorder),
    ("sparsify", sparsify),
)
_Options = TypeVar("_Options", DracoOptions, MeshoptOptions)


class Packed(NamedTuple):
    """A candidate's bytes, and what there is to say of them."""

    data: Bytes
    remark: str = ""


class Maker(NamedTuple):
    """A candidate that is not made yet."""

    name: str
    make: Callable[[], Packed]


class Unpacked(NamedTuple):
    """A candidate read back from its bytes."""

    compression: str
    geometry: Geometry


def unpacked(data: Bytes, reference: Reference) -> Unpacked:
    """Read a candidate as a viewer would, and measure it. Raises ValueError where it is not what it should be."""
    document = Document.from_glb(data)
    compression = compression_of(document)
    decode(document)
    dequantize(document)
    return Unpacked(compression, measure(reference, document))


@dataclass(frozen=True, slots=True)
class Packer:
    """How the recipe wants files packed."""

    reserved: Reserved
    meshes: Mapping[str, Any] = field(default_factory=dict)
    """``[meshes]`` of the recipe."""
    verbs: Mapping[str, Any] = field(default_factory=dict)
    """``[verbs]`` of the recipe."""

    @property
    def wanted(self) -> str:
        """Which compression the recipe allows."""
        return str(self.meshes.get("compression", "auto"))

    def plain(self, name: str, document: Document) -> Maker:
        """The document as it is, but for what costs nothing: the codecs order and weld for themselves."""

        def make() -> Packed:
            wins = self.wanted == "none" or count(document).triangles <= FEW
            copy = document.clone()
            if wins and compression_of(copy) == "none":
                for verb, apply in _LOSSLESS:
                    if self.verbs.get(verb):
                        apply(copy)
                prune(copy, self.reserved, data_only=True)
            return Packed(self._pack(copy))

        return Maker(name, make)

    def compressed(self, plain: Document) -> Iterator[Maker]:
        """The compressed candidates of a document, in order of preference.

        Draco is smaller for static geometry, meshopt for what bends: it keeps morph targets and 16-bit weights, and
        packs keyframes. Where nothing bends, each is tried alone; both together where each has something to do.
        """
        primitives = [p for mesh in plain.items("meshes") for p in mesh["primitives"]]
        deforms = bool(plain.items("skins")) or any("targets" in p for p in primitives)
        draco, meshopt = self._options(DracoOptions), self._meshopt()
        if self.wanted == "draco" or (self.wanted == "auto" and not deforms):
            yield self._by("draco", plain, lambda d: compress_draco(d, draco))
        if self.wanted in ("auto", "meshopt"):
            yield self._by("meshopt", plain, lambda d: compress_meshopt(d, meshopt))
        if self.wanted == "auto" and _outside_draco(plain):

            def both(document: Document) -> Compressed:
                done = compress_draco(document, draco, static=True)
                compress_rest(document, meshopt)
                return done

            yield self._by(BOTH, plain, both)

    def integers(self, document: Document) -> Iterator[Maker]:
        """What came quantized, packed bit by bit: it is not rounded a second time, and the floats of the same values
        would take more (PirateMeshopt: 28 kB instead of 25)."""
        if QUANTIZATION not in document.json.get("extensionsUsed", ()) or self.wanted not in ("auto", "meshopt"):
            return

        def make() -> Packed:
            copy = document.clone()
            decode(copy)
            resample(copy)
            quantize_animations(copy)
            return self._by("", copy, lambda d: compress_meshopt(d, self._meshopt())).make()

        yield Maker("meshopt of its integers", make)

    def _by(self, name: str, plain: Document, compress: Callable[[Document], Compressed]) -> Maker:
        def make() -> Packed:
            document = plain.clone()
            notes = compress(document).notes
            more = f" and {len(notes) - 1} more" if len(notes) > 1 else ""
            return Packed(self._pack(document), f"left plain: {notes[0]}{more}" if notes else "")

        return Maker(name, make)

    def _meshopt(self) -> MeshoptOptions:
        return replace(self._options(MeshoptOptions), extension=self.meshes.get("meshopt", "EXT"))

    def _options(self, kind: type[_Options]) -> _Options:
        return kind(**{key: value for key, value in self.meshes.items() if key.endswith("_bits")})

    def _pack(self, document: Document) -> bytes:
        """The file of a document, which is used up."""
        pack(document)
        prune(document, self.reserved, data_only=True)
        terse(document)
        return document.to_glb()


def _outside_draco(plain: Document) -> bool:
    """Whether there is something for Draco, and something beside its payloads that meshopt can pack."""
    primitives = [p for mesh in plain.items("meshes") for p in mesh["primitives"]]
    still = [p for p in primitives if not bends(p)]
    tangents = any("TANGENT" in p["attributes"] for p in still)
    return bool(still) and (tangents or len(still) < len(primitives) or bool(plain.items("animations")))


def compression_of(document: Document) -> str:
    """How the geometry of a document is compressed: ``draco``, ``meshopt``, ``draco+meshopt`` or ``none``."""
    views = {name for view in document.items("bufferViews") for name in view.get("extensions", ())}
    primitives = (p for mesh in document.items("meshes") for p in mesh.get("primitives", ()))
    found = (["draco"] if any(DRACO in p.get("extensions", ()) for p in primitives) else []) + (
        ["meshopt"] if views & {*MESHOPT} else []
    )
    return "+".join(found) or "none"
