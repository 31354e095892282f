"""The folder store, plain and encrypted, against what any store must do."""

from __future__ import annotations

from pathlib import Path

import pytest

from cloudbaker.catalog.stores import FolderStore, ObjectStore, open_store
from cloudbaker.settings import Settings
from cloudbaker.testing.stores import DISK_FAULTS, MB, StoreConformance


class TestFolderStore(StoreConformance):
    faults = DISK_FAULTS

    @pytest.fixture
    def store(self, tmp_path: Path) -> ObjectStore:
        return FolderStore(tmp_path / "objects")


class TestEncryptedFolderStore(StoreConformance):
    faults = DISK_FAULTS
    fault_sizes = (1000, 3 * MB)

    @pytest.fixture
    def store(self, home: Path) -> ObjectStore:
        return open_store(Settings(home=home, store_encryption="tink"))
