"""A verb on a file from outside: checked before, checked after, and what it cost. What ``cloudbaker gltf`` runs."""

from __future__ import annotations

from typing import Any

from cloudbaker.compute.gltf.document import Document
from cloudbaker.compute.gltf.facts import facts
from cloudbaker.compute.gltf.limits import ContentLimits
from cloudbaker.compute.gltf.losses import compare
from cloudbaker.compute.gltf.validate import VALIDATOR, validate
from cloudbaker.compute.gltf.verbs import call
from cloudbaker.compute.job import Inputs, JobResult, Params
from cloudbaker.model import Severity, to_json

MODEL = "model.glb"
_COUNTED = (
    *("bytes", "triangles", "vertices", "primitives", "nodes", "meshes", "materials", "textures", "images"),
    *("animations", "accessors", "buffer_views"),
)


def apply_job(inputs: Inputs, params: Params) -> JobResult:
    """Run one verb on one model.

    Inputs ``model.glb`` and ``validator.js``; params ``{"verb": …, "options": {…}, "limits": {…}}``. Value:
    ``{"findings": […]}`` of the input; if none is an error, also ``result`` (what the verb says), ``losses``,
    ``before`` and ``after`` (counts), and ``introduced``: errors of the output that the input does not have. The file
    ``model.glb`` is there only if there are none of those.
    """
    limits, script = ContentLimits.of(params), bytes(inputs[VALIDATOR]).decode("utf-8")
    found, _ = validate(inputs[MODEL], limits, script)
    value: dict[str, Any] = {"findings": found.to_json()}
    if found.failed:
        return JobResult(value)
    source = Document.from_glb(inputs[MODEL])
    document = source.clone()
    result = call(str(params["verb"]), document, params.get("options", {}))
    data = document.to_glb()
    output = Document.from_glb(data)
    checked, _ = validate(data, limits, script)
    introduced = [f for f in checked if f.severity is Severity.ERROR]
    value |= {
        "result": to_json(result),
        "losses": [to_json(loss) for loss in compare(source, output)],
        "before": _counts(source, len(inputs[MODEL])),
        "after": _counts(output, len(data)),
        "introduced": [to_json(finding) for finding in introduced],
    }
    return JobResult(value, {} if introduced else {MODEL: data})


def _counts(document: Document, size: int) -> dict[str, int]:
    counted = {
        **facts(document.json, size),
        "accessors": len(document.items("accessors")),
        "buffer_views": len(document.items("bufferViews")),
    }
    return {name: int(counted[name]) for name in _COUNTED}
