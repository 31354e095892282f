"""How far the geometry of one document is from another's, primitive by primitive, and what that looks like on screen.

Both documents are read from their own bytes, and primitives are matched through the nodes that show them, so the figure
does not depend on what the optimizer believes it did. Percentages are of each primitive's own bounding box: a destroyed
screw shows even in a large scene.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from cloudbaker.compute.gltf.document import Array, Document
from cloudbaker.compute.gltf.facts import triangles_of, vertices_of
from cloudbaker.compute.gltf.poses import Pose, deform, local_matrix, poses, stands, viewers
from cloudbaker.compute.gltf.primitives import TRIANGLES, read
from cloudbaker.compute.gltf.primitives import Geometry as Arrays
from cloudbaker.compute.gltf.references import Json
from cloudbaker.compute.meshes.error import Surface, surface_error
from cloudbaker.compute.meshes.stretch import texcoord_error

SCREEN_PIXELS = 1080
FIELD_OF_VIEW = math.radians(50)
"""Vertical, as three.js examples and most viewers have it."""

SAMPLES, LEAST_SAMPLES = 6000, 200
"""Points on each surface: of all primitives together, and of each at least. A mean is then good to some 5 %."""
OUTER = 4.0
"""Distances of a simplified surface fall off about exponentially, so 98 % of it lies within 4 times the mean. The very
largest distance, a lost bolt, would put a truck's first level 130 m away."""


@dataclass(frozen=True, slots=True)
class Geometry:
    """What a document draws, and how far that is from another document's geometry."""

    triangles: int
    """Of all meshes, each once."""
    vertices: int
    error_mean_percent: float = 0.0
    """Mean distance of the surfaces, in % of the primitive's bounding box; over primitives weighted by triangles."""
    error_max_percent: float = 0.0
    """Largest distance found, in % of the primitive's bounding box."""
    rest_max_percent: float = 0.0
    """The same without the poses of what is skinned or morphed."""
    texcoord_pixels: float = 0.0
    """How far textures are shown in other places, in pixels of 1024: a mean over what was simplified and has texture
    coordinates, weighted by triangles."""
    error_units: float = 0.0
    """Distance within which nearly all of the surface stays, in scene units, where the nodes put it."""

    @property
    def suggested_distance(self) -> float:
        """`distance` for one pixel."""
        return self.distance(1.0)

    def distance(self, pixels: float) -> float:
        """From how far away (scene units) `error_units` covers no more than `pixels` of a 1080-line, 50° view."""
        distance = self.error_units * SCREEN_PIXELS / (2 * math.tan(FIELD_OF_VIEW / 2) * pixels)
        return float(f"{distance:.4g}")


def count(document: Document) -> Geometry:
    """Triangles and vertices of all primitives, counted as `facts` counts them."""
    primitives = [p for mesh in document.items("meshes") for p in mesh.get("primitives", ())]
    return Geometry(
        sum(triangles_of(p, document.json) for p in primitives), sum(vertices_of(p, document.json) for p in primitives)
    )


_Key = tuple[object, ...]


def _drawn(primitive: Json) -> _Key:
    """Primitives that draw the same accessors have the same surface."""
    return (primitive["attributes"]["POSITION"], primitive.get("indices"), primitive.get("mode", TRIANGLES))


def _data(primitive: Json) -> _Key:
    """Everything that a primitive draws by."""
    targets = tuple(tuple(sorted(target.items())) for target in primitive.get("targets", ()))
    return (*_drawn(primitive), tuple(sorted(primitive["attributes"].items())), targets)


class Reference:
    """A document that others are measured against: what is read and prepared of it once serves them all."""

    def __init__(self, source: Document) -> None:
        self.document = source
        self._solids: dict[_Key, tuple[Array, Array]] = {}
        self._surfaces: dict[_Key, Surface] = {}
        self._arrays: dict[_Key, Arrays] = {}
        self._stands: dict[int, list[tuple[Pose, int, Surface]]] = {}
        self._poses: list[Pose] | None = None
        self._viewers: dict[int, list[int]] = {}

    def solid(self, primitive: Json) -> tuple[Array, Array]:
        """Positions and visible triangles."""
        key = _drawn(primitive)
        if key not in self._solids:
            self._solids[key] = _solid(read(self.document, primitive))
        return self._solids[key]

    def arrays(self, primitive: Json) -> Arrays:
        """All of it."""
        key = _data(primitive)
        if key not in self._arrays:
            self._arrays[key] = read(self.document, primitive)
        return self._arrays[key]

    def stands(self, primitive: Json) -> list[tuple[Pose, int, Surface]]:
        """The poses (see `poses.poses`) that deform it, the node that shows it in them, and what that looks like."""
        key = id(primitive)  # whoever shows it may have another skin
        if key not in self._stands:
            if self._poses is None:
                self._poses = poses(self.document)
                self._viewers = viewers(self.document) if self._poses else {}
            arrays = self.arrays(primitive) if self._poses else Arrays({}, np.empty((0, 3)))
            seen = _solid(arrays)[1] if self._poses else arrays.indices
            self._stands[key] = [
                (pose, node, Surface(deform(self.document, pose, node, arrays), seen, what="source"))
                for pose, node in stands(self.document, self._poses, self._viewers.get(id(primitive), []), arrays)
            ]
        return self._stands[key]

    def surface(self, primitive: Json) -> Surface:
        """The same, to be measured against."""
        key = _drawn(primitive)
        if key not in self._surfaces:
            self._surfaces[key] = Surface(*self.solid(primitive), what="source")
        return self._surfaces[key]


def measure(source: Document | Reference, output: Document) -> Geometry:
    """The geometry of `output` against the source's. Both must be decoded (see `decompress.decode`).

    What is skinned or morphed is also measured in several poses, and the worst counts. Raises ValueError where a
    primitive has lost all its triangles.
    """
    weighted = largest = rest = units = 0.0
    shifted = textured = 0.0
    reference = source if isinstance(source, Reference) else Reference(source)
    document = reference.document.json
    pairs = [pair for pair in _pairs(reference.document, output) if triangles_of(pair[0], document)]
    total = sum(triangles_of(here, document) for here, _, _ in pairs)
    for here, there, scale in pairs:
        triangles = triangles_of(here, document)
        arrays = read(output, there)
        a, b = reference.solid(here), _solid(arrays)
        if not len(a[1]):
            continue
        if not len(b[1]):
            raise ValueError("a primitive has lost all its triangles")
        samples = max(LEAST_SAMPLES, SAMPLES * triangles // total)
        compared: list[tuple[Surface, Array, float]] = []
        same = np.array_equal(a[0], b[0]) and np.array_equal(a[1], b[1])
        if not same:
            compared.append((reference.surface(here), b[0], scale))
        unmoved = same and _moves_alike(reference.arrays(here), arrays)
        for pose, node, surface in [] if unmoved else reference.stands(here):
            # A skin puts its mesh where it stands in the scene.
            size = 1.0 if "skin" in output.items("nodes")[node] else scale
            compared.append((surface, deform(output, pose, node, arrays), size))
        mean = 0.0
        for surface, points, size in compared:
            error = surface_error(surface, Surface(points, b[1]), samples=samples)
            mean = max(mean, error.mean_percent)
            largest = max(largest, error.max_percent)
            if points is b[0]:
                rest = max(rest, error.max_percent)
            units = max(units, OUTER * error.mean_percent / 100 * surface.diagonal * size)
        weighted += triangles * mean
        both = "TEXCOORD_0" in arrays.attributes and "TEXCOORD_0" in here["attributes"]
        if both and triangles_of(there, output.json) != triangles:
            texcoords = reference.arrays(here).attributes["TEXCOORD_0"]
            surface, own = reference.surface(here), arrays.attributes["TEXCOORD_0"]
            shifted += triangles * texcoord_error(surface, texcoords, Surface(*b), own, samples=samples)
            textured += triangles
    counted = count(output)
    return Geometry(
        counted.triangles,
        counted.vertices,
        error_mean_percent=weighted / total if total else 0.0,
        error_max_percent=largest,
        rest_max_percent=rest,
        texcoord_pixels=shifted / textured if textured else 0.0,
        error_units=units,
    )


def _moves_alike(ours: Arrays, theirs: Arrays) -> bool:
    """Whether two geometries that are the same at rest have the same joints, weights and targets."""
    bound = [name for name in {*ours.attributes, *theirs.attributes} if name.startswith(("JOINTS_", "WEIGHTS_"))]
    pairs = [(ours.attributes.get(name), theirs.attributes.get(name)) for name in bound]
    pairs += [(a.get("POSITION"), b.get("POSITION")) for a, b in zip(ours.targets, theirs.targets, strict=False)]
    return len(ours.targets) == len(theirs.targets) and all(
        a is b or (a is not None and b is not None and np.array_equal(a, b)) for a, b in pairs
    )


def _solid(arrays: Arrays) -> tuple[Array, Array]:
    """Positions and triangles without those that have two corners in one point: nobody sees them, codecs drop them."""
    corners = arrays.attributes["POSITION"][arrays.indices]
    seen = np.ones(len(corners), bool)
    for first, second in ((0, 1), (1, 2), (2, 0)):
        seen &= (corners[:, first] != corners[:, second]).any(axis=1)
    return arrays.attributes["POSITION"], arrays.indices[seen]


def _pairs(source: Document, output: Document) -> Iterator[tuple[Json, Json, float]]:
    """Distinct primitives (source's, output's) and the largest scale at which a node shows them."""
    scales: dict[_Key, float] = {}
    found: dict[_Key, tuple[Json, Json]] = {}
    sizes = node_scales(source)
    for number, (old, new) in enumerate(zip(source.items("nodes"), output.items("nodes"), strict=True)):
        if "mesh" not in old:
            continue
        ours = source.items("meshes")[old["mesh"]]["primitives"]
        theirs = output.items("meshes")[new["mesh"]]["primitives"]
        for a, b in zip(ours, theirs, strict=True):
            if "POSITION" in a.get("attributes", {}):
                key: _Key = (_data(a), _data(b))
                found.setdefault(key, (a, b))
                scales[key] = max(scales.get(key, 0.0), sizes.get(number, 1.0))
    for key, (a, b) in found.items():
        yield a, b, scales[key]


def node_scales(document: Document) -> dict[int, float]:
    """For each node with a mesh, by how much it magnifies it: the longest column of its matrix in the scene.

    A skinned mesh goes where its joints are, whatever its node says (section 3.7.3.3).
    """
    nodes = document.items("nodes")
    parent = {child: number for number, node in enumerate(nodes) for child in node.get("children", ())}
    world: dict[int, Array] = {}

    def matrix(number: int) -> Array:
        chain = []
        at: int | None = number
        while at is not None and at not in world:
            chain.append(at)
            at = parent.get(at)
        result = world[at] if at is not None else np.eye(4)
        for at in reversed(chain):
            result = world[at] = result @ local_matrix(nodes[at])
        return result

    scales: dict[int, float] = {}
    for number, node in enumerate(nodes):
        if "mesh" not in node:
            continue
        placed = matrix(number)
        if "skin" in node:
            skin = document.items("skins")[node["skin"]]
            placed = matrix(skin["joints"][0])
            if "inverseBindMatrices" in skin:
                placed = placed @ document.accessor(skin["inverseBindMatrices"])[0].reshape(4, 4).T
        instancing = node.get("extensions", {}).get("EXT_mesh_gpu_instancing", {}).get("attributes", {})
        instances = float(np.abs(document.accessor(instancing["SCALE"])).max()) if "SCALE" in instancing else 1.0
        scales[number] = float(np.linalg.norm(placed[:3, :3], axis=0).max()) * instances
    return scales
