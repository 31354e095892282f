"""One asset of a re-bake, in a worker: the same list of stages, over the worker's own sandbox. Knows no Prefect."""

from __future__ import annotations

import uuid
from functools import lru_cache
from typing import Any

from cloudbaker import logs
from cloudbaker.catalog.core import Catalog
from cloudbaker.compute.job import Workbench
from cloudbaker.compute.signing import keys as signing_keys
from cloudbaker.errors import Conflict
from cloudbaker.flows.direct import run_directly
from cloudbaker.model import AssetRef, Blob, RunState, Source, to_json
from cloudbaker.settings import Settings, adopt
from cloudbaker.tasks.context import BakeRequest
from cloudbaker.tasks.result import result_of
from cloudbaker.tasks.services import Services


@lru_cache(maxsize=1)
def _open(config_json: str) -> tuple[Catalog, signing_keys.Keys]:
    config = Settings.model_validate_json(config_json)
    adopt(config)
    logs.configure()
    return Catalog.open(config), signing_keys.ensure(config.keys)


def bake_item(workbench: Workbench, item: dict[str, Any], context: dict[str, Any]) -> dict[str, Any]:
    """Bake the stored sources of one asset again and publish. Returns a small row: state, version, findings.

    Raises what a stage raises (a sandbox limit, a crash): the driver counts the attempts.
    """
    catalog, keys = _open(context["settings"])
    request = BakeRequest(
        asset=AssetRef.parse(item["asset"]),
        recipe=item["recipe"],
        sources=tuple(Source(s["name"], s["media_type"], Blob(**s["blob"])) for s in item["sources"]),
        channel=item["channel"],
        replaces=item["version"],
        previews=False,
        created_by=context["created_by"],
        change_note=item["reason"],
    )
    run_id = str(uuid.uuid4())
    services = Services(catalog, workbench, keys, "rebake")
    try:
        state = run_directly(services.context(request, run_id=run_id, flow="rebake", parent_run_id=context["run_id"]))
    except Conflict as error:
        if not error.facts.get("superseded"):
            raise
        # Somebody published a newer version while we baked: the next plan looks at that one.
        return {"state": RunState.UNCHANGED.value, "run_id": run_id, "version": error.facts["newest"], "findings": []}
    result = result_of(catalog, run_id, pictures=False)
    return {
        "state": state.value,
        "run_id": run_id,
        "version": result.version.number if result.version else None,
        "findings": [to_json(f) for f in result.findings if f.severity.value == "error"][:20],
    }
