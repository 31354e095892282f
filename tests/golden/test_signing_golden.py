"""A package signed by release 0.1.0 (its private keys are gone) must verify in every later release."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from cloudbaker.compute.signing.keys import load_public
from cloudbaker.compute.signing.verify import verify_path

HERE = Path(__file__).parent / "signing"


@pytest.mark.parametrize("trusted", ["trusted", "trusted/p256.pub.pem", "trusted/ed25519.pub.pem"])
def test_an_old_package_still_verifies(trusted: str) -> None:
    report = verify_path(HERE / "package", load_public(HERE / trusted)).unwrap()
    assert report.statement is not None
    assert report.statement.asset == "local/default/helmet"
    assert report.statement.bake_key == "b" * 64
    assert [file.name for file in report.files] == ["manifest.json", "model.glb"]


def test_and_only_as_it_was(tmp_path: Path) -> None:
    shutil.copytree(HERE / "package", tmp_path / "package")
    with (tmp_path / "package" / "model.glb").open("ab") as file:
        file.write(b"\0")
    assert not verify_path(tmp_path / "package", load_public(HERE / "trusted")).ok
