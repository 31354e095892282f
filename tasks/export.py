"""A published version as files again: the bundle with its manifest, and the signed envelope about it."""

from __future__ import annotations

from pathlib import Path

from cloudbaker.catalog.core import Catalog
from cloudbaker.compute.package import ENVELOPE, write_zip
from cloudbaker.errors import NotFound
from cloudbaker.model import Role, Version


def version_bundle(catalog: Catalog, version: Version) -> dict[str, bytes]:
    """The package's files by name. Pictures are evidence, not part of the package.

    Raises `NotFound` for a version that was deleted, whether clean-up has taken its bytes yet or not.
    """
    if version.deleted_at is not None:
        raise NotFound(
            f"{version} was deleted on {version.deleted_at:%Y-%m-%d}, and its bytes given up: choose another version, "
            "or bake the asset again",
            asset=str(version.asset),
            number=version.number,
        )
    return {a.name: catalog.read_blob(a.blob) for a in version.artifacts if a.role is not Role.IMAGE}


def export_version(catalog: Catalog, version: Version, target: Path) -> list[Path]:
    """Write a version's bundle with its envelope to a ``.zip``, or into a folder (made if missing).

    Both are ready for ``cloudbaker verify``, the folder for a web server too. What leaves is metered as a transfer.
    """
    files = version_bundle(catalog, version)
    if target.suffix == ".zip":
        with target.open("wb") as file:
            write_zip(files, version.provenance, file)
        written = [target]
    else:
        target.mkdir(parents=True, exist_ok=True)
        for name, data in {**files, ENVELOPE: version.provenance.encode()}.items():
            (target / name).write_bytes(data)
        written = sorted(target / name for name in (*files, ENVELOPE))
    size = sum(path.stat().st_size for path in written)
    catalog.record_transfer(version.asset.tenant, version.asset, size, "out", run_id=version.run_id)
    return written
