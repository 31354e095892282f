"""A re-bake with planted hangs, segfaults, balloons, dying workers and bad files, killed with -9 on the way.

Each asset is published, unchanged or quarantined exactly once; its neighbours are untouched.
"""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest

import cloudbaker as cb
from cloudbaker.catalog.core import Catalog, UploadKey
from cloudbaker.compute.sandbox import Sandbox
from cloudbaker.compute.signing import keys as signing_keys
from cloudbaker.model import Artifact, AssetRef, Publication, Role, Run, RunState, Source
from cloudbaker.settings import settings
from cloudbaker.tasks.rebake import MAX_ATTEMPTS
from cloudbaker.testing import faults, models

REBAKE = (
    "import sys, json; from cloudbaker.flows.ephemeral import run_flow_here\n"
    "print('RESULT', json.dumps(run_flow_here('rebake', **json.loads(sys.argv[1]))))"
)


def seed_library(count: int, planted: dict[str, int], recipe: Path) -> dict[str, str]:
    """A library as an older release left it: version 1 of each asset, under a bake key that nothing has any more.

    Returns what each asset is: ``good``, ``bad`` or the name of its fault.
    """
    kinds = [kind for kind, number in planted.items() for _ in range(number)]
    kinds += ["good"] * (count - len(kinds))
    random.Random(7).shuffle(kinds)
    what = {}
    config = settings()
    signing_keys.ensure(config.keys)
    with Catalog.open(config) as catalog:
        for n, kind in enumerate(kinds):
            asset = AssetRef("local", "library", f"asset-{n:05}")
            what[str(asset)] = kind
            data = models.hostile("nan_positions") if kind == "bad" else models.small_asset(n)
            run = Run(str(uuid.uuid4()), "bake", asset, recipe.stem, "direct", datetime.now(UTC), "old release")
            catalog.start_run(run)
            source = catalog.put_bytes(data, "local", "vault")
            baked = catalog.put_bytes(
                data, "local", "public", key_hint=UploadKey(run.run_id, Role.MODEL_3D, "model.glb")
            )
            name = f"{kind}.glb" if kind in faults.FAULTS else "model.glb"
            catalog.publish(
                Publication(
                    asset=asset,
                    run_id=run.run_id,
                    bake_key=f"old-{n}",
                    recipe=recipe.stem,
                    recipe_hash="old",
                    engine=None,
                    tools={"cloudbaker-bake": "0"},
                    sources=(Source(name, "model/gltf-binary", source),),
                    artifacts=(Artifact(Role.MODEL_3D, "default", "model.glb", "model/gltf-binary", baked),),
                    findings=(),
                    losses=(),
                    metrics={},
                    provenance="{}",
                    created_by="old release",
                )
            )
            catalog.finish_run(run.run_id, RunState.COMPLETED, version=1)
    return what


def check(what: dict[str, str]) -> Counter[str]:
    """Every asset reached its end exactly once."""
    ends: Counter[str] = Counter()
    with cb.catalog() as catalog:
        quarantined = Counter(str(q.asset) for q in catalog.quarantined())
        attempts = {str(q.asset): q.attempts for q in catalog.quarantined()}
        for name, kind in what.items():
            asset = AssetRef.parse(name)
            numbers = [v.number for v in catalog.versions(asset)]
            if kind == "good":
                assert numbers == [2, 1], (name, numbers)
                assert quarantined[name] == 0
                assert catalog.channels(asset) == {"live": 2}
                assert cb.verify(f"{name}@live").ok
                ends["published"] += 1
            else:
                assert numbers == [1], (name, kind, numbers)
                assert catalog.channels(asset) == {"live": 1}
                assert quarantined[name] == 1, (name, kind)
                assert attempts[name] == (1 if kind == "bad" else MAX_ATTEMPTS), (kind, attempts[name])
                ends[f"quarantined ({kind})"] += 1
        stuck = [i for i in catalog.gc(plan=True).items if i.kind in ("orphan", "missing")]
        assert stuck == []
    return ends


def rebake_with_kills(
    tell: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    count: int,
    planted: dict[str, int],
    kills: int,
) -> None:
    recipe = tmp_path / "quick.toml"
    recipe.write_text(
        'name = "quick"\ntarget = "web"\nlods = []\n[limits]\nwall_seconds = 8.0\nmemory_bytes = 1_000_000_000\n'
    )
    monkeypatch.setenv("CLOUDBAKER_RECIPES", str(tmp_path))
    settings.cache_clear()
    what = seed_library(count, planted, recipe)
    parameters = json.dumps({"item_function": faults.ITEM_FUNCTION, "batch_size": 500, "created_by": "test"})
    random_ = random.Random(11)
    for _ in range(kills):
        before = _done()
        driver = subprocess.Popen([sys.executable, "-c", REBAKE, parameters], start_new_session=True)
        goal = before + random_.randint(1, max(1, (count - before) // (kills + 1)))
        deadline = time.monotonic() + 600
        while _done() < goal and time.monotonic() < deadline and driver.poll() is None:
            time.sleep(0.2)
        driver.send_signal(signal.SIGKILL)
        driver.wait()
        tell(f"driver killed with {_done()} of {count} done")
        assert not _left_of(str(settings().home / "prefect")), "Prefect's temporary server outlives its driver"
    done = subprocess.run(
        [sys.executable, "-c", REBAKE, parameters], capture_output=True, text=True, timeout=3000, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    result = json.loads(done.stdout.split("RESULT ")[1])["result"]
    ends = check(what)
    tell(f"re-bake of {count}: {dict(ends)}; attempts of the last run {result['attempts']}")
    plan = cb.plan()
    assert (len(plan.items), plan.unchanged + plan.quarantined) == (0, count)


def _left_of(prefect_home: str) -> list[psutil.Process]:
    """Processes of that Prefect that are still there after a while."""
    mine = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get("PREFECT_HOME") == prefect_home and "uvicorn" in process.cmdline():
                mine.append(process)
    return psutil.wait_procs(mine, timeout=30)[1]


def _done() -> int:
    with cb.catalog() as catalog:
        versions = catalog.sql("select count(*) from versions where number = 2").fetchall()[0]
        return int(versions[0]) + len(catalog.quarantined())


@pytest.mark.timeout(900)
def test_a_small_library_with_every_fault_and_one_kill(
    home: Path, tmp_path: Path, tell: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    planted = {"hang": 1, "segfault": 1, "balloon": 1, "die": 1, "bad": 2}
    rebake_with_kills(tell, monkeypatch, tmp_path, 30, planted, kills=1)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_two_thousand_assets_with_planted_faults_and_three_kills(
    home: Path, tmp_path: Path, tell: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    planted = {"hang": 3, "segfault": 5, "balloon": 3, "bad": 20}
    rebake_with_kills(tell, monkeypatch, tmp_path, 2000, planted, kills=3)


def test_a_rebake_does_not_take_the_place_of_what_was_published_or_rolled_back_meanwhile(
    home: Path, tmp_path: Path, sandbox: Sandbox
) -> None:
    from cloudbaker.flows.item import bake_item
    from cloudbaker.tasks.plan import item_json

    model = tmp_path / "thing.glb"
    asset = AssetRef.parse("thing")
    context = {"settings": settings().model_dump_json(), "run_id": str(uuid.uuid4()), "created_by": "test"}

    def bake(data: bytes) -> None:
        model.write_bytes(data)
        cb.bake(model, mode="direct", previews=False)

    bake(models.box())
    bake(models.sphere())
    planned = item_json(cb.plan(recipe="web-lite").items[0])
    with cb.catalog() as catalog:
        catalog.move_channel(asset, "live", 1, by="test", why="rollback")
    assert bake_item(sandbox, planned, context)["state"] == "completed"
    with cb.catalog() as catalog:
        assert catalog.channels(asset) == {"live": 1}
        assert [v.number for v in catalog.versions(asset)] == [3, 2, 1]

    bake(models.vertex_colored())
    planned = item_json(cb.plan(recipe="web-lite").items[0])
    bake(models.interleaved())
    assert bake_item(sandbox, planned, context) | {"run_id": ""} == {
        "state": "unchanged",
        "run_id": "",
        "version": 5,
        "findings": [],
    }
    with cb.catalog() as catalog:
        assert [v.number for v in catalog.versions(asset)] == [5, 4, 3, 2, 1]
        assert catalog.channels(asset) == {"live": 5}


def test_plan_says_why(home: Path, tmp_path: Path) -> None:
    model = tmp_path / "box.glb"
    model.write_bytes(models.box())
    cb.bake(model, mode="direct", previews=False)
    assert (len(cb.plan().items), cb.plan().unchanged) == (0, 1)
    assert cb.plan(recipe="web-lite").reasons == {"recipe web → web-lite": 1}
    assert len(cb.plan(where="asset like '%nothing%'", recipe="web-lite").items) == 0
