"""Constant memory: what an upload and a download take does not grow with the object."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cloudbaker.testing.s3 import new_bucket

LIMIT_MB = 150
"""Of the whole process: Python and the catalog's libraries are some 90 of it."""
CHILD = """
import hashlib, json, resource, sys
from cloudbaker.catalog.core import Catalog
from cloudbaker.settings import Settings

def peak():
    # Not ru_maxrss: that begins with what the parent had when it forked.
    with open("/proc/self/status") as status:
        return int(next(line for line in status if line.startswith("VmHWM")).split()[1]) // 1024

with Catalog.open(Settings()) as catalog:
    before = peak()
    blob = catalog.put_file(__import__("pathlib").Path(sys.argv[1]), "acme", "vault")
    stored, digest = peak(), hashlib.sha256()
    with catalog.open_blob(blob) as file:
        while data := file.read(1 << 20):
            digest.update(data)
    again = catalog.put_file(__import__("pathlib").Path(sys.argv[1]), "acme", "vault")
    print(json.dumps({"before": before, "stored": stored, "read": peak(), "size": blob.size,
                      "same": digest.hexdigest() == blob.sha256, "again": again == blob}))
"""
"""Stores a file, reads it back, and stores it once more."""


@pytest.fixture(params=["folder", "encrypted", "ceph"])
def kind(request: pytest.FixtureRequest, home: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "encrypted":
        monkeypatch.setenv("CLOUDBAKER_STORE_ENCRYPTION", "tink")
    if request.param == "ceph":
        endpoint = request.getfixturevalue("ceph")
        monkeypatch.setenv("CLOUDBAKER_STORE_URL", new_bucket(endpoint).url)
        monkeypatch.setenv("CLOUDBAKER_S3_ENDPOINT", endpoint)
    return str(request.param)


def test_300_mb(kind: str, tmp_path: Path, tell: Callable[[str], None]) -> None:
    tell(f"{kind}: {_measured(tmp_path, 300 << 20)}")


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_10_gb(kind: str, tmp_path: Path, tell: Callable[[str], None]) -> None:
    if shutil.disk_usage(tmp_path).free < 45 << 30:
        pytest.skip("needs 45 GB of free disk: the object, its copy in the server, and room")
    tell(f"{kind}: {_measured(tmp_path, 10 << 30)}")


def _measured(folder: Path, size: int) -> str:
    source = folder / "source.bin"
    with source.open("wb") as file:
        file.write(b"not only zeros")
        file.truncate(size)  # sparse: no disk for the source
    done = subprocess.run([sys.executable, "-c", CHILD, str(source)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout)
    assert found["size"] == size
    assert found["same"]
    assert found["again"]
    assert found["read"] < LIMIT_MB, found
    return f"{size >> 20} MB: peak {found['before']} MB before, {found['stored']} stored, {found['read']} read"
