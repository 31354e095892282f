"""The record of a running service (``cloudbaker up``): where its Prefect API and its Ray are."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from cloudbaker.settings import Settings


@dataclass(frozen=True, slots=True)
class ServiceRecord:
    """What ``service.json`` in the home folder says while a service runs."""

    pid: int
    """Of the supervisor: the service is alive as long as it is."""
    prefect_api_url: str
    ui_url: str
    ray_address: str
    engine_socket: str

    @staticmethod
    def path(settings: Settings) -> Path:
        """Where the record lies."""
        return settings.home / "service.json"

    def write(self, settings: Settings) -> None:
        """Write the record, atomically."""
        path = self.path(settings)
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        temporary = path.with_suffix(f".{os.getpid()}.tmp")
        temporary.write_text(json.dumps(asdict(self)), "utf-8")
        temporary.replace(path)


def running_service(settings: Settings) -> ServiceRecord | None:
    """The service of this home if one is alive. A record left by a killed supervisor does not count."""
    try:
        record = ServiceRecord(**json.loads(ServiceRecord.path(settings).read_text("utf-8")))
        os.kill(record.pid, 0)
    except (OSError, ValueError, TypeError):
        return None
    return record
