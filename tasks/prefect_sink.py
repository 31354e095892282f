"""Events to Prefect, where automations wait for them and the run's page shows them.

By Prefect's REST API and not by its `emit_event`: that hands an event to a thread of this process and returns, so an
event that dies with the process is gone, and nobody knows. Here an event counts as told once the server gives it back:
the server takes events into a queue in its memory first (of 10,000 messages at most: 3,769 of 10,000 task runs were
recorded when it overflowed), and writes them to its database some seconds later.

An event's id is the same each time, so the server keeps one that is told twice once.
"""

from __future__ import annotations

import base64
import os
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

import httpx

from cloudbaker.catalog.events import Event
from cloudbaker.errors import CloudBakerError, SinkUnavailable

AT_ONCE = 50
"""Events of one call, and the most that the server gives back at once."""
CONFIRM_SECONDS = 30.0
"""The server writes its queue every 5 s, or every 20 events."""


class PrefectSink:
    """A sink (see `cloudbaker.catalog.sinks.Sink`): the Prefect server at an API address."""

    name = "prefect"

    def __init__(self, api_url: str, *, confirm_seconds: float = CONFIRM_SECONDS) -> None:
        self._client = httpx.Client(base_url=api_url.rstrip("/"), timeout=30.0, headers=_credentials())
        self._confirm_seconds = confirm_seconds

    def close(self) -> None:
        """Close its connections."""
        self._client.close()

    def deliver(self, events: Sequence[Event]) -> Mapping[int, str | None]:
        """Post events and wait until the server has them. Raises `SinkUnavailable` if it can't be reached."""
        parts = [events[start : start + AT_ONCE] for start in range(0, len(events), AT_ONCE)]
        for some in parts:
            self._call("/events", [prefect_event(event) for event in some])
        has = set[str]().union(*map(self._confirmed, parts))
        return {event.seq: None if event.id in has else "the server took it, and has it not" for event in events}

    def _confirmed(self, events: Sequence[Event]) -> set[str]:
        wanted = {event.id for event in events}
        moments = [event.at for event in events]
        day = timedelta(days=1)
        question = {
            "filter": {
                "id": {"id": sorted(wanted)},
                "occurred": {
                    "since": (min(moments) - day).isoformat(),
                    "until": (max(moments) + day).isoformat(),
                },
            },
            "limit": AT_ONCE,
        }
        deadline = time.monotonic() + self._confirm_seconds
        while True:
            found = {event["id"] for event in self._call("/events/filter", question)["events"]}
            if found >= wanted or time.monotonic() > deadline:
                return found & wanted
            time.sleep(0.5)

    def _call(self, path: str, body: Any) -> Any:
        try:
            answer = self._client.post(path, json=body)
        except httpx.TransportError as error:
            raise SinkUnavailable(
                "the Prefect server can't be reached: is it up, and CLOUDBAKER_PREFECT_API_URL right?",
                detail=repr(error),
            ) from error
        if answer.status_code in (401, 403, 429) or answer.status_code >= 500:
            raise SinkUnavailable(
                f"the Prefect server answers {answer.status_code}: it is busy, or wants PREFECT_API_AUTH_STRING",
                detail=answer.text[:1000],
            )
        if not answer.is_success:
            raise CloudBakerError(f"the Prefect server refused ({answer.status_code})", detail=answer.text[:1000])
        return answer.json() if answer.content else None


def prefect_event(event: Event) -> dict[str, Any]:
    """The event in Prefect's form: the asset as its resource; its run, project and tenant as related ones."""
    tenant, project, name = event.asset.split("/")
    related = [
        {"prefect.resource.id": f"cloudbaker.project.{tenant}/{project}", "prefect.resource.role": "project"},
        {"prefect.resource.id": f"cloudbaker.tenant.{tenant}", "prefect.resource.role": "tenant"},
    ]
    if event.run_id is not None and _is_uuid(event.run_id):
        run = {"prefect.resource.id": f"prefect.flow-run.{event.run_id}", "prefect.resource.role": "flow-run"}
        related.insert(0, run)
    return {
        "id": event.id,
        "occurred": event.at.isoformat(),
        "event": event.kind,
        "resource": {
            "prefect.resource.id": f"cloudbaker.asset.{event.asset}",
            "prefect.resource.name": name,
            "cloudbaker.tenant": tenant,
            "cloudbaker.project": project,
        },
        "related": related,
        "payload": {**event.payload, "asset": event.asset, "correlation_id": event.run_id, "seq": event.seq},
    }


def _is_uuid(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True


def _credentials() -> dict[str, str]:
    """Of the variables that Prefect's own client reads."""
    if key := os.environ.get("PREFECT_API_KEY"):
        return {"Authorization": f"Bearer {key}"}
    if pair := os.environ.get("PREFECT_API_AUTH_STRING"):
        return {"Authorization": "Basic " + base64.b64encode(pair.encode()).decode()}
    return {}
