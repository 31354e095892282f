"""What of a source is not in the baked document: an independent comparison of the two files.

Nothing here listens to what the optimizer says it did. The two documents are walked side by side: nodes, scenes, skins,
cameras and animations by number, everything else along the references, so that merged, moved and renumbered things
still meet their counterparts. Whatever the source has and its counterpart lacks is a `Loss`. How geometry and pixels
changed is not judged here; those are measured (errors in %, PSNR) where they are encoded.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from cloudbaker.compute.gltf.curves import BOUNDS, Curve, deviations, extent, moved, read_curve
from cloudbaker.compute.gltf.defaults import is_default
from cloudbaker.compute.gltf.document import Document, DocumentError
from cloudbaker.compute.gltf.facts import triangles_of
from cloudbaker.compute.gltf.primitives import TRIANGLE_FAN, TRIANGLES
from cloudbaker.compute.gltf.references import IMAGE_FORMATS, KINDS, POINTER, TRANSPORT, Json, references
from cloudbaker.compute.gltf.terse import same_number
from cloudbaker.model import Loss

_ELSEWHERE = {*KINDS, "buffers", "extensionsUsed", "extensionsRequired", "animations"}
_IMAGE_SOURCES = ("EXT_texture_webp", "KHR_texture_basisu", "EXT_texture_avif", "MSFT_texture_dds")
_STORAGE = {
    "accessors": {"bufferView", "byteOffset", "componentType", "count", "max", "min", "normalized", "sparse", "type"},
    "images": {"bufferView", "mimeType", "uri"},
}
_SINGULAR = {
    "accessors": "accessor",
    "bufferViews": "buffer view",
    "images": "image",
    "materials": "material",
    "meshes": "mesh",
    "samplers": "texture sampler",
    "textures": "texture",
}
_KIND_OF_KEY = {
    "name": "name",
    "extras": "extras",
    "copyright": "copyright",
    "extensions": "extension",
    "attributes": "attribute",
    "targets": "attribute",
    "camera": "camera",
}


def compare(source: Document, output: Document) -> list[Loss]:
    """Everything of `source` that `output` lacks, in the order of the source. An empty list means: nothing was lost.

    >>> [f"{loss.kind} {loss.place}: {loss.detail}" for loss in compare(source, output)]      # doctest: +SKIP
    ['name /images/3: "unused.png" is used by nothing and was left out']
    """
    return _Comparison(source, output).run()


class _Comparison:
    def __init__(self, source: Document, output: Document) -> None:
        self.source = source
        self.output = output
        self.losses: list[Loss] = []
        self.pairs: set[tuple[str, int, int]] = set()
        self.keys: dict[tuple[int, int], bool] = {}
        self.bounds = BOUNDS
        self.extent = extent(source)
        self.references = {(id(holder), key): kind for holder, key, kind in references(source.json)}

    def run(self) -> list[Loss]:
        a, b = self.source.json, self.output.json
        for key, value in a.items():
            if key not in _ELSEWHERE:
                self.item(f"/{key}", key, value, b)
        for number, animation in enumerate(self.source.items("animations")):
            self.animation(number, animation)
        for kind in ("meshes", "materials", "textures", "samplers", "images"):
            self.unvisited(kind)
        self.storage_names("accessors", {i for kind, i, _ in self.pairs if kind == "accessors"})
        self.storage_names("bufferViews", set())
        self.storage_names("buffers", set())
        for name in a.get("extensionsUsed", ()):
            if name not in TRANSPORT and name not in b.get("extensionsUsed", ()):
                self.lose("extension", "/extensionsUsed", f"{name} is not used any more")
        return self.losses

    def lose(self, kind: str, place: str, detail: str) -> None:
        loss = Loss(kind, place, detail)
        if loss not in self.losses[-50:]:
            self.losses.append(loss)

    # -- the walk --------------------------------------------------------------------------------------------------

    def item(self, place: str, key: str, value: Any, other: Json) -> None:
        """One property of an object: `value` in the source, looked for in the output's object."""
        if key == "extensions" and isinstance(value, dict):
            value = _meant(value)
            if not value:
                return
            other = {**other, key: _meant(other[key])} if key in other else other
        if key not in other:
            if not is_default(place, value):
                self.lose(_KIND_OF_KEY.get(key, _of_place(place)), place, f"{_brief(value)} is not there any more")
        else:
            self.walk(place, value, other[key])

    def walk(self, place: str, a: Any, b: Any) -> None:
        if isinstance(a, dict) and isinstance(b, dict):
            if place.endswith("/extras"):
                self.same(place, a, b)
                return
            for key, value in a.items():
                kind = self.references.get((id(a), key))
                if kind is None:
                    self.item(f"{place}/{key}", key, value, b)
                elif type(b.get(key)) is int:
                    self.pair(kind, value, b[key], f"{place}/{key}")
                else:
                    self.lose(_of_place(f"{place}/{key}"), f"{place}/{key}", "is gone")
            self.added(place, a, b)
        elif isinstance(a, list) and isinstance(b, list):
            if len(a) > len(b):
                self.lose(_of_place(place), place, f"has {len(b)} of {len(a)} items")
            for index, (value, counterpart) in enumerate(zip(a, b, strict=False)):
                kind = self.references.get((id(a), index))
                if kind is None:
                    self.walk(f"{place}/{index}", value, counterpart)
                else:
                    self.pair(kind, value, counterpart, f"{place}/{index}")
        else:
            self.same(place, a, b)

    def added(self, place: str, a: Json, b: Json) -> None:
        """A property that the source did not have: it takes away the default, such as linear interpolation."""
        for key in b:
            if (
                key not in a
                and not (key == "extensions" and not _meant(b[key]))
                and not is_default(f"{place}/{key}", b[key])
            ):
                self.lose(_of_place(place), f"{place}/{key}", f"was not set, is {_brief(b[key])}")

    def same(self, place: str, a: Any, b: Any) -> None:
        numbers = type(a) in (int, float) and type(b) in (int, float) and not place.endswith("/extras")
        if a != b and not (numbers and same_number(a, b)):
            self.lose(_of_place(place), place, f"was {_brief(a)}, is {_brief(b)}")

    def pair(self, kind: str, i: int, j: int, place: str) -> None:
        """Compare item `i` of the source's collection with item `j` of the output's, once."""
        if (kind, i, j) in self.pairs:
            return
        self.pairs.add((kind, i, j))
        theirs = self.output.items(kind)
        if not 0 <= j < len(theirs):
            self.lose("value", place, f"points at a {_SINGULAR[kind]} that does not exist")
            return
        a, b = self.source.items(kind)[i], theirs[j]
        here = f"/{kind}/{i}"
        if kind == "bufferViews":
            self.bytes(here, i, j)
            return
        for key, value in a.items():
            if key in _STORAGE.get(kind, ()) or (kind == "textures" and key in ("source", "extensions")):
                continue
            if kind == "meshes" and key == "primitives":
                self.primitives(here, value, b.get(key, []))
            elif (id(a), key) in self.references:
                self.walk(here, {key: value}, b) if key not in b else self.pair(
                    self.references[id(a), key], value, b[key], f"{here}/{key}"
                )
            else:
                self.item(f"{here}/{key}", key, value, b)
        if kind == "textures":
            self.texture_images(here, a, b)
        elif kind not in _STORAGE:
            self.added(here, a, b)

    def bytes(self, here: str, i: int, j: int) -> None:
        # Only views that an extension holds directly (metadata tables, sound) come here.
        if self.source.view(i) != self.output.view(j):
            self.lose("extension", here, "the bytes that an extension refers to have changed")

    # -- what has a form of its own ----------------------------------------------------------------------------------

    def primitives(self, place: str, a: list[Json], b: list[Json]) -> None:
        if len(b) < len(a):
            self.lose("mesh", f"{place}/primitives", f"has {len(b)} of {len(a)} primitives")
        for number, (old, new) in enumerate(zip(a, b, strict=False)):
            here = f"{place}/primitives/{number}"
            triangles = TRIANGLES <= old.get("mode", TRIANGLES) <= TRIANGLE_FAN
            if triangles_of(old, self.source.json) and not triangles_of(new, self.output.json):
                self.lose("mesh", here, "has no triangles left")
            # Strips and fans may have become lists, and what had no indices may have some.
            skipped = {"mode", "indices"} if triangles else set()
            for key, value in old.items():
                if key in skipped:
                    continue
                if (id(old), key) in self.references and type(new.get(key)) is int:
                    self.pair(self.references[id(old), key], value, new[key], f"{here}/{key}")
                else:
                    self.item(f"{here}/{key}", key, value, new)
            if triangles and "indices" in old and "indices" in new:
                self.pair("accessors", old["indices"], new["indices"], f"{here}/indices")

    def texture_images(self, place: str, a: Json, b: Json) -> None:
        """An image may have moved to where its new format belongs; a fallback that is not there any more is lost."""
        ours, theirs = _image_sources(a), _image_sources(b)
        moved = [image for key, image in theirs.items() if key not in ours and key in IMAGE_FORMATS.values()]
        for key, image in ours.items():
            counterpart = theirs.get(key, moved[0] if moved else None)
            if counterpart is None:
                self.lose("texture", place, f"the image of {key} is gone")
            else:
                self.pair("images", image, counterpart, f"{place}/{key}")
        extensions = {k: v for k, v in a.get("extensions", {}).items() if k not in _IMAGE_SOURCES}
        if extensions:
            self.item(f"{place}/extensions", "extensions", extensions, b)

    def animation(self, number: int, a: Json) -> None:
        """An animation channel by channel: samplers may have been shared, so each is resolved on both sides."""
        place = f"/animations/{number}"
        theirs = self.output.items("animations")
        if number >= len(theirs):
            self.lose("animation", place, f"{a.get('name', 'it')} is gone")
            return
        b = theirs[number]
        for key, value in a.items():
            if key not in ("channels", "samplers"):
                self.item(f"{place}/{key}", key, value, b)
        channels = b.get("channels", [])
        if len(channels) < len(a.get("channels", ())):
            self.lose("animation", place, f"has {len(channels)} of {len(a['channels'])} channels")
        curves: list[tuple[str, Json, Json, str]] = []
        for index, (old, new) in enumerate(zip(a.get("channels", ()), channels, strict=False)):
            here = f"{place}/channels/{index}"
            self.target(here, old.get("target", {}), new.get("target", {}))
            self.walk(here, *({k: v for k, v in c.items() if k not in ("sampler", "target")} for c in (old, new)))
            path = moved(old.get("target", {}))
            curves.append((here, a["samplers"][old["sampler"]], b["samplers"][new["sampler"]], path))
        for here in self.other_curves(curves):
            self.lose("animation", here, "moves along another curve")

    def target(self, place: str, a: Json, b: Json) -> None:
        pointer = a.get("extensions", {}).get("KHR_animation_pointer", {}).get("pointer", "")
        other = b.get("extensions", {}).get("KHR_animation_pointer", {}).get("pointer", "")
        old, new = POINTER.match(pointer), POINTER.match(other)
        if old and new and old["kind"] == new["kind"] and old["kind"] in KINDS:
            self.pair(old["kind"], int(old["index"]), int(new["index"]), f"{place}/target")
            if pointer[old.end() :] != other[new.end() :]:
                self.lose("animation", f"{place}/target", f"pointed at {pointer}, points at {other}")
            a, b = ({key: value for key, value in t.items() if key != "extensions"} for t in (a, b))
        self.walk(f"{place}/target", a, b)

    def other_curves(self, curves: Iterable[tuple[str, Json, Json, str]]) -> list[str]:
        """Of (place, our sampler, theirs, path) the places where they do not say the same: not the same keys, nor
        fewer that give the same value at each of ours, within `curves.BOUNDS`."""
        found = []
        near: list[tuple[str, Curve, Curve, float]] = []
        places = "/animations/*/samplers/*"
        for here, a, b, path in curves:
            ours, theirs = ({"interpolation": "LINEAR", **s, "input": 0, "output": 0} for s in (a, b))
            times = self.same_keys(a["input"], b["input"], f"{places}/input")
            if ours == theirs and self.same_keys(a["output"], b["output"], f"{places}/output") and times:
                continue
            pair = self.comparable(a, b, path) if ours == theirs else None
            if pair is None:
                found.append(here)
            else:
                near.append((here, *pair, self.bounds.of(path, self.extent)))
        off = deviations([(old, new) for _, old, new, _ in near])
        found += [here for (here, _, _, bound), far in zip(near, off, strict=True) if far > 1.001 * bound + 1e-9]
        return found

    def comparable(self, a: Json, b: Json, path: str) -> tuple[Curve, Curve] | None:
        try:
            old, new = read_curve(self.source, a, path), read_curve(self.output, b, path)
        except DocumentError:
            return None
        if old.interpolation == "CUBICSPLINE" or old.values.shape[1:] != new.values.shape[1:] or not len(new.times):
            return None
        counted = len(old.values) == len(old.times) and len(new.values) == len(new.times)
        ends = (old.times[0], old.times[-1]) == (new.times[0], new.times[-1])
        return (old, new) if counted and ends else None

    def same_keys(self, i: int, j: int, place: str) -> bool:
        """Whether two accessors hold the same numbers; many channels share their times."""
        if (i, j) not in self.keys:
            self.pair("accessors", i, j, place)
            try:
                ours, theirs = self.source.accessor(i, dequantize=True), self.output.accessor(j, dequantize=True)
                self.keys[i, j] = np.array_equal(ours, theirs)
            except DocumentError:
                self.keys[i, j] = False
        return self.keys[i, j]

    # -- what nothing refers to --------------------------------------------------------------------------------------

    def unvisited(self, kind: str) -> None:
        """Items that no reference led to: kept ones are compared with their likeness, the others told by name."""
        seen, taken = ({p[n] for p in self.pairs if p[0] == kind} for n in (1, 2))
        for i, item in enumerate(self.source.items(kind)):
            if i in seen:
                continue
            twin = next((j for j in _alike(item, self.output.items(kind)) if j not in taken), None)
            if twin is not None:
                taken.add(twin)
                self.pair(kind, i, twin, f"/{kind}/{i}")
                continue
            for key in ("name", "extras"):
                if item.get(key):
                    self.lose(
                        key,
                        f"/{kind}/{i}",
                        f"{_brief(item[key])}: this {_SINGULAR[kind]} is used by nothing and was left out",
                    )

    def storage_names(self, kind: str, compared: set[int]) -> None:
        """Names and extras of buffer views and the like: often thousands, so they share a line."""
        for key in ("name", "extras"):
            there = [item[key] for item in self.output.items(kind) if key in item]
            kept = {repr(value) for value in there}
            lost = [
                item[key]
                for i, item in enumerate(self.source.items(kind))
                if i not in compared and item.get(key) and repr(item[key]) not in kept
            ]
            if lost:
                what = _SINGULAR.get(kind, kind.rstrip("s"))
                many = f"{len(lost)} {what}s lost their {key}, such as {_brief(lost[0])}" if len(lost) > 1 else ""
                self.lose(key, f"/{kind}", many or f"a {what} lost its {key}: {_brief(lost[0])}")


def _meant(extensions: Json) -> Json:
    """Extensions without those that only say how data travel."""
    return {name: value for name, value in extensions.items() if name not in TRANSPORT}


def _image_sources(texture: Json) -> dict[str, int]:
    found = {"source": texture["source"]} if type(texture.get("source")) is int else {}
    for name in _IMAGE_SOURCES:
        source = texture.get("extensions", {}).get(name, {}).get("source")
        if type(source) is int:
            found[name] = source
    return found


def _alike(item: Json, others: Iterable[Json]) -> Iterable[int]:
    for index, other in enumerate(others):
        if all(item.get(key) == other.get(key) for key in ("name", "extras")):
            yield index


def _of_place(place: str) -> str:
    for part in reversed(place.split("/")):
        if part in _KIND_OF_KEY:
            return _KIND_OF_KEY[part]
    return {"animations": "animation", "cameras": "camera", "skins": "skin"}.get(place.split("/")[1], "value")


def _brief(value: Any) -> str:
    text = f'"{value}"' if isinstance(value, str) else repr(value)
    return text if len(text) <= 120 else f"{text[:117]}…"
