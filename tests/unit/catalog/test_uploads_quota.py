"""The quota holds when an upload claims its place: by one byte, under a race, and never for bytes that are there."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
import sqlalchemy as sa

from cloudbaker.catalog import schema as s
from cloudbaker.catalog.core import Catalog, UploadKey
from cloudbaker.errors import Conflict, QuotaExceeded
from cloudbaker.model import Role
from cloudbaker.settings import Settings
from cloudbaker.testing.catalog import publish


@pytest.fixture(params=["folder", "moto"])
def catalog(request, home, clock):
    """On both kinds of store: the claim is the catalog's, the abort the store's."""
    if request.param == "folder":
        settings = Settings(home=home)
    else:
        from cloudbaker.testing.s3 import new_bucket

        endpoint = request.getfixturevalue("moto")
        settings = Settings(home=home, store_url=new_bucket(endpoint).url, s3_endpoint=endpoint)
    with Catalog.open(settings, clock=clock) as opened:
        yield opened


def limit(catalog: Catalog, tenant: str, size: int | None) -> None:
    catalog.set_quota(tenant, by="tester", why="test", bytes=size)


def account(catalog: Catalog, tenant: str = "acme") -> tuple[int, int]:
    """Used and reserved bytes."""
    t = s.tenants.c
    with catalog.core.read() as connection:
        row = connection.execute(sa.select(t.used_bytes, t.reserved_bytes).where(t.tenant == tenant)).one()
    return row.used_bytes, row.reserved_bytes


def test_by_one_byte(catalog):
    limit(catalog, "acme", 1000)
    catalog.put_bytes(b"a" * 600, "acme", "vault")
    assert account(catalog) == (0, 600)
    with pytest.raises(QuotaExceeded, match="room for 400 bytes more, and this needs 401") as caught:
        catalog.put_bytes(b"b" * 401, "acme", "vault")
    assert caught.value.facts["free_bytes"] == 400
    assert account(catalog) == (0, 600)
    assert list(catalog.store.unfinished()) == []
    assert len(list(catalog.store.list())) == 1
    catalog.put_bytes(b"c" * 400, "acme", "vault")
    assert account(catalog) == (0, 1000)
    with pytest.raises(QuotaExceeded):
        catalog.put_bytes(b"d", "acme", "inbox")
    catalog.put_bytes(b"", "acme", "inbox")
    catalog.put_bytes(b"e" * 5000, "zeta", "vault")  # another's


def test_what_is_there_costs_nothing(catalog):
    limit(catalog, "acme", 10)
    blob = catalog.put_bytes(b"0123456789", "acme", "vault")
    assert catalog.put_bytes(b"0123456789", "acme", "vault") == blob
    assert account(catalog) == (0, 10)
    hint = UploadKey("run", Role.MODEL_3D, "a.glb")
    with pytest.raises(QuotaExceeded):
        catalog.put_bytes(b"0123456789", "acme", "public", key_hint=hint)  # in another zone it is stored again
    limit(catalog, "acme", 20)
    catalog.put_bytes(b"0123456789", "acme", "public", key_hint=hint)
    assert account(catalog) == (0, 20)


def test_no_number_of_uploads_at_once_passes_it(catalog):
    limit(catalog, "acme", 1000)
    ended: list[str] = []
    start = threading.Barrier(8)

    def upload(n: int) -> None:
        start.wait()
        try:
            catalog.put_bytes(b"%d" % n * 150, "acme", "vault")
            ended.append("stored")
        except QuotaExceeded:
            ended.append("refused")

    threads = [threading.Thread(target=upload, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(ended) == ["refused"] * 2 + ["stored"] * 6
    assert account(catalog) == (0, 900)


def test_a_version_turns_reserved_bytes_into_used_ones(catalog, helmet):
    publish(catalog, helmet, b"x" * 100)
    used, reserved = account(catalog)
    assert (used, reserved) == (100 + 102 + 102, 0)
    catalog.put_bytes(b"y" * 50, "acme", "vault")
    assert account(catalog) == (used, 50)
    limit(catalog, "acme", used + 50)
    with pytest.raises(QuotaExceeded):
        publish(catalog, helmet, b"z")
    assert account(catalog) == (used, 50)


def test_a_claim_that_clean_up_took_is_reserved_once(home, clock):
    with Catalog.open(Settings(home=home), clock=clock) as catalog:
        limit(catalog, "acme", 6)
        upload = catalog.upload("acme", "vault")
        commit, turns = upload._writer.commit, [0]

        def slow_commit(key: str) -> bool:
            turns[0] += 1
            if turns[0] == 1:
                clock.later(hours=25)
                catalog.gc(plan=False, grace=timedelta(days=2))  # leaves the unfinished file alone
                assert account(catalog) == (0, 0)
            return commit(key)

        upload._writer.commit = slow_commit
        with upload:
            upload.write(b"sleepy")
        assert account(catalog) == (0, 6)


def test_an_upload_that_fails_later_stays_reserved_until_clean_up(catalog, clock, monkeypatch):
    upload = catalog.upload("acme", "vault")

    def broken(key: str) -> bool:
        raise Conflict("the store died")

    monkeypatch.setattr(upload._writer, "commit", broken)
    with pytest.raises(Conflict), upload:
        upload.write(b"x" * 10)
    assert account(catalog) == (0, 10)
    clock.later(hours=25)
    catalog.gc(plan=False)
    assert account(catalog) == (0, 0)
