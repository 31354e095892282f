"""Versions, hashes and usage: transactional core, published tables, object stores. No Prefect, no Ray.

The package is callable: ``cb.catalog()`` opens the catalog of this installation. It must be the package itself, since
importing any ``cloudbaker.catalog.x`` puts the package at the name ``cloudbaker.catalog``, over any function there.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cloudbaker.catalog.core import Catalog


class _CallablePackage(ModuleType):
    def __call__(self) -> Catalog:
        """Open the catalog of this installation; close it, or use it with ``with``."""
        from cloudbaker.catalog.core import Catalog
        from cloudbaker.settings import settings

        return Catalog.open(settings())


sys.modules[__name__].__class__ = _CallablePackage
