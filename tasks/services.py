"""Opening and closing what stages work with: catalog, keys, a workbench and, where Chromium is, a previewer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

from cloudbaker.catalog.core import Catalog
from cloudbaker.compute.godot.adapter import Engines, LocalEngines
from cloudbaker.compute.job import Workbench
from cloudbaker.compute.previews.previewer import Previewer, available
from cloudbaker.compute.sandbox import Sandbox
from cloudbaker.compute.signing import keys as signing_keys
from cloudbaker.model import Run
from cloudbaker.recipe import load_recipe
from cloudbaker.service import running_service
from cloudbaker.settings import Settings, settings
from cloudbaker.tasks.context import BakeContext, BakeRequest, Comparer


@dataclass(slots=True)
class Services:
    """Everything a bake needs that outlives one bake."""

    catalog: Catalog
    workbench: Workbench
    keys: signing_keys.Keys
    mode: str
    previewer: Comparer | None = None
    previewer_absent: str = ""
    engines: Engines = field(default_factory=LocalEngines)

    def context(
        self,
        request: BakeRequest,
        *,
        run_id: str,
        flow: str = "bake",
        parent_run_id: str | None = None,
        progress: Callable[[str, float], None] = lambda _stage, _fraction: None,
    ) -> BakeContext:
        """The context of one run over these services."""
        recipe = load_recipe(request.recipe)
        run = Run(
            run_id,
            flow,
            request.asset,
            recipe.name,
            self.mode,
            datetime.now(UTC),
            request.created_by,
            parent_run_id,
        )
        return BakeContext(
            request,
            run,
            recipe,
            self.catalog,
            self.workbench,
            self.keys,
            self.previewer,
            self.previewer_absent,
            progress,
            self.engines,
        )


@contextmanager
def direct_services(*, trusted: bool = False, previews: bool = True) -> Iterator[Services]:
    """Services of this process alone: a sandbox of its own, no Ray."""
    config = settings()
    with ExitStack() as stack:
        # First, because it starts a process of its own that warms up while we open the rest.
        workbench = stack.enter_context(Sandbox(trusted=trusted, outer=config.outer_sandbox))
        catalog = stack.enter_context(Catalog.open(config))
        services = Services(catalog, workbench, signing_keys.ensure(config.keys), "direct")
        if previews:
            services.previewer_absent = available(config.chromium) or ""
            if not services.previewer_absent:
                services.previewer = stack.enter_context(Previewer(chromium=config.chromium))
                services.previewer.warm()
        yield services


@contextmanager
def ray_services(*, trusted: bool = False) -> Iterator[Services]:
    """Services on Ray: the cluster that is configured, the running service's, or a local one of our own."""
    from cloudbaker.compute import cluster as ray_cluster
    from cloudbaker.compute.godot.remote import RayEngines
    from cloudbaker.compute.previews.remote import RemotePreviewer

    config = settings()
    service = running_service(config)
    with ExitStack() as stack:
        catalog = stack.enter_context(Catalog.open(config))
        cluster = stack.enter_context(ray_cluster.connect(ray_address(config)))
        workbench = cluster.workbench(trusted=trusted, outer=config.outer_sandbox)
        mode = "service" if service or config.prefect_api_url else "ephemeral"
        services = Services(catalog, workbench, signing_keys.ensure(config.keys), mode, engines=RayEngines())
        services.previewer_absent = available(config.chromium) or ""
        if not services.previewer_absent:
            services.previewer = RemotePreviewer(config.chromium)
        yield services


def ray_address(config: Settings) -> str:
    """Address of the Ray cluster to work on; empty for a local one of our own."""
    service = running_service(config)
    return config.ray_address or (service.ray_address if service else "")
