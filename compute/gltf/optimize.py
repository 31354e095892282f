"""The optimize stage: a valid GLB in, small ones out, each a literal list of named steps.

`unpack_job` hands out the images, `assemble_job` takes the encoded ones back and does the geometry. Between them the
caller encodes images wherever there is room (see ``compute/textures``).

What is lossy is decoded again and measured. Several candidates are made for each file and the smallest one that decodes
correctly is taken, the input itself among them: nothing ever grows.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from cloudbaker.compute.gltf.candidates import BOTH, Maker, Packer, compression_of, unpacked
from cloudbaker.compute.gltf.decompress import decode, dequantize
from cloudbaker.compute.gltf.dedup import dedup
from cloudbaker.compute.gltf.document import Bytes, Document
from cloudbaker.compute.gltf.flatten import FlattenOptions, flatten
from cloudbaker.compute.gltf.instance import Instanced, InstanceOptions, instance
from cloudbaker.compute.gltf.join import Joined, JoinOptions, join
from cloudbaker.compute.gltf.losses import compare
from cloudbaker.compute.gltf.measure import Geometry, Reference, count
from cloudbaker.compute.gltf.msft_lod import MSFT_LOD, Level, msft_lod, without_levels
from cloudbaker.compute.gltf.prune import Reserved, prune, reserve
from cloudbaker.compute.gltf.quantize_animations import quantize_animations
from cloudbaker.compute.gltf.references import QUANTIZATION
from cloudbaker.compute.gltf.resample import resample
from cloudbaker.compute.gltf.simplify import SimplifyOptions, simplify_or_replace
from cloudbaker.compute.gltf.surfaces import surface
from cloudbaker.compute.gltf.tangents import TangentsOptions, tangents
from cloudbaker.compute.gltf.texture_budget import Heavier, affordable, with_heavier
from cloudbaker.compute.gltf.textures import encodable_images, replace_images
from cloudbaker.compute.gltf.weigh import Weigh, weigh
from cloudbaker.compute.job import Inputs, JobResult, Params
from cloudbaker.model import Loss, to_json

MAIN = "model.glb"
ALL_LEVELS = "model-lods.glb"
SOURCE = "source.glb"
"""The model as it came, where verbs have changed its materials before (`materials.materials_job`): what losses are
counted from."""
WORTH = 0.99
"""A candidate that is less than 1 % smaller than one that changed less is not worth the change."""
WORTH_AGAIN = 0.95
"""What a codec has rounded before is rounded again by packing it anew: that has to make it a twentieth smaller."""
WORTH_BOTH = 0.9
"""A file that wants two decoders of its viewer has to be a tenth smaller, images aside, than one that wants one."""
POSED = 16.0
"""How much farther off a pose may be than the mesh at rest: weights of 8 bits give 0.2 % of how far two bones part."""
GAIN = 0.95
"""A level of detail with more than 95 % of the triangles saves nothing."""


def unpack_job(inputs: Inputs, params: Params) -> JobResult:
    """Hand out the images that may be encoded anew (see `textures.encodable_images`).

    Input ``model.glb``. The value is ``{"images": [{index, file, mime, slots, slot_class, width, height, mips,
    alpha_cutoff}]}``; the files are the encoded images as they lie in the model. Raises `GlbError` or `DocumentError`
    on damage.
    """
    document = Document.from_glb(inputs[MAIN])
    images = encodable_images(document)
    return JobResult(
        {
            "images": [
                {
                    "index": image.index,
                    "file": f"image-{image.index}",
                    "mime": image.mime,
                    "slots": list(image.slots),
                    "slot_class": image.slot_class,
                    "width": image.width,
                    "height": image.height,
                    "mips": image.mips,
                    "alpha_cutoff": image.alpha_cutoff,
                }
                for image in images
            ]
        },
        {f"image-{image.index}": document.view(image.view) for image in images},
    )


def assemble_job(inputs: Inputs, params: Params) -> JobResult:
    """Make the optimized GLB and its levels of detail.

    Inputs ``model.glb`` and the encoded images that ``params["images"]`` names (``[{index, file, mime}]``); those left
    out stay as they are. ``params["heavier"]`` (``[{index, file, mime, saves}]``) are other forms of some of them that
    save so many bytes of the GPU's memory, and are put in where the file stays within ``params["budget"]`` of the
    input's size; ``heavier`` of the value are the numbers of those that were. Both kinds of rows may have a
    ``fallback`` (``{file, mime}``). ``params["meshes"]`` and ``params["lods"]`` are the recipe's. The value holds
    ``variants`` (one line per file), ``losses`` and ``steps`` (name, seconds, detail); the files are ``model.glb``,
    ``lod1.glb`` … Raises `GlbError` or `DocumentError` on damage.
    """
    work = _Work(inputs, params)
    steps: list[dict[str, Any]] = []
    for name, step in STEPS:
        started = time.perf_counter()
        detail = step(work)
        steps.append({"name": name, "seconds": round(time.perf_counter() - started, 4), "detail": detail})
    return JobResult(
        {
            "variants": [variant.to_json() for variant in work.variants],
            "heavier": [offer.index for offer in work.heavier],
            "losses": [to_json(loss) for loss in work.losses],
            "steps": steps,
        },
        {variant.name: variant.data for variant in work.variants},
    )


@dataclass(slots=True)
class _Variant:
    """A file in the making, and what is known about it."""

    name: str
    variant: str
    data: Bytes
    compression: str
    geometry: Geometry
    suggested_distance: float = 0.0
    notes: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "variant": self.variant,
            "triangles": self.geometry.triangles,
            "vertices": self.geometry.vertices,
            "bytes": len(self.data),
            "compression": self.compression,
            # Four digits: what differs between processors in the last bit of a sum does not show.
            "error_mean_percent": _figure(self.geometry.error_mean_percent),
            "error_max_percent": _figure(self.geometry.error_max_percent),
            "texcoord_pixels": _figure(self.geometry.texcoord_pixels),
            "suggested_distance": self.suggested_distance,
            "note": "; ".join(self.notes),
        }


def _figure(value: float) -> float:
    return float(f"{value:.4g}") if value > 1e-9 else 0.0


@dataclass(slots=True)
class _Level:
    """A level of detail before compression."""

    variant: str
    document: Document
    notes: list[str]
    gate: float
    """Largest mean error allowed, in %."""


class _Work:
    """What the steps hand on to each other."""

    def __init__(self, inputs: Inputs, params: Params) -> None:
        self.inputs = inputs
        self.images: list[Mapping[str, Any]] = list(params.get("images", ()))
        self.offers: list[Mapping[str, Any]] = list(params.get("heavier", ()))
        self.budget = float(params.get("budget", 1.0))
        self.lods: list[Mapping[str, Any]] = list(params.get("lods", ()))
        self.replacements: list[Mapping[str, Any]] = list(params.get("replacements", ()))
        """Levels of single surfaces made elsewhere: ``{key, variant, file}`` (see ``surfaces.py``)."""
        self.meshes: Mapping[str, Any] = params.get("meshes", {})
        self.verbs: Mapping[str, Any] = params.get("verbs", {})
        self.weigh: Weigh = self.meshes.get("weigh", "raw")
        self.source = Document({})
        """The input, unchanged."""
        self.reserved = Reserved()
        self.packer = Packer(self.reserved)
        self.document = Document({})
        """The input with its new images, geometry as it came."""
        self.plain = Document({})
        """The same with plain geometry, nothing twice and nothing unused: what everything else is made from."""
        self.reference = Reference(self.plain)
        """The same, ready to be measured against."""
        self.rebuilt = False
        """The recipe's verbs have changed nodes or attributes: the input is not what was asked for."""
        self.levels: list[_Level] = []
        self.variants: list[_Variant] = []
        self.heavier: list[Heavier] = []
        """The offers that were taken."""
        self.losses: list[Loss] = []

    @property
    def size(self) -> int:
        return len(self.inputs[MAIN])


# -- the steps ---------------------------------------------------------------------------------------------------------


def _read(work: _Work) -> str:
    """Parse the input and see what has to keep its number."""
    work.source = Document.from_glb(work.inputs[MAIN])
    work.reserved = reserve(work.source)
    work.packer = Packer(work.reserved, work.meshes, work.verbs)
    work.document = work.source.clone()
    if work.reserved.pinned:
        return "an unknown extension holds integers: nothing is merged or renumbered"
    return f"{len(work.source.items('accessors'))} accessors"


def _images(work: _Work) -> str:
    """Put the encoded images in."""
    new = {int(image["index"]): (work.inputs[image["file"]], str(image["mime"])) for image in work.images}
    old = sum(len(work.document.view(work.document.items("images")[i]["bufferView"])) for i in new)
    fallbacks = {int(image["index"]): fallback for image in work.images if (fallback := _fallback(work, image))}
    replace_images(work.document, new, fallbacks)
    return f"{len(new)} replaced, {old} → {sum(len(content) for content, _ in new.values())} bytes"


def _fallback(work: _Work, row: Mapping[str, Any]) -> tuple[Bytes, str] | None:
    fallback = row.get("fallback")
    return (work.inputs[fallback["file"]], str(fallback["mime"])) if fallback else None


def _decode(work: _Work) -> str:
    """Unpack Draco, meshopt and quantization, so that geometry can be worked on."""
    how = compression_of(work.document)
    work.plain = work.document
    if how != "none" or QUANTIZATION in work.document.json.get("extensionsUsed", ()):
        work.plain = work.document.clone()
        decode(work.plain)
        dequantize(work.plain)
    return how


def _dedup(work: _Work) -> str:
    """Merge what is equal and drop what is unused, in the plain geometry and in the packed one alike."""
    before = len(work.plain.items("accessors"))
    for document in [work.plain] if work.plain is work.document else [work.plain, work.document]:
        dedup(document, work.reserved)
        prune(document, work.reserved)
    work.reference = Reference(work.plain)
    return f"{before} → {len(work.plain.items('accessors'))} accessors"


def _verbs(work: _Work) -> str:
    """What the recipe asks for and changes more than the order of things. Lossless ones: see `_plain`."""
    wanted, named = work.verbs, work.verbs.get("keep_named", True)
    lifted = flatten(work.plain, FlattenOptions(named)) if wanted.get("flatten") else 0
    drawn = instance(work.plain, InstanceOptions(keep_named=named)) if wanted.get("instance") else Instanced(0, 0)
    joined = join(work.plain, JoinOptions(keep_named=named)) if wanted.get("join") else Joined(0, 0)
    mode = wanted.get("tangents", "keep")
    turned = 0 if mode == "keep" else tangents(work.plain, TangentsOptions(mode, unused=True)).changed
    work.rebuilt = bool(lifted or drawn.batches or joined.after < joined.before or turned)
    if work.rebuilt:
        prune(work.plain, work.reserved)
        work.document = work.plain
        work.reference = Reference(work.plain)
    return (
        f"{lifted} nodes lifted, {drawn.nodes} made instances, {joined.before - joined.after} draw calls saved, "
        f"tangents: {mode}, {turned} geometries changed"
    )


def _keyframes(work: _Work) -> str:
    """Leave out keyframes that their neighbours imply, and round the others."""
    before, after = resample(work.plain)
    rounded = quantize_animations(work.plain)
    if after < before or rounded:
        dedup(work.plain, work.reserved)
        prune(work.plain, work.reserved)
    return f"{before} → {after} keyframes, {rounded} accessors rounded"


def _simplify(work: _Work) -> str:
    """Make the levels of detail, each from the full geometry."""
    for lod in work.lods:
        work.levels.append(_level(work, lod))
    return ", ".join(f"{level.variant}: {count(level.document).triangles} triangles" for level in work.levels)


def _compress(work: _Work) -> str:
    """Make the candidates of the full model and take the smallest."""
    best = _Variant(MAIN, "default", work.inputs[MAIN], compression_of(work.source), count(work.source))
    makers = [work.packer.plain("repacked", work.document), *work.packer.compressed(work.plain)]
    if not work.rebuilt:
        makers += work.packer.integers(work.document)
    limit = 100 * 2.0 ** (1 - work.meshes.get("position_bits", 14))
    work.variants.append(_smallest(work, best, "source", makers, gain=not work.rebuilt, max_percent=limit))
    return f"{work.size} → {len(work.variants[0].data)} bytes"


def _compress_levels(work: _Work) -> str:
    """The same for the levels of detail. A level without fewer triangles than the one before is the same file again."""
    for level in work.levels:
        before = work.variants[-1]
        name = f"{level.variant}.glb"
        same = replace(before, name=name, variant=level.variant, notes=[*level.notes, f"is the same as {before.name}"])
        if count(level.document).triangles > GAIN * before.geometry.triangles:
            work.variants.append(same)
            continue
        candidates = [*work.packer.compressed(level.document), work.packer.plain("plain", level.document)]
        best = _smallest(work, same, before.name, candidates, gain=False, mean_percent=level.gate)
        if best is not same:
            best.notes = [*level.notes, *best.notes]
            far = best.geometry.distance(work.meshes.get("switch_pixels", 1.0))
            best.suggested_distance = max(far, before.suggested_distance)
        work.variants.append(best)
    return ", ".join(f"{variant.variant}: {len(variant.data)} bytes" for variant in work.variants[1:])


def _one_file(work: _Work) -> str:
    """All levels in one more file, where the recipe asks for it and it is no larger than the input."""
    levels = [
        Level(level.document, variant.suggested_distance)
        for level, variant in zip(work.levels, work.variants[1:], strict=True)
    ]
    if not work.meshes.get("msft_lod") or not levels:
        return "not asked for"
    if MSFT_LOD in work.source.json.get("extensionsUsed", ()):
        return "the input has levels of its own"
    whole = work.plain.clone()
    done = msft_lod(whole, levels)
    if not done.nodes:
        return "no node has levels"
    dedup(whole, work.reserved)
    reference = Reference(whole)
    limit = 100 * 2.0 ** (1 - work.meshes.get("position_bits", 14))
    fit: list[_Variant] = []
    for _, make in [*work.packer.compressed(whole), work.packer.plain("plain", whole)]:
        data, remark = make()
        try:
            compression, geometry = unpacked(data, reference)
        except ValueError:
            continue  # a mesh that this codec can't take
        if len(data) <= work.size and geometry.rest_max_percent <= limit:
            notes = [remark] if remark else []
            fit.append(_Variant(ALL_LEVELS, "lods", data, compression, geometry, notes=notes))
    if not fit:
        return f"left out: larger than the input's {work.size} bytes"
    best = min(fit, key=lambda variant: len(variant.data))
    if done.left:
        best.notes.append(f"{done.left} nodes that move or have children show the full mesh at any distance")
    work.variants.append(best)
    return f"{done.nodes} nodes, {len(best.data)} bytes"


def _heavier(work: _Work) -> str:
    """Put in the textures that save the GPU's memory, as far as the input's size allows."""
    light = {int(image["index"]): work.inputs[image["file"]] for image in work.images}
    rows = {int(row["index"]): row for row in work.offers}
    offers, others = [], set()
    for index, image in enumerate(work.source.items("images")):
        if "bufferView" not in image:
            continue
        content = light.get(index, work.source.view(image["bufferView"]))
        if index not in rows:
            others.add(bytes(content))
            continue
        row = rows[index]
        # A light image that every viewer knows has no fallback yet; the others have theirs already.
        fallback = None if index in light else _fallback(work, row)
        offers.append(Heavier(index, content, work.inputs[row["file"]], str(row["mime"]), int(row["saves"]), fallback))
    offers = [offer for offer in offers if bytes(offer.light) not in others]
    limit = int(work.budget * work.size)
    chosen = affordable(offers, limit - len(work.variants[0].data))
    while chosen:
        files = {id(v.data): v.data for v in work.variants}  # a level may be the same file as the one before
        made = {key: with_heavier(data, chosen) for key, data in files.items()}
        # Names of extensions take some bytes as well.
        if all(len(data) <= limit for data in made.values()):
            for variant in work.variants:
                variant.data = made[id(variant.data)]
            break
        chosen.pop()
    work.heavier = chosen
    return f"{len(chosen)} of {len(offers)}, {sum(offer.saves for offer in chosen)} bytes of the GPU's memory saved"


def _compare(work: _Work) -> str:
    """Hold every file against the input, from its bytes, and list what is missing."""
    source = Document.from_glb(work.inputs[SOURCE]) if SOURCE in work.inputs else work.source
    for variant in work.variants:
        document = Document.from_glb(variant.data)
        lost = compare(source, without_levels(document) if variant.name == ALL_LEVELS else document)
        if variant.name != MAIN:
            common = set(work.losses)
            lost = [replace(loss, place=f"{variant.name}{loss.place}") for loss in lost if loss not in common]
        work.losses += lost
    return f"{len(work.losses)} losses"


STEPS: tuple[tuple[str, Callable[[_Work], str]], ...] = (
    ("read", _read),
    ("images", _images),
    ("decode", _decode),
    ("dedup and prune", _dedup),
    ("verbs", _verbs),
    ("keyframes", _keyframes),
    ("simplify", _simplify),
    ("compress", _compress),
    ("compress levels", _compress_levels),
    ("levels in one file", _one_file),
    ("heavier textures", _heavier),
    ("compare", _compare),
)


# -- levels of detail --------------------------------------------------------------------------------------------------


def _level(work: _Work, lod: Mapping[str, Any]) -> _Level:
    document = work.plain.clone()
    others = {
        str(row["key"]): surface(work.inputs, str(row["file"]))
        for row in work.replacements
        if row["variant"] == lod["variant"]
    }
    pixels = lod.get("max_texcoord_pixels") or math.inf
    options = SimplifyOptions(lod["ratio"], lod["max_error_percent"], max_texcoord_pixels=pixels)
    done = simplify_or_replace(document, options, others)
    prune(document, work.reserved)
    return _Level(lod["variant"], document, [done.note] if done.note else [], lod["max_error_percent"])


# -- candidates --------------------------------------------------------------------------------------------------------


def _smallest(
    work: _Work,
    best: _Variant,
    standing: str,
    makers: Sequence[Maker],
    *,
    gain: bool,
    mean_percent: float = math.inf,
    max_percent: float = math.inf,
) -> _Variant:
    """The smallest of the files that the makers make, as the recipe weighs; `best` (called `standing`) if none is fit.

    A file is fit if it is no larger than the input, decodes, and its measured error does not pass the limits. One that
    comes later has to be smaller by `WORTH`, with `gain` also the first.
    """
    lightest = weigh(best.data, work.weigh)
    ceiling = WORTH * lightest.cost if gain else math.inf
    rounded = gain and best.compression != "none"
    sizes = [f"{standing} {lightest}"]
    chosen, notes = standing, []
    for name, make in makers:
        data, remark = make()
        weight = weigh(data, work.weigh)
        sizes.append(f"{name} {weight}")
        if len(data) > work.size or weight.cost > ceiling:
            continue
        if rounded and name != "repacked" and weight.cost > WORTH_AGAIN * lightest.cost:
            continue
        if name == BOTH and weight.geometry > WORTH_BOTH * lightest.geometry:
            continue
        try:
            compression, geometry = unpacked(data, work.reference)
        except ValueError as error:
            notes.append(f"{name} was not used: {error}")
            continue
        off = max(geometry.rest_max_percent / max_percent, geometry.error_max_percent / max_percent / POSED)
        if geometry.error_mean_percent > mean_percent or off > 1:
            notes.append(
                f"{name} was not used: error {geometry.error_mean_percent:.4f} % (mean), "
                f"{geometry.error_max_percent:.4f} % (largest)"
            )
            continue
        chosen, remarks = name, [remark] if remark else []
        best = _Variant(best.name, best.variant, data, compression, geometry, notes=remarks)
        lightest, ceiling, rounded = weight, WORTH * weight.cost, rounded and name == "repacked"
    best.notes = [*best.notes, f"{chosen} is the smallest ({', '.join(sizes)} bytes)", *notes]
    return best
