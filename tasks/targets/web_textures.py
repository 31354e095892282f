"""The images of a model for the web, encoded each on its own, and again where another form is better for the whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from cloudbaker.compute.job import Job, Outcome
from cloudbaker.compute.textures import programs
from cloudbaker.compute.textures.slots import COLOR_FLOOR_DB, formats, gpu_bytes, plan
from cloudbaker.model import Finding, Severity
from cloudbaker.recipe import Recipe
from cloudbaker.tasks.context import BakeContext

Row = dict[str, Any]
"""An image of ``unpack_job``."""


def tools(recipe: Recipe) -> dict[str, str]:
    """Programs that decide the bytes of textures, with their versions."""
    return programs.versions(formats(recipe.textures.model_dump(mode="json")))


def wanted(recipe: Recipe) -> bool:
    """Whether a recipe wants anything else than images as they came."""
    return bool(formats(recipe.textures.model_dump(mode="json")) - {"keep"})


def encode(
    context: BakeContext, images: Sequence[Row], files: Mapping[str, bytes]
) -> tuple[list[Outcome], list[Finding]]:
    """What ``encode_job`` makes of each image, in up to three rounds.

    First every image in its own format. Colours whose UASTC is larger than the source are made as ETC1S then, if its
    encoder is installed: a fraction of the bytes for the same memory of the GPU. Where that is too poor, they get a
    lighter form beside the UASTC, as all others have got theirs at once.
    """
    textures = context.recipe.textures.model_dump(mode="json")
    plans = [plan(image, textures) for image in images]
    missing = tools(context.recipe).get("basisu") == "none"
    smaller = [p.pop("smaller", None) for p in plans]
    for params, other in zip(plans, smaller, strict=True):
        if other and not missing:
            del params["instead"]  # the next round's business
    made = context.do_all([_job(context, image, files, p) for image, p in zip(images, plans, strict=True)])

    again = [n for n, other in enumerate(smaller) if other and not missing and _grew(made[n], files[images[n]["file"]])]
    second = context.do_all(
        [
            _job(context, images[n], files, {**plans[n], "format": smaller[n], "instead": "webp", "min_psnr": None})
            for n in again
        ]
    )
    poor = []
    for n, outcome in zip(again, second, strict=True):
        quality = outcome.value.get("psnr_db")
        wanted = max(COLOR_FLOOR_DB, plans[n]["min_psnr"] or 0)
        if quality is None or quality >= wanted:
            made[n] = outcome
        else:
            poor.append(n)
    third = context.do_all([_job(context, images[n], files, {**plans[n], "format": "webp"}) for n in poor])
    for n, outcome in zip(poor, third, strict=True):
        lighter = {"lighter": outcome.files["image"]} if "image" in outcome.files else {}
        value = {**made[n].value, "lighter": outcome.value}
        made[n] = replace(made[n], value=value, files={**made[n].files, **lighter})

    findings = []
    if missing and any(other and "lighter" in made[n].value for n, other in enumerate(smaller)):
        findings.append(
            Finding(
                "texture.etc1s-missing",
                Severity.WARNING,
                "",
                "the ETC1S encoder is not installed: colours for whose UASTC there is no room are WebP, and take four "
                "times the memory of a GPU",
                "run `cloudbaker setup` where npm can be reached, or name a format in textures.slots.color",
            )
        )
    return made, findings


def _job(context: BakeContext, image: Row, files: Mapping[str, bytes], params: Mapping[str, Any]) -> Job:
    """The job that encodes one image. UASTC has a fork server of its own, which has its kernels loaded."""
    blocks, rdo = params["format"] == "ktx2-uastc", "rdo" in params  # which has a kernel of its own, for CPUs
    module = ("textures.uastc.rdo_job" if rdo else "textures.uastc.job") if blocks else "textures.encode"
    return context.job(
        f"{module}:encode_job",
        {"image": files[image["file"]]},
        gpu=blocks and not rdo,
        limits={"image_pixels": context.recipe.limits.image_pixels},
        **params,
    )


def _grew(outcome: Outcome, source: bytes) -> bool:
    return outcome.value.get("mime") == "image/ktx2" and len(outcome.files.get("image", b"")) > len(source)


def forms(image: Row, outcome: Outcome) -> tuple[Row | None, Row | None]:
    """Rows of ``assemble_job`` for one image: what is put in, and what may take its place (see ``encode_job``)."""
    value, files = outcome.value, outcome.files

    def form(name: str, facts: Row, **more: Any) -> Row:
        row = {"index": image["index"], "file": f"{image['file']}.{name}", "mime": facts["mime"], **more}
        if "fallback" in files:
            row["fallback"] = {"file": f"{image['file']}.fallback", "mime": value["fallback"]["mime"]}
        return row

    lighter = value.get("lighter")
    if lighter is None:
        return (form("image", value) if "image" in files else None), None
    saves = lighter["gpu_bytes"] - value["gpu_bytes"]
    return (form("lighter", lighter) if "lighter" in files else None), form("image", value, saves=saves)


def told(image: Row, outcome: Outcome, before: int, *, heavy: bool) -> Row:
    """What is told of one image of `before` bytes: the facts of the form that is in the files."""
    value, name = outcome.value, "image"
    if value.get("lighter") and not heavy:
        value, name = value["lighter"], "lighter"
    facts = {key: fact for key, fact in value.items() if key not in ("lighter", "fallback")}
    return {
        **image,
        **facts,
        "bytes": len(outcome.files[name]) if name in outcome.files else before,
        "bytes_before": before,
        "gpu_bytes_before": gpu_bytes(image["width"], image["height"]),
    }


def gpu_seconds(textures: Sequence[Row]) -> dict[str, float]:
    """What GPUs took for the textures, where they did."""
    seconds = [float(row["gpu"]["seconds"]) for row in textures if "gpu" in row]
    return {"texture_gpu_seconds": sum(seconds)} if seconds else {}
