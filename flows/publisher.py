"""The publisher of events: who is told of them, as the settings say, and the process that tells them.

``cloudbaker up`` supervises one; ``cloudbaker catalog events --deliver`` does the same once, for one's own scheduler.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from cloudbaker import logs
from cloudbaker.service import running_service
from cloudbaker.settings import Settings, settings

if TYPE_CHECKING:  # the supervisor needs no database
    from cloudbaker.catalog.sinks import Sink

log = logs.get_logger(__name__)


def ready_file(config: Settings) -> Path:
    """Exists once every sink is known to the catalog: what happens from then on is told."""
    return config.home / "publisher.ready"


@contextmanager
def configured_sinks(config: Settings) -> Iterator[list[Sink]]:
    """Prefect where a server runs or is configured, the webhook where one is set. Raises `UsageError` for a bad one."""
    service = running_service(config)
    api_url = config.prefect_api_url or (service.prefect_api_url if service else "")
    sinks: list[Sink] = []
    with ExitStack() as stack:
        if api_url:
            from cloudbaker.tasks.prefect_sink import PrefectSink

            sinks.append(stack.enter_context(closing(PrefectSink(api_url))))
        if config.webhook_url:
            from cloudbaker.catalog.webhook import Webhook

            secret = config.webhook_secret.get_secret_value()
            sinks.append(stack.enter_context(closing(Webhook(config.webhook_url, secret))))
        yield sinks


def main() -> None:
    """The publisher's process: runs until SIGTERM, or until its parent is gone."""
    from cloudbaker.catalog.core import Catalog
    from cloudbaker.catalog.sinks import register
    from cloudbaker.catalog.times import utc_now

    logs.configure()
    config, stop, parent = settings(), threading.Event(), os.getppid()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())

    def watch() -> None:
        while not stop.wait(1.0):
            if os.getppid() != parent:
                stop.set()

    threading.Thread(target=watch, daemon=True).start()
    with configured_sinks(config) as sinks, Catalog.open(config) as catalog:
        for sink in sinks:
            register(catalog.core, sink.name, utc_now())
        ready_file(config).touch()
        print("telling", ", ".join(sink.name for sink in sinks) or "nobody", flush=True)
        if sinks:
            catalog.publisher(sinks).run(stop)
        else:
            stop.wait()
    print("stopped", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
