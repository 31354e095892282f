"""Clean-ups beside publishes, uploads, deletions, holds and pointers, all at once, on either database.

Time runs 86,400 times as fast: a second is a day, so that versions of the second before last expire, and leases of four
hours end after 170 milliseconds, often in the midst of the publish that they are for.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cloudbaker.catalog.core import Catalog
from cloudbaker.catalog.records import Retention
from cloudbaker.errors import CatalogError, CloudBakerError, Conflict, NotFound, StoreError
from cloudbaker.model import AssetRef, Dependency
from cloudbaker.settings import Settings
from cloudbaker.testing.catalog import broken, publication

ASSETS = [AssetRef("acme", project, name) for project in ("robots", "cars") for name in ("a", "b")]
WHO = {"by": "ada", "why": "race"}
NOW = timedelta(0)
_WANTED = ("publish", "expired-version", "unreferenced")
"""What has to have happened for the race to be one."""


def check(config: Settings, seconds: float, tell: Callable[[str], None]) -> None:
    begun, monotonic = datetime.now(UTC), time.monotonic()

    def clock() -> datetime:
        return begun + timedelta(days=time.monotonic() - monotonic)

    done: Counter[str] = Counter()
    unexpected: list[BaseException] = []
    with Catalog.open(config, clock=clock, lease=timedelta(hours=4)) as catalog:
        catalog.set_retention("acme", Retention(delete_after_days=1, keep_last=1), **WHO)
        catalog.set_quota("acme", bytes=4000, **WHO)

        def publish(dice: random.Random) -> None:
            asset, on = dice.sample(ASSETS, 2)
            channel = dice.choice([None, None, "live"])
            wanted = publication(catalog, asset, b"%03d" % dice.randrange(40), channel=channel)
            if dice.random() < 0.3 and (there := catalog.versions(on, limit=1, deleted=False)):
                wanted = replace(wanted, dependencies=(Dependency(on, there[0].number, "part"),))
            catalog.publish(wanted)

        def upload(dice: random.Random) -> None:
            catalog.put_bytes(b"%03d" % dice.randrange(40), "acme", dice.choice(["vault", "inbox"]))

        def delete(dice: random.Random) -> None:
            versions = catalog.versions(dice.choice(ASSETS), deleted=False)
            catalog.delete_version(versions[-1].asset, versions[-1].number, **WHO)

        def hold(dice: random.Random) -> None:
            asset = dice.choice(ASSETS)
            catalog.place_hold(asset, until=clock() + timedelta(hours=4), **WHO)
            time.sleep(0.1)
            catalog.release_hold(asset, **WHO)

        def point(dice: random.Random) -> None:
            versions = catalog.versions(dice.choice(ASSETS), deleted=False)
            chosen = dice.choice(versions)
            catalog.move_channel(chosen.asset, "beta", chosen.number, "ada", "race")

        def clean(dice: random.Random) -> None:
            report = catalog.gc(plan=dice.random() < 0.2, grace=timedelta(hours=1))
            assert report.missing == ()
            done.update(item.kind for item in report.items if not report.plan)

        def worker(work: Callable[[random.Random], None], seed: int) -> None:
            dice = random.Random(seed)
            while not unexpected and time.monotonic() < monotonic + (seconds if all(done[k] for k in _WANTED) else 90):
                try:
                    work(dice)
                    done[work.__name__] += 1
                except (Conflict, StoreError, NotFound, IndexError):
                    done[f"{work.__name__} refused"] += 1
                    time.sleep(0.02)
                except CatalogError as error:
                    unexpected.append(error)
                except CloudBakerError as error:  # the quota
                    done[error.code] += 1
                except BaseException as error:
                    unexpected.append(error)

        jobs = [publish, publish, publish, upload, delete, hold, point, clean, clean]
        threads = [threading.Thread(target=worker, args=(job, seed)) for seed, job in enumerate(jobs)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert unexpected == []
        assert broken(catalog) == []
        time.sleep(1.1)  # a day: what is left over is old, in the inbox too
        catalog.gc(plan=False, grace=NOW)
        assert broken(catalog) == []
        live = [v for asset in ASSETS for v in catalog.versions(asset, deleted=False)]
        wanted = {blob.storage_key for v in live for blob in [v.sources[0].blob, *(a.blob for a in v.artifacts)]}
        assert {info.key for info in catalog.store.list()} == wanted
        quota = catalog.quota("acme")
        assert (quota.used_bytes, quota.reserved_bytes) == (sum(r.bytes for r in catalog.usage()), 0)
        assert all(done[kind] for kind in _WANTED)
    tell(", ".join(f"{count} {what}" for what, count in sorted(done.items())))


@pytest.mark.parametrize("backend", ["sqlite", "postgres"])
def test_clean_up_in_the_midst_of_everything(home: Path, request: pytest.FixtureRequest, tell, backend: str) -> None:
    url = request.getfixturevalue("postgres") if backend == "postgres" else ""
    check(Settings(home=home, catalog_url=url), 4, tell)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("backend", ["sqlite", "postgres"])
def test_clean_up_in_the_midst_of_everything_for_long(
    home: Path, request: pytest.FixtureRequest, tell, backend: str
) -> None:
    url = request.getfixturevalue("postgres") if backend == "postgres" else ""
    check(Settings(home=home, catalog_url=url), 120, tell)
