"""A believable past: months of bakes by several tenants, with failures, rollbacks, quotas, holds, tags and deletions.

    fill(Settings(home=folder))

Made through the catalog's own methods under a clock that is moved, so that everything in it hangs together as it would.
The same options make the same past, up to storage keys.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cloudbaker.canonical import canonical_sha256
from cloudbaker.catalog.core import Catalog, UploadKey
from cloudbaker.model import (
    Artifact,
    AssetRef,
    Dependency,
    Finding,
    Loss,
    Publication,
    Role,
    Run,
    RunState,
    Severity,
    Source,
    Step,
    StepState,
)
from cloudbaker.settings import Settings

_TENANTS = {"acme": 5, "orbit": 3, "zeta": 1}
"""How often each of them bakes, compared with the others."""
_ASSETS = {
    "robots": ("helmet", "arm", "drone", "walker", "gripper"),
    "props": ("crate", "lamp", "barrel", "bench", "door", "sign"),
    "scenes": ("harbour", "hangar"),
}
_PEOPLE = {"acme": ("ada", "grace"), "orbit": ("katherine",), "zeta": ("emmy",)}
_NOTES = ("first try", "lighter textures", "fixed normals", "new colours", "smaller for phones", "as the client asked")
_STAGES = {"validate": 0.4, "optimize": 9.0, "preview": 2.5, "package": 0.8, "publish": 0.1}
"""Seconds that each takes, on average."""


@dataclass(frozen=True, slots=True)
class HistoryOptions:
    """How long and how busy the past was."""

    bakes: int = 120
    days: int = 180
    seed: int = 1
    end: datetime | None = None
    """None: now."""
    bytes: int = 4000
    """Of a middling source."""


def fill(settings: Settings, options: HistoryOptions = HistoryOptions()) -> None:
    """Give a catalog that is empty its past."""
    clock = _Clock((options.end or datetime.now(UTC)) - timedelta(days=options.days))
    with Catalog.open(settings, clock=clock) as catalog:
        _Past(catalog, clock, options).happen()


class _Clock:
    def __init__(self, start: datetime) -> None:
        self.now = start

    def __call__(self) -> datetime:
        self.now += timedelta(milliseconds=1)
        return self.now


class _Past:
    def __init__(self, catalog: Catalog, clock: _Clock, options: HistoryOptions) -> None:
        self.catalog, self.clock, self.options = catalog, clock, options
        self.dice = random.Random(options.seed)
        self.versions: dict[AssetRef, int] = {}

    def happen(self) -> None:
        catalog, dice = self.catalog, self.dice
        pause = timedelta(days=self.options.days) / self.options.bakes
        for n in range(self.options.bakes):
            self.clock.now += pause * dice.uniform(0.2, 1.6)
            [tenant] = dice.choices(list(_TENANTS), list(_TENANTS.values()))
            who = dice.choice(_PEOPLE[tenant])
            if tenant not in {asset.tenant for asset in self.versions}:
                catalog.set_quota(tenant, bytes=200 << 20, by="ops", why="as in the contract")
            project = dice.choice(list(_ASSETS))
            asset = AssetRef(tenant, project, dice.choice(_ASSETS[project]))
            self.bake(asset, f"run-{n:04d}", who)
            self.manage(asset, who)

    def bake(self, asset: AssetRef, run_id: str, who: str) -> None:
        """One run, whatever becomes of it."""
        catalog, dice = self.catalog, self.dice
        recipe = dice.choice(("web", "web", "web-lite"))
        catalog.start_run(Run(run_id, "bake", asset, recipe, "service", self.clock(), who))
        fate = dice.choices(("done", "rejected", "failed"), (86, 9, 5))[0]
        if fate == "rejected":
            self.step(run_id, "validate", StepState.DONE)
            code, message = dice.choice((("gltf.nan", "NaN in positions"), ("gltf.missing", "image 2 is gone")))
            finding = Finding(code, Severity.ERROR, "/meshes/0", message, "export it again")
            error = {"code": "CB2001", "message": message, "retryable": False}
            catalog.finish_run(run_id, RunState.REJECTED, error=error, findings=[finding])
        elif fate == "failed":
            error = {"code": "CB3001", "message": "the encoder needed over 2 GB", "retryable": False}
            self.step(run_id, "validate", StepState.DONE)
            self.step(run_id, "optimize", StepState.FAILED, error=error)
            count = catalog.record_attempt(asset, "large", run_id=run_id, status="limit", error=error)
            if count >= 2:
                catalog.quarantine(asset, "large", run_id=run_id, attempts=count, error=error, status="limit")
            catalog.finish_run(run_id, RunState.FAILED, error=error)
        else:
            for stage in ("validate", "optimize", "preview", "package"):
                self.step(run_id, stage, StepState.DONE)
            version = catalog.publish(self.publication(asset, run_id, recipe, who)).version.number
            self.versions[asset] = version
            self.step(run_id, "publish", StepState.DONE)
            catalog.finish_run(run_id, RunState.COMPLETED, version=version, metrics={"total": dice.uniform(8, 30)})

    def step(self, run_id: str, stage: str, state: StepState, error: dict[str, object] | None = None) -> None:
        began = self.clock()
        self.clock.now += timedelta(seconds=_STAGES[stage] * self.dice.lognormvariate(0, 0.5))
        device = "cuda" if stage == "optimize" and self.dice.random() < 0.4 else "cpu"
        self.catalog.record_step(Step(run_id, stage, 1, state, began, self.clock(), device=device, error=error))

    def publication(self, asset: AssetRef, run_id: str, recipe: str, who: str) -> Publication:
        dice, catalog = self.dice, self.catalog
        size = round(self.options.bytes * dice.lognormvariate(0, 0.8)) + 200
        source = catalog.put_bytes(_bytes(f"{asset}{run_id}", size), asset.tenant, "vault")
        files = {
            "model.glb": (Role.MODEL_3D, "default", "model/gltf-binary", _bytes(f"{run_id}0", size // 3)),
            "lod1.glb": (Role.MODEL_3D, "lod1", "model/gltf-binary", _bytes(f"{run_id}1", size // 6)),
            # Materials of a tenant's library, the same in many assets: stored once.
            "wood.ktx2": (Role.TEXTURE, "ktx2", "image/ktx2", _bytes(f"wood{dice.randrange(3)}", self.options.bytes)),
        }
        artifacts = []
        for name, (role, variant, media_type, data) in files.items():
            blob = catalog.put_bytes(data, asset.tenant, "public", key_hint=UploadKey(run_id, role, name))
            figures = {"psnr_db": dice.uniform(34, 48)} if role is Role.TEXTURE else {"triangles": 100.0 * len(data)}
            artifacts.append(Artifact(role, variant, name, media_type, blob, metrics=figures))
        needs: tuple[Dependency, ...] = ()
        if asset.project == "scenes":
            inside = [other for other in self.versions if other.tenant == asset.tenant and other.project != "scenes"]
            needs = tuple(Dependency(other, kind="places") for other in dice.sample(inside, min(2, len(inside))))
        lost = (Loss("name", "/nodes/3", "node 3 was removed with its name 'empty'"),) if dice.random() < 0.4 else ()
        return Publication(
            asset=asset,
            run_id=run_id,
            bake_key=hashlib.sha256(run_id.encode()).hexdigest(),
            recipe=recipe,
            recipe_hash=canonical_sha256(recipe),
            engine=None,
            tools={"basisu": "1.16" if self.clock.now.month % 2 else "1.50", "meshopt": "0.22"},
            sources=(Source(f"{asset.name}.glb", "model/gltf-binary", source),),
            artifacts=tuple(artifacts),
            findings=(),
            losses=lost,
            metrics={"source_bytes": float(size)},
            provenance='{"payloadType":"application/vnd.in-toto+json","payload":"e30=","signatures":[]}',
            created_by=who,
            change_note=dice.choice(_NOTES),
            channel="live",
            dependencies=needs,
        )

    def manage(self, asset: AssetRef, who: str) -> None:
        """What people do beside baking."""
        catalog, dice = self.catalog, self.dice
        newest = self.versions.get(asset)
        for chance, act in ((0.1, self.tag), (0.07, self.roll_back), (0.05, self.hold), (0.1, self.delete)):
            if newest is not None and dice.random() < chance:
                act(asset, newest, who)
        if dice.random() < 0.04:
            catalog.set_quota(asset.tenant, bytes=(200 << 20) + dice.randrange(64) * (1 << 20), by="ops", why="grew")
        if dice.random() < 0.1:
            for entry in catalog.quarantined()[:1]:
                catalog.release(entry.asset, by="ops", why="a larger machine")

    def tag(self, asset: AssetRef, _newest: int, who: str) -> None:
        self.catalog.tag(asset, self.dice.sample(("hero", "wip", "approved", "low-poly"), 2), who, "review")
        if self.dice.random() < 0.3:
            self.catalog.untag(asset, ["wip"], who, "done")

    def roll_back(self, asset: AssetRef, newest: int, who: str) -> None:
        for number in self.alive(asset, newest - 1):
            self.catalog.move_channel(asset, "live", number, who, "the new one flickers")
            return

    def hold(self, asset: AssetRef, newest: int, who: str) -> None:
        self.catalog.place_hold(asset, newest, by=who, why="shown at the fair")
        if self.dice.random() < 0.5:
            self.catalog.release_hold(asset, newest, by=who, why="the fair is over")

    def delete(self, asset: AssetRef, newest: int, who: str) -> None:
        free = [number for number in self.alive(asset, newest - 1) if number not in self.kept(asset)]
        if free:
            self.catalog.delete_version(asset, free[-1], by=who, why="never used")

    def alive(self, asset: AssetRef, upto: int) -> Iterator[int]:
        """Numbers of its versions that are not deleted, the newest first."""
        gone = {version.number for version in self.catalog.versions(asset) if version.deleted_at is not None}
        return (number for number in range(upto, 0, -1) if number not in gone)

    def kept(self, asset: AssetRef) -> set[int]:
        held = {hold.number for hold in self.catalog.holds(asset) if hold.number is not None}
        return held | set(self.catalog.channels(asset).values())


def _bytes(name: str, size: int) -> bytes:
    """The same bytes for the same name."""
    return random.Random(name).randbytes(size)
