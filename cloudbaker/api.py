"""Cloud Baker from Python: the same verbs as the command line, with results that show themselves in a notebook.

import cloudbaker as cb

result = cb.bake("helmet.glb", asset="acme/robots/helmet")
cb.catalog().sql("select asset, number, size_bytes from versions").show()
"""

from __future__ import annotations

import getpass
import importlib
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cloudbaker.errors import CloudBakerError, ContentRejected
from cloudbaker.model import AssetRef, RunState
from cloudbaker.service import running_service
from cloudbaker.settings import settings

if TYPE_CHECKING:
    from cloudbaker.catalog.core import Catalog
    from cloudbaker.compute.job import Workbench
    from cloudbaker.compute.signing.verify import VerifyReport
    from cloudbaker.recipe import Recipe
    from cloudbaker.tasks.images import EncodedFile, EncodeReport
    from cloudbaker.tasks.look import Look
    from cloudbaker.tasks.plan import RebakePlan
    from cloudbaker.tasks.result import BakeResult

Mode = Literal["auto", "service", "ephemeral", "direct"]
Progress = Callable[[str, float], None]


def bake(
    path: str | Path,
    *,
    asset: str | None = None,
    tenant: str = "local",
    recipe: str = "web",
    channel: str | None = "live",
    mode: Mode = "auto",
    previews: bool = True,
    trusted: bool = False,
    change_note: str = "",
    depends_on: Sequence[str] | None = None,
    progress: Progress = lambda _stage, _fraction: None,
) -> BakeResult:
    """Bake one model: a ``.glb``, a ``.gltf`` with its files, a ``.zip`` of those, or a folder with one of them; with a
    Godot recipe (``godot-4``, ``godot-3``, ``vr``) a mod: a ``.pck``, a ``.zip``, or its folder.

    `mode`: ``service`` asks the running ``cloudbaker up``, ``ephemeral`` runs the Prefect flow here with a local Ray,
    ``direct`` runs the same stages with neither; ``auto`` takes the service if one runs, else direct.

    `depends_on`: assets that this one needs, each as ``ASSET``, or ``ASSET@NUMBER`` for a version that is kept as long;
    left out, those that its newest version needs.

    Returns the result if the asset is published or unchanged. Raises `ContentRejected` (with the findings in
    ``error.facts``), `LimitExceeded`, `SourceUnreadable` and the other children of `CloudBakerError`.
    """
    with baking(mode=mode, previews=previews, trusted=trusted) as bake_one:
        result = bake_one(
            path,
            asset=asset,
            tenant=tenant,
            recipe=recipe,
            channel=channel,
            change_note=change_note,
            depends_on=depends_on,
            progress=progress,
        )
    return checked(result)


def checked(result: BakeResult) -> BakeResult:
    """The result itself if it is a success; else the error that it stands for is raised."""
    if result.state is RunState.REJECTED:
        from cloudbaker.model import to_json
        from cloudbaker.tasks.report import finding_lines
        from cloudbaker.tasks.result import worst_first

        worst = worst_first(result.findings)
        lines = "".join(f"\n  {line}" for line in finding_lines(worst, most=10))
        raise ContentRejected(
            f"{result.asset} was rejected:{lines}", findings=[to_json(f) for f in worst], run_id=result.run_id
        )
    if not result.ok:
        error = result.error or {}
        raise CloudBakerError(str(error.get("message", f"the run ended {result.state}")), run_id=result.run_id)
    return result


def _catalog() -> Catalog:
    from cloudbaker.catalog.core import Catalog

    return Catalog.open(settings())


BakeOne = Callable[..., "BakeResult"]


@contextmanager
def baking(*, mode: Mode = "auto", previews: bool = True, trusted: bool = False) -> Iterator[BakeOne]:
    """Open what is needed to bake once, for many files: gives a function with the arguments of `bake`.

    Its results are as they came, also rejected ones; errors are raised.
    """
    config = settings()
    mode = resolve_mode(mode)
    common: dict[str, Any] = {"previews": previews, "trusted": trusted, "created_by": getpass.getuser()}

    if mode == "direct":
        from cloudbaker.flows.direct import run_directly
        from cloudbaker.tasks.context import BakeRequest
        from cloudbaker.tasks.gather import asset_of, dependencies_of
        from cloudbaker.tasks.result import result_of
        from cloudbaker.tasks.services import direct_services

        with direct_services(trusted=trusted, previews=previews) as services:

            def directly(
                path: str | Path,
                *,
                asset: str | None,
                tenant: str,
                progress: Progress,
                depends_on: Sequence[str] | None = None,
                **options: Any,
            ) -> BakeResult:
                ref = asset_of(str(path), asset, tenant=tenant)
                needs = dependencies_of(ref, depends_on)
                request = BakeRequest(ref, path=str(path), dependencies=needs, **options, **common)
                run_id = str(uuid.uuid4())
                run_directly(services.context(request, run_id=run_id, progress=progress))
                return result_of(services.catalog, run_id)

            yield directly
        return

    def by_prefect(
        path: str | Path, *, progress: Progress, depends_on: Sequence[str] | None = None, **options: Any
    ) -> BakeResult:
        needs = None if depends_on is None else list(depends_on)
        parameters = {"path": str(Path(path).absolute()), "depends_on": needs, **options, **common}
        if str(parameters["recipe"]).endswith(".toml"):  # the engine has another working directory than we
            parameters["recipe"] = str(Path(parameters["recipe"]).absolute())
        if mode == "service":
            from cloudbaker.flows.environment import prepare
            from cloudbaker.flows.remote import run_deployment

            # What reads the result is loaded while the service works: half a second that nobody has to wait for.
            threading.Thread(target=importlib.import_module, args=("cloudbaker.catalog.core",), daemon=True).start()
            run = run_deployment(
                prepare(config), "bake/bake", parameters, on_state=lambda state: progress(state.lower(), 0.0)
            )
            run_id = run["id"]
        else:
            from cloudbaker.flows.ephemeral import run_flow_here

            progress("starting Prefect and Ray", 0.0)
            run_id = run_flow_here("bake", **parameters)["run_id"]
        from cloudbaker.tasks.result import result_of

        with _catalog() as opened:
            return result_of(opened, run_id)

    yield by_prefect


def resolve_mode(mode: Mode) -> Mode:
    """What ``auto`` means at this moment: the service if one runs or is configured, else direct."""
    if mode != "auto":
        return mode
    config = settings()
    return "service" if config.prefect_api_url or running_service(config) else "direct"


def rebake(
    *,
    where: str | None = None,
    recipe: str | None = None,
    mode: Mode = "auto",
    batch_size: int = 500,
    window: int | None = None,
) -> dict[str, Any]:
    """Bake every stale asset again from its stored sources; returns plan and counts. Run it again to resume.

    Needs Ray: ``auto`` takes the service if one runs, else an ephemeral Prefect and a local Ray.
    """
    parameters = {
        "where": where,
        "recipe": recipe,
        "batch_size": batch_size,
        "window": window,
        "created_by": getpass.getuser(),
    }
    if resolve_mode(mode) == "service":
        from cloudbaker.flows.environment import prepare
        from cloudbaker.flows.remote import run_deployment, table_artifact

        api_url = prepare(settings())
        run = run_deployment(api_url, "rebake/rebake", parameters)
        if run["state_type"] != "COMPLETED":
            raise CloudBakerError(
                f"the re-bake ended {run['state_name']}: see its page in the Prefect UI", run=run["id"]
            )
        return dict(table_artifact(api_url, run["id"], "rebake-result")[0])
    from cloudbaker.flows.ephemeral import run_flow_here

    return dict(run_flow_here("rebake", **parameters))


def plan(*, where: str | None = None, recipe: str | None = None) -> RebakePlan:
    """What `rebake` would do with the same arguments, and why."""
    from cloudbaker.tasks.plan import plan_rebake

    with _catalog() as opened:
        return plan_rebake(opened, where=where, recipe=recipe)


def validate(path: str | Path, *, recipe: str = "web", trusted: bool = False) -> Look:
    """The verdict on a file, with findings; nothing is stored."""
    from cloudbaker.tasks.look import validate_file

    return _look(validate_file, path, recipe, trusted)


def inspect(path: str | Path, *, recipe: str = "web", trusted: bool = False) -> Look:
    """Tables of what a file holds; nothing is stored."""
    from cloudbaker.tasks.look import inspect_file

    return _look(inspect_file, path, recipe, trusted)


def diff(before: str | Path, after: str | Path, *, recipe: str = "web", trusted: bool = False) -> Look:
    """Tables of two files side by side: sizes, counts, geometry error, names and whatever else was lost."""
    from cloudbaker.tasks.look import diff_files

    def both(workbench: Workbench, first: Path, limits: Recipe) -> Look:
        return diff_files(workbench, first, Path(after), limits)

    return _look(both, before, recipe, trusted)


def scan(path: str | Path, *, policy: str = "default", engine: str = "", trusted: bool = False) -> Look:
    """The verdict on a Godot mod (``.pck``, ``.zip``, folder) under a policy; nothing is stored, no engine started."""
    from cloudbaker.compute.godot.policy import load_policy
    from cloudbaker.compute.sandbox import Sandbox
    from cloudbaker.tasks.scan import scan_mod

    rules = load_policy(policy)
    with Sandbox(parallel=1, trusted=trusted, outer=settings().outer_sandbox) as workbench:
        return scan_mod(workbench, Path(path), rules, engine)


def encode(
    paths: str | Path | Sequence[str | Path],
    *,
    format: str = "ktx2-uastc",
    output: str | Path | None = None,
    slot: str = "auto",
    level: str = "default",
    quality: int = 85,
    min_psnr: float | None = None,
    max_angle: float | None = None,
    best_effort: bool = False,
    rdo: float = 0.0,
    max_size: int | None = None,
    mips: bool = True,
    cube: bool = False,
    prefilter: bool = False,
    recipe: str = "web",
    parallel: int | None = None,
    trusted: bool = False,
    progress: Callable[[EncodedFile], None] = lambda _file: None,
    planned: Callable[[int], None] = lambda _count: None,
) -> EncodeReport:
    """Encode images (files, folders, patterns) as textures or web images, each measured by another decoder.

        cb.encode("rock_normal.png", format="ktx2-uastc", max_angle=0.5)

    `slot` is ``color``, ``normal``, ``data``, or ``auto``: by the file's name. `min_psnr` (dB) and `max_angle` (mean
    degrees, of normal maps) ask for a quality: the cheapest setting that keeps it is found, and `level` and `quality`
    do not count. A file that can't keep it is not written, unless `best_effort` takes the best there is. `rdo` trades
    error for bytes in ktx2-uastc (0: none, 1: moderate). `max_size` is of the longer side in pixels. Of environment
    maps, `cube` makes cube maps, and `prefilter` blurs their mipmaps for reflections. The recipe's limits hold.
    `planned` hears how many files there are, `progress` of each as it ends.

    Files that fail are in the report, and stop no other. Raises `SourceUnreadable` and `UsageError` before any work.
    """
    from cloudbaker.compute.sandbox import Sandbox
    from cloudbaker.recipe import load_recipe
    from cloudbaker.tasks.context import job_limits
    from cloudbaker.tasks.images import encode_files, goal_of, options_of, requests

    limits = load_recipe(recipe)
    wanted = requests([paths] if isinstance(paths, str | Path) else paths, output, format, slot)
    options = options_of(
        format,
        level=level,
        quality=quality,
        rdo=rdo,
        max_size=max_size,
        mips=mips,
        cube=cube,
        prefilter=prefilter,
        image_pixels=limits.limits.image_pixels,
    )
    goal = goal_of(min_psnr, max_angle)
    planned(len(wanted))
    with Sandbox(parallel=parallel, trusted=trusted, outer=settings().outer_sandbox) as workbench:
        return encode_files(
            workbench,
            wanted,
            options,
            goal,
            best_effort=best_effort,
            limits=job_limits(limits),
            parallel=workbench.parallel,
            told=progress,
        )


def _look(verb: Callable[..., Look], path: str | Path, recipe: str, trusted: bool) -> Look:
    from cloudbaker.compute.sandbox import Sandbox
    from cloudbaker.recipe import load_recipe

    with Sandbox(parallel=1, trusted=trusted, outer=settings().outer_sandbox) as workbench:
        return verb(workbench, Path(path), load_recipe(recipe))


def verify(what: str | Path, *, tenant: str = "local", keys: str | Path | None = None) -> VerifyReport:
    """Check a version (``acme/robots/helmet@3``, or ``@live``) or an exported bundle (a folder or ``.zip``).

    `keys` is a public key or a folder of them; left out, the keys of this installation. Returns the report, good or
    bad; ``.unwrap()`` raises `SignatureInvalid` for a bad one.
    """
    from cloudbaker.compute.signing import keys as signing_keys
    from cloudbaker.compute.signing.verify import verify_bundle, verify_path
    from cloudbaker.tasks.export import version_bundle

    public = signing_keys.load_public(Path(keys) if keys else settings().keys)
    if Path(what).exists():
        return verify_path(Path(what), public)
    name, _, number = str(what).partition("@")
    with _catalog() as opened:
        ref = AssetRef.parse(name, tenant=tenant)
        version = opened.get_version(ref, int(number) if number.isdigit() else number or "live")
        return verify_bundle(version_bundle(opened, version), version.provenance, public)


__all__ = ["bake", "baking", "diff", "encode", "inspect", "plan", "rebake", "scan", "validate", "verify"]
