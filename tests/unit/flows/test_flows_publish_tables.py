"""The publish-tables flow, as Prefect runs it: publishes each time, compacts when a day has passed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from prefect.testing.utilities import prefect_test_harness

from cloudbaker.catalog.core import Catalog
from cloudbaker.flows.publish_tables import EVERY, publish_tables
from cloudbaker.model import AssetRef
from cloudbaker.settings import Settings
from cloudbaker.testing.catalog import publish


def test_it_publishes_and_compacts_once_a_day(home: Path) -> None:
    with Catalog.open(Settings(home=home)) as catalog, prefect_test_harness(server_startup_timeout=120):
        publish(catalog, AssetRef("acme", "robots", "helmet"), b"1")
        first = publish_tables(return_state=True)
        assert "tables compacted or tidied" in first.message
        publish(catalog, AssetRef("acme", "robots", "helmet"), b"2")
        again = publish_tables(return_state=True)
        assert "new rows published" in again.message
        assert {status.behind for status in catalog.tables()} == {0}
        assert not catalog.tables_due(EVERY)
        later = Catalog(catalog.core, catalog.store, catalog.published.url, clock=lambda: datetime.now(UTC) + EVERY)
        assert later.tables_due(EVERY - timedelta(hours=1))
