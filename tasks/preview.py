"""preview: a picture before and after, by the renderer that the web will use. Evidence, not part of a package."""

from __future__ import annotations

from dataclasses import dataclass, field

from cloudbaker.errors import CloudBakerError
from cloudbaker.model import Finding, Severity
from cloudbaker.tasks.context import BakeContext
from cloudbaker.tasks.optimize import Optimized
from cloudbaker.tasks.stage import stage
from cloudbaker.tasks.validate import Validated


@dataclass(frozen=True, slots=True)
class Previewed:
    """The pictures, or why there are none."""

    pictures: dict[str, bytes] = field(default_factory=dict)
    """PNG by name: ``preview-before.png``, ``preview-after.png``."""
    findings: tuple[Finding, ...] = ()
    metrics: dict[str, float] = field(default_factory=dict)
    skipped: bool = False


@stage("preview", share=0.25, retries=0)
def preview(context: BakeContext, validated: Validated, optimized: Optimized) -> Previewed:
    """Render the model before and after. A model that can't be drawn is no reason not to publish: it is a finding."""
    if not context.request.previews or not validated.model:
        return Previewed(skipped=True)
    if context.previewer is None:
        return Previewed(findings=(_absent(context.previewer_absent),), skipped=True)
    try:
        result = context.previewer.compare(
            validated.model, optimized.files["model.glb"], size=context.recipe.previews.size
        )
    except CloudBakerError as error:
        return Previewed(findings=(_absent(error.message),), skipped=True)
    return Previewed(
        {"preview-before.png": result.before.png, "preview-after.png": result.after.png},
        metrics={"preview_difference_percent": result.difference_percent},
    )


def _absent(reason: str) -> Finding:
    return Finding("preview.unavailable", Severity.INFO, "", reason, "the package is complete without pictures")
