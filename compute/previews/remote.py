"""A warm browser as a Ray actor: one per cluster, shared by all drivers.

It asks for no GPU: Chromium in the sandbox draws with SwiftShader, and a share of a GPU would lie idle.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from cloudbaker.compute.previews.previewer import Comparison, Previewer
from cloudbaker.errors import CloudBakerError, ComputeUnavailable

_NAME = "previewer"
_NAMESPACE = "cloudbaker"
_GRACE_SECONDS = 30.0


class _Browser:
    """The actor. Errors come back as values, because Ray would wrap them."""

    def __init__(self, chromium: str) -> None:
        self._previewer = Previewer(chromium=chromium)
        self._previewer.warm()

    def compare(self, before: np.ndarray[Any, Any], after: np.ndarray[Any, Any], size: int) -> Any:
        try:
            return self._previewer.compare(before.data, after.data, size=size)
        except CloudBakerError as error:
            return error

    def ready(self) -> bool:
        return True


class RemotePreviewer:
    """`compare` of a `Previewer`, done by the cluster's browser. The connection to Ray must be open."""

    def __init__(self, chromium: str, *, wall_seconds: float = 120.0) -> None:
        self._chromium = chromium
        self._wall_seconds = wall_seconds

    def warm(self) -> None:
        """Start the browser if there is none; does not wait for it."""
        self._actor()

    def compare(self, before: bytes | memoryview, after: bytes | memoryview, *, size: int = 512) -> Comparison:
        """Both pictures from the same camera, and how far they differ. Raises what `Previewer.compare` raises.

        A browser whose node was lost is started again, once; then `ComputeUnavailable`.
        """
        import ray

        views = [ray.put(np.frombuffer(data, np.uint8)) for data in (before, after)]
        for attempt in (1, 2):
            actor = self._actor()
            try:
                answer = ray.get(actor.compare.remote(*views, size), timeout=self._wall_seconds + _GRACE_SECONDS)
            except (ray.exceptions.RayActorError, ray.exceptions.GetTimeoutError) as error:
                ray.kill(actor, no_restart=True)
                if attempt == 2:
                    raise ComputeUnavailable("the browser for previews was lost twice", detail=str(error)) from error
                continue
            if isinstance(answer, CloudBakerError):
                raise answer
            assert isinstance(answer, Comparison)
            return answer
        raise AssertionError("unreachable")

    def _actor(self) -> Any:
        import ray

        remote: Any = ray.remote(_Browser)
        return remote.options(
            name=_NAME,
            namespace=_NAMESPACE,
            get_if_exists=True,
            lifetime="detached",
            max_restarts=0,
            max_task_retries=0,
            num_cpus=0,
        ).remote(self._chromium)
