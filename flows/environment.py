"""The environment Prefect and Ray must find *before they are imported*: quiet, offline, state under the home folder."""

from __future__ import annotations

import os

from cloudbaker.service import running_service
from cloudbaker.settings import Settings


def prepare(config: Settings) -> str:
    """Set what is not set yet, and return the address of the Prefect API (empty: Prefect's temporary one)."""
    config.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    (config.home / "prefect").mkdir(exist_ok=True)  # Prefect makes no parents, and its server then finds no database
    service = running_service(config)
    api_url = config.prefect_api_url or (service.prefect_api_url if service else "")
    variables = {
        "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "RAY_USAGE_STATS_ENABLED": "0",
        "PREFECT_HOME": str(config.home / "prefect"),
        "PREFECT_LOGGING_LEVEL": "WARNING",
    }
    if api_url:
        variables["PREFECT_API_URL"] = api_url
    else:
        variables["PREFECT_SERVER_ALLOW_EPHEMERAL_MODE"] = "true"
        # A cold machine needs more than Prefect's 20 s to start its temporary server (measured: 5 to 11 s when idle).
        variables["PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS"] = "90"
    for name, value in variables.items():
        os.environ.setdefault(name, value)
    return api_url
